//! From bytes to an event: a schema as field plan, parsed in one pass without a copy.
//!
//! Owns the reasons for which an event is refused and the walk over an object's
//! members. Producers write their members in one order, so each key is first compared
//! with the one that stood at this place last time ([`Prediction`]), and looked up only
//! if that fails. A known key may stand there once; unknown ones are skipped, but checked.

use crate::json::check_utf8;
pub use crate::json::{Limits, RawNumber, RawString, Scanner};

/// Why an event was refused. The numbers travel in descriptors.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Not a JSON object, or a known key twice.
    InvalidJson = 0,
    /// Nested deeper than the limit.
    TooDeep = 1,
    /// Payload, array or string beyond its limit.
    TooLarge = 2,
    /// Not UTF-8.
    InvalidUtf8 = 3,
    /// A required field is not there.
    MissingField = 4,
    /// The kind of event is none that the program knows.
    UnknownKind = 5,
    /// A value of the wrong type, or outside of what its field allows.
    OutOfRange = 6,
    /// The arena has no slot left for the state that the event would make.
    ArenaExhausted = 7,
    /// The tenant that the event belongs to holds all the slots that it may.
    TenantExhausted = 8,
    /// Not as long as a binary packet, or a batch of them, has to be.
    WrongLength = 9,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Reason; 10] = [
        Reason::InvalidJson,
        Reason::TooDeep,
        Reason::TooLarge,
        Reason::InvalidUtf8,
        Reason::MissingField,
        Reason::UnknownKind,
        Reason::OutOfRange,
        Reason::ArenaExhausted,
        Reason::TenantExhausted,
        Reason::WrongLength,
    ];

    /// The reason's name in headers, replies and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::InvalidJson => "invalid_json",
            Reason::TooDeep => "too_deep",
            Reason::TooLarge => "too_large",
            Reason::InvalidUtf8 => "invalid_utf8",
            Reason::MissingField => "missing_field",
            Reason::UnknownKind => "unknown_kind",
            Reason::OutOfRange => "out_of_range",
            Reason::ArenaExhausted => "arena_exhausted",
            Reason::TenantExhausted => "tenant_exhausted",
            Reason::WrongLength => "wrong_length",
        }
    }

    /// The reason with a number.
    pub fn from_number(number: u8) -> Option<Reason> {
        Reason::ALL.get(usize::from(number)).copied()
    }
}

/// A refusal and where in the payload it arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseError {
    /// Why.
    pub reason: Reason,
    /// Byte position.
    pub position: usize,
}

/// Most fields that a plan may have.
pub const FIELDS_MAX: usize = 32;

/// A schema: the names of an object's fields, and what to do with the value of each.
pub trait FieldPlan<'a> {
    /// Names in any order; at most [`FIELDS_MAX`].
    const NAMES: &'static [&'static [u8]];

    /// The names with quotes and colon, as most producers write them: `"name":`.
    const QUOTED: &'static [&'static [u8]];

    /// Takes the value of a field; the scanner stands right before it.
    fn take(&mut self, field: usize, scanner: &mut Scanner<'a>) -> Result<(), ParseError>;
}

/// Which field stood at which place in the last object.
#[derive(Debug, Clone)]
pub struct Prediction {
    order: [u8; FIELDS_MAX],
}

/// No field: an unknown key stood there.
const UNKNOWN: u8 = u8::MAX;

impl Default for Prediction {
    fn default() -> Prediction {
        Prediction { order: [UNKNOWN; FIELDS_MAX] }
    }
}

/// Parses a payload that is one object into `fields`.
pub fn parse_object<'a, F: FieldPlan<'a>>(
    bytes: &'a [u8],
    limits: Limits,
    prediction: &mut Prediction,
    fields: &mut F,
) -> Result<(), ParseError> {
    if bytes.len() > limits.bytes {
        return Err(ParseError { reason: Reason::TooLarge, position: limits.bytes });
    }
    check_utf8(bytes)?;
    let mut scanner = Scanner::new(bytes, limits);
    scanner.expect(b'{')?;
    scanner.descend()?;
    let mut seen = 0_u32;
    let mut place = 0_usize;
    if scanner.peek() == b'}' {
        scanner.expect(b'}')?;
    } else {
        loop {
            let field = take_key::<F>(&mut scanner, prediction, place)?;
            if field == UNKNOWN {
                scanner.skip_value()?;
            } else {
                let bit = 1_u32 << field;
                if seen & bit != 0 {
                    return scanner.error(Reason::InvalidJson);
                }
                seen |= bit;
                fields.take(usize::from(field), &mut scanner)?;
            }
            place += 1;
            match scanner.peek() {
                b',' => scanner.expect(b',')?,
                _ => {
                    scanner.expect(b'}')?;
                    break;
                }
            }
        }
    }
    scanner.ascend();
    scanner.expect_end()
}

