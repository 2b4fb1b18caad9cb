//! What the events say: moves of a treasure hunt, and events that are broken on purpose.
//!
//! Owns content, key and the malformed variants. Writes into buffers of the caller.
//! Content is a function of the seed and of the order of events; only `sent_at_ns`
//! depends on when the run began.

use std::collections::BTreeMap;
use std::io::Write;

use super::plan::{Key, Plan};
use super::random::Random;
use super::schedule::Subject;

/// Of so many moves, one solves a puzzle; the others discover a clue.
const MOVES_PER_SOLUTION: u32 = 10;
/// Of so many events, one has its members in another order, as from another client.
const EVENTS_PER_OTHER_ORDER: u32 = 16;
/// Of so many events, one carries members that no engine knows.
const EVENTS_PER_UNKNOWN_MEMBER: u32 = 8;
/// Nesting beyond any limit that a configuration may set.
const TOO_DEEP: usize = 200;
/// A string beyond the default limit of 16,384 bytes.
const TOO_LONG: usize = 20_000;

const WORDS: [&str; 24] = [
    "the",
    "lantern",
    "behind",
    "old",
    "bridge",
    "points",
    "north",
    "café",
    "under",
    "seventh",
    "stone",
    "follow",
    "river",
    "until",
    "clock",
    "strikes",
    "\\\"twice\\\"",
    "mirror",
    "shows",
    "straße",
    "key",
    "hidden\\n",
    "tower",
    "\\u2192",
];

/// Why an engine refuses a malformed event: the names of its dead letters' reasons.
pub const REASONS: [&str; 7] = [
    "invalid_json",
    "too_deep",
    "too_large",
    "invalid_utf8",
    "missing_field",
    "unknown_kind",
    "out_of_range",
];

/// Writes events one after the other.
pub struct Events {
    plan: std::sync::Arc<Plan>,
    random: Random,
    /// The districts that each burst opens.
    opened: Vec<Vec<u32>>,
    /// The next sequence of each producer.
    sequences: Vec<u64>,
    next_producer: usize,
    malformed: BTreeMap<&'static str, u64>,
    note: Vec<u8>,
}

/// What one event turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// An event with a producer (its place among the plan's) and a sequence.
    Valid {
        /// Place of the producer.
        producer: usize,
    },
    /// An event that is broken on purpose.
    Malformed {
        /// Why an engine will refuse it.
        reason: &'static str,
    },
}

/// The fields of an event that its content is written from.
struct Move {
    kind: &'static str,
    producer: u32,
    sequence: u64,
    sent_at_nanoseconds: u64,
    player: u32,
    team: u32,
    district: u32,
    puzzle: u32,
    clue: u32,
    x: f64,
    y: f64,
}

impl Events {
    /// The events of a plan.
    pub fn new(plan: std::sync::Arc<Plan>) -> Events {
        let mut random = Random::new(plan.seed, 2);
        let opened = plan
            .schedule
            .bursts
            .iter()
            .map(|burst| choose(plan.hunt.districts, burst.districts.unwrap_or(0), &mut random))
            .collect();
        let sequences = vec![0; plan.producers as usize];
        Events {
            plan,
            random,
            opened,
            sequences,
            next_producer: 0,
            malformed: BTreeMap::new(),
            note: Vec::new(),
        }
    }

    /// Writes the next event and its key.
    pub fn write(
        &mut self,
        subject: Subject,
        sent_at_nanoseconds: u64,
        payload: &mut Vec<u8>,
        key: &mut Vec<u8>,
    ) -> Written {
        payload.clear();
        key.clear();
        let hunt = self.plan.hunt;
        let player = self.random.below(hunt.players);
        let solves = self.random.below(MOVES_PER_SOLUTION) == 0;
        let kind = match subject {
            Subject::Opening { .. } => "district_opened",
            _ if solves => "team_solved",
            _ => "clue_discovered",
        };
        let event = Move {
            kind,
            producer: self.plan.first_producer + self.next_producer as u32,
            sequence: self.sequences[self.next_producer],
            sent_at_nanoseconds,
            player,
            team: player / hunt.team_size,
            district: self.district_of(subject),
            puzzle: self.random.below(hunt.puzzles_per_district),
            clue: self.random.below(hunt.clues_per_puzzle),
            x: f64::from(self.random.below(4_096_000)) / 1000.0,
            y: f64::from(self.random.below(4_096_000)) / 1000.0,
        };
        match self.plan.key {
            Key::District => put(key, format_args!("{}", event.district)),
            Key::DistrictTeam => put(key, format_args!("{}/{}", event.district, event.team)),
        }
        if self.plan.malformed_share > 0.0 && self.random.unit() < self.plan.malformed_share {
            let reason = REASONS[self.random.below(REASONS.len() as u32) as usize];
            write_malformed(reason, &event, payload);
            *self.malformed.entry(reason).or_default() += 1;
            return Written::Malformed { reason };
        }
        self.write_valid(&event, payload);
        let producer = self.next_producer;
        self.sequences[producer] += 1;
        self.next_producer = (producer + 1) % self.sequences.len();
        Written::Valid { producer }
    }

