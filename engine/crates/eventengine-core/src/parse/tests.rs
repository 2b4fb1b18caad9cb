//! What the fast walk is there for.

use super::*;

const LIMITS: Limits = Limits { bytes: 65_536, depth: 32, array_length: 1024, string_bytes: 16_384 };

fn schema() -> Schema {
    let optional = |name, kind| Field::new(name, kind, Presence::Optional);
    let array = |items| Type::Array { items: Box::new(items), capacity: 64 };
    Schema {
        fields: vec![
            optional("kind", Type::Enum(vec!["team_solved".to_owned(), "clue_discovered".to_owned()])),
            optional("producer", Type::U32),
            optional("sequence", Type::U64),
            optional("x", Type::F64),
            Field::new("on", Type::Bool, Presence::Nullable),
            optional("note", Type::String),
            optional(
                "telemetry",
                array(Type::Object(vec![
                    optional("sensor", Type::String),
                    optional("value", Type::F64),
                    optional("tags", Type::String),
                    optional("marks", array(Type::I64)),
                ])),
            ),
        ],
    }
}

#[test]
fn what_producers_usually_write_needs_no_careful_walk() {
    let payloads: [&[u8]; 4] = [
        br#"{"kind":"team_solved","producer":1,"sequence":20000000000,"x":12.25,"on":true,"note":"plain"}"#,
        b"{\"note\": \"caf\xc3\xa9 \\\"x\\\" \\u2192\",\n \"unknown\": [1, {}], \"x\": -3, \"on\": null}",
        br#"{"telemetry":[{"sensor":"a","value":1.5,"tags":"t"},{"tags":"t","value":2,"sensor":"b","marks":[1]}]}"#,
        b"{}",
    ];
    for level in Instructions::ALL.into_iter().filter(|level| level.are_there()) {
        let Parser { plan, mut record, mut learned, .. } =
            Parser::with_instructions(&schema(), LIMITS, level).unwrap();
        for payload in payloads {
            let mut scratch = vec![0; payload.len() + PADDING];
            let sealed = Payload::copy(payload, &mut scratch).unwrap();
            let outcome = fast::walk(level, &plan, LIMITS, sealed, &mut record, &mut learned);
            assert_ne!(outcome, Outcome::GaveUp, "{level:?} gave up on {}", String::from_utf8_lossy(payload));
        }
    }
}
