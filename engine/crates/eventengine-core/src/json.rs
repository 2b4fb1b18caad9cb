//! A strict JSON scanner over borrowed bytes: one pass, no allocation, no recursion.
//!
//! Owns the grammar and the payload limits. What it accepts is exactly the JSON of
//! RFC 8259, numbers that fit a double, and escapes that are whole Unicode characters;
//! that holds for values that are skipped, too. The caller has checked that the bytes
//! are UTF-8 before (see [`check_utf8`]): a scanner never looks at it again.

use crate::parse::{ParseError, Reason};

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

/// A string as it stands in the payload, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawString<'a> {
    /// The bytes between the quotes, escapes included.
    pub bytes: &'a [u8],
    /// Whether there are escapes among them.
    pub escaped: bool,
}

/// A number as it stands in the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawNumber<'a> {
    /// Its characters.
    pub bytes: &'a [u8],
    /// Whether it has neither fraction nor exponent.
    pub integer: bool,
}

impl<'a> RawString<'a> {
    /// Whether the string, unescaped, is `text`. Looks at escapes only where there are any.
    pub fn is(&self, text: &[u8]) -> bool {
        if !self.escaped {
            return self.bytes == text;
        }
        let mut rest = text;
        let mut characters = Characters { bytes: self.bytes };
        let mut buffer = [0; 4];
        while let Some(piece) = characters.next_piece(&mut buffer) {
            match rest.strip_prefix(piece) {
                Some(left) => rest = left,
                None => return false,
            }
        }
        rest.is_empty()
    }

    /// Writes the unescaped string into `scratch`; `None` if it doesn't fit. The scratch may be as short as the raw bytes.
    pub fn unescape<'s>(&self, scratch: &'s mut [u8]) -> Option<&'s str> {
        let mut length = 0;
        let mut characters = Characters { bytes: self.bytes };
        let mut buffer = [0; 4];
        while let Some(piece) = characters.next_piece(&mut buffer) {
            scratch.get_mut(length..length + piece.len())?.copy_from_slice(piece);
            length += piece.len();
        }
        std::str::from_utf8(&scratch[..length]).ok()
    }
}

/// Walks over a validated raw string, piece by piece.
struct Characters<'a> {
    bytes: &'a [u8],
}

impl<'a> Characters<'a> {
    fn next_piece<'b>(&mut self, buffer: &'b mut [u8; 4]) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        let (&first, rest) = self.bytes.split_first()?;
        if first != b'\\' {
            let plain = self.bytes.iter().position(|byte| *byte == b'\\').unwrap_or(self.bytes.len());
            let (piece, rest) = self.bytes.split_at(plain);
            self.bytes = rest;
            return Some(piece);
        }
        let (&escape, rest) = rest.split_first()?;
        self.bytes = rest;
        let character = match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut code = u32::from(four_hex_digits(self.bytes)?);
                self.bytes = &self.bytes[4..];
                if (0xD800..0xDC00).contains(&code) {
                    let low = u32::from(four_hex_digits(self.bytes.get(2..)?)?);
                    self.bytes = &self.bytes[6..];
                    code = 0x1_0000 + ((code - 0xD800) << 10) + (low.wrapping_sub(0xDC00) & 0x3FF);
                }
                char::from_u32(code)?
            }
            other => char::from(other),
        };
        Some(character.encode_utf8(buffer).as_bytes())
    }
}

fn four_hex_digits(bytes: &[u8]) -> Option<u16> {
    let mut value = 0_u16;
    for byte in bytes.get(..4)? {
        let digit = char::from(*byte).to_digit(16)?;
        value = value << 4 | digit as u16;
    }
    Some(value)
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

    /// The number as an unsigned 32-bit integer.
    pub fn as_u32(&self) -> Option<u32> {
        self.as_u64().and_then(|value| u32::try_from(value).ok())
    }

    /// The number as the nearest double.
    pub fn as_f64(&self) -> Option<f64> {
        std::str::from_utf8(self.bytes).ok()?.parse().ok().filter(|value: &f64| value.is_finite())
    }
}

