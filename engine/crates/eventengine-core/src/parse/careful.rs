//! The careful walk: byte by byte over any payload, with a reason and a position for each fault.
//!
//! It is the reference of the fast walk and its last word: whatever the fast one gives up
//! on is read here, from the start. It never trusts that the payload was looked at before.

use super::plan::{Entry, Kind, Plan};
use super::record::{ROOT, Record, rows_cell, string_cell};
use super::refusal::{Reason, Refusal};
use super::scanner::{Limits, RawNumber, Scanner, check_utf8};
use super::string::RawString;

/// Reads a payload into the record, or says why not.
pub(super) fn walk(plan: &Plan, limits: Limits, bytes: &[u8], record: &mut Record) -> Result<(), Refusal> {
    if bytes.len() > limits.bytes {
        return Err(Refusal::new(Reason::TooLarge, limits.bytes));
    }
    check_utf8(bytes)?;
    record.used.fill(0);
    let mut walk = Walk { plan, limits, record, scanner: Scanner::new(bytes, limits), start: bytes.as_ptr() };
    walk.object(0, ROOT)?;
    walk.scanner.expect_end()
}

struct Walk<'p, 'r> {
    plan: &'r Plan,
    limits: Limits,
    record: &'r mut Record,
    scanner: Scanner<'p>,
    start: *const u8,
}

impl Walk<'_, '_> {
    /// Reads an object into a row. It is as deep as the schema, so it ends.
    fn object(&mut self, shape: usize, row: usize) -> Result<(), Refusal> {
        if self.scanner.peek() != b'{' {
            return self.wrong_type();
        }
        self.scanner.descend()?;
        self.scanner.expect(b'{')?;
        let plan = self.plan;
        let shape = &plan.shapes[shape];
        let (mut seen, mut there) = (0_u64, 0_u64);
        if self.scanner.peek() != b'}' {
            loop {
                self.scanner.peek();
                let position = self.scanner.position();
                let key = self.scanner.string()?;
                self.scanner.expect(b':')?;
                match shape.names.texts().iter().position(|name| key.is(name)) {
                    None => self.scanner.skip_value()?,
                    Some(field) => {
                        if seen >> field & 1 == 1 {
                            return Err(Refusal::new(Reason::DuplicateKey, position));
                        }
                        seen |= 1 << field;
                        let entry = &plan.entries[shape.first + field];
                        if entry.nullable && self.scanner.peek() == b'n' {
                            self.scanner.literal()?;
                        } else {
                            let cell = self.value(entry)?;
                            self.record.cells[row + 1 + field] = cell;
                            there |= 1 << field;
                        }
                    }
                }
                if self.scanner.peek() != b',' {
                    break;
                }
                self.scanner.expect(b',')?;
            }
        }
        if self.scanner.peek() == b'}' && there & shape.required != shape.required {
            return self.scanner.refuse(Reason::MissingField);
        }
        self.scanner.expect(b'}')?;
        self.scanner.ascend();
        self.record.cells[row] = there;
        Ok(())
    }

    /// Reads a value; gives what its cell holds.
    fn value(&mut self, entry: &Entry) -> Result<u64, Refusal> {
        let first = self.scanner.peek();
        let position = self.scanner.position();
        let out_of_range = Refusal::new(Reason::OutOfRange, position);
        match (entry.kind, first) {
            (Kind::Unsigned | Kind::Signed | Kind::F64, b'-' | b'0'..=b'9') => {
                let number = self.scanner.number()?;
                if entry.kind == Kind::F64 {
                    return number.as_f64().map(f64::to_bits).ok_or(out_of_range);
                }
                if !number.integer || number.bytes == b"-0" {
                    return Err(Refusal::new(Reason::WrongType, position));
                }
                integer(entry, &number).ok_or(out_of_range)
            }
            (Kind::Bool, b't' | b'f') => self.scanner.literal().map(|value| u64::from(value == Some(true))),
            (Kind::String, b'"') => {
                let string = self.scanner.string()?;
                let start = string.bytes().as_ptr().addr() - self.start.addr();
                Ok(string_cell(start, string.bytes().len(), string.is_escaped()))
            }
            (Kind::Enum, b'"') => {
                let string = self.scanner.string()?;
                self.choice(entry, &string).ok_or(Refusal::new(Reason::UnknownKind, position))
            }
            (Kind::Object, b'{') => {
                let (begin, row) = self.take_row(entry.region, 0)?;
                self.object(self.plan.regions[usize::from(entry.region)].shape, row)?;
                Ok(rows_cell(begin, 1))
            }
            (Kind::Array, b'[') => self.array(entry.region),
            _ => self.wrong_type(),
        }
    }

    fn choice(&self, entry: &Entry, string: &RawString<'_>) -> Option<u64> {
        let texts = self.plan.names[usize::from(entry.names)].texts();
        texts.iter().position(|text| string.is(text)).map(|index| index as u64)
    }

    fn array(&mut self, region: u8) -> Result<u64, Refusal> {
        self.scanner.descend()?;
        self.scanner.expect(b'[')?;
        let plan = self.plan;
        let region_plan = &plan.regions[usize::from(region)];
        let begin = self.record.used[usize::from(region)];
        let mut count = 0;
        if self.scanner.peek() != b']' {
            loop {
                self.scanner.peek();
                let (_, row) = self.take_row(region, count)?;
                count += 1;
                if region_plan.item.kind == Kind::Object {
                    self.object(region_plan.shape, row)?;
                } else {
                    self.record.cells[row] = self.value(&region_plan.item)?;
                }
                if self.scanner.peek() != b',' {
                    break;
                }
                self.scanner.expect(b',')?;
            }
        }
        self.scanner.expect(b']')?;
        self.scanner.ascend();
        Ok(rows_cell(begin, count))
    }

    /// Takes the next row of a region, for the item that comes after `count` others of its array.
    fn take_row(&mut self, region: u8, count: u32) -> Result<(u32, usize), Refusal> {
        let plan = &self.plan.regions[usize::from(region)];
        let used = &mut self.record.used[usize::from(region)];
        if count >= self.limits.array_length || *used >= plan.capacity {
            return self.scanner.refuse(Reason::TooLarge);
        }
        let begin = *used;
        *used += 1;
        Ok((begin, plan.base + begin as usize * plan.stride))
    }

    /// A value of another type: malformed ones are reported as such.
    fn wrong_type<T>(&mut self) -> Result<T, Refusal> {
        self.scanner.peek();
        let refusal = Refusal::new(Reason::WrongType, self.scanner.position());
        self.scanner.skip_value()?;
        Err(refusal)
    }
}

/// What the cell of an integer within its field's bounds holds.
fn integer(entry: &Entry, number: &RawNumber<'_>) -> Option<u64> {
    if entry.kind == Kind::Unsigned {
        return number.as_u64().filter(|value| *value <= entry.maximum);
    }
    let value = number.as_i64()?;
    (value >= entry.minimum && (value < 0 || value as u64 <= entry.maximum)).then_some(value as u64)
}
