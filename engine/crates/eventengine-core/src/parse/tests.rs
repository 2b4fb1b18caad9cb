//! The parser against a reference, the fast walk against the careful one, and each fault with its reason and place.

use proptest::prelude::*;
use serde::{Deserialize, Deserializer};

use super::*;

const LIMITS: Limits = Limits { bytes: 65_536, depth: 32, array_length: 1024, string_bytes: 16_384 };

const KINDS: [&str; 3] = ["clue_discovered", "team_solved", "district_opened"];

const LEVELS: [Instructions; 3] = [Instructions::Scalar, Instructions::Sse2, Instructions::Avx2];

/// A schema with every type, required and optional.
fn schema() -> Schema {
    let optional = |name, kind| Field::new(name, kind, Presence::Optional);
    let required = |name, kind| Field::new(name, kind, Presence::Required);
    let array = |items, capacity| Type::Array { items: Box::new(items), capacity };
    let kinds = Type::Enum(KINDS.iter().map(|kind| (*kind).to_owned()).collect());
    Schema {
        fields: vec![
            optional("kind", kinds),
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
        ],
    }
}

/// What was read, in a form that compares exactly: doubles by their bits, text unescaped.
#[derive(Debug, Default, PartialEq, Deserialize)]
struct Read {
    #[serde(default, deserialize_with = "there")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "there")]
    producer: Option<u32>,
    #[serde(default, deserialize_with = "there")]
    sequence: Option<u64>,
    #[serde(default, deserialize_with = "there")]
    level: Option<u8>,
    #[serde(default, deserialize_with = "there")]
    delta: Option<i64>,
    #[serde(default, deserialize_with = "there")]
    x: Option<Double>,
    on: Option<bool>,
    #[serde(default, deserialize_with = "there")]
    note: Option<String>,
    #[serde(default, deserialize_with = "there", rename = "a name that is longer than any vector")]
    long: Option<u16>,
    #[serde(default, deserialize_with = "there")]
    place: Option<Place>,
    #[serde(default, deserialize_with = "there")]
    counts: Option<Vec<u64>>,
    #[serde(default, deserialize_with = "there")]
    words: Option<Vec<String>>,
    #[serde(default, deserialize_with = "there")]
    telemetry: Option<Vec<Point>>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Place {
    lat: Double,
    lon: Double,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Point {
    sensor: String,
    value: Double,
    #[serde(default, deserialize_with = "there")]
    tags: Option<String>,
    #[serde(default, deserialize_with = "there")]
    marks: Option<Vec<i64>>,
}

#[derive(Debug, Deserialize)]
struct Double(f64);

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
    string.unescape(&mut vec![0; string.bytes.len()]).expect("a checked string").to_owned()
}

fn read(view: View<'_>) -> Read {
    let place = |field| {
        let place = view.objects(field).next()?;
        Some(Place { lat: Double(place.double(0)?), lon: Double(place.double(1)?) })
    };
    let point = |point: View<'_>| Point {
        sensor: text(point.string(0).unwrap()),
        value: Double(point.double(1).unwrap()),
        tags: point.string(2).map(text),
        marks: point.has(3).then(|| point.signed_items(3).collect()),
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
        telemetry: view.has(12).then(|| view.objects(12).map(point).collect()),
    }
}

fn parse_with(parser: &mut Parser, payload: &[u8]) -> Result<Read, Refusal> {
    // What lies behind a payload must never matter.
    let mut buffer = [payload, &b"1,\"}]e5 "[..].repeat(20)].concat();
    parser.parse(Payload::seal(&mut buffer, payload.len()).unwrap()).map(read)
}

fn parse(payload: &[u8]) -> Result<Read, Refusal> {
    let mut parser = Parser::new(&schema(), LIMITS).unwrap();
    parser.parse_carefully(payload).map(read)
}

/// What the reference says: the whole document has to be valid JSON, objects and not arrays have to stand for
/// objects, and the rest is for its typed reading to say.
fn reference(payload: &[u8]) -> Option<Read> {
    let tree: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let object = tree.as_object()?;
    if object.get("place").is_some_and(serde_json::Value::is_array) {
        return None;
    }
    if let Some(serde_json::Value::Array(points)) = object.get("telemetry")
        && points.iter().any(serde_json::Value::is_array)
    {
        return None;
    }
    let read: Read = serde_json::from_slice(payload).ok()?;
    let known = read.kind.as_ref().is_none_or(|kind| KINDS.contains(&kind.as_str()));
    let mut marks = read.telemetry.iter().flatten().filter_map(|point| point.marks.as_ref()).flatten();
    (known && marks.all(|mark| (-5..=5).contains(mark))).then_some(read)
}

