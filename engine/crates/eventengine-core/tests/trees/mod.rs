//! The tree parser against serde_json's own tree. Used by the tests and by the fuzzers.

use std::cell::RefCell;

use eventengine_core::parse::{Limits, NodeKind, Reason, Refusal, TREE_NODES_MAX, TreeParser, Value};
use serde_json::Value as Expected;

/// Limits that documents of usual size don't reach.
pub const LIMITS: Limits = Limits { bytes: 65_536, depth: 32, array_length: 1024, string_bytes: 16_384 };

/// Reads a payload and hands its tree on.
pub fn parse<T>(payload: &[u8], look: impl FnOnce(Value<'_>) -> T) -> Result<T, Refusal> {
    thread_local!(static PARSER: RefCell<TreeParser> = RefCell::new(TreeParser::new(LIMITS, TREE_NODES_MAX)));
    PARSER.with_borrow_mut(|parser| parser.parse(payload).map(|tree| look(tree.root())))
}

fn text(value: eventengine_core::parse::RawString<'_>) -> String {
    let mut scratch = vec![0; value.bytes().len()];
    value.unescape(&mut scratch).expect("as long as the raw bytes").to_owned()
}

/// Whether the two are the same value: numbers as integers where both are, else as doubles.
fn same(value: Value<'_>, expected: &Expected) -> bool {
    match (value.kind(), expected) {
        (NodeKind::Null, Expected::Null) => true,
        (NodeKind::Bool, Expected::Bool(flag)) => value.flag() == Some(*flag),
        (NodeKind::Number, Expected::Number(number)) => {
            let ours = value.number().expect("a number");
            match (number.as_u64(), number.as_i64()) {
                (Some(wanted), _) => ours.as_u64() == Some(wanted),
                (None, Some(wanted)) => ours.as_i64() == Some(wanted),
                (None, None) => ours.as_f64().map(f64::to_bits) == number.as_f64().map(f64::to_bits),
            }
        }
        (NodeKind::String, Expected::String(wanted)) => value.string().map(text).as_ref() == Some(wanted),
        (NodeKind::Array, Expected::Array(wanted)) => {
            value.items().count() == wanted.len()
                && value.items().zip(wanted).all(|(item, wanted)| same(item, wanted))
        }
        (NodeKind::Object, Expected::Object(wanted)) => {
            value.members().count() == wanted.len()
                && value
                    .members()
                    .all(|(key, item)| wanted.get(&text(key)).is_some_and(|wanted| same(item, wanted)))
        }
        _ => false,
    }
}

/// What serde_json accepts is accepted with the same values. Limits, and keys that stand twice, are ours alone.
pub fn agree(payload: &[u8]) {
    let shown = String::from_utf8_lossy(payload);
    let expected = serde_json::from_slice::<Expected>(payload);
    match (parse(payload, |root| expected.as_ref().map(|expected| same(root, expected)).ok()), &expected) {
        (Ok(Some(equal)), Ok(_)) => assert!(equal, "read otherwise: {shown}"),
        (Ok(_), _) => panic!("accepted what the reference refuses: {shown}"),
        (Err(Refusal { reason: Reason::TooDeep | Reason::TooLarge | Reason::DuplicateKey, .. }), _) => {}
        (Err(refusal), Ok(_)) => panic!("refused with {refusal:?} what the reference accepts: {shown}"),
        (Err(refusal), Err(_)) => assert!(refusal.position as usize <= payload.len(), "{refusal:?} {shown}"),
    }
}
