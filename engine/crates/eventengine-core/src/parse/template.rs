//! What the next event is guessed to be: the like of the ones before it, with the same members in the same order.
//!
//! Owns the guess and when it is worth trying: it is made anew after it was wrong a few
//! times, and tried the less often the longer it stays wrong. What is guessed: an object
//! of scalars, and of arrays of such objects, without white space. Whatever else a schema
//! has is left to the fast walk. [`super::guess`] reads by it, where the machine can.

use super::index::Index;
#[cfg(target_arch = "x86_64")]
use super::lanes::Lanes;
use super::plan::{Entry, Kind, Plan, Shape};
use super::record::{ROOT, Record};
use super::scan::{TEXT_BYTES, Text};
use super::scanner::Limits;

/// Wrong guesses in a row after which the wait for the next one grows no more.
const MISSES_MAX: u32 = 10;

/// Wrong guesses in a row, less right ones, after which the guess is made anew.
const MISSES_TO_LEARN: u32 = 2;

/// What was learned of the order of keys.
#[derive(Debug, Clone)]
pub(super) struct Learned {
    pub(super) followers: Box<[u8]>,
    pub(super) template: Template,
}

impl Learned {
    /// At first the schema's own order is expected.
    pub(super) fn new(plan: &Plan, limits: Limits) -> Learned {
        let mut followers: Box<[u8]> = (0..plan.entries.len()).map(|entry| entry as u8).collect();
        for shape in &plan.shapes {
            let nothing = shape.first + shape.fields;
            followers[nothing] = shape.first as u8;
            for entry in shape.first..nothing {
                followers[entry] = entry as u8 + 1;
            }
        }
        let template = Template::new(plan, limits, &followers);
        Learned { followers, template }
    }
}

/// What is guessed of one object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// Members; zero if nothing can be guessed.
    pub(super) members: u32,
    /// Bits of their fields.
    pub(super) seen: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// The entries of each shape in the order of its guess, from the shape's first place on; their texts begin with
    /// the brace or comma before the key.
    pub(super) steps: Box<[Entry]>,
    /// By shape.
    pub(super) orders: Box<[Order]>,
    /// By shape: what can be read at once.
    #[cfg(target_arch = "x86_64")]
    pub(super) lanes: Box<[Lanes]>,
    pub(super) index: Index,
    /// Wrong guesses in a row, less right ones.
    misses: u32,
    /// Payloads for which nothing is guessed.
    pause: u32,
}

impl Template {
    /// At first the schema's own order is expected, with all fields.
    pub(super) fn new(plan: &Plan, limits: Limits, followers: &[u8]) -> Template {
        let all = |shape: &Shape| Order { members: shape.fields as u32, seen: (1 << shape.fields) - 1 };
        let mut template = Template {
            steps: plan.entries.clone().into(),
            orders: plan.shapes.iter().map(all).collect(),
            #[cfg(target_arch = "x86_64")]
            lanes: vec![Lanes::NONE; plan.shapes.len()].into(),
            index: Index::new(),
            misses: 0,
            pause: 0,
        };
        for shape in 0..plan.shapes.len() {
            template.guess(plan, limits, followers, shape);
        }
        template
    }

    /// Whether to try it on the next payload.
    #[inline(always)]
    pub(super) fn is_due(&mut self) -> bool {
        let due = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        due
    }

    #[inline(always)]
    pub(super) fn hit(&mut self) {
        self.misses = self.misses.saturating_sub(1);
    }

    /// A payload was another one, and was accepted as what stands in the record and the followers.
    #[cold]
    pub(super) fn missed(&mut self, plan: &Plan, limits: Limits, record: &Record, followers: &[u8]) {
        self.misses = (self.misses + 1).min(MISSES_MAX);
        if self.misses < MISSES_TO_LEARN {
            return;
        }
        self.pause = (1 << (self.misses - MISSES_TO_LEARN)) - 1;
        self.orders[0].seen = record.cells[ROOT];
        for (region, used) in plan.regions.iter().zip(&record.used) {
            if let Some(order) = self.orders.get_mut(region.shape)
                && *used > 0
            {
                order.seen = record.cells[region.base];
            }
        }
        for shape in 0..plan.shapes.len() {
            self.guess(plan, limits, followers, shape);
        }
    }

    /// Guesses the order of an object's members from what followed what.
    fn guess(&mut self, plan: &Plan, limits: Limits, followers: &[u8], number: usize) {
        let shape = &plan.shapes[number];
        let fields = shape.first..shape.first + shape.fields;
        let seen = self.orders[number].seen;
        let members = seen.count_ones();
        self.orders[number].members = 0;
        if shape.level > limits.depth || seen & shape.required != shape.required {
            return;
        }
        let (mut entry, mut guessed) = (fields.end, 0);
        for place in 0..members as usize {
            entry = usize::from(followers[entry]);
            let bit = 1 << plan.entries[entry].field;
            if !fields.contains(&entry) || seen & !guessed & bit == 0 {
                return;
            }
            guessed |= bit;
            let Some(step) = step(plan, limits, shape, entry, place) else { return };
            self.steps[shape.first + place] = step;
        }
        self.orders[number].members = members;
        #[cfg(target_arch = "x86_64")]
        {
            self.lanes[number] =
                Lanes::new(&self.steps[shape.first..][..members as usize], shape.fields, number == 0);
        }
    }
}