fn agree(payload: &[u8]) {
    let shown = String::from_utf8_lossy(payload);
    match (parse(payload), reference(payload)) {
        (Ok(ours), Some(theirs)) => assert_eq!(ours, theirs, "{shown}"),
        (Err(refusal), None) => assert!(refusal.position as usize <= payload.len(), "{refusal:?} {shown}"),
        (Ok(ours), None) => panic!("accepted what the reference refuses: {ours:?} {shown}"),
        (Err(refusal), Some(_)) => panic!("refused with {refusal:?} what the reference accepts: {shown}"),
    }
}

/// All levels, fresh and trained on what came before, say what the careful walk says.
fn same_on_all_levels(payloads: &[Vec<u8>]) {
    for level in LEVELS.into_iter().filter(|level| level.are_there()) {
        let mut trained = Parser::with_instructions(&schema(), LIMITS, level).unwrap();
        for payload in payloads {
            let expected = parse(payload);
            let shown = String::from_utf8_lossy(payload);
            assert_eq!(parse_with(&mut trained, payload), expected, "{level:?}, trained: {shown}");
            let mut fresh = Parser::with_instructions(&schema(), LIMITS, level).unwrap();
            assert_eq!(parse_with(&mut fresh, payload), expected, "{level:?}, fresh: {shown}");
        }
    }
}

#[test]
fn an_event_is_read_in_any_key_order_with_unknown_keys_between() {
    let payload = br#" {"sequence":18446744073709551615,"extra":{"a":[1,2,{"b":null}],"c":"\u00e9"},
        "kind":"team_solved", "x":-1.5e3,"on" : null ,"delta":-9223372036854775808,"producer":4294967295,
        "note":"a\"b\ud83d\ude00","telemetry":[{"value":0.1,"sensor":"s1","marks":[-5,5,0]},
        {"sensor":"s2","tags":"x,y","value":-2}],"place":{"lon":1,"lat":2.5},"words":["a","",  "\n"],"counts":[ ],
        "a name that is longer than any vector":65535} "#;
    let event = parse(payload).unwrap();
    assert_eq!((event.producer, event.sequence), (Some(u32::MAX), Some(u64::MAX)));
    assert_eq!((event.delta, event.on), (Some(i64::MIN), None));
    assert_eq!(event.note.as_deref(), Some("a\"b\u{1F600}"));
    assert_eq!(event.telemetry.as_ref().unwrap()[0].marks, Some(vec![-5, 5, 0]));
    assert_eq!(event.telemetry.as_ref().unwrap()[1].tags.as_deref(), Some("x,y"));
    agree(payload);
    same_on_all_levels(&[payload.to_vec()]);
}

#[test]
fn what_producers_usually_write_needs_no_careful_walk() {
    let payloads: [&[u8]; 4] = [
        br#"{"kind":"team_solved","producer":1,"sequence":20000000000,"x":12.25,"on":true,"note":"plain"}"#,
        b"{\"note\": \"caf\xc3\xa9 \\\"x\\\" \\u2192\",\n \"unknown\": [1, {}], \"x\": -3, \"on\": null}",
        br#"{"telemetry":[{"sensor":"a","value":1.5,"tags":"t"},{"tags":"t","value":2,"sensor":"b","marks":[1]}]}"#,
        b"{}",
    ];
    for level in LEVELS.into_iter().filter(|level| level.are_there()) {
        let Parser { plan, mut record, mut followers, .. } =
            Parser::with_instructions(&schema(), LIMITS, level).unwrap();
        for payload in payloads {
            let mut scratch = vec![0; payload.len() + PADDING];
            let sealed = Payload::copy(payload, &mut scratch).unwrap();
            let fast = fast::walk(level, &plan, LIMITS, sealed, &mut record, &mut followers);
            assert!(fast, "{level:?} gave up on {}", String::from_utf8_lossy(payload));
        }
    }
}

#[test]
fn an_escaped_key_is_the_key_that_it_spells() {
    let payload = br#"{"\u006eo\u0074e":"x","kind":"team\u005fsolved"}"#;
    assert_eq!(parse(payload).unwrap().note.as_deref(), Some("x"));
    same_on_all_levels(&[payload.to_vec()]);
}