/// Refuses bytes that are not UTF-8, with the position of the first bad one.
pub fn check_utf8(bytes: &[u8]) -> Result<(), ParseError> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(ParseError { reason: Reason::InvalidUtf8, position: error.valid_up_to() }),
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

    /// Where the cursor stands.
    pub fn position(&self) -> usize {
        self.position
    }

    /// An error at the cursor.
    pub fn error<T>(&self, reason: Reason) -> Result<T, ParseError> {
        Err(ParseError { reason, position: self.position })
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
    pub fn expect(&mut self, byte: u8) -> Result<(), ParseError> {
        if self.peek() != byte {
            return self.error(Reason::InvalidJson);
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
    pub fn expect_end(&mut self) -> Result<(), ParseError> {
        if self.peek() != 0 || self.position < self.bytes.len() {
            return self.error(Reason::InvalidJson);
        }
        Ok(())
    }

    /// Enters an object or array.
    pub fn descend(&mut self) -> Result<(), ParseError> {
        self.depth += 1;
        if self.depth > self.limits.depth.min(DEPTH_MAX) {
            return self.error(Reason::TooDeep);
        }
        Ok(())
    }

    /// Leaves an object or array.
    pub fn ascend(&mut self) {
        self.depth -= 1;
    }

    /// Takes a string, after white space.
    pub fn string(&mut self) -> Result<RawString<'a>, ParseError> {
        self.expect(b'"')?;
        let start = self.position;
        let mut escaped = false;
        loop {
            self.position += plain_prefix(&self.bytes[self.position..]);
            if self.position - start > self.limits.string_bytes {
                return self.error(Reason::TooLarge);
            }
            match self.bytes.get(self.position) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return self.error(Reason::InvalidJson),
            }
        }
        let bytes = &self.bytes[start..self.position];
        self.position += 1;
        Ok(RawString { bytes, escaped })
    }

    /// Takes one escape. A surrogate must have its other half right behind it.
    fn escape(&mut self) -> Result<(), ParseError> {
        match self.bytes.get(self.position + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.position += 2;
                Ok(())
            }
            Some(b'u') => {
                let rest = &self.bytes[self.position + 2..];
                let Some(code) = four_hex_digits(rest) else { return self.error(Reason::InvalidJson) };
                self.position += 6;
                match code {
                    0xD800..=0xDBFF => {
                        let low = rest[4..].strip_prefix(b"\\u").and_then(four_hex_digits);
                        if !matches!(low, Some(0xDC00..=0xDFFF)) {
                            return self.error(Reason::InvalidJson);
                        }
                        self.position += 6;
                        Ok(())
                    }
                    0xDC00..=0xDFFF => self.error(Reason::InvalidJson),
                    _ => Ok(()),
                }
            }
            _ => self.error(Reason::InvalidJson),
        }
    }

    fn digits(&mut self) -> usize {
        let rest = &self.bytes[self.position..];
        let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.position += count;
        count
    }

    /// Takes a number, after white space. One that no double can hold is out of range.
    pub fn number(&mut self) -> Result<RawNumber<'a>, ParseError> {
        self.peek();
        let start = self.position;
        let negative = self.take_exactly(b"-");
        let leading_zero = self.bytes.get(self.position) == Some(&b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            self.position = start;
            return self.error(Reason::InvalidJson);
        }
        let mut integer = !negative;
        let mut exponent = false;
        if self.take_exactly(b".") {
            integer = false;
            if self.digits() == 0 {
                return self.error(Reason::InvalidJson);
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
                return self.error(Reason::InvalidJson);
            }
        }
        let number = RawNumber { bytes: &self.bytes[start..self.position], integer };
        if (exponent || whole > PLAIN_DIGITS_MAX) && number.as_f64().is_none() {
            self.position = start;
            return self.error(Reason::OutOfRange);
        }
        Ok(number)
    }

    /// Takes a scalar that nobody wants, or opens a container. Says which container it opened.
    fn skip_scalar_or_open(&mut self) -> Result<Option<u8>, ParseError> {
        match self.peek() {
            b'"' => self.string().map(|_| None),
            b'-' | b'0'..=b'9' => self.number().map(|_| None),
            open @ (b'{' | b'[') => {
                self.descend()?;
                self.position += 1;
                Ok(Some(open))
            }
            b't' if self.take_exactly(b"true") => Ok(None),
            b'f' if self.take_exactly(b"false") => Ok(None),
            b'n' if self.take_exactly(b"null") => Ok(None),
            _ => self.error(Reason::InvalidJson),
        }
    }

    /// Takes any value and checks all of it.
    pub fn skip_value(&mut self) -> Result<(), ParseError> {
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
                    return self.error(Reason::InvalidJson);
                }
                self.position += 1;
            }
            *length += 1;
            if object {
                self.string()?;
                self.expect(b':')?;
            } else if *length > self.limits.array_length {
                return self.error(Reason::TooLarge);
            }
            if let Some(open) = self.skip_scalar_or_open()? {
                objects = objects << 1 | u128::from(open == b'{');
            }
        }
    }
}

/// Bytes up to the first quote, backslash or control character, eight at a time.
fn plain_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut done = 0;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("a chunk of eight"));
        let quote = word ^ (ONES * 0x22);
        let backslash = word ^ (ONES * 0x5C);
        // A byte is special if it is below 0x20, or zero after one of the exclusive ors. A borrow can only
        // raise a false alarm above a true one, so the lowest alarm is always right.
        let special = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let special = special & HIGHS;
        if special != 0 {
            return done + special.trailing_zeros() as usize / 8;
        }
        done += 8;
    }
    let rest = words.remainder();
    done + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}
