//! Where the quotes of a payload are, found before anything in it is read.
//!
//! Owns the list of their positions, which lets a walk go on to the next member before it
//! has read this one's value. Quotes that are escaped are not among them. A payload that
//! has control characters, escapes that are none or bytes that are no UTF-8, or too many
//! quotes, or that is too long, has no such list: in one that has, any two quotes enclose a
//! text. Only whether the payload's end cuts off a character is not looked at.

/// Longest payload that is indexed.
pub(super) const INDEXED_BYTES_MAX: usize = 8_192;

/// Bytes that are looked at together.
const BLOCK: usize = 64;

/// Most quotes of one block. With more of them, a payload is not indexed: hardly any text would be in it.
const BLOCK_QUOTES_MAX: usize = BLOCK / 2;

/// Places behind the last position that hold the payload's length: a member would begin there if one more came, and
/// nothing that is looked for is found there.
pub(super) const BEHIND: usize = 32;

/// Room for what is found in one payload.
#[derive(Debug, Clone)]
pub(super) struct Index {
    positions: Box<[u16]>,
    /// One bit per byte.
    backslashes: Box<[u64]>,
}

impl Index {
    pub(super) fn new() -> Index {
        Index {
            positions: vec![0; (INDEXED_BYTES_MAX / BLOCK + 1) * BLOCK_QUOTES_MAX + BEHIND].into(),
            backslashes: vec![0; INDEXED_BYTES_MAX / BLOCK + 1].into(),
        }
    }
}

/// What was found in a payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// Where the quotes are; [`BEHIND`] further places hold the payload's length.
    pub(super) positions: *const u16,
    pub(super) quotes: usize,
    /// One bit per byte of the payload, if there are any.
    backslashes: Option<*const u64>,
}

