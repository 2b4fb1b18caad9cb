//! Strings as they stand in a payload, and their text, unescaped where and when somebody asks.
//!
//! Owns the grammar of escapes. A [`RawString`] was checked: its escapes are whole Unicode characters
//! and, once the whole payload was accepted, its bytes are UTF-8.

use super::unescape::{four_hex_digits, unescape_into, unescape_one};

/// A string as it stands in an accepted payload, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawString<'a> {
    bytes: &'a [u8],
    escaped: bool,
}

impl<'a> RawString<'a> {
    /// The bytes between two quotes. Whoever makes one has checked the escapes, and lets nobody have it before the
    /// bytes are known to be UTF-8.
    pub(super) fn new(bytes: &'a [u8], escaped: bool) -> RawString<'a> {
        RawString { bytes, escaped }
    }

    /// The bytes as they stand in the payload, escapes included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether there are escapes among them.
    pub fn is_escaped(&self) -> bool {
        self.escaped
    }

    /// Whether the string, unescaped, is `text`. Looks at escapes only where there are any.
    pub fn is(&self, text: &[u8]) -> bool {
        if !self.escaped {
            return self.bytes == text;
        }
        let (mut raw, mut text) = (self.bytes, text);
        while let [first, ..] = raw {
            let mut character = [0; 4];
            let (expected, taken) = match first {
                b'\\' => unescape_one(raw, &mut character),
                _ => (&raw[..1], 1),
            };
            match text.strip_prefix(expected) {
                Some(rest) => text = rest,
                None => return false,
            }
            raw = &raw[taken..];
        }
        text.is_empty()
    }

    /// The text: borrowed from the payload, or unescaped into `scratch`, which may be as short as the raw bytes.
    /// `None` if the scratch is shorter than the text.
    #[inline]
    pub fn unescape<'s>(&self, scratch: &'s mut [u8]) -> Option<&'s str>
    where
        'a: 's,
    {
        let text = if self.escaped { unescape_into(self.bytes, scratch)? } else { self.bytes };
        debug_assert!(std::str::from_utf8(text).is_ok());
        // SAFETY: the bytes are part of an accepted payload, cut at quotes; escapes give whole characters.
        Some(unsafe { std::str::from_utf8_unchecked(text) })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_comes_back_from_its_escaped_form(text in "(.|[\"\\\\/\n\u{1}é🗺]){0,60}") {
            let json = serde_json::to_string(&text).unwrap();
            let raw = &json.as_bytes()[1..json.len() - 1];
            let string = RawString::new(raw, raw.contains(&b'\\'));
            let mut scratch = vec![0; raw.len()];
            prop_assert_eq!(string.unescape(&mut scratch), Some(text.as_str()));
            prop_assert!(string.is(text.as_bytes()));
            let longer = text.clone() + "x";
            prop_assert!(!string.is(longer.as_bytes()));
            if string.is_escaped() {
                prop_assert_eq!(string.unescape(&mut scratch[..text.len() - 1]), None);
            }
        }
    }

    #[test]
    fn escapes_of_other_planes_and_in_any_case_are_whole_characters() {
        let string = RawString::new(br"\ud83D\uDe00\u00e9\u0041", true);
        assert_eq!(string.unescape(&mut [0; 30]), Some("\u{1F600}\u{e9}A"));
        assert!(string.is("\u{1F600}\u{e9}A".as_bytes()));
    }
}
