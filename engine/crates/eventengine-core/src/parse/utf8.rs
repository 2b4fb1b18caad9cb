//! Whether a payload is UTF-8, thirty-two bytes at a time where the machine can.
//!
//! Owns the check of payloads that hold more than ASCII. The vectors look up, for each
//! byte and the one before it, which faults the two could be part of; a fault that their
//! high and low halves have in common is one. Where a third or fourth byte is due, two
//! continuations in a row are what has to be found. After J. Keiser and D. Lemire,
//! "Validating UTF-8 in less than one instruction per byte" (2021).

use super::instructions::Instructions;
use super::payload::Payload;

/// Whether all of the payload is UTF-8. The machine has the instructions.
pub(super) fn is_utf8(instructions: Instructions, payload: Payload<'_>) -> bool {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instructions.
        Instructions::Avx2 | Instructions::Avx512 => unsafe { x86::is_utf8(payload) },
        _ => std::str::from_utf8(payload.bytes()).is_ok(),
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::Payload;

    /// A leading byte, or ASCII, follows where a continuation is due.
    const TOO_SHORT: u8 = 1 << 0;
    /// A continuation follows ASCII.
    const TOO_LONG: u8 = 1 << 1;
    const OVERLONG_3: u8 = 1 << 2;
    /// Above U+10FFFF.
    const TOO_LARGE: u8 = 1 << 3;
    const SURROGATE: u8 = 1 << 4;
    const OVERLONG_2: u8 = 1 << 5;
    /// Far above U+10FFFF, or overlong in four bytes: told apart by the first byte's low half.
    const TOO_LARGE_1000: u8 = 1 << 6;
    const OVERLONG_4: u8 = 1 << 6;
    const TWO_CONTINUATIONS: u8 = 1 << 7;
    /// Faults that don't depend on the first byte's low half.
    const CARRY: u8 = TOO_SHORT | TOO_LONG | TWO_CONTINUATIONS;

    const FIRST_HIGH: [u8; 16] = {
        let mut table = [TOO_LONG; 16];
        table[0x8] = TWO_CONTINUATIONS;
        table[0x9] = TWO_CONTINUATIONS;
        table[0xA] = TWO_CONTINUATIONS;
        table[0xB] = TWO_CONTINUATIONS;
        table[0xC] = TOO_SHORT | OVERLONG_2;
        table[0xD] = TOO_SHORT;
        table[0xE] = TOO_SHORT | OVERLONG_3 | SURROGATE;
        table[0xF] = TOO_SHORT | TOO_LARGE | TOO_LARGE_1000 | OVERLONG_4;
        table
    };
    const FIRST_LOW: [u8; 16] = {
        let mut table = [CARRY | TOO_LARGE | TOO_LARGE_1000; 16];
        table[0x0] = CARRY | OVERLONG_2 | OVERLONG_3 | OVERLONG_4;
        table[0x1] = CARRY | OVERLONG_2;
        table[0x2] = CARRY;
        table[0x3] = CARRY;
        table[0x4] = CARRY | TOO_LARGE;
        table[0xD] = CARRY | TOO_LARGE | TOO_LARGE_1000 | SURROGATE;
        table
    };
    const SECOND_HIGH: [u8; 16] = {
        let mut table = [TOO_SHORT; 16];
        let any = TOO_LONG | OVERLONG_2 | TWO_CONTINUATIONS;
        table[0x8] = any | OVERLONG_3 | TOO_LARGE_1000 | OVERLONG_4;
        table[0x9] = any | OVERLONG_3 | TOO_LARGE;
        table[0xA] = any | SURROGATE | TOO_LARGE;
        table[0xB] = any | SURROGATE | TOO_LARGE;
        table
    };

    #[target_feature(enable = "avx2")]
    fn table(bytes: &[u8; 16]) -> __m256i {
        // SAFETY: sixteen bytes can be loaded.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
    }

    #[target_feature(enable = "avx2")]
    fn high_halves(bytes: __m256i) -> __m256i {
        _mm256_and_si256(_mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(0x0F))
    }

    /// # Safety
    /// The machine has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn is_utf8(payload: Payload<'_>) -> bool {
        let first_high = table(&FIRST_HIGH);
        let first_low = table(&FIRST_LOW);
        let second_high = table(&SECOND_HIGH);
        let mut faults = _mm256_setzero_si256();
        let mut before = _mm256_setzero_si256();
        let mut done = 0;
        // The last block holds a sentinel: what is cut off before it is too short.
        while done <= payload.len() {
            // SAFETY: the block begins at the first sentinel or before it.
            let bytes = unsafe { _mm256_loadu_si256(payload.start().add(done).cast()) };
            if _mm256_movemask_epi8(_mm256_or_si256(bytes, before)) != 0 {
                let joined = _mm256_permute2x128_si256(before, bytes, 0x21);
                let one_before = _mm256_alignr_epi8(bytes, joined, 15);
                let two_before = _mm256_alignr_epi8(bytes, joined, 14);
                let three_before = _mm256_alignr_epi8(bytes, joined, 13);
                let low = _mm256_and_si256(one_before, _mm256_set1_epi8(0x0F));
                let special = _mm256_and_si256(
                    _mm256_and_si256(
                        _mm256_shuffle_epi8(first_high, high_halves(one_before)),
                        _mm256_shuffle_epi8(first_low, low),
                    ),
                    _mm256_shuffle_epi8(second_high, high_halves(bytes)),
                );
                let third = _mm256_subs_epu8(two_before, _mm256_set1_epi8((0xE0_u8 - 0x80) as i8));
                let fourth = _mm256_subs_epu8(three_before, _mm256_set1_epi8((0xF0_u8 - 0x80) as i8));
                let due = _mm256_and_si256(_mm256_or_si256(third, fourth), _mm256_set1_epi8(0x80_u8 as i8));
                faults = _mm256_or_si256(faults, _mm256_xor_si256(due, special));
            }
            before = bytes;
            done += 32;
        }
        _mm256_testz_si256(faults, faults) == 1
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn wide_table(bytes: &[u8; 16]) -> __m512i {
        // SAFETY: sixteen bytes can be loaded.
        _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
    }

    /// What is wrong with a block: nothing if it is zero. The block lies `before` bytes behind the payload's start. A
    /// character that the payload's end cuts off is not found; one that a block's end cuts off is, with the next block.
    ///
    /// # Safety
    /// The machine has the instructions; the block, and what lies before it in the payload, can be loaded.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub(in crate::parse) unsafe fn faults(at: *const u8, before: usize) -> __m512i {
        // SAFETY: what lies before the payload is not loaded, but taken for zero.
        let shifted = |by: usize| unsafe {
            _mm512_maskz_loadu_epi8(u64::MAX << by.saturating_sub(before), at.wrapping_sub(by).cast())
        };
        // SAFETY: the caller's promise.
        let bytes = unsafe { _mm512_loadu_si512(at.cast()) };
        let low_half = _mm512_set1_epi8(0x0F);
        let high_halves = |bytes| _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low_half);
        let one_before = shifted(1);
        let first_high = _mm512_shuffle_epi8(wide_table(&FIRST_HIGH), high_halves(one_before));
        let first_low = _mm512_shuffle_epi8(wide_table(&FIRST_LOW), _mm512_and_si512(one_before, low_half));
        let second_high = _mm512_shuffle_epi8(wide_table(&SECOND_HIGH), high_halves(bytes));
        let special = _mm512_ternarylogic_epi64::<0x80>(first_high, first_low, second_high);
        let third = _mm512_subs_epu8(shifted(2), _mm512_set1_epi8((0xE0_u8 - 0x80) as i8));
        let fourth = _mm512_subs_epu8(shifted(3), _mm512_set1_epi8((0xF0_u8 - 0x80) as i8));
        // Where a third or fourth byte is due is the highest bit of either.
        let due = _mm512_ternarylogic_epi64::<0xE0>(_mm512_set1_epi8(0x80_u8 as i8), third, fourth);
        _mm512_xor_si512(due, special)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::PADDING;

    fn agrees(bytes: &[u8]) {
        let mut scratch = vec![0; bytes.len() + PADDING];
        let payload = Payload::copy(bytes, &mut scratch).unwrap();
        assert_eq!(
            is_utf8(Instructions::detect(), payload),
            std::str::from_utf8(bytes).is_ok(),
            "{bytes:X?}"
        );
    }

    #[test]
    fn every_pair_and_triple_of_leading_bytes_is_judged_as_the_standard_library_does() {
        for first in 0x7F..=0xFF {
            for second in [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xE1, 0xF0] {
                for rest in [&[][..], &[0x80], &[0x80, 0x80], &[0x41], &[0xBF, 0xBF], &[0x80, 0x80, 0x80]] {
                    for before in [0, 27, 28, 29, 30, 31] {
                        let mut bytes = vec![b'a'; before];
                        bytes.extend([first, second]);
                        bytes.extend(rest);
                        agrees(&bytes);
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn text_and_damaged_text_are_judged_as_the_standard_library_does(
            text in ".{0,120}", place in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
        ) {
            let mut bytes = text.into_bytes();
            agrees(&bytes);
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                if cut { bytes.truncate(place) } else { bytes[place] = byte };
                agrees(&bytes);
            }
        }
    }
}