    /// Takes back the last event, which was never handed to the target.
    pub fn take_back(&mut self, written: Written) {
        match written {
            Written::Valid { producer } => {
                self.sequences[producer] -= 1;
                self.next_producer = producer;
            }
            Written::Malformed { reason } => {
                if let Some(count) = self.malformed.get_mut(reason) {
                    *count -= 1;
                }
            }
        }
    }

    /// Each producer that sent something, with its last sequence.
    pub fn last_sequences(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        (self.plan.first_producer..)
            .zip(&self.sequences)
            .filter_map(|(producer, next)| next.checked_sub(1).map(|last| (producer, last)))
    }

    /// Events broken on purpose, by the reason that an engine gives for refusing them.
    pub fn malformed(&self) -> &BTreeMap<&'static str, u64> {
        &self.malformed
    }

    fn district_of(&mut self, subject: Subject) -> u32 {
        match subject {
            Subject::Opening { burst, place } => self.opened[burst][place as usize],
            Subject::InBurst { burst } => {
                let districts = &self.opened[burst];
                districts[self.random.below(districts.len() as u32) as usize]
            }
            Subject::Anywhere => self.random.below(self.plan.hunt.districts),
        }
    }

    fn write_valid(&mut self, event: &Move, payload: &mut Vec<u8>) {
        let unknown = self.random.below(EVENTS_PER_UNKNOWN_MEMBER) == 0;
        let other_order = self.random.below(EVENTS_PER_OTHER_ORDER) == 0;
        // Sizes spread evenly around the average, by up to 40 percent of it.
        let average = self.plan.payload_bytes as u32;
        let target = (average * 6 / 10 + self.random.below(average * 8 / 10 + 1)) as usize;
        put(payload, format_args!("{{"));
        if !other_order {
            put_identity(event, payload);
        }
        put(
            payload,
            format_args!(
                "\"player\":{},\"team\":{},\"district\":{},\"puzzle\":{},\"clue\":{},\"x\":{:.3},\"y\":{:.3},",
                event.player, event.team, event.district, event.puzzle, event.clue, event.x, event.y
            ),
        );
        if other_order {
            put_identity(event, payload);
        }
        if unknown {
            let battery = self.random.below(101);
            put(
                payload,
                format_args!("\"device\":{{\"os\":\"droid\",\"battery\":{battery},\"tags\":[true,null]}},"),
            );
        }
        self.compose_note(target.saturating_sub(payload.len() + 10));
        put(payload, format_args!("\"note\":\""));
        payload.extend_from_slice(&self.note);
        payload.extend_from_slice(b"\"}");
    }

    /// Fills the note with whole words, up to a number of bytes.
    fn compose_note(&mut self, bytes: usize) {
        self.note.clear();
        loop {
            let word = WORDS[self.random.below(WORDS.len() as u32) as usize].as_bytes();
            if self.note.len() + word.len() + 1 > bytes {
                break;
            }
            self.note.extend_from_slice(word);
            self.note.push(b' ');
        }
    }
}

/// Appends formatted text; a vector takes all of it.
fn put(bytes: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    bytes.write_fmt(text).expect("a vector grows");
}

fn put_identity(event: &Move, payload: &mut Vec<u8>) {
    put(
        payload,
        format_args!(
            "\"kind\":\"{}\",\"producer\":{},\"sequence\":{},\"sent_at_ns\":{},",
            event.kind, event.producer, event.sequence, event.sent_at_nanoseconds
        ),
    );
}

