//! Where the quotes of a payload are, found before anything in it is read.
//!
//! Owns the list of their positions, which lets a walk go on to the next member before it
//! has read this one's value. Quotes that are escaped are not among them. A payload that
//! has control characters, or too many quotes, or is too long, has no such list.

/// Longest payload that is indexed.
pub(super) const INDEXED_BYTES_MAX: usize = 8_192;

/// Most quotes that are listed, less those of a last block.
const QUOTES_MAX: usize = 2_048;

/// Most quotes of one block of the vectors' width.
const BLOCK_QUOTES: usize = 64;

/// Places behind the last position that hold the position of a first byte that can't be what is looked for.
pub(super) const BEHIND: usize = 32;

/// What a place behind the last position holds.
const NOWHERE: u16 = 1;

/// Room for the positions of one payload.
#[derive(Debug, Clone)]
pub(super) struct Positions(Box<[u16]>);

impl Positions {
    pub(super) fn new() -> Positions {
        Positions(vec![NOWHERE; QUOTES_MAX + BLOCK_QUOTES + BEHIND].into())
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u16 {
        self.0.as_mut_ptr()
    }
}

/// What was found besides the positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Positions that were written; [`BEHIND`] further ones hold one.
    pub(super) quotes: usize,
    pub(super) backslashes: bool,
    pub(super) beyond_ascii: bool,
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::{BEHIND, BLOCK_QUOTES, Found, INDEXED_BYTES_MAX, NOWHERE, QUOTES_MAX};
    use crate::parse::unescape::escaped_bytes;

    const BLOCK: usize = 64;

    /// Quotes of a block whose positions fit a vector.
    const PACKED_MAX: u32 = 32;

    /// Bits of the bytes of a block that are the payload's.
    #[inline(always)]
    fn inside(left: usize) -> u64 {
        if left < BLOCK { (1 << left) - 1 } else { u64::MAX }
    }

