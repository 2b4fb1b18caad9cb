//! A strict JSON scanner over borrowed bytes: one pass, no allocation, no recursion.
//!
//! Owns the grammar and the payload limits. What it accepts is exactly the JSON of
//! RFC 8259, numbers that fit a double, and escapes that are whole Unicode characters;
//! that holds for values that are skipped, too. It says of each fault where it is, and
//! tells a payload that ends too early from one that goes on wrongly. The caller has
//! checked that the bytes are UTF-8 before (see [`check_utf8`]), or does so afterwards.

use super::refusal::{Reason, Refusal};
use super::scan::specials;
use super::string::{RawString, escape_length, is_escape_begun};

/// Deepest nesting that any limit may allow.
pub const DEPTH_MAX: u32 = 128;

/// Digits before the fraction up to which a plain number surely fits a double.
const PLAIN_DIGITS_MAX: usize = 300;

/// What a payload may be at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the whole payload.
    pub bytes: usize,
    /// Nesting of objects and arrays.
    pub depth: u32,
    /// Values in one array.
    pub array_length: u32,
    /// Bytes of one string, keys included, as they stand in the payload.
    pub string_bytes: usize,
}

/// A number as it stands in the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawNumber<'a> {
    /// Its characters.
    pub bytes: &'a [u8],
    /// Whether it has neither fraction nor exponent.
    pub integer: bool,
}

impl RawNumber<'_> {
    /// The number as an unsigned integer: no sign, no fraction, no exponent, in range.
    pub fn as_u64(&self) -> Option<u64> {
        if !self.integer || self.bytes.len() > 20 {
            return None;
        }
        let mut value = 0_u64;
        for byte in self.bytes {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
        }
        Some(value)
    }

    /// The number as a signed integer: no fraction, no exponent, in range; a negative zero is none.
    pub fn as_i64(&self) -> Option<i64> {
        match self.bytes.strip_prefix(b"-") {
            Some(bytes) => {
                let magnitude = RawNumber { bytes, integer: self.integer }.as_u64()?;
                if magnitude == 0 { None } else { 0_i64.checked_sub_unsigned(magnitude) }
            }
            None => self.as_u64().and_then(|value| i64::try_from(value).ok()),
        }
    }

    /// The number as the nearest double.
    pub fn as_f64(&self) -> Option<f64> {
        std::str::from_utf8(self.bytes).ok()?.parse().ok().filter(|value: &f64| value.is_finite())
    }
}

/// Refuses bytes that are not UTF-8, with the position of the first bad one.
///
/// A character that is cut off by the payload's end is left to who reads on: the payload is truncated.
pub(super) fn check_utf8(bytes: &[u8]) -> Result<(), Refusal> {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_some() => {
            Err(Refusal::new(Reason::InvalidUtf8, error.valid_up_to()))
        }
        _ => Ok(()),
    }
}

/// A cursor over one payload.
#[derive(Debug)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    position: usize,
    depth: u32,
    limits: Limits,
}

impl<'a> Scanner<'a> {
    /// A cursor at the start of a payload that is UTF-8.
    pub fn new(bytes: &'a [u8], limits: Limits) -> Scanner<'a> {
        Scanner { bytes, position: 0, depth: 0, limits }
    }

    /// A cursor within a payload, at some depth.
    pub(super) fn resume(bytes: &'a [u8], position: usize, depth: u32, limits: Limits) -> Scanner<'a> {
        Scanner { bytes, position, depth, limits }
    }

    /// Where the cursor stands.
    pub fn position(&self) -> usize {
        self.position
    }

    /// A refusal at the cursor.
    pub fn refuse<T>(&self, reason: Reason) -> Result<T, Refusal> {
        Err(Refusal::new(reason, self.position))
    }

    /// A refusal because what stands at the cursor is no JSON, or because nothing stands there.
    pub fn malformed<T>(&self) -> Result<T, Refusal> {
        if self.position >= self.bytes.len() { self.truncated() } else { self.refuse(Reason::InvalidJson) }
    }

    /// A refusal because the payload ends within what stands at the cursor.
    fn truncated<T>(&self) -> Result<T, Refusal> {
        Err(Refusal::new(Reason::Truncated, self.bytes.len()))
    }

    /// The next byte that is not white space, without taking it. Zero stands for the end.
    pub fn peek(&mut self) -> u8 {
        while let Some(byte) = self.bytes.get(self.position) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return *byte;
            }
            self.position += 1;
        }
        0
    }

    /// Takes the given byte, after white space, or fails.
    pub fn expect(&mut self, byte: u8) -> Result<(), Refusal> {
        if self.peek() != byte {
            return self.malformed();
        }
        self.position += 1;
        Ok(())
    }

    /// Takes `text` if it stands right at the cursor.
    pub fn take_exactly(&mut self, text: &[u8]) -> bool {
        let taken = self.bytes[self.position..].starts_with(text);
        if taken {
            self.position += text.len();
        }
        taken
    }

    /// Fails unless nothing but white space is left.
    pub fn expect_end(&mut self) -> Result<(), Refusal> {
        if self.peek() != 0 || self.position < self.bytes.len() {
            return self.malformed();
        }
        Ok(())
    }