/// `count` different districts.
fn choose(districts: u32, count: u32, random: &mut Random) -> Vec<u32> {
    let mut all: Vec<u32> = (0..districts).collect();
    for place in 0..count {
        let other = place + random.below(districts - place);
        all.swap(place as usize, other as usize);
    }
    all.truncate(count as usize);
    all
}

/// Writes an event that an engine refuses for exactly one reason.
fn write_malformed(reason: &str, event: &Move, payload: &mut Vec<u8>) {
    let Move { kind, producer, sequence, team, district, .. } = *event;
    let kind = if reason == "unknown_kind" { "treasure_stolen" } else { kind };
    put(
        payload,
        format_args!(
            "{{\"kind\":\"{kind}\",\"producer\":{producer},\"sequence\":{sequence},\"team\":{team},"
        ),
    );
    match reason {
        "missing_field" => {}
        "out_of_range" => put(payload, format_args!("\"district\":{},", u32::MAX)),
        _ => put(payload, format_args!("\"district\":{district},")),
    }
    put(payload, format_args!("\"puzzle\":0,\"clue\":0,"));
    match reason {
        "too_deep" => {
            put(payload, format_args!("\"extra\":"));
            payload.resize(payload.len() + TOO_DEEP, b'[');
            payload.resize(payload.len() + TOO_DEEP, b']');
        }
        "too_large" => {
            put(payload, format_args!("\"note\":\""));
            payload.resize(payload.len() + TOO_LONG, b'a');
            payload.push(b'"');
        }
        "invalid_utf8" => payload.extend_from_slice(b"\"note\":\"\xC3\x28\""),
        "invalid_json" => payload.extend_from_slice(b"\"note\":"),
        _ => put(payload, format_args!("\"note\":\"\"")),
    }
    payload.push(b'}');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;

    fn plan(changes: &str) -> Arc<Plan> {
        let mut plan: Value = serde_json::from_str(
            r#"{"target":{"tcp":{"address":"localhost:1","connections":1,"token":null}},
                "schedule":{"arrivals":"constant","rate_per_second":1.0,"duration_nanoseconds":1000000000,
                            "events_max":null,"bursts":[{"at_nanoseconds":0,"duration_nanoseconds":5,
                            "rate_per_second":1.0,"districts":3}]},
                "hunt":{"players":6000,"team_size":5,"districts":12,"puzzles_per_district":40,"clues_per_puzzle":5},
                "key":"district","seed":3,"producers":3,"first_producer":100,"payload_bytes":700,
                "malformed_share":0.0,"queue_events_max":1000,"acknowledge_timeout_milliseconds":1000}"#,
        )
        .unwrap();
        let changes: Value = serde_json::from_str(changes).unwrap();
        for (name, value) in changes.as_object().unwrap() {
            plan[name] = value.clone();
        }
        Arc::new(Plan::parse(&plan.to_string()).unwrap_or_else(|error| panic!("{error}")))
    }

    fn write(events: &mut Events, subject: Subject) -> (Written, Vec<u8>, Vec<u8>) {
        let (mut payload, mut key) = (Vec::new(), Vec::new());
        let written = events.write(subject, 5, &mut payload, &mut key);
        (written, payload, key)
    }

    #[test]
    fn events_are_valid_number_themselves_per_producer_and_have_the_asked_size_on_average() {
        let mut events = Events::new(plan("{}"));
        let mut next = [0_u64; 3];
        let mut bytes = 0;
        for _ in 0..3_000 {
            let (_, payload, key) = write(&mut events, Subject::Anywhere);
            let value: Value = serde_json::from_slice(&payload).unwrap();
            let producer = value["producer"].as_u64().unwrap() as usize - 100;
            assert_eq!(value["sequence"].as_u64().unwrap(), next[producer]);
            next[producer] += 1;
            assert_eq!(key, value["district"].to_string().as_bytes());
            assert!(value["district"].as_u64().unwrap() < 12 && value["puzzle"].as_u64().unwrap() < 40);
            assert_eq!(value["team"].as_u64().unwrap(), value["player"].as_u64().unwrap() / 5);
            bytes += payload.len();
        }
        assert_eq!(next, [1_000; 3]);
        assert_eq!(events.last_sequences().collect::<Vec<_>>(), [(100, 999), (101, 999), (102, 999)]);
        assert!((650..=720).contains(&(bytes / 3_000)), "{} bytes on average", bytes / 3_000);
    }

    #[test]
    fn a_sub_key_names_the_team() {
        let mut events = Events::new(plan(r#"{"key":"district-team"}"#));
        let (_, payload, key) = write(&mut events, Subject::Anywhere);
        let value: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(key, format!("{}/{}", value["district"], value["team"]).as_bytes());
    }

    #[test]
    fn a_burst_opens_different_districts_and_stays_in_them() {
        let mut events = Events::new(plan("{}"));
        let district = |events: &mut Events, subject| {
            let value: Value = serde_json::from_slice(&write(events, subject).1).unwrap();
            (value["kind"].as_str().unwrap().to_owned(), value["district"].as_u64().unwrap())
        };
        let mut opened: Vec<u64> = (0..3)
            .map(|place| district(&mut events, Subject::Opening { burst: 0, place }))
            .inspect(|(kind, _)| assert_eq!(kind, "district_opened"))
            .map(|(_, district)| district)
            .collect();
        opened.sort_unstable();
        opened.dedup();
        assert_eq!(opened.len(), 3);
        assert!((0..100).all(|_| opened.contains(&district(&mut events, Subject::InBurst { burst: 0 }).1)));
    }

    #[test]
    fn malformed_events_carry_no_sequence_and_are_counted_by_reason() {
        let mut events = Events::new(plan(r#"{"malformed_share":0.5}"#));
        let mut malformed = 0;
        for _ in 0..1_000 {
            malformed +=
                u64::from(matches!(write(&mut events, Subject::Anywhere).0, Written::Malformed { .. }));
        }
        assert_eq!(events.malformed().values().sum::<u64>(), malformed);
        assert_eq!(events.malformed().len(), REASONS.len());
        let valid: u64 = events.last_sequences().map(|(_, last)| last + 1).sum();
        assert_eq!(valid + malformed, 1_000);
    }

    #[test]
    fn an_event_taken_back_gives_its_number_to_the_next() {
        let mut events = Events::new(plan("{}"));
        let (written, first, _) = write(&mut events, Subject::Anywhere);
        events.take_back(written);
        assert_eq!(events.last_sequences().count(), 0);
        let (_, second, _) = write(&mut events, Subject::Anywhere);
        let sequence = |payload: &[u8]| {
            let value: Value = serde_json::from_slice(payload).unwrap();
            (value["producer"].as_u64().unwrap(), value["sequence"].as_u64().unwrap())
        };
        assert_eq!(sequence(&first), sequence(&second));
    }

    /// The core's own parser gives exactly the reason that each malformed event claims.
    #[test]
    fn the_engine_refuses_malformed_events_for_the_reason_they_claim() {
        use eventengine_core::arena::Arena;
        use eventengine_core::parse::{Limits, PADDING, Payload};
        use eventengine_core::program::treasure_hunt::{HuntSchema, Settings, TreasureHunt};
        use eventengine_core::program::{Origin, Output, Program, Schema};

        let settings = Settings { districts: 12, puzzles_per_district: 40, clues_per_puzzle: 5 };
        let limits = Limits { bytes: 65_536, depth: 32, array_length: 1024, string_bytes: 16_384 };
        let mut schema = HuntSchema::new(settings, limits);
        let mut arena = Arena::new(4096, 1, 1);
        let mut events = Events::new(plan(r#"{"malformed_share":0.5}"#));
        let mut buffer = [0; 1024];
        for offset in 0..500 {
            let (written, payload, _) = write(&mut events, Subject::Anywhere);
            let mut scratch = vec![0; payload.len() + PADDING];
            let read = schema.read(Payload::copy(&payload, &mut scratch).unwrap());
            let outcome = read.map_err(|refusal| refusal.reason).and_then(|event| {
                let origin = Origin { partition: 0, offset };
                TreasureHunt::default().apply(&event, origin, &mut arena, &mut Output::new(&mut buffer))
            });
            match written {
                Written::Valid { .. } => assert!(outcome.is_ok(), "{}", String::from_utf8_lossy(&payload)),
                Written::Malformed { reason } => {
                    assert_eq!(outcome.err().map(|error| error.as_str()), Some(reason));
                }
            }
        }
    }
}
