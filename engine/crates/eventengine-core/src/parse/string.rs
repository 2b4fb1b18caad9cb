//! Strings as they stand in a payload, and their text, unescaped where and when somebody asks.
//!
//! Owns the escapes. A [`RawString`] was checked: its escapes are whole Unicode characters
//! and, once the whole payload was accepted, its bytes are UTF-8.

/// A string as it stands in an accepted payload, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawString<'a> {
    bytes: &'a [u8],
    escaped: bool,
}

/// Bytes that are copied at once.
const BLOCK: usize = 32;

/// What the letter behind a backslash stands for; zero for one that stands for more than one byte, or for nothing.
const SHORT_ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'/' as usize] = b'/';
    table[b'b' as usize] = 8;
    table[b'f' as usize] = 12;
    table[b'n' as usize] = b'\n';
    table[b'r' as usize] = b'\r';
    table[b't' as usize] = b'\t';
    table
};

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

/// Writes the text of a checked raw string; `None` if it doesn't fit.
fn unescape_into<'s>(raw: &[u8], scratch: &'s mut [u8]) -> Option<&'s [u8]> {
    let (mut read, mut written) = (0, 0);
    // Whole blocks are copied, whether or not there is a backslash in them; what is behind it is overwritten.
    while read + BLOCK + 1 < raw.len() && written + BLOCK < scratch.len() {
        // SAFETY: a block can be loaded there and stored here.
        let plain = unsafe { copy_block(raw.as_ptr().add(read), scratch.as_mut_ptr().add(written)) };
        read += plain;
        written += plain;
        if plain == BLOCK {
            continue;
        }
        let short = SHORT_ESCAPES[usize::from(raw[read + 1])];
        if short != 0 {
            scratch[written] = short;
            read += 2;
            written += 1;
            continue;
        }
        let mut character = [0; 4];
        let (text, taken) = unescape_one(&raw[read..], &mut character);
        scratch.get_mut(written..written + text.len())?.copy_from_slice(text);
        read += taken;
        written += text.len();
    }
    while let Some(byte) = raw.get(read) {
        let mut character = [*byte; 4];
        let (text, taken) = match byte {
            b'\\' => unescape_one(&raw[read..], &mut character),
            _ => (&character[..1], 1),
        };
        scratch.get_mut(written..written + text.len())?.copy_from_slice(text);
        read += taken;
        written += text.len();
    }
    Some(&scratch[..written])
}

/// Copies a block and gives the number of bytes before its first backslash.
///
/// # Safety
/// [`BLOCK`] bytes can be loaded from one and stored to the other; the two don't overlap.
#[inline(always)]
unsafe fn copy_block(from: *const u8, to: *mut u8) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8, _mm_storeu_si128,
        };
        // SAFETY: the caller's promise; every such machine has these instructions.
        unsafe {
            let backslash = _mm_set1_epi8(b'\\' as i8);
            let halves = [_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(16).cast())];
            _mm_storeu_si128(to.cast(), halves[0]);
            _mm_storeu_si128(to.add(16).cast(), halves[1]);
            let [low, high] = halves.map(|half| _mm_movemask_epi8(_mm_cmpeq_epi8(half, backslash)) as u32);
            (low | high << 16).trailing_zeros() as usize
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's promise.
    unsafe {
        let block = from.cast::<[u8; BLOCK]>().read();
        to.cast::<[u8; BLOCK]>().write(block);
        block.iter().position(|byte| *byte == b'\\').unwrap_or(BLOCK)
    }
}

/// The character of the checked escape that `raw` begins with, and the escape's length.
fn unescape_one<'c>(raw: &[u8], character: &'c mut [u8; 4]) -> (&'c [u8], usize) {
    let short = SHORT_ESCAPES[usize::from(raw[1])];
    if short != 0 {
        character[0] = short;
        return (&character[..1], 2);
    }
    let mut code = u32::from(four_hex_digits(&raw[2..]).unwrap_or_default());
    let mut taken = 6;
    if (0xD800..0xDC00).contains(&code) {
        let low = u32::from(four_hex_digits(&raw[8..]).unwrap_or_default());
        code = 0x1_0000 + ((code - 0xD800) << 10) + (low.wrapping_sub(0xDC00) & 0x3FF);
        taken = 12;
    }
    let text = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(character);
    (text.as_bytes(), taken)
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

/// Values of hexadecimal digits; above 15 for all other bytes.
const HEX_DIGITS: [u8; 256] = {
    let mut table = [0xFF; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        table[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    table
};

/// The number that the first four bytes spell in hexadecimal digits.
#[inline]
fn four_hex_digits(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.first_chunk::<4>()?.map(|byte| HEX_DIGITS[usize::from(byte)]);
    if digits.iter().any(|digit| *digit > 15) {
        return None;
    }
    Some(digits.iter().fold(0, |value, digit| value << 4 | u16::from(*digit)))
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
