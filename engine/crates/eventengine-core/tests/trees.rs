//! Trees against the reference, their faults and bounds, and what is read leniently from them.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "trees/mod.rs"]
mod trees;

use eventengine_core::parse::*;
use proptest::prelude::*;
use trees::{LIMITS, agree, parse};

fn refused(payload: &[u8]) -> (Reason, u32) {
    let refusal = parse(payload, |_| ()).unwrap_err();
    (refusal.reason, refusal.position)
}

#[test]
fn any_document_is_a_tree_scalars_included() {
    for payload in [
        &b" null "[..],
        b"true",
        b"-1.5e3",
        b"\"\\u00e9\"",
        b"[]",
        b"{}",
        b"[1,[2,{\"a\":[]}],\"x\"]",
        b"18446744073709551615",
    ] {
        agree(payload);
        assert!(parse(payload, |_| ()).is_ok(), "{}", String::from_utf8_lossy(payload));
    }
}

#[test]
fn faults_have_their_reason_and_position() {
    assert_eq!(refused(b""), (Reason::Truncated, 0));
    assert_eq!(refused(b"[1,"), (Reason::Truncated, 3));
    assert_eq!(refused(b"{\"a\":1,}"), (Reason::InvalidJson, 7));
    assert_eq!(refused(b"[1,]"), (Reason::InvalidJson, 3));
    assert_eq!(refused(b"[1 2]"), (Reason::InvalidJson, 3));
    assert_eq!(refused(b"1 2"), (Reason::InvalidJson, 2));
    assert_eq!(refused(b"[\"\xff\"]"), (Reason::InvalidUtf8, 2));
    assert_eq!(refused(b"{\"a\":1,\"b\":{\"a\":2},\"\\u0061\":3}"), (Reason::DuplicateKey, 19));
    assert_eq!(refused(&[b'['; 40]), (Reason::TooDeep, 32));
}

#[test]
fn a_document_with_more_nodes_than_there_is_room_for_is_refused() {
    let mut parser = TreeParser::new(LIMITS, 4);
    assert!(parser.parse(b"[1,2,3]").is_ok());
    assert_eq!(
        parser.parse(b"[1,2,3,4]").map(|_| ()).unwrap_err(),
        Refusal { reason: Reason::TooLarge, position: 8 }
    );
}

fn hunt_like() -> Schema {
    let required = |name, kind| Field::new(name, kind, Presence::Required);
    let optional = |name, kind| Field::new(name, kind, Presence::Optional);
    Schema {
        fields: vec![
            required("kind", Type::Enum(vec!["solved".to_owned()])),
            required("team", Type::U32),
            optional("delta", Type::I64),
            optional("x", Type::F64),
            optional("on", Type::Bool),
            optional("points", Type::Array { items: Box::new(Type::U8), capacity: 4 }),
        ],
    }
}

fn read_as(form: Form, payload: &str) -> Result<(Option<u64>, Vec<u64>, bool), Reason> {
    let mut parser = Parser::new(&hunt_like(), LIMITS).unwrap().with_trees();
    let mut scratch = vec![0; payload.len() + PADDING];
    let sealed = Payload::copy(payload.as_bytes(), &mut scratch).unwrap();
    let (view, fell_back) = parser.parse_as(sealed, form).map_err(|refusal| refusal.reason)?;
    Ok((view.unsigned(1), view.unsigned_items(5).collect(), fell_back))
}

#[test]
fn a_tree_is_read_for_what_was_meant() {
    let payload = r#"{"kind":"solved","team":"\u0037","delta":-2e0,"x":"1.5","on":"true","points":[1.0,"2"],"note":null}"#;
    assert_eq!(read_as(Form::Schema, payload), Err(Reason::WrongType));
    assert_eq!(read_as(Form::Tree, payload), Ok((Some(7), vec![1, 2], false)));
    assert_eq!(read_as(Form::Auto, payload), Ok((Some(7), vec![1, 2], true)));
}

#[test]
fn what_fits_the_schema_needs_no_tree_and_what_is_no_json_gets_none() {
    let fitting = r#"{"kind":"solved","team":7}"#;
    for form in [Form::Schema, Form::Tree, Form::Auto] {
        assert_eq!(read_as(form, fitting), Ok((Some(7), vec![], false)), "{form:?}");
        assert_eq!(read_as(form, r#"{"kind":"solved","team":7"#), Err(Reason::Truncated), "{form:?}");
        assert_eq!(read_as(form, r#"{"kind":"solved"}"#), Err(Reason::MissingField), "{form:?}");
        assert_eq!(read_as(form, r#"{"kind":"won","team":1}"#), Err(Reason::UnknownKind), "{form:?}");
        assert_eq!(read_as(form, r#"{"kind":"solved","team":-1}"#), Err(Reason::OutOfRange), "{form:?}");
    }
    for unfit in [r#""7.5""#, r#""7x""#, "true", "[7]", "4294967296", "1e20"] {
        assert!(read_as(Form::Auto, &format!(r#"{{"kind":"solved","team":{unfit}}}"#)).is_err(), "{unfit}");
    }
}

fn document() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON has no such number", |number| number.is_finite())
            .prop_map(|number| format!("{number:?}")),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "\"([a-z]|\\\\[nt/\"]|\\\\u00e9){0,12}\"",
    ];
    scalar.prop_recursive(5, 40, 5, |inner| {
        let member = ("\"[a-c]{0,2}\"", inner.clone()).prop_map(|(key, value)| format!("{key} :{value}"));
        prop_oneof![
            proptest::collection::vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(", "))),
            proptest::collection::vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn trees_agree_with_the_reference(document in document()) {
        agree(document.as_bytes());
    }

    #[test]
    fn trees_of_damaged_documents_agree_with_the_reference(
        document in document(), place in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
    ) {
        let mut payload = document.into_bytes();
        let place = place.index(payload.len());
        if cut { payload.truncate(place) } else { payload[place] = byte };
        agree(&payload);
    }
}