/// An entry with its text as it stands behind the member before it; `None` if it is nothing to guess.
fn step(plan: &Plan, limits: Limits, shape: &Shape, entry: usize, place: usize) -> Option<Entry> {
    let entry = &plan.entries[entry];
    if entry.length == 0 || entry.length as usize >= TEXT_BYTES {
        return None;
    }
    match entry.kind {
        Kind::Object | Kind::Unpredicted => return None,
        Kind::Array => {
            let region = &plan.regions[usize::from(entry.region)];
            let items = plan.shapes.get(region.shape)?;
            let scalars = plan.entries[items.first..items.first + items.fields]
                .iter()
                .all(|item| !matches!(item.kind, Kind::Object | Kind::Array));
            if shape.level != 1 || !scalars || items.level > limits.depth {
                return None;
            }
        }
        _ => {}
    }
    let name = &shape.names.texts()[entry.field as usize];
    let mut text = [0; TEXT_BYTES];
    let length = 1 + entry.length as usize;
    text[..2].copy_from_slice(if place == 0 { b"{\"" } else { b",\"" });
    text[2..][..name.len()].copy_from_slice(name);
    text[length - 2..length].copy_from_slice(b"\":");
    Some(Entry { text: Text::new(&text[..length]), length: length as u32, ..entry.clone() })
}

#[cfg(test)]
mod tests {
    use crate::parse::fast;
    use crate::parse::instructions::Instructions;
    use crate::parse::plan::Plan;
    use crate::parse::record::Record;
    use crate::parse::template::Learned;
    use crate::parse::{Field, Limits, Outcome, PADDING, Payload, Presence, Schema, Type};

    const LIMITS: Limits = Limits { bytes: 65_536, depth: 32, array_length: 4, string_bytes: 100 };

    fn schema() -> Schema {
        let optional = |name, kind| Field::new(name, kind, Presence::Optional);
        let point = vec![optional("value", Type::F64), optional("tags", Type::String)];
        let points = Type::Array { items: Box::new(Type::Object(point)), capacity: 8 };
        Schema {
            fields: vec![
                optional("kind", Type::Enum(vec!["solved".to_owned(), "found".to_owned()])),
                optional("sequence", Type::U64),
                optional("on", Type::Bool),
                optional("points", points),
                optional("note", Type::String),
            ],
        }
    }

    /// A schema whose members are read in lanes.
    fn flat_schema() -> Schema {
        let integers =
            ["producer", "sequence", "player", "team", "district", "puzzle", "clue", "level", "round"];
        let mut fields = schema().fields;
        fields.truncate(1);
        fields.extend(integers.map(|name| Field::new(name, Type::U64, Presence::Optional)));
        fields.extend(["x", "y"].map(|name| Field::new(name, Type::F64, Presence::Optional)));
        fields.extend(schema().fields.split_off(2));
        Schema { fields }
    }

    /// What became of payloads that were read one after the other, on the level that guesses, if the machine has it.
    fn outcomes(payloads: &[&str]) -> Vec<Vec<Outcome>> {
        outcomes_by(&schema(), payloads)
    }

    fn outcomes_by(schema: &Schema, payloads: &[&str]) -> Vec<Vec<Outcome>> {
        let plan = Plan::compile(schema).unwrap();
        let read = |level| {
            let (mut record, mut learned) = (Record::new(&plan), Learned::new(&plan, LIMITS));
            let walk = |payload: &&str| {
                let mut scratch = vec![0; payload.len() + PADDING];
                let sealed = Payload::copy(payload.as_bytes(), &mut scratch).unwrap();
                fast::walk(level, &plan, LIMITS, sealed, &mut record, &mut learned)
            };
            payloads.iter().map(walk).collect()
        };
        let guesses = Instructions::Avx512.are_there();
        guesses.then(|| read(Instructions::Avx512)).into_iter().collect()
    }

    const EVENT: &str =
        r#"{"kind":"solved","sequence":7,"on":true,"points":[{"value":1.5,"tags":"a"}],"note":"x"}"#;
    const SHORT: &str = r#"{"note":"x","kind":"found"}"#;

