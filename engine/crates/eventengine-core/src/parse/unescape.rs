//! The text of a string with escapes, written out: many bytes at a time where the machine can.
//!
//! Owns what an escape stands for. It reads strings whose escapes were checked, writes
//! nothing behind the scratch, and needs no more room than the raw bytes have.

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
pub(super) fn four_hex_digits(bytes: &[u8]) -> Option<u16> {
    let [first, second, third, fourth] = bytes.first_chunk::<4>()?.map(|byte| HEX_DIGITS[usize::from(byte)]);
    if first | second | third | fourth > 15 {
        return None;
    }
    Some(u16::from(first << 4 | second) << 8 | u16::from(third << 4 | fourth))
}

/// Which of 64 bytes are escaped, by their backslashes, lowest bit first; `before` says whether the first one is,
/// by a backslash before it.
///
/// A backslash that is not escaped itself escapes the byte behind it, so of a row of backslashes every other one
/// counts. A subtraction carries through each row from its first one on, and so marks every other byte of it.
#[inline(always)]
pub(super) fn escaped_bytes(backslashes: u64, before: u64) -> u64 {
    const ODD: u64 = 0xAAAA_AAAA_AAAA_AAAA;
    let escaping = backslashes & !before;
    let behind = escaping << 1;
    let alternating = (behind | ODD).wrapping_sub(escaping) ^ ODD;
    alternating ^ (backslashes | before)
}

/// Writes the text of a checked raw string; `None` if it doesn't fit.
pub(super) fn unescape_into<'s>(raw: &[u8], scratch: &'s mut [u8]) -> Option<&'s [u8]> {
    let (read, written) = blocks(raw, scratch);
    finish(raw, read, scratch, written)
}

/// Writes the rest of the text behind what was written of it.
fn finish<'s>(raw: &[u8], mut read: usize, scratch: &'s mut [u8], mut written: usize) -> Option<&'s [u8]> {
    while let Some(byte) = raw.get(read) {
        if *byte == b'\\' {
            (read, written) = write_escape(raw, read, scratch, written)?;
        } else {
            *scratch.get_mut(written)? = *byte;
            (read, written) = (read + 1, written + 1);
        }
    }
    Some(&scratch[..written])
}

/// Writes the character of the checked escape that begins at `read`: bytes read and written then. `None` if it
/// doesn't fit.
#[inline(always)]
fn write_escape(raw: &[u8], read: usize, scratch: &mut [u8], written: usize) -> Option<(usize, usize)> {
    let mut character = [0; 4];
    let (text, taken) = unescape_one(&raw[read..], &mut character);
    let length = text.len();
    let place = scratch.get_mut(written..)?;
    if let Some(place) = place.first_chunk_mut::<4>() {
        // Bytes behind the character are written again, or nobody's: a length that varies would need a call.
        *place = character;
    } else {
        place.get_mut(..length)?.copy_from_slice(&character[..length]);
    }
    Some((read + taken, written + length))
}

