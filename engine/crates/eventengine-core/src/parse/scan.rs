//! What a machine can do with many bytes at once: looking for the end of a string, comparing a key.
//!
//! Owns the levels, of which the best that the machine has is picked at run time. All of
//! them give the same answers; the scalar one is the reference. Code that is generic over
//! a level is inlined into one function per level that has the level's features enabled.

/// What 64 bytes of a string are, one bit per byte, lowest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) quote: u64,
    pub(super) backslash: u64,
    pub(super) control: u64,
    pub(super) beyond_ascii: u64,
    /// Whether a backslash may stand before it, and nothing else belongs to that escape.
    pub(super) short_escape: u64,
    /// The letter u, that spells a character if a backslash stands before it.
    pub(super) letter_u: u64,
}

/// Bytes that a block has.
pub(super) const BLOCK_BYTES: usize = 64;

/// One way of looking at many bytes.
pub(super) trait Level: Copy {
    /// Bytes that [`Level::look`] looks at.
    const WIDTH: usize;

    /// One bit per byte, lowest first: whether it is a quote, a backslash or a control character; and whether it is
    /// beyond ASCII. Bits above the first that is set in the first mask may be anything.
    ///
    /// # Safety
    /// The machine has the level, and [`Level::WIDTH`] bytes can be loaded.
    unsafe fn look(at: *const u8) -> (u32, u32);

    /// What a whole block is, where that is faster than looking for one special byte after the other.
    ///
    /// # Safety
    /// The machine has the level, and [`BLOCK_BYTES`] can be loaded.
    #[inline(always)]
    unsafe fn block(_: *const u8) -> Option<Block> {
        None
    }

    /// Whether the bytes under the mask are those of the text.
    ///
    /// # Safety
    /// The machine has the level, and 32 bytes can be loaded.
    unsafe fn same(at: *const u8, text: &Text) -> bool;
}

/// The most bytes that a key is predicted with.
pub(super) const TEXT_BYTES: usize = 32;

/// Bytes to compare with, and which of them count.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Text {
    pub(super) bytes: [u8; TEXT_BYTES],
    pub(super) mask: [u8; TEXT_BYTES],
}

impl Text {
    /// A text; one that is too long, or empty, is never found.
    pub(super) fn new(text: &[u8]) -> Text {
        let mut made = Text { bytes: [0; TEXT_BYTES], mask: [0; TEXT_BYTES] };
        if text.is_empty() || text.len() > TEXT_BYTES {
            // 0xFF is in no UTF-8. Bytes that are none may be taken for it: who parses checks the key again.
            return Text { bytes: [0xFF; TEXT_BYTES], mask: [0xFF; TEXT_BYTES] };
        }
        made.bytes[..text.len()].copy_from_slice(text);
        made.mask[..text.len()].fill(0xFF);
        made
    }
}

/// Eight bytes at a time, on any machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scalar;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The highest bit of each of eight bytes that is a quote, a backslash or a control character, up to the first.
///
/// A byte is special if it is below 0x20, or zero after one of the exclusive ors. A borrow can only raise a false
/// alarm above a true one, so the lowest alarm is always right.
#[inline(always)]
pub(super) fn specials(word: u64) -> u64 {
    let quote = word ^ (ONES * 0x22);
    let backslash = word ^ (ONES * 0x5C);
    let special = (quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash)
        | (word.wrapping_sub(ONES * 0x20) & !word);
    special & HIGHS
}

/// One bit per byte whose highest bit is set.
fn gather(word: u64) -> u32 {
    ((word & HIGHS).wrapping_mul(0x0002_0408_1020_4081) >> 56) as u32
}

impl Level for Scalar {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn look(at: *const u8) -> (u32, u32) {
        // SAFETY: the caller's promise.
        let word = u64::from_le_bytes(unsafe { at.cast::<[u8; 8]>().read() });
        (gather(specials(word)), gather(word))
    }

