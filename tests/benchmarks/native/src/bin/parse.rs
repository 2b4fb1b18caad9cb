//! Parsers side by side: the engine's, sonic-rs and serde_json, over one payload file, in turns.
//!
//! Every system reads each payload into a typed event, borrowed where it can, and takes a digest over all fields, so
//! that none of them may leave work undone; the digests have to be equal. Text that has escapes is unescaped by all:
//! by the engine into a scratch, by the others as they do. The engine's payloads lie in chunks as in its pool, with
//! the sentinels written anew before each parse; the others' lie one after the other.

use std::borrow::Cow;
use std::hint::black_box;

use eventengine_benchmarks::arguments::Arguments;
use eventengine_benchmarks::payloads::Payloads;
use eventengine_benchmarks::{refuse, report, threads};
use eventengine_core::parse::{
    Field, Instructions, Limits, PADDING, Parser, Payload, Presence, Schema, Type, View,
};
use serde::Deserialize;
use serde_json::json;

/// Payloads that are read over and over: together with what the parsers keep they stay in the second-level cache, as
/// a payload that has just come in does.
const PAYLOADS: usize = 1_024;

/// Points that one event of the corpora has.
const POINTS: usize = 8;

/// Longest text of the corpora, unescaped.
const TEXT_BYTES: usize = 4_096;

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    ClueDiscovered,
    TeamSolved,
    DistrictOpened,
}

/// The event as the users of sonic-rs and serde_json write it.
#[derive(Deserialize)]
struct Event<'a> {
    kind: Kind,
    producer: u32,
    sequence: u64,
    player: u32,
    team: u32,
    district: u32,
    puzzle: u32,
    clue: u32,
    x: Option<f64>,
    y: Option<f64>,
    #[serde(borrow)]
    note: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    telemetry: Vec<Point<'a>>,
}

#[derive(Deserialize)]
struct Point<'a> {
    #[serde(borrow)]
    sensor: Cow<'a, str>,
    value: f64,
    #[serde(borrow)]
    tags: Cow<'a, str>,
}

/// The same event as the engine's schema.
fn schema() -> Schema {
    let required = |name, kind| Field::new(name, kind, Presence::Required);
    let optional = |name, kind| Field::new(name, kind, Presence::Optional);
    let kinds = ["clue_discovered", "team_solved", "district_opened"].map(str::to_owned).to_vec();
    let point =
        vec![required("sensor", Type::String), required("value", Type::F64), required("tags", Type::String)];
    let points = Type::Array { items: Box::new(Type::Object(point)), capacity: POINTS as u32 };
    Schema {
        fields: vec![
            required("kind", Type::Enum(kinds)),
            required("producer", Type::U32),
            required("sequence", Type::U64),
            required("player", Type::U32),
            required("team", Type::U32),
            required("district", Type::U32),
            required("puzzle", Type::U32),
            required("clue", Type::U32),
            optional("x", Type::F64),
            optional("y", Type::F64),
            optional("note", Type::String),
            optional("telemetry", points),
        ],
    }
}

/// A sum over everything in an event.
#[derive(Default, Clone, Copy)]
struct Digest(u64);

impl Digest {
    fn number(&mut self, value: u64) {
        self.0 = self.0.wrapping_add(value);
    }

    fn text(&mut self, text: &str) {
        let edge = |byte: Option<&u8>| byte.copied().map_or(0, u64::from);
        self.number(text.len() as u64 + edge(text.as_bytes().first()) + edge(text.as_bytes().last()));
    }
}

fn digest_event(event: &Event<'_>, digest: &mut Digest) {
    digest.number(event.kind as u64);
    digest.number(event.sequence);
    for value in [event.producer, event.player, event.team, event.district, event.puzzle, event.clue] {
        digest.number(u64::from(value));
    }
    for value in [event.x, event.y].into_iter().flatten() {
        digest.number(value.to_bits());
    }
    if let Some(note) = &event.note {
        digest.text(note);
    }
    for point in &event.telemetry {
        digest.text(&point.sensor);
        digest.number(point.value.to_bits());
        digest.text(&point.tags);
    }
}

fn digest_view(view: &View<'_>, scratch: &mut [u8], digest: &mut Digest) -> Option<()> {
    digest.number(view.choice(0)? as u64);
    for field in 1..8 {
        digest.number(view.unsigned(field)?);
    }
    for field in 8..10 {
        if let Some(value) = view.double(field) {
            digest.number(value.to_bits());
        }
    }
    if let Some(note) = view.string(10) {
        digest.text(note.unescape(scratch)?);
    }
    for point in view.objects(11) {
        digest.text(point.string(0)?.unescape(scratch)?);
        digest.number(point.double(1)?.to_bits());
        digest.text(point.string(2)?.unescape(scratch)?);
    }
    Some(())
}