/// Takes a key and its colon, and says which field it is.
fn take_key<'a, F: FieldPlan<'a>>(
    scanner: &mut Scanner<'a>,
    prediction: &mut Prediction,
    place: usize,
) -> Result<u8, ParseError> {
    scanner.peek();
    let predicted = prediction.order.get(place).copied().unwrap_or(UNKNOWN);
    if let Some(quoted) = F::QUOTED.get(usize::from(predicted))
        && scanner.take_exactly(quoted)
    {
        return Ok(predicted);
    }
    let key = scanner.string()?;
    scanner.expect(b':')?;
    let found = F::NAMES.iter().position(|name| key.is(name)).map_or(UNKNOWN, |field| field as u8);
    if let Some(slot) = prediction.order.get_mut(place) {
        *slot = found;
    }
    Ok(found)
}

/// Takes a number that must be an unsigned 32-bit integer.
pub fn take_u32(scanner: &mut Scanner<'_>) -> Result<u32, ParseError> {
    take_number(scanner)?.as_u32().ok_or_else(|| out_of_range(scanner))
}

/// Takes a number that must be an unsigned 64-bit integer.
pub fn take_u64(scanner: &mut Scanner<'_>) -> Result<u64, ParseError> {
    take_number(scanner)?.as_u64().ok_or_else(|| out_of_range(scanner))
}

/// Takes a number of any kind. Another well-formed value is out of range.
pub fn take_number<'a>(scanner: &mut Scanner<'a>) -> Result<RawNumber<'a>, ParseError> {
    match scanner.peek() {
        b'-' | b'0'..=b'9' => scanner.number(),
        _ => wrong_type(scanner),
    }
}

/// Takes a string. Another well-formed value is out of range.
pub fn take_string<'a>(scanner: &mut Scanner<'a>) -> Result<RawString<'a>, ParseError> {
    match scanner.peek() {
        b'"' => scanner.string(),
        _ => wrong_type(scanner),
    }
}

fn out_of_range(scanner: &Scanner<'_>) -> ParseError {
    ParseError { reason: Reason::OutOfRange, position: scanner.position() }
}

