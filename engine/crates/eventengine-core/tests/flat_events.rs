//! Events that are one object of scalars, by any such schema: what is read of them at once is what each member says.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fmt::Write as _;

use eventengine_core::parse::*;
use proptest::prelude::*;
use proptest::sample::select;

const LIMITS: Limits = Limits { bytes: 65_536, depth: 4, array_length: 4, string_bytes: 1_024 };
const CHOICES: [&str; 3] = ["found", "solved", "a choice of more than sixteen bytes"];

/// A member's type, and values that several events have for it.
#[derive(Debug, Clone)]
struct Member {
    kind: Type,
    name: String,
    values: Vec<String>,
}

fn values_of(value: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(value, EVENTS)
}

const EVENTS: usize = 4;

fn member() -> impl Strategy<Value = Member> {
    let double = "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,5})?|-?[1-9][0-9]{0,17}(\\.[0-9]{1,3})?";
    let choices = || Type::Enum(CHOICES.map(str::to_owned).to_vec());
    let kind_and_values = prop_oneof![
        3 => values_of(any::<u32>().prop_map(|number| (number >> (number % 32)).to_string()))
            .prop_map(|values| (Type::U32, values)),
        2 => values_of(any::<u64>().prop_map(|number| (number >> (number % 64)).to_string()))
            .prop_map(|values| (Type::U64, values)),
        4 => values_of(double).prop_map(|values| (Type::F64, values)),
        1 => values_of(any::<i64>().prop_map(|number| number.to_string())).prop_map(|values| (Type::I64, values)),
        1 => values_of(any::<bool>().prop_map(|flag| flag.to_string())).prop_map(|values| (Type::Bool, values)),
        2 => values_of("\"([a-z,:{}é]|\\\\n){0,20}\"").prop_map(|values| (Type::String, values)),
        1 => values_of(select(&CHOICES[..]).prop_map(|choice| format!("{choice:?}")))
            .prop_map(move |values| (choices(), values)),
    ];
    (kind_and_values, prop_oneof![3 => "[a-z]{1,3}", 1 => "[a-z]{1,27}"])
        .prop_map(|((kind, values), name)| Member { kind, name, values })
}

fn schema(members: &[Member]) -> Schema {
    let field = |member: &Member| Field::new(&member.name, member.kind.clone(), Presence::Required);
    Schema { fields: members.iter().map(field).collect() }
}

fn event(members: &[Member], number: usize) -> String {
    let mut text = String::new();
    for (place, member) in members.iter().enumerate() {
        let before = if place == 0 { '{' } else { ',' };
        write!(text, "{before}\"{}\":{}", member.name, member.values[number]).unwrap();
    }
    text + "}"
}

/// A member as it was read, spelled as the reference spells it.
fn spelled(view: &View<'_>, field: usize, kind: &Type) -> serde_json::Value {
    match kind {
        Type::Unsigned { .. } => view.unsigned(field).into(),
        Type::Signed { .. } => view.signed(field).into(),
        Type::F64 => view.double(field).into(),
        Type::Bool => view.flag(field).into(),
        Type::Enum(choices) => view.choice(field).map(|choice| choices[choice].as_str()).into(),
        _ => view.string(field).and_then(|text| Some(text.unescape(&mut [0; 1_024])?.to_owned())).into(),
    }
}

/// Each member of each event, several times in turns, is what the reference reads of it, on all levels.
fn judge(members: &[Member]) -> Result<(), TestCaseError> {
    for level in Instructions::ALL.into_iter().filter(|level| level.are_there()) {
        let mut parser = Parser::with_instructions(&schema(members), LIMITS, level).unwrap();
        // What surrounds a payload in a chunk of the pool is anything.
        let mut chunk = [b'7'; 4_096];
        for number in 0..2 * EVENTS {
            let text = event(members, number % EVENTS);
            let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
            let place = number * 7;
            chunk[place..][..text.len()].copy_from_slice(text.as_bytes());
            let payload = Payload::seal(&mut chunk[place..], text.len()).unwrap();
            let view = parser.parse(payload).unwrap();
            for (field, member) in members.iter().enumerate() {
                let value = &expected[&member.name];
                let value = if member.kind == Type::F64 { value.as_f64().into() } else { value.clone() };
                prop_assert_eq!(spelled(&view, field, &member.kind), value, "{} in {}", member.name, text);
            }
        }
    }
    Ok(())
}

#[test]
fn a_double_is_read_wherever_in_the_event_it_is() {
    let values = |values: [&str; EVENTS]| values.map(str::to_owned).to_vec();
    let member = |kind, name: &str, values| Member { kind, name: name.to_owned(), values };
    for before in 1..=40 {
        let double = member(Type::F64, "x", values(["0.5", "-1.25", "7", "123456789012.345"]));
        let other = member(Type::F64, "y", values(["-0.0", "10", "1e3", "0.1"]));
        let digits = |name: &str| member(Type::U32, name, values(["1", "0", "9", "5"]));
        let first = digits(&"a".repeat(before.min(27)));
        let padding = digits(&"b".repeat(before.saturating_sub(26).max(1)));
        let rest = ["c", "d", "e", "f", "g", "h"].map(digits);
        let members: Vec<Member> = [first, double, padding].into_iter().chain(rest).chain([other]).collect();
        judge(&members).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn each_member_is_what_the_reference_reads(mut members in proptest::collection::vec(member(), 5..17)) {
        let mut names = std::collections::BTreeSet::new();
        members.retain(|member| names.insert(member.name.clone()));
        judge(&members)?;
    }
}