#[test]
fn prediction_follows_the_order_of_the_last_event_and_never_changes_the_result() {
    let orders: [&[u8]; 5] = [
        br#"{"producer":1,"sequence":2}"#,
        br#"{"sequence":2,"producer":1}"#,
        br#"{"x":0.5,"sequence":2,"other":1,"producer":1}"#,
        br#"{"producer" : 1,"sequence":2}"#,
        br#"{"other":1}"#,
    ];
    let payloads: Vec<Vec<u8>> = orders.iter().cycle().take(15).map(|order| order.to_vec()).collect();
    same_on_all_levels(&payloads);
}

#[test]
fn each_limit_has_its_reason_and_position() {
    let limits = Limits { bytes: 200, depth: 3, array_length: 4, string_bytes: 9 };
    let refused = |payload: &[u8]| {
        let mut parser = Parser::new(&schema(), limits).unwrap();
        let mut scratch = vec![0; payload.len() + PADDING];
        let refusal = parser.parse(Payload::copy(payload, &mut scratch).unwrap()).map(read).err();
        refusal.map(|refusal| (refusal.reason, refusal.position))
    };
    assert_eq!(refused(br#"{"a":[[1,2,3,4]],"note":"123456789","counts":[1,2,3,4]}"#), None);
    assert_eq!(refused(br#"{"a":[[[1]]]}"#), Some((Reason::TooDeep, 7)));
    assert_eq!(
        refused(br#"{"telemetry":[{"sensor":"a","value":1,"marks":[1]}]}"#),
        Some((Reason::TooDeep, 46))
    );
    assert_eq!(refused(br#"{"a":[1,2,3,4,5]}"#), Some((Reason::TooLarge, 14)));
    assert_eq!(refused(br#"{"counts":[1,2,3,4,5]}"#), Some((Reason::TooLarge, 19)));
    assert_eq!(refused(br#"{"note":"1234567890"}"#), Some((Reason::TooLarge, 19)));
    assert_eq!(refused(br#"{"a":{"1234567890":1}}"#), Some((Reason::TooLarge, 17)));
    assert_eq!(refused(&[b' '; 201]), Some((Reason::TooLarge, 200)));
}

#[test]
fn a_field_holds_no_more_items_than_its_schema_says() {
    let payload = |items: usize| format!("{{\"counts\":[{}]}}", vec!["1"; items].join(",")).into_bytes();
    assert_eq!(parse(&payload(64)).unwrap().counts.unwrap().len(), 64);
    assert_eq!(parse(&payload(65)).unwrap_err().reason, Reason::TooLarge);
    let nested = |points: usize, marks: usize| {
        let point = format!("{{\"sensor\":\"a\",\"value\":1,\"marks\":[{}]}}", vec!["1"; marks].join(","));
        format!("{{\"telemetry\":[{}]}}", vec![point; points].join(",")).into_bytes()
    };
    same_on_all_levels(&[nested(64, 1), nested(65, 0), nested(4, 16), nested(4, 17), nested(64, 0)]);
    assert_eq!(
        parse(&nested(4, 17)).unwrap_err().reason,
        Reason::TooLarge,
        "all arrays of a field count together"
    );
}

#[test]
fn depth_beyond_any_stack_is_an_error_and_not_a_crash() {
    let mut payload = br#"{"a":"#.to_vec();
    payload.extend(std::iter::repeat_n(b'[', 50_000));
    assert_eq!(parse(&payload).unwrap_err().reason, Reason::TooDeep);
    same_on_all_levels(&[payload]);
}

#[test]
fn malformed_payloads_are_refused_with_reason_and_position() {
    let cases: [(&[u8], Reason, u32); 44] = [
        (b"", Reason::Truncated, 0),
        (b"  ", Reason::Truncated, 2),
        (b"{", Reason::Truncated, 1),
        (b"{\"a\":1", Reason::Truncated, 6),
        (b"{\"a\":\"b", Reason::Truncated, 7),
        (b"{\"a\":\"\\", Reason::Truncated, 7),
        (b"{\"a\":\"\\ud83d\\u", Reason::Truncated, 14),
        (b"{\"a\":tru", Reason::Truncated, 8),
        (b"{\"a\":-", Reason::Truncated, 6),
        (b"{\"note\":\"\xC3", Reason::Truncated, 10),
        (b"[]", Reason::WrongType, 0),
        (b"null", Reason::WrongType, 0),
        (b"x", Reason::InvalidJson, 0),
        (b"{}x", Reason::InvalidJson, 2),
        (b"{}\0", Reason::InvalidJson, 2),
        (b"{\"producer\":1,}", Reason::InvalidJson, 14),
        (b"{\"z\":1,}", Reason::InvalidJson, 7),
        (b"{,}", Reason::InvalidJson, 1),
        (b"{\"producer\":1 \"level\":2}", Reason::InvalidJson, 14),
        (b"{\"counts\":[1,]}", Reason::InvalidJson, 13),
        (b"{\"counts\":[1 2]}", Reason::InvalidJson, 13),
        (b"{\"a\":[1,]}", Reason::InvalidJson, 8),
        (b"{\"a\":tru}", Reason::InvalidJson, 5),
        (b"{\"a\":01}", Reason::InvalidJson, 5),
        (b"{\"a\":1.}", Reason::InvalidJson, 7),
        (b"{\"a\":1e}", Reason::InvalidJson, 7),
        (b"{\"a\":\"\x01\"}", Reason::InvalidJson, 6),
        (b"{\"a\":\"\\x\"}", Reason::InvalidJson, 6),
        (b"{\"a\":\"\\ud800\"}", Reason::InvalidJson, 6),
        (b"{\"level\":1,\"level\":1}", Reason::DuplicateKey, 11),
        (b"{\"on\":null,\"on\":null}", Reason::DuplicateKey, 11),
        (b"{\"note\":\"\xff\"}", Reason::InvalidUtf8, 9),
        (b"{\"level\":-1}", Reason::OutOfRange, 9),
        (b"{\"level\":256}", Reason::OutOfRange, 9),
        (b"{\"producer\":4294967296}", Reason::OutOfRange, 12),
        (b"{\"delta\":9223372036854775808}", Reason::OutOfRange, 9),
        (b"{\"a\":1e999}", Reason::OutOfRange, 5),
        (b"{\"x\":-1e999}", Reason::OutOfRange, 5),
        (b"{\"producer\":1.0}", Reason::WrongType, 12),
        (b"{\"producer\":-0}", Reason::WrongType, 12),
        (b"{\"producer\":\"1\"}", Reason::WrongType, 12),
        (b"{\"note\":null}", Reason::WrongType, 8),
        (b"{\"kind\":\"won\"}", Reason::UnknownKind, 8),
        (b"{\"place\":{\"lat\":1}}", Reason::MissingField, 17),
    ];
    for (payload, reason, position) in cases {
        let shown = String::from_utf8_lossy(payload);
        assert_eq!(parse(payload).unwrap_err(), Refusal { reason, position }, "{shown}");
        agree(payload);
        same_on_all_levels(&[payload.to_vec()]);
    }
}

#[test]
fn a_schema_that_can_not_be_compiled_says_which_field_is_at_fault() {
    let refused = |fields: Vec<Field>| Parser::new(&Schema { fields }, LIMITS).map(|_| ()).unwrap_err();
    let field = |name: &str, kind| Field::new(name, kind, Presence::Required);
    let array = |items| Type::Array { items: Box::new(items), capacity: 8 };
    let error = refused(vec![field("a", Type::Object(vec![field("b", Type::Bool), field("b", Type::Bool)]))]);
    assert_eq!(error.to_string(), "field a.b: the name \"b\" stands twice; remove one");
    assert_eq!(refused(vec![field("a", array(array(Type::Bool)))]).path, "a");
    assert_eq!(refused(vec![field("a", Type::Enum(vec![]))]).path, "a");
    assert_eq!(refused(vec![field(&"a".repeat(65), Type::Bool)]).path, "a".repeat(65));
    assert_eq!(
        refused(vec![field("a", Type::Array { items: Box::new(Type::Bool), capacity: u32::MAX })]).path,
        "a"
    );
    let deep = (0..20).fold(Type::Bool, |inner, _| Type::Object(vec![field("a", inner)]));
    assert!(refused(vec![field("a", deep)]).message.contains("nests"));
    let many = (0..64).map(|number| field(&number.to_string(), Type::Bool)).collect();
    assert!(refused(many).message.contains("63 fields"));
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u64>().prop_map(|value| value.to_string()),
        any::<u32>().prop_map(|value| value.to_string()),
        (0..20_u32).prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>()
            .prop_filter("JSON has no such number", |value| value.is_finite())
            .prop_map(|value| format!("{value:?}")),
        "-?(0|[1-9][0-9]{0,4})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
        "-?[1-9][0-9]{0,17}\\.[0-9]{1,20}",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "\"([a-zé→ ]|\\\\[\"\\\\/bfnrtu]|\\\\u[0-9a-fA-F]{4}|\\\\ud83d\\\\ude00){0,40}\"",
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("null".to_owned()),
        Just("\"clue_discovered\"".to_owned()),
        Just("\"team\\u005fsolved\"".to_owned()),
    ]
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(" ,"))),
            proptest::collection::vec(("[a-z]{0,3}", inner), 0..4).prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// A value that mostly fits the field of that name.
fn fitting(name: String) -> BoxedStrategy<String> {
    let list = |item: BoxedStrategy<String>| {
        proptest::collection::vec(item, 0..4).prop_map(|items| format!("[{}]", items.join(","))).boxed()
    };
    let number = || (0..1000_u32).prop_map(|value| value.to_string()).boxed();
    let double = || "-?(0|[1-9][0-9]{0,3})\\.[0-9]{1,6}".boxed();
    let words = || "\"([a-zé ]|\\\\n|\\\\u00e9){0,40}\"".boxed();
    let fit = match name.as_str() {
        "kind" => proptest::sample::select(&KINDS[..]).prop_map(|kind| format!("\"{kind}\"")).boxed(),
        "x" => double(),
        "on" => proptest::sample::select(&["true", "false", "null"][..]).prop_map(str::to_owned).boxed(),
        "note" => words(),
        "place" => {
            (double(), number()).prop_map(|(lat, lon)| format!("{{\"lon\":{lon},\"lat\":{lat}}}")).boxed()
        }
        "counts" => list(number()),
        "words" => list(words()),
        "telemetry" => {
            let marks = list((-6..=6_i32).prop_map(|mark| mark.to_string()).boxed());
            let point = (words(), double(), proptest::option::of(words()), proptest::option::of(marks))
                .prop_map(|(sensor, value, tags, marks)| {
                    let tags = tags.map_or(String::new(), |tags| format!(",\"tags\":{tags}"));
                    let marks = marks.map_or(String::new(), |marks| format!(",\"marks\":{marks}"));
                    format!("{{\"sensor\":{sensor},\"value\":{value}{marks}{tags}}}")
                });
            list(point.boxed())
        }
        _ => number(),
    };
    prop_oneof![6 => fit, 1 => scalar(), 1 => value()].boxed()
}

fn member() -> impl Strategy<Value = String> {
    let names: Vec<String> = schema().fields.into_iter().map(|field| field.name).collect();
    let key = prop_oneof![9 => proptest::sample::select(names), 1 => "[a-z]{1,5}"];
    (key.prop_flat_map(|key| (fitting(key.clone()), Just(key))), "[ \t\n]{0,2}")
        .prop_map(|((value, key), space)| format!("\"{key}\"{space}:{space}{value}"))
}

fn document() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(member(), 0..8)
        .prop_map(|members| format!("{{{}}}", members.join(",")).into_bytes())
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = prop_oneof![
        proptest::sample::select(b"{}[]\",:\\ \0\x1f0e-.tu\x80\xc3".to_vec()).prop_map(Some),
        Just(None)
    ];
    (document(), any::<proptest::sample::Index>(), damage, any::<bool>()).prop_map(
        |(mut payload, place, damage, replace)| {
            let place = place.index(payload.len());
            match damage {
                Some(byte) if replace => payload[place] = byte,
                Some(byte) => payload.insert(place, byte),
                None => payload.truncate(place),
            }
            payload
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn it_agrees_with_the_reference_on_documents(payload in document()) {
        agree(&payload);
    }

    #[test]
    fn it_agrees_with_the_reference_on_damaged_documents(payload in damaged()) {
        agree(&payload);
    }

    #[test]
    fn it_agrees_with_the_reference_on_any_bytes(payload in proptest::collection::vec(any::<u8>(), 0..40)) {
        agree(&payload);
    }

    #[test]
    fn a_document_that_is_cut_off_is_truncated_and_nothing_else(payload in document(), place in any::<proptest::sample::Index>()) {
        let length = place.index(payload.len());
        if parse(&payload).is_ok() {
            let refusal = parse(&payload[..length]).unwrap_err();
            prop_assert_eq!(refusal, Refusal::new(Reason::Truncated, length));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn all_levels_agree_whatever_came_before(
        payloads in proptest::collection::vec(prop_oneof![4 => document(), 1 => damaged()], 1..6)
    ) {
        same_on_all_levels(&payloads);
    }
}