/// The character of the checked escape that `raw` begins with, and the escape's length.
pub(super) fn unescape_one<'c>(raw: &[u8], character: &'c mut [u8; 4]) -> (&'c [u8], usize) {
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

/// Writes as much of the text as goes by whole blocks: bytes read, no escape in part, and
/// written.
#[inline]
fn blocks(raw: &[u8], scratch: &mut [u8]) -> (usize, usize) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
    {
        // SAFETY: the machine has the instructions.
        return unsafe { x86::blocks_512(raw, scratch) };
    }
    #[cfg(target_arch = "x86_64")]
    if raw.len() >= x86::BLOCK
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("popcnt")
    {
        // SAFETY: the machine has the instructions, and there is a block.
        return unsafe { x86::blocks_256(raw, scratch) };
    }
    let _ = (raw, scratch);
    (0, 0)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{escaped_bytes, write_escape};

    /// Bytes that are read at once.
    pub(super) const BLOCK: usize = 32;

    /// Bytes that are moved together at once.
    const GROUP: usize = 8;

    /// By which bytes of a group are kept: where each of the bytes to write comes from.
    static KEPT: [[u8; GROUP]; 256] = {
        let mut table = [[0; GROUP]; 256];
        let mut kept = 0;
        while kept < 256 {
            let (mut place, mut byte) = (0, 0);
            while byte < GROUP {
                if kept >> byte & 1 == 1 {
                    table[kept][place] = byte as u8;
                    place += 1;
                }
                byte += 1;
            }
            kept += 1;
        }
        table
    };

    /// By the lowest bits but one of an escape's letter: what to change in it. Its other characters stand for themselves.
    const CHANGES: [u8; 16] = {
        let mut table = [0; 16];
        table[(b'b' >> 1 & 15) as usize] = b'b' ^ 8;
        table[(b'f' >> 1 & 15) as usize] = b'f' ^ 12;
        table[(b'n' >> 1 & 15) as usize] = b'n' ^ b'\n';
        table[(b'r' >> 1 & 15) as usize] = b'r' ^ b'\r';
        table[(b't' >> 1 & 15) as usize] = b't' ^ b'\t';
        table
    };

    /// See [`super::blocks`].
    ///
    /// # Safety
    /// The machine has the instructions, and `raw` is a block or longer.
    #[target_feature(enable = "avx2,bmi1,popcnt")]
    pub(super) unsafe fn blocks_256(raw: &[u8], scratch: &mut [u8]) -> (usize, usize) {
        // SAFETY: sixteen bytes can be loaded.
        let changes = unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(CHANGES.as_ptr().cast())) };
        let (mut read, mut written) = (0, 0);
        // Whether the first byte to read is escaped by the last one that was read.
        let mut before = 0;
        while read < raw.len() && scratch.len() - written >= BLOCK {
            // The last block lies as far back as it has to; what was read of it already is shifted out.
            let start = read.min(raw.len() - BLOCK);
            let done = read - start;
            // SAFETY: a block begins there, as `raw` is no shorter than one.
            let bytes = unsafe { _mm256_loadu_si256(raw.as_ptr().add(start).cast()) };
            let backslashes = mask(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'\\' as i8))) as u64 >> done;
            let escaped = escaped_bytes(backslashes, before);
            let mut kept = (!(backslashes & !escaped) << done) as u32;
            let letters = _mm256_and_si256(
                _mm256_cmpgt_epi8(bytes, _mm256_set1_epi8(b'_' as i8)),
                spread((escaped << done) as u32),
            );
            let index = _mm256_and_si256(_mm256_srli_epi16(bytes, 1), _mm256_set1_epi8(0x0F));
            let change = _mm256_and_si256(_mm256_shuffle_epi8(changes, index), letters);
            let text = _mm256_xor_si256(bytes, change);
            let spelled =
                escaped & (mask(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'u' as i8))) as u64 >> done);
            if spelled == 0 {
                // SAFETY: a block can be stored there.
                written += unsafe { store(text, kept, scratch.as_mut_ptr().add(written)) };
                read = start + BLOCK;
                before = escaped >> (BLOCK - done) & 1;
                continue;
            }
            // What stands before the first escape that spells a code, then the character itself.
            let letter = spelled.trailing_zeros() as usize;
            kept &= ((1_u64 << (letter + done)) - 1) as u32;
            // SAFETY: a block can be stored there.
            written += unsafe { store(text, kept, scratch.as_mut_ptr().add(written)) };
            let escape = read + letter - 1;
            let Some(place) = write_escape(raw, escape, scratch, written) else {
                return (escape, written);
            };
            ((read, written), before) = (place, 0);
        }
        // A backslash that was read without what it escapes is read again.
        (read - before as usize, written)
    }

    /// See [`super::blocks`].
    ///
    /// # Safety
    /// The machine has the instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,bmi1,bmi2,popcnt")]
    pub(super) unsafe fn blocks_512(raw: &[u8], scratch: &mut [u8]) -> (usize, usize) {
        const BLOCK: usize = 64;
        // SAFETY: sixteen bytes can be loaded.
        let changes = unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(CHANGES.as_ptr().cast())) };
        let (mut read, mut written) = (0, 0);
        // Whether the first byte to read is escaped by the last one that was read.
        let mut before = 0;
        while read < raw.len() {
            let inside = u64::MAX >> BLOCK.saturating_sub(raw.len() - read);
            // SAFETY: only what is inside is loaded.
            let bytes = unsafe { _mm512_maskz_loadu_epi8(inside, raw.as_ptr().add(read).cast()) };
            let backslashes = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'\\' as i8));
            let escaped = escaped_bytes(backslashes, before);
            let mut kept = inside & !(backslashes & !escaped);
            let letters = escaped & _mm512_cmpgt_epu8_mask(bytes, _mm512_set1_epi8(b'_' as i8));
            let index = _mm512_and_si512(_mm512_srli_epi16(bytes, 1), _mm512_set1_epi8(0x0F));
            let text = _mm512_xor_si512(bytes, _mm512_maskz_shuffle_epi8(letters, changes, index));
            let spelled = escaped & _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'u' as i8));
            // What stands before the first escape that spells a code.
            let letter = spelled.trailing_zeros();
            kept = _bzhi_u64(kept, letter);
            let count = kept.count_ones();
            if scratch.len() - written < count as usize {
                break;
            }
            let packed = _mm512_maskz_compress_epi8(kept, text);
            // SAFETY: as many bytes as are kept can be stored there.
            unsafe {
                let places = _bzhi_u64(u64::MAX, count);
                _mm512_mask_storeu_epi8(scratch.as_mut_ptr().add(written).cast(), places, packed);
            }
            written += count as usize;
            if spelled == 0 {
                before = (backslashes & !escaped) >> (BLOCK - 1);
                read = raw.len().min(read + BLOCK);
                continue;
            }
            let escape = read + letter as usize - 1;
            let Some(place) = write_escape(raw, escape, scratch, written) else {
                return (escape, written);
            };
            ((read, written), before) = (place, 0);
        }
        (read - before as usize, written)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn mask(bytes: __m256i) -> u32 {
        _mm256_movemask_epi8(bytes) as u32
    }

    /// A byte of ones for each bit that is set.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn spread(bits: u32) -> __m256i {
        let byte_of_bit =
            _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
        let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits as i32), byte_of_bit);
        _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit)
    }

    /// Stores the bytes that are kept, one behind the other, and says how many they are.
    ///
    /// # Safety
    /// The machine has the instructions, and a block can be stored there.
    #[target_feature(enable = "avx2,popcnt")]
    #[inline]
    unsafe fn store(text: __m256i, kept: u32, to: *mut u8) -> usize {
        // SAFETY: each group begins no further on than it would with all bytes kept.
        unsafe {
            let low = _mm256_castsi256_si128(text);
            let high = _mm256_extracti128_si256(text, 1);
            let groups = [low, _mm_srli_si128(low, 8), high, _mm_srli_si128(high, 8)];
            let mut written = 0;
            for (index, group) in groups.into_iter().enumerate() {
                let kept = (kept >> (GROUP * index)) as u8;
                let order = _mm_loadl_epi64(KEPT[usize::from(kept)].as_ptr().cast());
                _mm_storel_epi64(to.add(written).cast(), _mm_shuffle_epi8(group, order));
                written += kept.count_ones() as usize;
            }
            written
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::instructions::Instructions;

    /// Which bytes are escaped, one after the other.
    fn escaped_one_by_one(backslashes: u64, before: u64) -> u64 {
        let (mut escaped, mut is_escaped) = (0, before == 1);
        for place in 0..64 {
            escaped |= u64::from(is_escaped) << place;
            is_escaped = !is_escaped && backslashes >> place & 1 == 1;
        }
        escaped
    }

    /// What a function writes in blocks, and the rest one by one.
    #[cfg(target_arch = "x86_64")]
    fn finished(raw: &[u8], blocks: impl Fn(&[u8], &mut [u8]) -> (usize, usize)) -> String {
        let mut scratch = vec![0; raw.len()];
        let (read, written) = blocks(raw, &mut scratch);
        String::from_utf8(finish(raw, read, &mut scratch, written).unwrap().to_vec()).unwrap()
    }

    /// A raw string: what is between the quotes of a JSON string, with all kinds of escapes.
    fn raw() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => "[a-z é日🗺/u]{1,9}",
            3 => r#"\\["\\/bfnrt]"#,
            1 => r"\\u[0-9a-cA-C][0-9a-fA-F]{3}",
            1 => r"\\u[dD][89abAB][0-9a-f]{2}\\u[dD][c-fC-F][0-9a-f]{2}",
        ];
        proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn escaped_bytes_are_those_behind_each_backslash_that_is_not_escaped(
            some in any::<u64>(), more in any::<u64>(), before in 0..2_u64
        ) {
            for backslashes in [some, some | more, some & more, 0, u64::MAX] {
                prop_assert_eq!(escaped_bytes(backslashes, before), escaped_one_by_one(backslashes, before));
            }
        }

        #[test]
        #[cfg(target_arch = "x86_64")]
        fn blocks_of_each_width_end_between_characters(raw in raw()) {
            let expected: String = serde_json::from_str(&format!("\"{raw}\"")).unwrap();
            // SAFETY: the instructions are asked for before they are used, and there is a block.
            unsafe {
                if Instructions::Avx2.are_there() && raw.len() >= x86::BLOCK {
                    prop_assert_eq!(finished(raw.as_bytes(), |raw, to| x86::blocks_256(raw, to)), expected.as_str());
                }
                if Instructions::Avx512.are_there() {
                    prop_assert_eq!(finished(raw.as_bytes(), |raw, to| x86::blocks_512(raw, to)), expected.as_str());
                }
            }
        }

        #[test]
        fn the_text_is_what_the_reference_reads_and_nothing_is_written_behind_the_scratch(
            raw in raw(), room in 0..80_usize
        ) {
            let expected: String = serde_json::from_str(&format!("\"{raw}\"")).unwrap();
            for length in [raw.len() + room, raw.len(), expected.len()] {
                let mut buffer = vec![0xAA; raw.len() + 80];
                let text = unescape_into(raw.as_bytes(), &mut buffer[..length]);
                prop_assert_eq!(text, Some(expected.as_bytes()));
                prop_assert!(buffer[length..].iter().all(|byte| *byte == 0xAA));
            }
            if !expected.is_empty() {
                let mut short = vec![0; expected.len() - 1];
                prop_assert_eq!(unescape_into(raw.as_bytes(), &mut short), None);
            }
        }
    }
}
