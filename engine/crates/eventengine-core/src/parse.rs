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
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Reason; 8] = [
        Reason::InvalidJson,
        Reason::TooDeep,
        Reason::TooLarge,
        Reason::InvalidUtf8,
        Reason::MissingField,
        Reason::UnknownKind,
        Reason::OutOfRange,
        Reason::ArenaExhausted,
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