/// A value of another type: malformed ones are reported as such, well-formed ones as out of range.
fn wrong_type<T>(scanner: &mut Scanner<'_>) -> Result<T, ParseError> {
    let error = out_of_range(scanner);
    scanner.skip_value()?;
    Err(error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::program::treasure_hunt::Event;

    const LIMITS: Limits = Limits { bytes: 65_536, depth: 32, array_length: 1024, string_bytes: 16_384 };

    fn parse(payload: &[u8]) -> Result<Event<'_>, ParseError> {
        Event::parse(payload, LIMITS, &mut Prediction::default())
    }

    fn reason(payload: &[u8]) -> Reason {
        parse(payload).unwrap_err().reason
    }

    /// The same schema for the reference parser.
    #[derive(Debug, Deserialize)]
    struct Reference {
        kind: Option<String>,
        producer: Option<u32>,
        sequence: Option<u64>,
        sent_at_ns: Option<u64>,
        player: Option<u32>,
        team: Option<u32>,
        district: Option<u32>,
        puzzle: Option<u32>,
        clue: Option<u32>,
        x: Option<f64>,
        y: Option<f64>,
        note: Option<String>,
    }

    /// What the reference says: the whole document has to be valid JSON, and the known fields of their types.
    /// A null is a missing field to serde and a wrong type here.
    fn reference(payload: &[u8]) -> Option<Reference> {
        let tree: serde_json::Value = serde_json::from_slice(payload).ok()?;
        let object = tree.as_object()?;
        let known = <Event<'_> as FieldPlan<'_>>::NAMES;
        if known
            .iter()
            .any(|name| object.get(std::str::from_utf8(name).unwrap()).is_some_and(|v| v.is_null()))
        {
            return None;
        }
        serde_json::from_slice(payload).ok()
    }

    fn agree(payload: &[u8]) {
        let (ours, theirs) = (parse(payload), reference(payload));
        let shown = String::from_utf8_lossy(payload);
        let (event, expected) = match (ours, theirs) {
            (Ok(event), Some(expected)) => (event, expected),
            (Err(_), None) => return,
            (Ok(_), None) => panic!("accepted what the reference refuses: {shown}"),
            (Err(error), Some(_)) => panic!("refused with {error:?} what the reference accepts: {shown}"),
        };
        assert_eq!(event.producer, expected.producer, "{shown}");
        assert_eq!(event.sequence, expected.sequence, "{shown}");
        assert_eq!(event.sent_at_ns, expected.sent_at_ns, "{shown}");
        assert_eq!(event.player, expected.player, "{shown}");
        assert_eq!(event.team, expected.team, "{shown}");
        assert_eq!(event.district, expected.district, "{shown}");
        assert_eq!((event.puzzle, event.clue), (expected.puzzle, expected.clue), "{shown}");
        assert_eq!(event.x.map(|x| x.as_f64().unwrap()), expected.x, "{shown}");
        assert_eq!(event.y.map(|y| y.as_f64().unwrap()), expected.y, "{shown}");
        let mut scratch = vec![0; payload.len()];
        assert_eq!(
            event.note.map(|note| note.unescape(&mut scratch).unwrap().to_owned()),
            expected.note,
            "{shown}"
        );
        assert_eq!(
            event.kind().is_ok(),
            expected.kind.is_some_and(|kind| {
                matches!(kind.as_str(), "clue_discovered" | "team_solved" | "district_opened")
            }),
            "{shown}"
        );
    }

    #[test]
    fn an_event_is_read_in_any_key_order_with_unknown_keys_between() {
        let payload = br#" {"team":7,"extra":{"a":[1,2,{"b":null}],"c":"\u00e9"},"kind":"team_solved",
            "y":-1.5e3,"district":3,"producer":4294967295,"sequence":18446744073709551615,"puzzle":2,"note":"a\"b"} "#;
        let event = parse(payload).unwrap();
        assert_eq!((event.team, event.district, event.puzzle), (Some(7), Some(3), Some(2)));
        assert_eq!((event.producer, event.sequence), (Some(u32::MAX), Some(u64::MAX)));
        assert_eq!(event.y.unwrap().as_f64(), Some(-1500.0));
        assert_eq!(event.note.unwrap().unescape(&mut [0; 8]), Some("a\"b"));
        agree(payload);
    }

    #[test]
    fn an_escaped_key_is_the_key_that_it_spells() {
        let event = parse(br#"{"\u0074e\u0061m":5}"#).unwrap();
        assert_eq!(event.team, Some(5));
    }

    #[test]
    fn prediction_follows_the_order_of_the_last_event_and_never_changes_the_result() {
        let mut prediction = Prediction::default();
        let orders: [&[u8]; 4] = [
            br#"{"team":1,"district":2}"#,
            br#"{"district":2,"team":1}"#,
            br#"{"x":0.5,"district":2,"other":1,"team":1}"#,
            br#"{"team" : 1,"district":2}"#,
        ];
        for _ in 0..3 {
            for payload in orders {
                let event = Event::parse(payload, LIMITS, &mut prediction).unwrap();
                assert_eq!((event.team, event.district), (Some(1), Some(2)));
            }
        }
    }

    #[test]
    fn each_limit_has_its_reason() {
        let limits = Limits { bytes: 200, depth: 3, array_length: 4, string_bytes: 8 };
        let parse = |payload: &[u8]| Event::parse(payload, limits, &mut Prediction::default()).map(|_| ());
        let refused = |payload: &[u8]| parse(payload).unwrap_err().reason;
        assert!(parse(br#"{"a":[[1,2,3,4]],"note":"12345678"}"#).is_ok());
        assert_eq!(refused(br#"{"a":[[[1]]]}"#), Reason::TooDeep);
        assert_eq!(refused(br#"{"a":[1,2,3,4,5]}"#), Reason::TooLarge);
        assert_eq!(refused(br#"{"note":"123456789"}"#), Reason::TooLarge);
        assert_eq!(refused(br#"{"a":{"123456789":1}}"#), Reason::TooLarge);
        assert_eq!(refused(&[b' '; 201]), Reason::TooLarge);
    }

    #[test]
    fn depth_beyond_any_stack_is_an_error_and_not_a_crash() {
        let mut payload = br#"{"a":"#.to_vec();
        payload.extend(std::iter::repeat_n(b'[', 50_000));
        assert_eq!(reason(&payload), Reason::TooDeep);
    }

    #[test]
    fn malformed_payloads_are_refused_with_reason_and_position() {
        let cases: [(&[u8], Reason); 22] = [
            (b"", Reason::InvalidJson),
            (b"[]", Reason::InvalidJson),
            (b"{", Reason::InvalidJson),
            (b"{}x", Reason::InvalidJson),
            (b"{\"team\":1,}", Reason::InvalidJson),
            (b"{\"team\":1 \"puzzle\":2}", Reason::InvalidJson),
            (b"{\"a\":[1,]}", Reason::InvalidJson),
            (b"{\"a\":[1 2]}", Reason::InvalidJson),
            (b"{\"a\":tru}", Reason::InvalidJson),
            (b"{\"a\":01}", Reason::InvalidJson),
            (b"{\"a\":1.}", Reason::InvalidJson),
            (b"{\"a\":1e}", Reason::InvalidJson),
            (b"{\"a\":\"\x01\"}", Reason::InvalidJson),
            (b"{\"a\":\"\\x\"}", Reason::InvalidJson),
            (b"{\"a\":\"\\ud800\"}", Reason::InvalidJson),
            (b"{\"team\":1,\"team\":1}", Reason::InvalidJson),
            (b"{\"note\":\"\xff\"}", Reason::InvalidUtf8),
            (b"{\"team\":-1}", Reason::OutOfRange),
            (b"{\"team\":4294967296}", Reason::OutOfRange),
            (b"{\"team\":1.0}", Reason::OutOfRange),
            (b"{\"team\":\"1\"}", Reason::OutOfRange),
            (b"{\"a\":1e999}", Reason::OutOfRange),
        ];
        for (payload, expected) in cases {
            let error = parse(payload).unwrap_err();
            assert_eq!(error.reason, expected, "{}", String::from_utf8_lossy(payload));
            assert!(error.position <= payload.len());
            agree(payload);
        }
    }

    #[test]
    fn reasons_have_stable_names_and_numbers() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            assert_eq!(Reason::from_number(number as u8), Some(reason));
        }
        assert_eq!(Reason::from_number(Reason::ALL.len() as u8), None);
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
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
            "\"([a-z ]|\\\\[\"\\\\/bfnrtu]|\\\\u[0-9a-fA-F]{4}|\\\\ud83d\\\\ude00){0,12}\"",
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

    fn member() -> impl Strategy<Value = String> {
        let known = proptest::sample::select(<Event<'_> as FieldPlan<'_>>::NAMES)
            .prop_map(|name| std::str::from_utf8(name).unwrap().to_owned());
        let key = prop_oneof![9 => known, 1 => "[a-z]{1,5}"];
        let fitting = prop_oneof![
            3 => (0..1000_u32).prop_map(|value| value.to_string()),
            1 => scalar(), 1 => value(),
        ];
        (key, "[ \t\n]{0,2}", fitting)
            .prop_map(|(key, space, value)| format!("\"{key}\"{space}:{space}{value}"))
    }

    fn document() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(member(), 0..8)
            .prop_map(|members| format!("{{{}}}", members.join(",")).into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

        #[test]
        fn it_agrees_with_the_reference_on_documents(payload in document()) {
            agree(&payload);
        }

        #[test]
        fn it_agrees_with_the_reference_on_damaged_documents(
            payload in document(), place in any::<proptest::sample::Index>(),
            damage in prop_oneof![
                proptest::sample::select(b"{}[]\",:\\ \0\x1f0e-.tu\x80\xc3".to_vec()).prop_map(Some), Just(None)
            ],
            replace in any::<bool>(),
        ) {
            let mut payload = payload;
            let place = place.index(payload.len());
            match damage {
                Some(byte) if replace => payload[place] = byte,
                Some(byte) => payload.insert(place, byte),
                None => payload.truncate(place),
            }
            agree(&payload);
        }

        #[test]
        fn it_agrees_with_the_reference_on_any_bytes(payload in proptest::collection::vec(any::<u8>(), 0..40)) {
            agree(&payload);
        }

        #[test]
        fn a_trained_prediction_gives_what_a_fresh_one_gives(payloads in proptest::collection::vec(document(), 1..6)) {
            let mut trained = Prediction::default();
            for payload in &payloads {
                let with = Event::parse(payload, LIMITS, &mut trained);
                let without = parse(payload);
                prop_assert_eq!(format!("{with:?}"), format!("{without:?}"));
            }
        }
    }
}
