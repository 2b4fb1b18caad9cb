//! The parser against the reference, all levels against the careful walk, and each fault with its reason and place.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod differential;

use std::sync::LazyLock;

use differential::{KINDS, LIMITS, agree, parse, parsers, read, same_on_all_levels, schema};
use eventengine_core::parse::*;
use proptest::prelude::*;

/// All levels, fresh and trained on what came before, say what the careful walk says.
fn same<'a>(payloads: impl IntoIterator<Item = &'a [u8]> + Clone) {
    same_on_all_levels(&mut parsers(), payloads.clone());
    for payload in payloads {
        same_on_all_levels(&mut parsers(), [payload]);
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
    same([&payload[..]]);
}

#[test]
fn an_escaped_key_is_the_key_that_it_spells() {
    let payload = br#"{"\u006eo\u0074e":"x","kind":"team\u005fsolved"}"#;
    assert_eq!(parse(payload).unwrap().note.as_deref(), Some("x"));
    same([&payload[..]]);
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
    same(orders.into_iter().cycle().take(15));
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
    let payloads = [nested(64, 1), nested(65, 0), nested(4, 16), nested(4, 17), nested(64, 0)];
    same(payloads.iter().map(Vec::as_slice));
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
    same([&payload[..]]);
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
        same([payload]);
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
        "x" | "y" => double(),
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
        "points" => {
            let mark = proptest::option::of(0..300_u32);
            let point = (number(), number(), double(), mark, proptest::option::of(words())).prop_map(
                |(id, at, value, mark, sensor)| {
                    let mark = mark.map_or(String::new(), |mark| format!(",\"mark\":{mark}"));
                    let sensor = sensor.map_or(String::new(), |sensor| format!(",\"sensor\":{sensor}"));
                    format!("{{\"id\":{id},\"at\":{at},\"value\":{value}{mark}{sensor}}}")
                },
            );
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
        same(payloads.iter().map(Vec::as_slice));
    }
}

/// Inputs that the fuzzers keep: one payload or several, divided by a byte that is in no UTF-8.
static KEPT_INPUTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/schema");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
});

fn judge(input: &[u8]) {
    let payloads = || input.split(|byte| *byte == 0xFE);
    payloads().for_each(agree);
    same_on_all_levels(&mut parsers(), payloads());
}

#[test]
fn the_fuzzers_inputs_are_judged_as_the_reference_does() {
    assert!(KEPT_INPUTS.len() >= 8);
    KEPT_INPUTS.iter().for_each(|input| judge(input));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    /// The short form of fuzzing: the kept inputs with a few bytes changed, and two of them crossed.
    #[test]
    fn changed_inputs_of_the_fuzzers_are_judged_as_the_reference_does(
        first in any::<proptest::sample::Index>(), second in any::<proptest::sample::Index>(),
        cuts in any::<(proptest::sample::Index, proptest::sample::Index)>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        crossed in any::<bool>(),
    ) {
        let (first, second) = (first.get(&KEPT_INPUTS), second.get(&KEPT_INPUTS));
        let mut input = first.clone();
        if crossed {
            input.truncate(cuts.0.index(first.len()));
            input.extend_from_slice(&second[cuts.1.index(second.len())..]);
        }
        for (place, byte) in changes {
            if !input.is_empty() {
                let place = place.index(input.len());
                input[place] = byte;
            }
        }
        judge(&input);
    }
}

/// Numbers of an event, those of its points, and its text.
type Flat = (Vec<Option<u64>>, Vec<Option<u64>>, Option<String>);

/// What was read of an event of scalars and of one array of points.
fn flat(view: View<'_>) -> Flat {
    let text =
        |string: RawString<'_>| string.unescape(&mut vec![0; string.bytes().len()]).unwrap().to_owned();
    let points = view.objects(11).flat_map(|point| {
        [point.double(0).map(f64::to_bits), point.string(1).map(|text| text.bytes().len() as u64)]
    });
    let integers = [view.choice(0).map(|choice| choice as u64)]
        .into_iter()
        .chain((1..8).map(|field| view.unsigned(field)));
    let doubles = (8..10).map(|field| view.double(field).map(f64::to_bits));
    (integers.chain(doubles).collect(), points.collect(), view.string(10).map(text))
}

#[test]
fn an_event_that_differs_in_one_byte_from_those_before_it_is_judged_as_it_deserves() {
    let optional = |name, kind| Field::new(name, kind, Presence::Optional);
    let names = ["producer", "sequence", "player", "team", "district", "puzzle", "clue"];
    let mut fields = vec![optional("kind", Type::Enum(KINDS.map(str::to_owned).to_vec()))];
    fields.extend(names.map(|name| optional(name, Type::U64)));
    fields.extend([optional("x", Type::F64), optional("y", Type::F64), optional("note", Type::String)]);
    let point = vec![optional("value", Type::F64), optional("tags", Type::String)];
    let points = Type::Array { items: Box::new(Type::Object(point)), capacity: 4 };
    fields.push(optional("points", points));
    let schema = Schema { fields };
    let head = r#"{"kind":"team_solved","producer":1,"sequence":100000000007,"player":5999,"team":0,"district":12345678,"puzzle":39,"clue":2"#;
    let events = [
        format!(r#"{head},"x":1234.567,"y":-0.5,"note":"a \"b\" \u00e9 é"}}"#),
        format!(r#"{head},"x":1234.567,"y":20}}"#),
        format!(r#"{head},"points":[{{"value":1.5,"tags":"a,b"}},{{"value":-2,"tags":""}}]}}"#),
    ];
    for event in &events {
        for level in Instructions::ALL.into_iter().filter(|level| level.are_there()) {
            let mut trained = Parser::with_instructions(&schema, LIMITS, level).unwrap();
            let mut careful = trained.clone();
            let mut judge = |trained: &mut Parser, payload: &[u8]| {
                let mut scratch = vec![0xAA; payload.len() + PADDING];
                let sealed = Payload::copy(payload, &mut scratch).unwrap();
                let expected = careful.parse_carefully(payload).map(flat);
                assert_eq!(
                    trained.parse(sealed).map(flat),
                    expected,
                    "{level:?}: {}",
                    String::from_utf8_lossy(payload)
                );
            };
            for _ in 0..4 {
                judge(&mut trained, event.as_bytes());
            }
            for place in 0..event.len() {
                for byte in *b"\"\\,:}{[]0159-.e x\x00\x80\xff" {
                    let mut changed = event.clone().into_bytes();
                    changed[place] = byte;
                    judge(&mut trained.clone(), &changed);
                    changed[place] = event.as_bytes()[place];
                    changed.insert(place, byte);
                    judge(&mut trained.clone(), &changed);
                }
                judge(
                    &mut trained.clone(),
                    &[&event.as_bytes()[..place], &event.as_bytes()[place + 1..]].concat(),
                );
                judge(&mut trained.clone(), &event.as_bytes()[..place]);
            }
        }
    }
}