    #[test]
    fn an_event_in_the_schemas_order_is_guessed_whatever_its_values_are() {
        let events = [
            EVENT,
            r#"{"kind":"found","sequence":18446744073709551615,"on":false,"points":[],"note":""}"#,
            r#"{"kind":"found","sequence":0,"on":false,"points":[{"value":-1,"tags":""},{"value":0,"tags":"é,"}],"note":"a\"b\\"}"#,
        ];
        for outcomes in outcomes(&events) {
            assert_eq!(outcomes, [Outcome::Guessed; 3]);
        }
    }

    #[test]
    fn what_is_wrong_with_a_guessed_event_is_left_to_who_reads_carefully() {
        let faults = [
            EVENT.replace('{', ""),
            EVENT.replacen('{', ",", 1),
            EVENT.replacen("{\"", "\"", 1),
            EVENT.replace(":7", ":07"),
            EVENT.replace(":7", ":"),
            EVENT.replace(":7", ":-7"),
            EVENT.replace(":7,", ":7,,"),
            EVENT.replace(":7,", ":7"),
            EVENT.replace(":7,", ":7x,"),
            EVENT.replace("1.5", "1.5\"").replace("\"a\"", "a\""),
            EVENT.replace("solved", "else"),
            EVENT.replace("solved", "sol\\ved"),
            EVENT.replace("}]", "}"),
            EVENT.replace("}]", "]"),
            EVENT.replace("}]", "},]"),
            EVENT.replace("[{", "{"),
            EVENT.replace("\"x\"", "\"\u{1}\""),
            EVENT.replace("\"x\"", "\"\\q\""),
            EVENT.replace("\"x\"", "\"\\ud800\""),
            EVENT.replace("\"x\"", "\"x"),
            EVENT.replace("\"x\"", "\"x\"\"y\""),
            EVENT.replace("\"x\"}", "\"x\""),
            EVENT.replace("\"x\"}", "\"x\"}}"),
            EVENT.replace("\"x\"}", "\"x\"},\"\""),
            EVENT.replace("\"x\"", &format!("{:?}", "x".repeat(101))),
            EVENT.replace("}]", &r#"},{"value":1,"tags":""}"#.repeat(4)) + "]",
        ];
        for fault in &faults {
            for outcomes in outcomes(&[fault]) {
                assert_eq!(outcomes, [Outcome::GaveUp], "{fault}");
            }
        }
    }

    #[test]
    fn flat_events_are_guessed_whatever_their_numbers_are() {
        let event = |number: u64, x: &str| {
            format!(
                "{{\"kind\":\"solved\",\"producer\":{number},\"sequence\":{},\"player\":0,\"team\":{number},\
                 \"district\":12345678,\"puzzle\":9,\"clue\":123456789,\"level\":{number},\"round\":1,\
                 \"x\":{x},\"y\":{x}}}",
                10_000_000_000_000_000 - number.max(1)
            )
        };
        let events: Vec<String> = ["0", "1234.567", "-0.5", "12345678.12345", "7.0"]
            .into_iter()
            .zip([0, 1, 9_999_999, 99_999_999, 100_000_000])
            .map(|(x, number)| event(number, x))
            .collect();
        let twice: Vec<&str> = events.iter().chain(&events).map(String::as_str).collect();
        for outcomes in outcomes_by(&flat_schema(), &twice) {
            use Outcome::{Guessed, Read};
            assert_eq!(outcomes, [[Read; 2].as_slice(), &[Guessed; 8]].concat());
        }
    }

    #[test]
    fn a_flat_event_ends_with_any_value() {
        let head = r#"{"kind":"found","producer":1,"sequence":2,"player":3,"team":4"#;
        for member in
            [r#""district":5"#, r#""round":1234567890123"#, r#""x":-1.5"#, r#""on":true"#, r#""note":"a""#]
        {
            let event = format!("{head},{member}}}");
            for outcomes in outcomes_by(&flat_schema(), &[event.as_str(); 4]) {
                use Outcome::{Guessed, Read};
                assert_eq!(outcomes, [Read, Read, Guessed, Guessed], "{event}");
            }
        }
    }

    #[test]
    fn another_order_is_guessed_once_it_came_twice() {
        for outcomes in outcomes(&[EVENT, SHORT, EVENT, SHORT, SHORT, SHORT, SHORT]) {
            use Outcome::{Guessed, Read};
            assert_eq!(outcomes, [Guessed, Read, Guessed, Read, Read, Guessed, Guessed]);
        }
    }

    #[test]
    fn guessing_pauses_ever_longer_where_no_order_lasts() {
        let orders = [EVENT, SHORT, r#"{"on":true}"#, r#"{"sequence":1,"on":true}"#, r#"{"sequence":1}"#];
        let payloads: Vec<&str> = orders.into_iter().cycle().take(4_000).collect();
        for outcomes in outcomes(&payloads) {
            assert!(outcomes.iter().skip(1).filter(|outcome| **outcome == Outcome::Guessed).count() < 100);
        }
    }
}