/// One system: reads all payloads once and gives the digest.
struct System<'a> {
    name: &'static str,
    pass: Box<dyn FnMut() -> Digest + 'a>,
}

/// The level of a name, or the best that the machine has.
fn instructions(name: &str) -> Instructions {
    if name.is_empty() {
        return Instructions::detect();
    }
    match Instructions::ALL.into_iter().find(|level| format!("{level:?}") == name) {
        Some(level) if level.are_there() => level,
        _ => refuse(&format!("the machine has no {name}; there are {:?}", Instructions::ALL)),
    }
}

fn engine(payloads: &[&[u8]], instructions: Instructions) -> System<'static> {
    let limits = Limits { bytes: 65_536, depth: 32, array_length: 1024, string_bytes: 16_384 };
    let mut parser = Parser::with_instructions(&schema(), limits, instructions)
        .unwrap_or_else(|error| refuse(&error.to_string()));
    let mut places = Vec::new();
    let mut bytes = Vec::new();
    for payload in payloads {
        places.push((bytes.len(), payload.len()));
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len() + PADDING, 0xAA);
    }
    let mut scratch = vec![0; TEXT_BYTES];
    let pass = move || {
        let mut digest = Digest::default();
        for (start, length) in &places {
            let read = Payload::seal(&mut bytes[*start..], *length)
                .and_then(|payload| parser.parse(black_box(payload)).ok())
                .and_then(|view| digest_view(&view, &mut scratch, &mut digest));
            if read.is_none() {
                refuse("the engine's parser refused a payload");
            }
        }
        digest
    };
    System { name: "eventengine", pass: Box::new(pass) }
}

fn peer<'a, E: std::fmt::Display>(
    name: &'static str,
    payloads: &'a [&'a [u8]],
    read: impl Fn(&'a [u8]) -> Result<Event<'a>, E> + 'a,
) -> System<'a> {
    let pass = move || {
        let mut digest = Digest::default();
        for payload in payloads {
            match read(black_box(payload)) {
                Ok(event) => digest_event(&event, &mut digest),
                Err(error) => refuse(&format!("{name} refused a payload: {error}")),
            }
        }
        digest
    };
    System { name, pass: Box::new(pass) }
}

fn main() {
    let arguments = Arguments::read();
    let payloads = Payloads::read(&arguments.require::<String>("payloads"));
    let rounds: usize = arguments.get("rounds", 15);
    let round_milliseconds: u64 = arguments.get("round-milliseconds", 40);
    let only: String = arguments.get("only", String::new());
    let passes: u64 = arguments.get("passes", 0);
    let instructions = instructions(&arguments.get("instructions", String::new()));
    let payloads: Vec<&[u8]> = payloads.iter().take(PAYLOADS).collect();
    if let Some(cpu) = threads::allowed_cpus().last() {
        threads::bind(*cpu);
    }
    let mut systems = vec![
        engine(&payloads, instructions),
        peer("sonic-rs", &payloads, sonic_rs::from_slice),
        peer("serde_json", &payloads, serde_json::from_slice),
    ];
    systems.retain(|system| only.is_empty() || system.name == only);
    if passes > 0 {
        // For counting instructions: so many passes and nothing else.
        for _ in 0..passes {
            for system in &mut systems {
                black_box((system.pass)().0);
            }
        }
        return;
    }
    let digests: Vec<u64> = systems.iter_mut().map(|system| (system.pass)().0).collect();
    if digests.iter().any(|digest| *digest != digests[0]) {
        refuse(&format!("the systems read different values: {digests:?}"));
    }
    // Round 0 warms up and says how many passes fill a round.
    let mut passes_of = vec![1_u64; systems.len()];
    let mut nanoseconds = vec![Vec::new(); systems.len()];
    for round in 0..=rounds {
        for (index, system) in systems.iter_mut().enumerate() {
            let started = threads::now_nanoseconds();
            for _ in 0..passes_of[index] {
                black_box((system.pass)().0);
            }
            let taken = threads::now_nanoseconds() - started;
            if round == 0 {
                passes_of[index] = (round_milliseconds * 1_000_000 / taken.max(1)).max(1);
            } else {
                nanoseconds[index].push(taken as f64 / (passes_of[index] * payloads.len() as u64) as f64);
            }
        }
    }
    let bytes: usize = payloads.iter().map(|payload| payload.len()).sum();
    let systems: serde_json::Map<String, serde_json::Value> = systems
        .iter()
        .zip(nanoseconds)
        .map(|(system, nanoseconds)| (system.name.to_owned(), json!({"nanoseconds_per_event": nanoseconds})))
        .collect();
    report(json!({
        "payloads": payloads.len(),
        "instructions": format!("{instructions:?}"),
        "bytes_per_event": bytes as f64 / payloads.len() as f64,
        "systems": systems,
    }));
}
