//! From a tree to a schema's record: what was meant, where it stands in another form than the schema's.
//!
//! Owns what a source may get away with that reads its payloads as trees: integers written
//! as `7.0` or `7e0`, numbers and truth values as text, null for what is left out. What is
//! read fits the same record as by the schema, so that programs know no difference.

use super::plan::{Entry, Kind, Plan};
use super::record::{ROOT, Record, rows_cell, string_cell};
use super::refusal::{Reason, Refusal};
use super::scanner::{Limits, RawNumber, Scanner};
use super::tree::{NodeKind, Value};

/// Integers up to here are exact as doubles.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Fills the record from a document.
pub(super) fn fill(plan: &Plan, limits: Limits, root: Value<'_>, record: &mut Record) -> Result<(), Refusal> {
    record.used.fill(0);
    Fill { plan, limits, record }.object(0, ROOT, root)
}

struct Fill<'r> {
    plan: &'r Plan,
    limits: Limits,
    record: &'r mut Record,
}

impl Fill<'_> {
    fn object(&mut self, shape: usize, row: usize, object: Value<'_>) -> Result<(), Refusal> {
        if object.kind() != NodeKind::Object {
            return refuse(Reason::WrongType, object);
        }
        let plan = self.plan;
        let shape = &plan.shapes[shape];
        let mut there = 0_u64;
        for (key, value) in object.members() {
            let field = shape.names.texts().iter().position(|name| key.is(name));
            let Some(field) = field.filter(|_| value.kind() != NodeKind::Null) else { continue };
            self.record.cells[row + 1 + field] = self.value(&plan.entries[shape.first + field], value)?;
            there |= 1 << field;
        }
        if there & shape.required != shape.required {
            return refuse(Reason::MissingField, object);
        }
        self.record.cells[row] = there;
        Ok(())
    }

    fn value(&mut self, entry: &Entry, value: Value<'_>) -> Result<u64, Refusal> {
        let mut scratch = [0; NUMBER_BYTES_MAX];
        match (entry.kind, value.kind()) {
            (Kind::Unsigned | Kind::Signed | Kind::F64, NodeKind::Number | NodeKind::String) => {
                let number = match value.number() {
                    Some(number) => Some(number),
                    None => self.number_in(value, &mut scratch),
                };
                let Some(number) = number else { return refuse(Reason::WrongType, value) };
                if entry.kind == Kind::F64 {
                    return number
                        .as_f64()
                        .map(f64::to_bits)
                        .map_or_else(|| refuse(Reason::OutOfRange, value), Ok);
                }
                integer(entry, &number).map_or_else(|| refuse(Reason::OutOfRange, value), Ok)
            }
            (Kind::Bool, NodeKind::Bool) => Ok(u64::from(value.flag() == Some(true))),
            (Kind::Bool, NodeKind::String) => match value.string() {
                Some(text) if text.is(b"true") => Ok(1),
                Some(text) if text.is(b"false") => Ok(0),
                _ => refuse(Reason::WrongType, value),
            },
            (Kind::String, NodeKind::String) => match value.string() {
                Some(text) => Ok(string_cell(value.position(), text.bytes().len(), text.is_escaped())),
                None => refuse(Reason::WrongType, value),
            },
            (Kind::Enum, NodeKind::String) => {
                let texts = self.plan.names[usize::from(entry.names)].texts();
                let found = value.string().and_then(|text| texts.iter().position(|known| text.is(known)));
                found.map_or_else(|| refuse(Reason::UnknownKind, value), |index| Ok(index as u64))
            }
            (Kind::Object, NodeKind::Object) => {
                let (begin, row) = self.take_row(entry.region, value)?;
                self.object(self.plan.regions[usize::from(entry.region)].shape, row, value)?;
                Ok(rows_cell(begin, 1))
            }
            (Kind::Array, NodeKind::Array) => self.array(entry.region, value),
            _ => refuse(Reason::WrongType, value),
        }
    }

    fn array(&mut self, number: u8, array: Value<'_>) -> Result<u64, Refusal> {
        let plan = self.plan;
        let region = &plan.regions[usize::from(number)];
        let begin = self.record.used[usize::from(number)];
        let mut count = 0;
        for item in array.items() {
            let (_, row) = self.take_row(number, item)?;
            count += 1;
            if region.item.kind == Kind::Object {
                self.object(region.shape, row, item)?;
            } else {
                self.record.cells[row] = self.value(&region.item, item)?;
            }
        }
        Ok(rows_cell(begin, count))
    }

    fn take_row(&mut self, number: u8, item: Value<'_>) -> Result<(u32, usize), Refusal> {
        let region = &self.plan.regions[usize::from(number)];
        let used = &mut self.record.used[usize::from(number)];
        if *used >= region.capacity {
            return refuse(Reason::TooLarge, item);
        }
        let begin = *used;
        *used += 1;
        Ok((begin, region.base + begin as usize * region.stride))
    }

    /// The number that a text spells, and nothing else.
    fn number_in<'s>(&self, value: Value<'_>, scratch: &'s mut [u8]) -> Option<RawNumber<'s>> {
        let text: &'s [u8] = {
            let length = value.string()?.unescape(scratch)?.len();
            let raw = value.string()?;
            if !raw.is_escaped() {
                scratch.get_mut(..length)?.copy_from_slice(raw.bytes());
            }
            &scratch[..length]
        };
        let mut scanner = Scanner::new(text, self.limits);
        let number = scanner.number().ok()?;
        (number.bytes.len() == text.len()).then_some(number)
    }
}

/// Longest text that is looked at as a number.
const NUMBER_BYTES_MAX: usize = 64;

fn refuse<T>(reason: Reason, value: Value<'_>) -> Result<T, Refusal> {
    Err(Refusal::new(reason, value.position()))
}

/// What the cell of an integer within its field's bounds holds, however it is written.
fn integer(entry: &Entry, number: &RawNumber<'_>) -> Option<u64> {
    let (negative, magnitude) = match number.as_u64() {
        Some(value) => (false, value),
        None => match number.as_i64() {
            Some(value) => (value < 0, value.unsigned_abs()),
            None => {
                let value =
                    number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() <= EXACT_MAX)?;
                (value < 0.0, value.abs() as u64)
            }
        },
    };
    match (entry.kind, negative) {
        (_, false) => (magnitude <= entry.maximum).then_some(magnitude),
        (Kind::Signed, true) => {
            (magnitude <= entry.minimum.unsigned_abs()).then_some(magnitude.wrapping_neg())
        }
        _ => None,
    }
}