impl Found {
    /// Whether there is a backslash between two bytes that are none.
    ///
    /// # Safety
    /// Both are positions in the payload, or its end, one not before the other; the index has not been used since.
    #[inline(always)]
    pub(super) unsafe fn has_backslash(&self, first: usize, last: usize) -> bool {
        let Some(backslashes) = self.backslashes else { return false };
        // SAFETY: there is a word for each block of the payload.
        unsafe {
            let from = u64::MAX << (first % BLOCK);
            let up_to = u64::MAX >> (BLOCK - 1 - last % BLOCK);
            let (first, last) = (first / BLOCK, last / BLOCK);
            if first == last {
                return *backslashes.add(first) & from & up_to != 0;
            }
            let mut any = *backslashes.add(first) & from | *backslashes.add(last) & up_to;
            for block in first + 1..last {
                any |= *backslashes.add(block);
            }
            any != 0
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::{BEHIND, BLOCK, BLOCK_QUOTES_MAX, Found, INDEXED_BYTES_MAX, Index};
    use crate::parse::scan::{Avx512, Block, Level};
    use crate::parse::string::escape_length;
    use crate::parse::unescape::escaped_bytes;
    use crate::parse::utf8;

    /// How far from its block's end a character begins that the next block ends, at most.
    const CUT_OFF_MAX: usize = 3;

    const NUMBERS: [u8; BLOCK] = {
        let mut numbers = [0; BLOCK];
        let mut number = 0;
        while number < BLOCK {
            numbers[number] = number as u8;
            number += 1;
        }
        numbers
    };

    /// Positions that a vector holds.
    const LISTED: usize = BLOCK_QUOTES_MAX;

    /// What the bytes of a block are, one bit per byte.
    #[derive(Clone, Copy)]
    struct Kinds {
        quote: u64,
        backslash: u64,
        /// Control characters, and what is beyond ASCII: as signed bytes, all of them are below the others.
        rare: u64,
        beyond_ascii: u64,
    }

    impl Kinds {
        /// # Safety
        /// The machine has the instructions, and a block can be loaded.
        #[target_feature(enable = "avx512f,avx512bw")]
        #[inline]
        unsafe fn of(at: *const u8) -> Kinds {
            // SAFETY: the caller's promise.
            let bytes = unsafe { _mm512_loadu_si512(at.cast()) };
            Kinds {
                quote: _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'"' as i8)),
                backslash: _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'\\' as i8)),
                rare: _mm512_cmplt_epi8_mask(bytes, _mm512_set1_epi8(0x20)),
                beyond_ascii: _mm512_movepi8_mask(bytes),
            }
        }

        /// Those behind the first few bytes. Of what is rare nothing is taken away: to look at it twice does no harm.
        #[inline(always)]
        fn behind(self, twice: usize) -> Kinds {
            Kinds { quote: self.quote >> twice, backslash: self.backslash >> twice, ..self }
        }
    }

    /// The quotes that were listed so far.
    struct Listing {
        positions: *mut u16,
        quotes: usize,
        /// The first of them; what lies behind those is said at the end.
        first: __m512i,
    }

    impl Listing {
        #[target_feature(enable = "avx512f,avx512bw")]
        #[inline]
        fn new(positions: *mut u16, length: usize) -> Listing {
            Listing { positions, quotes: 0, first: _mm512_set1_epi16(length as i16) }
        }

        /// Adds those of a block, one bit per byte. False: they are too many.
        ///
        /// # Safety
        /// No more than a payload's blocks are added.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt,bmi2")]
        #[inline]
        unsafe fn add(&mut self, quote: u64, here: usize) -> bool {
            let count = quote.count_ones() as usize;
            if count > BLOCK_QUOTES_MAX {
                return false;
            }
            // SAFETY: there is room for as many positions as the blocks of the longest payload have.
            unsafe {
                let numbers = _mm512_loadu_si512(NUMBERS.as_ptr().cast());
                let packed = _mm512_castsi512_si256(_mm512_maskz_compress_epi8(quote, numbers));
                let listed = _mm512_add_epi16(_mm512_cvtepu8_epi16(packed), _mm512_set1_epi16(here as i16));
                _mm512_storeu_si512(self.positions.add(self.quotes).cast(), listed);
                if self.quotes < LISTED {
                    self.first = _mm512_mask_expand_epi16(self.first, u32::MAX << self.quotes, listed);
                }
            }
            self.quotes += count;
            true
        }

        /// What was found, once all blocks were added.
        ///
        /// # Safety
        /// As for [`Listing::add`].
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt,bmi2")]
        #[inline]
        unsafe fn end(self, length: usize, backslashes: Option<*const u64>) -> (Found, __m512i) {
            let Listing { positions, quotes, mut first } = self;
            let behind = _mm512_set1_epi16(length as i16);
            // SAFETY: there is room behind the positions of the last block.
            unsafe { _mm512_storeu_si512(positions.add(quotes).cast(), behind) };
            if quotes < LISTED {
                first = _mm512_mask_mov_epi16(first, u32::MAX << quotes, behind);
            }
            (Found { positions, quotes, backslashes }, first)
        }
    }

    /// Lists the quotes of a payload, the first 32 in a vector as well.
    ///
    /// # Safety
    /// The machine has the instructions; the payload lies at the start, and [`crate::parse::PADDING`] zero bytes follow.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    #[inline]
    pub(in crate::parse) unsafe fn quotes(
        start: *const u8,
        payload: &[u8],
        index: &mut Index,
    ) -> Option<(Found, __m512i)> {
        let length = payload.len();
        if length > INDEXED_BYTES_MAX {
            return None;
        }
        // SAFETY: blocks lie within the payload.
        unsafe {
            let mut listing = Listing::new(index.positions.as_mut_ptr(), length);
            let Some(last) = length.checked_sub(BLOCK) else {
                return quotes_from(0, start, payload, &mut index.backslashes, listing);
            };
            let mut here = 0;
            while here < length {
                // The last block is loaded so far before its begin that it ends with the payload: a load that
                // reached into the sentinels would have to wait until they are written.
                let begin = here.min(last);
                let bytes = _mm512_loadu_si512(start.add(begin).cast());
                if !is_plain(bytes) {
                    return quotes_from(here, start, payload, &mut index.backslashes, listing);
                }
                let quote = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'"' as i8)) >> (here - begin);
                // There are none in the middle of a long text.
                if quote != 0 && !listing.add(quote, here) {
                    return None;
                }
                here += BLOCK;
            }
            Some(listing.end(length, None))
        }
    }

    /// The same from a block on: there may be backslashes, control characters and bytes beyond ASCII from there on.
    ///
    /// # Safety
    /// As for [`quotes`]; the quotes before the block are listed.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
    #[inline(never)]
    unsafe fn quotes_from(
        mut done: usize,
        start: *const u8,
        payload: &[u8],
        backslashes: &mut [u64],
        mut listing: Listing,
    ) -> Option<(Found, __m512i)> {
        let length = payload.len();
        backslashes[..done / BLOCK].fill(0);
        let map = backslashes.as_mut_ptr();
        // SAFETY: blocks begin within the payload, and a block is as long as what follows it; the map has a place for
        // each.
        unsafe {
            let mut faults = _mm512_setzero_si512();
            let (mut any_backslash, mut before, mut cut_off) = (0, 0, 0);
            // Escapes that begin before this are checked.
            let mut checked = 0;
            while done < length {
                let (here, left) = (done, length - done);
                done += BLOCK;
                let (at, twice, mut kinds) = if left >= BLOCK {
                    let at = start.add(here);
                    let kinds = Kinds::of(at);
                    if kinds.quote | kinds.backslash | kinds.rare | before | cut_off == 0 {
                        // The middle of a long text.
                        map.add(here / BLOCK).write(0);
                        continue;
                    }
                    (at, 0, kinds)
                } else {
                    // As above, if there is a block before it.
                    let twice = if here > 0 { BLOCK - left } else { 0 };
                    let at = start.add(here - twice);
                    (at, twice, Kinds::of(at).behind(twice))
                };
                map.add(here / BLOCK).write(kinds.backslash);
                if kinds.rare | cut_off != 0 {
                    let control = (kinds.rare & !kinds.beyond_ascii) >> twice;
                    let inside = if left < BLOCK { (1 << left) - 1 } else { u64::MAX };
                    if control & inside != 0 {
                        return None;
                    }
                    if kinds.beyond_ascii | cut_off != 0 {
                        faults = _mm512_or_si512(faults, utf8::x86::faults(at, here - twice));
                        cut_off = kinds.beyond_ascii >> (BLOCK - CUT_OFF_MAX);
                    }
                }
                if kinds.backslash | before != 0 {
                    let escaped = escaped_bytes(kinds.backslash, before);
                    let Block { short_escape, letter_u, .. } = Avx512::block(at).unwrap_or_default();
                    let inside = if left < BLOCK { (1 << left) - 1 } else { u64::MAX };
                    if escaped & !(((short_escape | letter_u) >> twice) & inside) != 0 {
                        return None;
                    }
                    let mut spelled = escaped & letter_u >> twice;
                    while spelled != 0 {
                        let begin = here + spelled.trailing_zeros() as usize - 1;
                        // The other half of a surrogate was checked with the first.
                        if begin >= checked {
                            checked = begin + escape_length(&payload[begin..])?;
                        }
                        spelled &= spelled - 1;
                    }
                    kinds.quote &= !escaped;
                    before = (kinds.backslash & !escaped) >> (BLOCK - 1);
                    any_backslash |= kinds.backslash;
                }
                if !listing.add(kinds.quote, here) {
                    return None;
                }
            }
            if before != 0 || _mm512_test_epi64_mask(faults, faults) != 0 {
                return None;
            }
            Some(listing.end(length, (any_backslash != 0).then_some(map.cast_const())))
        }
    }

    /// Whether there are neither control characters nor backslashes nor bytes beyond ASCII.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn is_plain(bytes: __m512i) -> bool {
        // As signed bytes, those beyond ASCII are below all others.
        let usual = _mm512_cmpge_epi8_mask(bytes, _mm512_set1_epi8(0x20));
        _mm512_mask_cmpneq_epi8_mask(usual, bytes, _mm512_set1_epi8(b'\\' as i8)) == u64::MAX
    }

    const _: () = assert!(BEHIND == LISTED);
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::PADDING;
    use crate::parse::instructions::Instructions;
    use crate::parse::string::escape_length;

    /// The list, read byte by byte, and where the backslashes are.
    fn expected(bytes: &[u8]) -> Option<(Vec<u16>, Vec<bool>)> {
        let mut quotes = Vec::new();
        let mut position = 0;
        while let Some(byte) = bytes.get(position) {
            match byte {
                0..0x20 => return None,
                b'"' => quotes.push(position as u16),
                b'\\' => position += escape_length(&bytes[position..])? - 1,
                _ => {}
            }
            position += 1;
        }
        let is_text = std::str::from_utf8(bytes).is_ok();
        is_text.then(|| (quotes, bytes.iter().map(|byte| *byte == b'\\').collect()))
    }

    fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
        if !Instructions::Avx512.are_there() {
            return Ok(());
        }
        let padded = [bytes, &[0; PADDING]].concat();
        let mut index = Index::new();
        // SAFETY: the machine has the instructions; the padding is there.
        let found = unsafe { x86::quotes(padded.as_ptr(), bytes, &mut index) };
        let shown = found.map(|(found, first)| {
            // SAFETY: a vector is as many bytes.
            let first: [u16; 32] = unsafe { std::mem::transmute(first) };
            assert_eq!(first, index.positions[..32]);
            assert_eq!(index.positions[found.quotes..][..BEHIND], [bytes.len() as u16; BEHIND]);
            // SAFETY: the positions are the payload's.
            let backslashes = (0..bytes.len()).map(|place| unsafe { found.has_backslash(place, place) });
            (index.positions[..found.quotes].to_vec(), backslashes.collect())
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
            parts in proptest::collection::vec(
                prop_oneof![
                    6 => "[a-f]{1,9}", 2 => "\"{1,3}", 3 => r#"\\["\\/bfnrt]"#, 1 => r"\\u[0-9a-cA-C][0-9a-fA-F]{3}",
                    1 => r"\\u[dD][89abAB][0-9a-f]{2}\\u[dD][c-fC-F][0-9a-f]{2}", 2 => "[é→日🗺]{1,3}",
                ],
                1..60,
            ),
            place in any::<proptest::sample::Index>(), damage in proptest::option::of(0x20..=0xFF_u8),
        ) {
            let mut bytes = parts.concat().into_bytes();
            // The end is ASCII: a character that is cut off there is not looked for.
            bytes.push(b'}');
            agrees(&bytes)?;
            if let Some(byte) = damage {
                let place = place.index(bytes.len() - 1);
                bytes[place] = byte;
                agrees(&bytes)?;
            }
        }

        #[test]
        fn a_backslash_is_found_between_those_that_enclose_it(
            bytes in proptest::collection::vec(prop_oneof![30 => Just(b'a'), 1 => Just(b'/')], 1..300),
            first in any::<proptest::sample::Index>(), last in any::<proptest::sample::Index>(),
        ) {
            let text = String::from_utf8(bytes).unwrap().replace('/', r"\n") + "}";
            let (first, last) = (first.index(text.len()), last.index(text.len()));
            let (first, last) = (first.min(last), first.max(last));
            let padded = [text.as_bytes(), &[0; PADDING]].concat();
            let mut index = Index::new();
            if Instructions::Avx512.are_there() {
                // SAFETY: the machine has the instructions; the padding is there.
                let found = unsafe { x86::quotes(padded.as_ptr(), text.as_bytes(), &mut index) };
                // SAFETY: both lie in the payload.
                let is_found = found.map(|(found, _)| unsafe { found.has_backslash(first, last) });
                prop_assert_eq!(is_found, Some(text[first..=last].contains('\\')));
            }
        }

        #[test]
        fn control_characters_forbid_a_list(bytes in proptest::collection::vec(0..0x60_u8, 0..200)) {
            agrees(&bytes)?;
        }
    }

    #[test]
    fn payloads_that_are_too_long_or_have_too_many_quotes_have_no_list() {
        for bytes in [vec![b'a'; INDEXED_BYTES_MAX + 1], vec![b'"'; BLOCK_QUOTES_MAX + 1]] {
            let padded = [&bytes[..], &[0; PADDING]].concat();
            let mut index = Index::new();
            if Instructions::Avx512.are_there() {
                // SAFETY: the machine has the instructions; the padding is there.
                let found = unsafe { x86::quotes(padded.as_ptr(), &bytes, &mut index) };
                assert!(found.is_none());
            }
        }
        agrees(&vec![b'a'; INDEXED_BYTES_MAX]).unwrap();
        agrees(&b"\"a".repeat(INDEXED_BYTES_MAX / 2)).unwrap();
    }
}
