//! The parser against a reference, on one payload or on several that one parser reads one after the other.
//!
//! Owns a schema with every type, its reading by serde_json, and what it means to agree. Used by the tests of the
//! parser and by the fuzzers; knows the parser's public face only.

use std::cell::RefCell;
use std::sync::LazyLock;

use eventengine_core::parse::{
    Field, Instructions, Limits, PADDING, Parser, Payload, Presence, RawString, Reason, Refusal, Schema,
    Type, View,
};
use serde::{Deserialize, Deserializer};

/// Limits that documents of usual size don't reach.
pub const LIMITS: Limits = Limits { bytes: 65_536, depth: 32, array_length: 1024, string_bytes: 16_384 };

/// Texts of the enumeration.
pub const KINDS: [&str; 3] = ["clue_discovered", "team_solved", "district_opened"];

/// A schema with every type, required and optional.
pub fn schema() -> Schema {
    let optional = |name, kind| Field::new(name, kind, Presence::Optional);
    let required = |name, kind| Field::new(name, kind, Presence::Required);
    let array = |items, capacity| Type::Array { items: Box::new(items), capacity };
    let kinds = Type::Enum(KINDS.iter().map(|kind| (*kind).to_owned()).collect());
    Schema {
        fields: vec![
            optional("kind", kinds.clone()),
            optional("producer", Type::U32),
            optional("sequence", Type::U64),
            optional("level", Type::U8),
            optional("delta", Type::I64),
            optional("x", Type::F64),
            Field::new("on", Type::Bool, Presence::Nullable),
            optional("note", Type::String),
            optional("a name that is longer than any vector", Type::U16),
            optional("place", Type::Object(vec![required("lat", Type::F64), required("lon", Type::F64)])),
            optional("counts", array(Type::U64, 64)),
            optional("words", array(Type::String, 64)),
            optional(
                "telemetry",
                array(
                    Type::Object(vec![
                        required("sensor", Type::String),
                        required("value", Type::F64),
                        optional("tags", Type::String),
                        optional("marks", array(Type::Signed { minimum: -5, maximum: 5 }, 64)),
                    ]),
                    64,
                ),
            ),
            optional("team", Type::U32),
            optional("puzzle", Type::U64),
            optional("y", Type::F64),
            optional(
                "points",
                array(
                    Type::Object(vec![
                        required("id", Type::U32),
                        required("at", Type::U64),
                        required("value", Type::F64),
                        optional("mark", Type::U8),
                        optional("sensor", Type::String),
                        optional("state", kinds),
                    ]),
                    16,
                ),
            ),
        ],
    }
}

