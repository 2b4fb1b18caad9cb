//! Strings as they stand in a payload, and their text, unescaped where and when somebody asks.
//!
//! Owns the escapes. A [`RawString`] was checked: its escapes are whole Unicode characters
//! and, once the whole payload was accepted, its bytes are UTF-8.

/// A string as it stands in the payload, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawString<'a> {
    /// The bytes between the quotes, escapes included.
    pub bytes: &'a [u8],
    /// Whether there are escapes among them.
    pub escaped: bool,
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

    /// The text: borrowed from the payload, or unescaped into `scratch`, which may be as short as the raw bytes.
    /// `None` if the scratch is shorter than the text.
    pub fn unescape<'s>(&self, scratch: &'s mut [u8]) -> Option<&'s str>
    where
        'a: 's,
    {
        if !self.escaped {
            return std::str::from_utf8(self.bytes).ok();
        }
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

/// Walks over a checked raw string, piece by piece.
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

/// Bytes of the escape that `bytes` begin with: a backslash and what belongs to it. A surrogate needs its other half.
/// `None` if it is no escape; whether it might become one is for [`is_escape_begun`].
pub(super) fn escape_length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => match four_hex_digits(&bytes[2..])? {
            0xD800..=0xDBFF => {
                let low = bytes[6..].strip_prefix(b"\\u").and_then(four_hex_digits)?;
                matches!(low, 0xDC00..=0xDFFF).then_some(12)
            }
            0xDC00..=0xDFFF => None,
            _ => Some(6),
        },
        _ => None,
    }
}

/// Whether more bytes could make an escape of these, which are none.
pub(super) fn is_escape_begun(bytes: &[u8]) -> bool {
    let digits = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match bytes {
        [b'\\'] | [b'\\', b'u'] => true,
        [b'\\', b'u', rest @ ..] if rest.len() < 4 => {
            digits(rest) && !matches!(rest, [b'd' | b'D', b'c'..=b'f' | b'C'..=b'F', ..])
        }
        [b'\\', b'u', rest @ ..] => {
            let (high, low) = rest.split_at(4);
            let half = matches!(four_hex_digits(high), Some(0xD800..=0xDBFF));
            let low = match low {
                [] | [b'\\'] | [b'\\', b'u'] => true,
                [b'\\', b'u', b'd' | b'D'] => true,
                [b'\\', b'u', b'd' | b'D', b'c'..=b'f' | b'C'..=b'F', rest @ ..] => {
                    rest.len() < 2 && digits(rest)
                }
                _ => false,
            };
            half && low
        }
        _ => false,
    }
}

/// The number that the first four bytes spell in hexadecimal digits.
fn four_hex_digits(bytes: &[u8]) -> Option<u16> {
    let mut value = 0_u16;
    for byte in bytes.get(..4)? {
        let digit = char::from(*byte).to_digit(16)?;
        value = value << 4 | digit as u16;
    }
    Some(value)
}