    #[inline(always)]
    unsafe fn same(at: *const u8, text: &Text) -> bool {
        let mut different = 0;
        for index in 0..TEXT_BYTES / 8 {
            // SAFETY: the caller's promise for the bytes; the text has as many.
            unsafe {
                let word = at.cast::<u64>().add(index).read_unaligned();
                let wanted = text.bytes.as_ptr().cast::<u64>().add(index).read_unaligned();
                let mask = text.mask.as_ptr().cast::<u64>().add(index).read_unaligned();
                different |= (word ^ wanted) & mask;
            }
        }
        different == 0
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, Sse2};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK_BYTES, Block, Level, Text};

    /// Letters of escapes, by their lowest bits but one.
    const LETTERS: [u8; 16] = {
        let mut table = [0; 16];
        let letters = *b"bfnrt";
        let mut index = 0;
        while index < letters.len() {
            table[(letters[index] >> 1 & 15) as usize] = letters[index];
            index += 1;
        }
        table
    };

    /// Sixteen bytes at a time: every x86-64 machine has it.
    #[derive(Debug, Clone, Copy)]
    pub(in crate::parse) struct Sse2;

    impl Level for Sse2 {
        const WIDTH: usize = 16;

        #[inline(always)]
        unsafe fn look(at: *const u8) -> (u32, u32) {
            // SAFETY: the caller's promise.
            unsafe {
                let bytes = _mm_loadu_si128(at.cast());
                let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
                let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
                let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
                let special = _mm_or_si128(_mm_or_si128(quote, backslash), control);
                (_mm_movemask_epi8(special) as u32, _mm_movemask_epi8(bytes) as u32)
            }
        }

        #[inline(always)]
        unsafe fn same(at: *const u8, text: &Text) -> bool {
            // SAFETY: the caller's promise for the bytes; the text has as many, aligned.
            unsafe {
                let different = |half: usize| {
                    let bytes = _mm_loadu_si128(at.cast::<__m128i>().add(half));
                    let wanted = _mm_load_si128(text.bytes.as_ptr().cast::<__m128i>().add(half));
                    let mask = _mm_load_si128(text.mask.as_ptr().cast::<__m128i>().add(half));
                    _mm_and_si128(_mm_xor_si128(bytes, wanted), mask)
                };
                let all = _mm_or_si128(different(0), different(1));
                _mm_movemask_epi8(_mm_cmpeq_epi8(all, _mm_setzero_si128())) == 0xFFFF
            }
        }
    }

    /// Thirty-two bytes at a time.
    #[derive(Debug, Clone, Copy)]
    pub(in crate::parse) struct Avx2;

    impl Level for Avx2 {
        const WIDTH: usize = 32;

        #[inline(always)]
        unsafe fn look(at: *const u8) -> (u32, u32) {
            // SAFETY: the caller's promise.
            unsafe {
                let bytes = _mm256_loadu_si256(at.cast());
                let quote = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'"' as i8));
                let backslash = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'\\' as i8));
                let control = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1F)), bytes);
                let special = _mm256_or_si256(_mm256_or_si256(quote, backslash), control);
                (_mm256_movemask_epi8(special) as u32, _mm256_movemask_epi8(bytes) as u32)
            }
        }

        #[inline(always)]
        unsafe fn block(at: *const u8) -> Option<Block> {
            // SAFETY: the caller's promise.
            unsafe { Some(block_256(at)) }
        }

        #[inline(always)]
        unsafe fn same(at: *const u8, text: &Text) -> bool {
            // SAFETY: the caller's promise for the bytes; the text has as many, aligned.
            unsafe {
                let bytes = _mm256_loadu_si256(at.cast());
                let wanted = _mm256_load_si256(text.bytes.as_ptr().cast());
                let mask = _mm256_load_si256(text.mask.as_ptr().cast());
                _mm256_testz_si256(_mm256_xor_si256(bytes, wanted), mask) == 1
            }
        }
    }

    /// See [`Level::block`].
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn block_256(at: *const u8) -> Block {
        // SAFETY: the caller's promise; the table has sixteen bytes.
        unsafe {
            let letters = _mm256_broadcastsi128_si256(_mm_loadu_si128(LETTERS.as_ptr().cast()));
            let mut block = Block::default();
            for half in 0..2 {
                let bytes = _mm256_loadu_si256(at.cast::<__m256i>().add(half));
                let is = |byte: u8| _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8));
                let (quote, backslash) = (is(b'"'), is(b'\\'));
                let control = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1F)), bytes);
                let index = _mm256_and_si256(_mm256_srli_epi16(bytes, 1), _mm256_set1_epi8(0x0F));
                let letter = _mm256_cmpeq_epi8(_mm256_shuffle_epi8(letters, index), bytes);
                let short =
                    _mm256_or_si256(_mm256_or_si256(letter, quote), _mm256_or_si256(backslash, is(b'/')));
                let bits = |vector: __m256i| {
                    u64::from(_mm256_movemask_epi8(vector) as u32) << (half * BLOCK_BYTES / 2)
                };
                block.quote |= bits(quote);
                block.backslash |= bits(backslash);
                block.control |= bits(control);
                block.beyond_ascii |= bits(bytes);
                block.short_escape |= bits(short);
                block.letter_u |= bits(is(b'u'));
            }
            block
        }
    }

    /// Sixty-four bytes at a time where bytes are told apart; thirty-two where they are compared.
    #[derive(Debug, Clone, Copy)]
    pub(in crate::parse) struct Avx512;

    impl Level for Avx512 {
        const WIDTH: usize = Avx2::WIDTH;

        #[inline(always)]
        unsafe fn look(at: *const u8) -> (u32, u32) {
            // SAFETY: the caller's promise: whoever has this level has the other.
            unsafe { Avx2::look(at) }
        }

        #[inline(always)]
        unsafe fn block(at: *const u8) -> Option<Block> {
            // SAFETY: the caller's promise.
            unsafe { Some(block_512(at)) }
        }

        #[inline(always)]
        unsafe fn same(at: *const u8, text: &Text) -> bool {
            // SAFETY: the caller's promise: whoever has this level has the other.
            unsafe { Avx2::same(at, text) }
        }
    }

    /// See [`Level::block`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn block_512(at: *const u8) -> Block {
        // SAFETY: the caller's promise; the table has sixteen bytes.
        unsafe {
            let letters = _mm512_broadcast_i32x4(_mm_loadu_si128(LETTERS.as_ptr().cast()));
            let bytes = _mm512_loadu_si512(at.cast());
            let is = |byte: u8| _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte as i8));
            let (quote, backslash) = (is(b'"'), is(b'\\'));
            let index = _mm512_and_si512(_mm512_srli_epi16(bytes, 1), _mm512_set1_epi8(0x0F));
            let letter = _mm512_cmpeq_epi8_mask(_mm512_shuffle_epi8(letters, index), bytes);
            Block {
                quote,
                backslash,
                control: _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(0x20)),
                beyond_ascii: _mm512_movepi8_mask(bytes),
                short_escape: letter | quote | backslash | is(b'/'),
                letter_u: is(b'u'),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::instructions::Instructions;

    /// Bytes before the first special one, and whether one of them is beyond ASCII.
    unsafe fn prefix<L: Level>(bytes: &[u8; 128]) -> (usize, bool) {
        let (mut done, mut beyond) = (0, false);
        while done < 64 {
            // SAFETY: at most 64 + 32 bytes are looked at; the machine has the level.
            let (special, high) = unsafe { L::look(bytes.as_ptr().add(done)) };
            let here = (special.trailing_zeros() as usize).min(L::WIDTH);
            beyond |= high & (1_u64 << here).wrapping_sub(1) as u32 != 0;
            done += here;
            if here < L::WIDTH {
                break;
            }
        }
        (done, beyond)
    }

    fn plain(bytes: &[u8; 128]) -> (usize, bool) {
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        let length = bytes.iter().position(special).unwrap_or(128);
        (length, !bytes[..length].is_ascii())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn all_levels_find_the_same_end_of_a_string(
            bytes in proptest::collection::vec(prop_oneof![20 => 0x20..=0xFF_u8, 1 => any::<u8>()], 60),
        ) {
            let mut padded = [0; 128];
            padded[..60].copy_from_slice(&bytes);
            let expected = plain(&padded);
            // SAFETY: the levels are asked for before they are used.
            unsafe {
                prop_assert_eq!(prefix::<Scalar>(&padded), expected);
                #[cfg(target_arch = "x86_64")]
                {
                    prop_assert_eq!(prefix::<Sse2>(&padded), expected);
                    if is_x86_feature_detected!("avx2") {
                        prop_assert_eq!(prefix::<Avx2>(&padded), expected);
                    }
                }
            }
        }

        #[test]
        fn a_block_is_what_its_bytes_are(bytes in proptest::collection::vec(any::<u8>(), 64)) {
            let bits = |is: fn(u8) -> bool| {
                bytes.iter().enumerate().fold(0, |bits, (place, byte)| bits | u64::from(is(*byte)) << place)
            };
            let expected = Block {
                quote: bits(|byte| byte == b'"'),
                backslash: bits(|byte| byte == b'\\'),
                control: bits(|byte| byte < 0x20),
                beyond_ascii: bits(|byte| byte >= 0x80),
                // A zero is a control character, whatever else is said of it.
                short_escape: bits(|byte| b"\"\\/bfnrt\0".contains(&byte)),
                letter_u: bits(|byte| byte == b'u'),
            };
            // SAFETY: the level is asked for before it is used; 64 bytes can be loaded.
            unsafe {
                prop_assert_eq!(Scalar::block(bytes.as_ptr()), None);
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2") {
                    prop_assert_eq!(Avx2::block(bytes.as_ptr()), Some(expected));
                }
                #[cfg(target_arch = "x86_64")]
                if Instructions::Avx512.are_there() {
                    prop_assert_eq!(Avx512::block(bytes.as_ptr()), Some(expected));
                }
            }
        }

        #[test]
        fn all_levels_compare_alike(text in "[a-c\"]{0,34}", change in 0..64_usize) {
            let mut padded = [b'x'; 64];
            padded[..text.len()].copy_from_slice(text.as_bytes());
            padded[change] = padded[change].wrapping_add(u8::from(change % 2 == 0));
            let expected = !text.is_empty() && text.len() <= TEXT_BYTES && padded.starts_with(text.as_bytes());
            let text = Text::new(text.as_bytes());
            // SAFETY: the levels are asked for before they are used; 64 bytes can be loaded.
            unsafe {
                prop_assert_eq!(Scalar::same(padded.as_ptr(), &text), expected);
                #[cfg(target_arch = "x86_64")]
                {
                    prop_assert_eq!(Sse2::same(padded.as_ptr(), &text), expected);
                    if is_x86_feature_detected!("avx2") {
                        prop_assert_eq!(Avx2::same(padded.as_ptr(), &text), expected);
                    }
                }
            }
        }
    }
}