/// What was read, in a form that compares exactly: doubles by their bits, text unescaped.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub struct Read {
    #[serde(default, deserialize_with = "there")]
    pub kind: Option<String>,
    #[serde(default, deserialize_with = "there")]
    pub producer: Option<u32>,
    #[serde(default, deserialize_with = "there")]
    pub sequence: Option<u64>,
    #[serde(default, deserialize_with = "there")]
    pub level: Option<u8>,
    #[serde(default, deserialize_with = "there")]
    pub delta: Option<i64>,
    #[serde(default, deserialize_with = "there")]
    pub x: Option<Double>,
    pub on: Option<bool>,
    #[serde(default, deserialize_with = "there")]
    pub note: Option<String>,
    #[serde(default, deserialize_with = "there", rename = "a name that is longer than any vector")]
    pub long: Option<u16>,
    #[serde(default, deserialize_with = "there")]
    pub place: Option<Place>,
    #[serde(default, deserialize_with = "there")]
    pub counts: Option<Vec<u64>>,
    #[serde(default, deserialize_with = "there")]
    pub words: Option<Vec<String>>,
    #[serde(default, deserialize_with = "there")]
    pub telemetry: Option<Vec<Telemetry>>,
    #[serde(default, deserialize_with = "there")]
    pub team: Option<u32>,
    #[serde(default, deserialize_with = "there")]
    pub puzzle: Option<u64>,
    #[serde(default, deserialize_with = "there")]
    pub y: Option<Double>,
    #[serde(default, deserialize_with = "there")]
    pub points: Option<Vec<Point>>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct Place {
    pub lat: Double,
    pub lon: Double,
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct Telemetry {
    pub sensor: String,
    pub value: Double,
    #[serde(default, deserialize_with = "there")]
    pub tags: Option<String>,
    #[serde(default, deserialize_with = "there")]
    pub marks: Option<Vec<i64>>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct Point {
    pub id: u32,
    pub at: u64,
    pub value: Double,
    #[serde(default, deserialize_with = "there")]
    pub mark: Option<u8>,
    #[serde(default, deserialize_with = "there")]
    pub sensor: Option<String>,
    #[serde(default, deserialize_with = "there")]
    pub state: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Double(f64);

impl PartialEq for Double {
    fn eq(&self, other: &Double) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

/// A value in whose place no null may stand.
fn there<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn text(string: RawString<'_>) -> String {
    string.unescape(&mut vec![0; string.bytes().len()]).expect("a checked string").to_owned()
}

/// What a view shows.
pub fn read(view: View<'_>) -> Read {
    let place = |field| {
        let place = view.objects(field).next()?;
        Some(Place { lat: Double(place.double(0)?), lon: Double(place.double(1)?) })
    };
    let telemetry = |point: View<'_>| Telemetry {
        sensor: text(point.string(0).unwrap()),
        value: Double(point.double(1).unwrap()),
        tags: point.string(2).map(text),
        marks: point.has(3).then(|| point.signed_items(3).collect()),
    };
    let point = |point: View<'_>| Point {
        id: point.unsigned(0).unwrap() as u32,
        at: point.unsigned(1).unwrap(),
        value: Double(point.double(2).unwrap()),
        mark: point.unsigned(3).map(|value| value as u8),
        sensor: point.string(4).map(text),
        state: point.choice(5).map(|kind| KINDS[kind].to_owned()),
    };
    Read {
        kind: view.choice(0).map(|kind| KINDS[kind].to_owned()),
        producer: view.unsigned(1).map(|value| value as u32),
        sequence: view.unsigned(2),
        level: view.unsigned(3).map(|value| value as u8),
        delta: view.signed(4),
        x: view.double(5).map(Double),
        on: view.flag(6),
        note: view.string(7).map(text),
        long: view.unsigned(8).map(|value| value as u16),
        place: place(9),
        counts: view.has(10).then(|| view.unsigned_items(10).collect()),
        words: view.has(11).then(|| view.string_items(11).map(text).collect()),
        telemetry: view.has(12).then(|| view.objects(12).map(telemetry).collect()),
        team: view.unsigned(13).map(|value| value as u32),
        puzzle: view.unsigned(14),
        y: view.double(15).map(Double),
        points: view.has(16).then(|| view.objects(16).map(point).collect()),
    }
}

/// Reads a payload in a buffer that holds something else behind it: that must never matter.
pub fn parse_with(parser: &mut Parser, payload: &[u8]) -> Result<Read, Refusal> {
    let behind = b"1,\"}]e5 ".iter().cycle().take(2 * PADDING);
    let mut buffer: Vec<u8> = payload.iter().chain(behind).copied().collect();
    let length = payload.len();
    parser.parse(Payload::seal(&mut buffer, length).expect("there is room")).map(read)
}

/// A parser that has read nothing yet, for each level that the machine has.
pub fn parsers() -> Vec<Parser> {
    static FRESH: LazyLock<Vec<Parser>> = LazyLock::new(|| {
        let levels = Instructions::ALL.into_iter().filter(|level| level.are_there());
        let parser = |level| Parser::with_instructions(&schema(), LIMITS, level);
        levels.map(|level| parser(level).expect("the schema is well formed")).collect()
    });
    FRESH.clone()
}

/// Reads a payload with the careful walk.
pub fn parse(payload: &[u8]) -> Result<Read, Refusal> {
    thread_local!(static CAREFUL: RefCell<Parser> = RefCell::new(parsers().remove(0)));
    CAREFUL.with_borrow_mut(|parser| parser.parse_carefully(payload).map(read))
}

/// What the reference says, or where and why it refuses: the whole document has to be valid JSON, objects and not
/// arrays have to stand for objects, and the rest is for its typed reading to say.
fn reference(payload: &[u8]) -> Result<Read, String> {
    let at = |error: serde_json::Error| {
        let lines = payload.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
        format!("at byte {}: {error}", lines.map(<[u8]>::len).sum::<usize>() + error.column())
    };
    let tree: serde_json::Value = serde_json::from_slice(payload).map_err(at)?;
    let object = tree.as_object().ok_or("no object")?;
    if object.get("place").is_some_and(serde_json::Value::is_array) {
        return Err("an array for a place".to_owned());
    }
    for name in ["telemetry", "points"] {
        let items = object.get(name).and_then(serde_json::Value::as_array);
        if items.is_some_and(|items| items.iter().any(serde_json::Value::is_array)) {
            return Err(format!("an array among the {name}"));
        }
    }
    let read: Read = serde_json::from_slice(payload).map_err(at)?;
    let states = read.points.iter().flatten().filter_map(|point| point.state.as_ref());
    if let Some(kind) = read.kind.iter().chain(states).find(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(format!("no such kind: {kind}"));
    }
    let mut marks = read.telemetry.iter().flatten().filter_map(|point| point.marks.as_ref()).flatten();
    match marks.find(|mark| !(-5..=5).contains(*mark)) {
        Some(mark) => Err(format!("no such mark: {mark}")),
        None => Ok(read),
    }
}

/// The careful walk accepts what the reference accepts, with the same values. Limits are ours alone.
pub fn agree(payload: &[u8]) {
    let shown = String::from_utf8_lossy(payload);
    match (parse(payload), reference(payload)) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{shown}"),
        (Err(refusal), Err(_)) => assert!(refusal.position as usize <= payload.len(), "{refusal:?} {shown}"),
        (Err(Refusal { reason: Reason::TooDeep | Reason::TooLarge, .. }), _) => {}
        (Ok(_), Err(refused)) => panic!("accepted what the reference refuses {refused}: {shown}"),
        (Err(Refusal { reason, position }), Ok(_)) => {
            panic!("refused with {reason:?} at byte {position} what the reference accepts: {shown}")
        }
    }
}

/// All levels, whatever they read before, say what the careful walk says.
pub fn same_on_all_levels<'a>(trained: &mut [Parser], payloads: impl IntoIterator<Item = &'a [u8]>) {
    for payload in payloads {
        let expected = parse(payload);
        for parser in &mut *trained {
            let shown = String::from_utf8_lossy(payload);
            assert_eq!(parse_with(parser, payload), expected, "{:?}: {shown}", parser.instructions());
        }
    }
}