    /// Lists the quotes of a payload, the first 32 in a vector as well.
    ///
    /// # Safety
    /// The machine has the instructions; [`crate::parse::PADDING`] zero bytes follow the payload; the positions are
    /// those of a [`super::Positions`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    #[inline]
    pub(in crate::parse) unsafe fn quotes(
        start: *const u8,
        length: usize,
        positions: *mut u16,
    ) -> Option<(Found, __m512i)> {
        if length > INDEXED_BYTES_MAX {
            return None;
        }
        let mut numbers = [0_u8; BLOCK];
        for (number, place) in numbers.iter_mut().enumerate() {
            *place = number as u8;
        }
        let mut places = [0_u16; BLOCK / 2];
        for (number, place) in places.iter_mut().enumerate() {
            *place = number as u16;
        }
        // SAFETY: blocks begin within the payload, and a block is as long as what follows it; a block's positions are
        // written only while there is room for those of one more.
        unsafe {
            let numbers = _mm512_loadu_si512(numbers.as_ptr().cast());
            let places = _mm512_loadu_si512(places.as_ptr().cast());
            let mut first = _mm512_set1_epi16(NOWHERE as i16);
            let mut all = _mm512_setzero_si512();
            let (mut quotes, mut controls, mut backslashes, mut before) = (0, 0, 0, 0);
            let mut done = 0;
            while done < length {
                let left = length - done;
                // The last block is loaded so far before its begin that it ends with the payload: a load that reached
                // into the sentinels would have to wait until they are written.
                let twice = if done > 0 { BLOCK.saturating_sub(left) } else { 0 };
                let bytes = _mm512_loadu_si512(start.add(done - twice).cast());
                let mut quote = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'"' as i8)) >> twice;
                let backslash = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'\\' as i8)) >> twice;
                let control = _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(0x20)) >> twice;
                all = _mm512_or_si512(all, bytes);
                controls |= control & inside(left);
                if backslash | before != 0 {
                    let escaped = escaped_bytes(backslash, before);
                    quote &= !escaped;
                    before = (backslash & !escaped) >> (BLOCK - 1);
                    backslashes |= backslash;
                }
                let packed = _mm512_castsi512_si256(_mm512_maskz_compress_epi8(quote, numbers));
                let here = _mm512_add_epi16(_mm512_cvtepu8_epi16(packed), _mm512_set1_epi16(done as i16));
                _mm512_storeu_si512(positions.add(quotes).cast(), here);
                let moved = _mm512_sub_epi16(places, _mm512_set1_epi16(quotes as i16));
                first = _mm512_mask_permutexvar_epi16(first, from(quotes), moved, here);
                let count = quote.count_ones();
                quotes += count as usize;
                if count > PACKED_MAX || quotes > QUOTES_MAX {
                    return None;
                }
                done += BLOCK;
            }
            _mm512_storeu_si512(positions.add(quotes).cast(), _mm512_set1_epi16(NOWHERE as i16));
            first = _mm512_mask_mov_epi16(first, from(quotes), _mm512_set1_epi16(NOWHERE as i16));
            let beyond_ascii = _mm512_movepi8_mask(all) != 0;
            (controls == 0).then_some((Found { quotes, backslashes: backslashes != 0, beyond_ascii }, first))
        }
    }

    /// Bits of the places of a vector from one on.
    #[inline(always)]
    fn from(place: usize) -> u32 {
        (u64::from(u32::MAX) << place.min(32)) as u32
    }

    const _: () = assert!(BLOCK_QUOTES >= PACKED_MAX as usize && BEHIND == 32);
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::PADDING;
    use crate::parse::instructions::Instructions;

    /// The list, read byte by byte.
    fn expected(bytes: &[u8]) -> Option<(Vec<u16>, bool, bool)> {
        let (mut quotes, mut escaped) = (Vec::new(), false);
        for (position, byte) in bytes.iter().enumerate() {
            match byte {
                0..0x20 => return None,
                b'"' if !escaped => quotes.push(position as u16),
                _ => {}
            }
            escaped = !escaped && *byte == b'\\';
        }
        Some((quotes, bytes.contains(&b'\\'), !bytes.is_ascii()))
    }

    fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
        if !Instructions::Avx512.are_there() {
            return Ok(());
        }
        let padded = [bytes, &[0; PADDING]].concat();
        let mut positions = Positions::new();
        // SAFETY: the machine has the instructions; the padding is there.
        let found = unsafe { x86::quotes(padded.as_ptr(), bytes.len(), positions.as_mut_ptr()) };
        let shown = found.map(|(found, first)| {
            // SAFETY: a vector is as many bytes.
            let first: [u16; 32] = unsafe { std::mem::transmute(first) };
            assert_eq!(first, positions.0[..32]);
            assert_eq!(positions.0[found.quotes..][..BEHIND], [NOWHERE; BEHIND]);
            (positions.0[..found.quotes].to_vec(), found.backslashes, found.beyond_ascii)
        });
        let dense = |block: &[u8]| block.iter().filter(|byte| **byte == b'"').count() > 32;
        if shown.is_none() && bytes.chunks(64).any(dense) {
            return Ok(());
        }
        prop_assert_eq!(shown, expected(bytes));
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn quotes_are_listed_unless_they_are_escaped(
            bytes in proptest::collection::vec(
                prop_oneof![6 => b'a'..b'f', 2 => Just(b'"'), 2 => Just(b'\\'), 1 => 0x20..=0xFF_u8], 0..300)
        ) {
            agrees(&bytes)?;
        }

        #[test]
        fn control_characters_forbid_a_list(bytes in proptest::collection::vec(0..0x60_u8, 0..200)) {
            agrees(&bytes)?;
        }
    }

    #[test]
    fn payloads_that_are_too_long_or_have_too_many_quotes_have_no_list() {
        for bytes in [vec![b'a'; INDEXED_BYTES_MAX + 1], b"\"a".repeat(QUOTES_MAX + 1)] {
            let padded = [&bytes[..], &[0; PADDING]].concat();
            let mut positions = Positions::new();
            if Instructions::Avx512.are_there() {
                // SAFETY: the machine has the instructions; the padding is there.
                let found = unsafe { x86::quotes(padded.as_ptr(), bytes.len(), positions.as_mut_ptr()) };
                assert!(found.is_none());
            }
        }
        agrees(&vec![b'a'; INDEXED_BYTES_MAX]).unwrap();
        agrees(&b"\"a".repeat(QUOTES_MAX)).unwrap();
    }
}