    /// Enters an object or array.
    pub fn descend(&mut self) -> Result<(), Refusal> {
        self.depth += 1;
        if self.depth > self.limits.depth.min(DEPTH_MAX) {
            return self.refuse(Reason::TooDeep);
        }
        Ok(())
    }

    /// Leaves an object or array.
    pub fn ascend(&mut self) {
        self.depth -= 1;
    }

    /// Takes a string, after white space.
    pub fn string(&mut self) -> Result<RawString<'a>, Refusal> {
        self.expect(b'"')?;
        let start = self.position;
        let mut escaped = false;
        loop {
            self.position += plain_prefix(&self.bytes[self.position..]);
            if self.position - start > self.limits.string_bytes {
                return self.refuse(Reason::TooLarge);
            }
            match self.bytes.get(self.position) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return self.malformed(),
            }
        }
        let bytes = &self.bytes[start..self.position];
        self.position += 1;
        Ok(RawString::new(bytes, escaped))
    }

    /// Takes one escape. A surrogate must have its other half right behind it.
    fn escape(&mut self) -> Result<(), Refusal> {
        let rest = &self.bytes[self.position..];
        match escape_length(rest) {
            Some(length) => {
                self.position += length;
                Ok(())
            }
            None if is_escape_begun(rest) => self.truncated(),
            None => self.refuse(Reason::InvalidJson),
        }
    }

    fn digits(&mut self) -> usize {
        let rest = &self.bytes[self.position..];
        let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.position += count;
        count
    }

    /// Takes a number, after white space. One that no double can hold is out of range.
    pub fn number(&mut self) -> Result<RawNumber<'a>, Refusal> {
        self.peek();
        let start = self.position;
        self.take_exactly(b"-");
        let leading_zero = self.bytes.get(self.position) == Some(&b'0');
        let whole = self.digits();
        if leading_zero && whole > 1 {
            self.position = start;
        }
        if whole == 0 || (leading_zero && whole > 1) {
            return self.malformed();
        }
        let mut integer = true;
        let mut exponent = false;
        if self.take_exactly(b".") {
            integer = false;
            if self.digits() == 0 {
                return self.malformed();
            }
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.position) {
            self.position += 1;
            integer = false;
            exponent = true;
            if let Some(b'+' | b'-') = self.bytes.get(self.position) {
                self.position += 1;
            }
            if self.digits() == 0 {
                return self.malformed();
            }
        }
        let number = RawNumber { bytes: &self.bytes[start..self.position], integer };
        if (exponent || whole > PLAIN_DIGITS_MAX) && number.as_f64().is_none() {
            self.position = start;
            return self.refuse(Reason::OutOfRange);
        }
        Ok(number)
    }

    /// Takes a scalar that nobody wants, or opens a container. Says which container it opened.
    fn skip_scalar_or_open(&mut self) -> Result<Option<u8>, Refusal> {
        match self.peek() {
            b'"' => self.string().map(|_| None),
            b'-' | b'0'..=b'9' => self.number().map(|_| None),
            open @ (b'{' | b'[') => {
                self.descend()?;
                self.position += 1;
                Ok(Some(open))
            }
            _ => self.literal().map(|_| None),
        }
    }

    /// Takes `true`, `false` or `null`.
    pub fn literal(&mut self) -> Result<Option<bool>, Refusal> {
        let rest = &self.bytes[self.position..];
        for (text, value) in [(&b"true"[..], Some(true)), (b"false", Some(false)), (b"null", None)] {
            if rest.starts_with(text) {
                self.position += text.len();
                return Ok(value);
            }
            if !rest.is_empty() && text.starts_with(rest) {
                return self.truncated();
            }
        }
        self.malformed()
    }

    /// Takes any value and checks all of it.
    pub fn skip_value(&mut self) -> Result<(), Refusal> {
        let Some(open) = self.skip_scalar_or_open()? else { return Ok(()) };
        // One bit a level says whether it is an object; the number of values is kept for arrays.
        let mut objects: u128 = u128::from(open == b'{');
        let mut lengths = [0_u32; DEPTH_MAX as usize + 1];
        let base = self.depth;
        loop {
            let object = objects & 1 == 1;
            let length = &mut lengths[self.depth as usize];
            let close = if object { b'}' } else { b']' };
            let next = self.peek();
            if next == close {
                self.position += 1;
                *length = 0;
                self.ascend();
                objects >>= 1;
                if self.depth < base {
                    return Ok(());
                }
                continue;
            }
            if *length > 0 {
                if next != b',' {
                    return self.malformed();
                }
                self.position += 1;
            }
            *length += 1;
            if object {
                self.string()?;
                self.expect(b':')?;
            } else if *length > self.limits.array_length {
                return self.refuse(Reason::TooLarge);
            }
            if let Some(open) = self.skip_scalar_or_open()? {
                objects = objects << 1 | u128::from(open == b'{');
            }
        }
    }
}

/// Bytes up to the first quote, backslash or control character, eight at a time.
fn plain_prefix(bytes: &[u8]) -> usize {
    let mut done = 0;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let special = specials(u64::from_le_bytes(word.try_into().expect("a chunk of eight")));
        if special != 0 {
            return done + special.trailing_zeros() as usize / 8;
        }
        done += 8;
    }
    let rest = words.remainder();
    done + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}
