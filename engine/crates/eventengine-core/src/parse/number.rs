//! Numbers: digits eight at a time, and doubles that are exact without a table of long powers.
//!
//! Owns the fast forms. They read what nearly all numbers look like and give up on the
//! rest (many digits, exponents, faults), which the careful walk then decides.

/// Powers of ten that a double holds exactly, for the digits of up to two words.
const POWERS: [f64; 17] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16];

/// The same powers as integers.
const INTEGER_POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Integers up to here are exact as doubles.
const EXACT_MAX: u64 = 1 << 53;

pub(super) const ZEROES: u64 = 0x3030_3030_3030_3030;

/// How many of eight bytes, from the first on, are digits.
#[inline(always)]
fn leading_digits(word: u64) -> u32 {
    // What is above a nine sets its highest bit by the sum or has it set by the difference, and what is below a zero by
    // the difference. A carry or borrow spoils only bytes behind one that is no digit.
    let above = word.wrapping_add(0x4646_4646_4646_4646);
    let below = word.wrapping_sub(ZEROES);
    ((above | below) & 0x8080_8080_8080_8080).trailing_zeros() / 8
}

/// The value of the first `count` digits, of one to eight.
#[inline(always)]
fn value_of(word: u64, count: u32) -> u64 {
    let values = (word ^ ZEROES) << (64 - 8 * count);
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
    let low = (pairs & 0x0000_00FF_0000_00FF).wrapping_mul(0x000F_4240_0000_0064);
    let high = ((pairs >> 16) & 0x0000_00FF_0000_00FF).wrapping_mul(0x0000_2710_0000_0001);
    low.wrapping_add(high) >> 32
}

#[inline(always)]
unsafe fn load(at: *const u8) -> u64 {
    // SAFETY: the caller's promise: eight bytes can be loaded.
    u64::from_le_bytes(unsafe { at.cast::<[u8; 8]>().read() })
}

/// Digits without a needless zero at their front: their value and what follows them.
///
/// # Safety
/// A zero byte follows somewhere, and [`super::payload::PADDING`] bytes can be loaded from it.
#[inline(always)]
pub(super) unsafe fn digits(at: *const u8) -> Option<(u64, *const u8)> {
    // SAFETY: a word is loaded at the start, and behind a word only if that was all digits, none of them zero bytes.
    unsafe {
        let word = load(at);
        let count = leading_digits(word);
        if count == 0 || (word as u8 == b'0' && count > 1) {
            return None;
        }
        if count < 8 {
            return Some((value_of(word, count), at.add(count as usize)));
        }
        more_digits(value_of(word, 8), at.add(8))
    }
}

/// The digits behind the first eight.
#[inline(always)]
unsafe fn more_digits(first: u64, at: *const u8) -> Option<(u64, *const u8)> {
    // SAFETY: as in `digits`.
    unsafe {
        let word = load(at);
        let count = leading_digits(word);
        if count == 0 {
            return Some((first, at));
        }
        let value = first * INTEGER_POWERS[count as usize] + value_of(word, count);
        if count < 8 {
            return Some((value, at.add(count as usize)));
        }
        let at = at.add(8);
        let word = load(at);
        let count = leading_digits(word);
        match count {
            0 => Some((value, at)),
            1..=4 => {
                let value = value.checked_mul(INTEGER_POWERS[count as usize])?;
                Some((value.checked_add(value_of(word, count))?, at.add(count as usize)))
            }
            _ => None,
        }
    }
}

/// A number whose digits, taken together, a double holds exactly, without exponent.
///
/// # Safety
/// As for [`digits`].
#[inline(always)]
pub(super) unsafe fn double(at: *const u8) -> Option<(f64, *const u8)> {
    // SAFETY: the sign and the point are no zero bytes; the rest as in `digits`.
    unsafe {
        let negative = *at == b'-';
        let at = at.add(usize::from(negative));
        let (whole, end) = digits(at)?;
        let (magnitude, end) = if *end == b'.' {
            let word = load(end.add(1));
            let count = leading_digits(word);
            if count == 0 {
                return None;
            }
            let (fraction, count, end) = if count < 8 {
                (value_of(word, count), count, end.add(1 + count as usize))
            } else {
                long_fraction(value_of(word, 8), end.add(9))?
            };
            let scale = if count <= 8 {
                INTEGER_POWERS[count as usize]
            } else {
                INTEGER_POWERS[8] * INTEGER_POWERS[count as usize - 8]
            };
            let all = whole.checked_mul(scale)?.checked_add(fraction)?;
            if all > EXACT_MAX {
                return None;
            }
            // Both are exact, so their quotient is rounded once.
            (all as f64 / POWERS[count as usize], end)
        } else {
            if whole > EXACT_MAX {
                return None;
            }
            (whole as f64, end)
        };
        if *end | 0x20 == b'e' {
            return None;
        }
        Some((if negative { -magnitude } else { magnitude }, end))
    }
}

/// The digits of a fraction behind its first eight: value, count and what follows.
#[inline(always)]
unsafe fn long_fraction(first: u64, at: *const u8) -> Option<(u64, u32, *const u8)> {
    // SAFETY: as in `digits`.
    unsafe {
        let word = load(at);
        let count = leading_digits(word);
        if count == 0 {
            return Some((first, 8, at));
        }
        if count == 8 {
            return None;
        }
        let value = first * INTEGER_POWERS[count as usize] + value_of(word, count);
        Some((value, 8 + count, at.add(count as usize)))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::POWERS;

    /// The most bytes of a number whose end is known before.
    pub(in crate::parse) const BYTES_MAX: usize = 16;

    /// From here on, up to twice as much, doubles are the integers.
    const INTEGERS_FROM: f64 = 4_503_599_627_370_496.0;

    /// The most digits that a double holds exactly, whatever they are.
    const EXACT_DIGITS: usize = 15;

    /// What follows from a number's length and from where its point is.
    #[derive(Clone, Copy)]
    #[repr(C, align(32))]
    struct Spelling {
        /// Where each of sixteen places, the last digit in the last one, comes from among the sixteen bytes that end
        /// with the number; places before the first digit hold zero.
        from: [u8; BYTES_MAX],
        /// The least that its digits, taken together, may be, for it has no needless zero at its front; the highest
        /// number if none is spelled so, or more digits than are exact.
        least: u64,
        /// What they are divided by.
        scale: f64,
    }

    impl Spelling {
        const NONE: Spelling = Spelling { from: [0x80; BYTES_MAX], least: u64::MAX, scale: 1.0 };

        /// With digits before the point and behind it; a point at the end stands for none.
        const fn new(length: usize, point: usize) -> Spelling {
            let mut spelling = Spelling::NONE;
            if point == 0 || point > length || point + 1 == length {
                return spelling;
            }
            let digits = if point < length { length - 1 } else { length };
            if digits > EXACT_DIGITS {
                return spelling;
            }
            let mut digit = 0;
            while digit < digits {
                let byte = if digit < point { digit } else { digit + 1 };
                spelling.from[BYTES_MAX - digits + digit] = (BYTES_MAX - length + byte) as u8;
                digit += 1;
            }
            // Before a point right behind it, a zero is no needless one.
            spelling.least = if point > 1 { POWERS[digits - 1] as u64 } else { 0 };
            spelling.scale = POWERS[digits - point];
            spelling
        }
    }

    static SPELLINGS: [[Spelling; BYTES_MAX + 1]; BYTES_MAX + 1] = {
        let mut spellings = [[Spelling::NONE; BYTES_MAX + 1]; BYTES_MAX + 1];
        let mut length = 0;
        while length <= BYTES_MAX {
            let mut point = 0;
            while point <= length {
                spellings[length][point] = Spelling::new(length, point);
                point += 1;
            }
            length += 1;
        }
        spellings
    };

    /// A number's bytes behind its sign.
    #[derive(Clone, Copy)]
    struct Magnitude {
        end: *const u8,
        length: usize,
        /// The sign's place in a double.
        sign: u64,
    }

    impl Magnitude {
        /// # Safety
        /// A byte can be loaded.
        #[inline(always)]
        unsafe fn of(at: *const u8, length: usize) -> Magnitude {
            // SAFETY: the caller's promise; what follows is within the number or its end.
            unsafe {
                let negative = usize::from(*at == b'-');
                let sign = (negative as u64).rotate_right(1);
                Magnitude { end: at.add(length), length: length - negative, sign }
            }
        }

        /// The sixteen bytes that end with it: what comes behind a number may just have been written, and a load of
        /// both would have to wait for that.
        ///
        /// # Safety
        /// They can be loaded.
        #[inline(always)]
        unsafe fn bytes(&self) -> *const __m128i {
            // SAFETY: the caller's promise.
            unsafe { self.end.sub(BYTES_MAX).cast() }
        }

        /// Its spelling by where points are among its [`Magnitude::bytes`], one bit each.
        ///
        /// # Safety
        /// The length is at most [`BYTES_MAX`].
        #[inline(always)]
        unsafe fn spelling(&self, points: u32) -> &'static Spelling {
            let points = points >> (BYTES_MAX - self.length);
            let point = (points.trailing_zeros() as usize).min(self.length);
            // SAFETY: the caller's promise, and the point lies within the length.
            unsafe { SPELLINGS.get_unchecked(self.length).get_unchecked(point) }
        }

        /// The double whose digits, taken together, are these.
        #[inline(always)]
        fn double(&self, digits: u64, spelling: &Spelling) -> f64 {
            // Both are exact, so their quotient is rounded once.
            f64::from_bits((digits as i64 as f64 / spelling.scale).to_bits() ^ self.sign)
        }
    }

    /// The number that bytes spell, one to [`BYTES_MAX`] of them, if it has no exponent and at most [`EXACT_DIGITS`].
    ///
    /// # Safety
    /// The machine has the instructions; as many bytes can be loaded before the number's end, and one behind it.
    #[target_feature(enable = "avx2,bmi1")]
    #[inline]
    pub(in crate::parse) unsafe fn double_within(at: *const u8, length: usize) -> Option<f64> {
        debug_assert!((1..=BYTES_MAX).contains(&length));
        // SAFETY: the caller's promise.
        unsafe {
            let number = Magnitude::of(at, length);
            let bytes = _mm_loadu_si128(number.bytes());
            let points = _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'.' as i8)));
            let spelling = number.spelling(points as u32);
            let from = _mm_load_si128(spelling.from.as_ptr().cast());
            let values = _mm_shuffle_epi8(_mm_sub_epi8(bytes, _mm_set1_epi8(b'0' as i8)), from);
            let above_nine = _mm_subs_epu8(values, _mm_set1_epi8(9));
            if _mm_testz_si128(above_nine, above_nine) == 0 {
                return None;
            }
            let pairs = _mm_maddubs_epi16(values, _mm_set1_epi16(0x010A));
            let fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x0001_0064));
            let eights = _mm_madd_epi16(_mm_packus_epi32(fours, fours), _mm_set1_epi32(0x0001_2710));
            let both = _mm_cvtsi128_si64(eights) as u64;
            let digits = (both & 0xFFFF_FFFF) * 100_000_000 + (both >> 32);
            (digits >= spelling.least).then(|| number.double(digits, spelling))
        }
    }

    /// Two such numbers at once.
    ///
    /// # Safety
    /// As for [`double_within`], for both.
    #[target_feature(enable = "avx2,bmi1")]
    #[inline]
    pub(in crate::parse) unsafe fn doubles_within(
        [first, second]: [(*const u8, usize); 2],
    ) -> Option<[f64; 2]> {
        debug_assert!([first.1, second.1].iter().all(|length| (1..=BYTES_MAX).contains(length)));
        // SAFETY: the caller's promise.
        unsafe {
            let (first, second) = (Magnitude::of(first.0, first.1), Magnitude::of(second.0, second.1));
            let bytes = _mm256_loadu2_m128i(second.bytes(), first.bytes());
            let points = _mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'.' as i8))) as u32;
            let spellings = [first.spelling(points & 0xFFFF), second.spelling(points >> BYTES_MAX)];
            let from =
                _mm256_loadu2_m128i(spellings[1].from.as_ptr().cast(), spellings[0].from.as_ptr().cast());
            let values = _mm256_shuffle_epi8(_mm256_sub_epi8(bytes, _mm256_set1_epi8(b'0' as i8)), from);
            let above_nine = _mm256_subs_epu8(values, _mm256_set1_epi8(9));
            if _mm256_testz_si256(above_nine, above_nine) == 0 {
                return None;
            }
            let pairs = _mm256_maddubs_epi16(values, _mm256_set1_epi16(0x010A));
            let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x0001_0064));
            let eights = _mm256_madd_epi16(_mm256_packus_epi32(fours, fours), _mm256_set1_epi32(0x0001_2710));
            let front = _mm256_mul_epu32(eights, _mm256_set1_epi64x(100_000_000));
            let digits = _mm256_add_epi64(front, _mm256_srli_epi64::<32>(eights));
            let (low, high) = (_mm256_castsi256_si128(digits), _mm256_extracti128_si256::<1>(digits));
            let are_digits = _mm_cvtsi128_si64(low) as u64 >= spellings[0].least
                && _mm_cvtsi128_si64(high) as u64 >= spellings[1].least;
            if !are_digits {
                return None;
            }
            // A double of this size counts in ones, so the digits can be put at its end.
            let size = _mm_set1_pd(INTEGERS_FROM);
            let sum = _mm_or_pd(_mm_castsi128_pd(_mm_unpacklo_epi64(low, high)), size);
            let scales = _mm_set_pd(spellings[1].scale, spellings[0].scale);
            let magnitudes = _mm_castpd_si128(_mm_div_pd(_mm_sub_pd(sum, size), scales));
            let signed = |bits: i64, number: Magnitude| f64::from_bits(bits as u64 ^ number.sign);
            let first = signed(_mm_cvtsi128_si64(magnitudes), first);
            Some([first, signed(_mm_cvtsi128_si64(_mm_unpackhi_epi64(magnitudes, magnitudes)), second)])
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::payload::PADDING;

    fn padded(text: &str) -> Vec<u8> {
        [text.as_bytes(), &[0; PADDING]].concat()
    }

    fn read_digits(text: &str) -> Option<(u64, usize)> {
        let bytes = padded(text);
        // SAFETY: the padding is there.
        unsafe {
            digits(bytes.as_ptr()).map(|(value, end)| (value, end.offset_from_unsigned(bytes.as_ptr())))
        }
    }

    fn read_double(text: &str) -> Option<(f64, usize)> {
        let bytes = padded(text);
        // SAFETY: the padding is there.
        unsafe {
            double(bytes.as_ptr()).map(|(value, end)| (value, end.offset_from_unsigned(bytes.as_ptr())))
        }
    }

    #[test]
    fn every_byte_behind_digits_ends_them_unless_it_is_one() {
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                let mut word = *b"12345678";
                word[place] = byte;
                let expected = if byte.is_ascii_digit() { 8 } else { place as u32 };
                assert_eq!(leading_digits(u64::from_le_bytes(word)), expected, "{byte:#x} at {place}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn every_integer_of_64_bits_is_read(value in prop_oneof![any::<u64>(), any::<u32>().prop_map(u64::from), 0..300_u64],
            behind in "[,}. \\]e]?") {
            let text = value.to_string();
            prop_assert_eq!(read_digits(&format!("{text}{behind}")), Some((value, text.len())));
        }

        #[test]
        fn a_double_is_the_nearest_one_or_left_to_the_careful_walk(text in "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{1,18})?") {
            if let Some((value, length)) = read_double(&format!("{text},")) {
                prop_assert_eq!(length, text.len());
                prop_assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits());
            }
        }

        #[test]
        fn usual_doubles_are_not_left_to_the_careful_walk(text in "-?(0|[1-9][0-9]{0,6})(\\.[0-9]{1,7})?") {
            prop_assert!(read_double(&text).is_some());
        }
    }

    #[cfg(target_arch = "x86_64")]
    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn two_numbers_at_once_are_what_each_is_alone(
            texts in proptest::array::uniform2(prop_oneof![
                4 => "-?(0|[1-9][0-9]{0,6})(\\.[0-9]{1,7})?",
                1 => "[0-9.e,:/-]{1,16}",
            ]),
            behind in "[,}0-9. \"e]{16}",
        ) {
            let bytes = texts.each_ref().map(|text| padded(&format!("{behind}{text}")));
            let numbers = [0, 1].map(|number| (bytes[number][behind.len()..].as_ptr(), texts[number].len()));
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") {
                // SAFETY: the machine has the instructions, and the padding is there.
                let (together, alone) = unsafe {
                    let alone = numbers.map(|(at, length)| x86::double_within(at, length));
                    (x86::doubles_within(numbers), alone)
                };
                let alone = match alone {
                    [Some(first), Some(second)] => Some([first, second]),
                    _ => None,
                };
                let bits = |doubles: [f64; 2]| doubles.map(f64::to_bits);
                prop_assert_eq!(together.map(bits), alone.map(bits));
            }
        }

        #[test]
        fn a_number_whose_end_is_known_is_what_the_reference_reads_or_none(
            text in prop_oneof![
                4 => "-?(0|[1-9][0-9]{0,13})(\\.[0-9]{1,13})?",
                1 => "[0-9.e,:/-]{1,16}",
                1 => "0?[0-9]{1,15}",
            ],
            behind in "[,}0-9. \"e]{16}",
        ) {
            let length = text.len().min(x86::BYTES_MAX);
            let text = &text[..length];
            let bytes = padded(&format!("{behind}{text}{behind}"));
            let expected = serde_json::from_str::<serde_json::Value>(text).ok();
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") {
                // SAFETY: the machine has the instructions, and the padding is there.
                unsafe {
                    let expected = expected.and_then(|value| value.as_f64());
                    match x86::double_within(bytes[behind.len()..].as_ptr(), length) {
                        Some(value) => prop_assert_eq!(Some(value.to_bits()), expected.map(f64::to_bits)),
                        None => prop_assert!(expected.is_none() || text.contains('e') || length > 15),
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_plain_number_is_left_to_the_careful_walk() {
        for text in
            ["", "-", "01", "00", "x", "1.", ".5", "1e3", "1E3", "1.5e3", "-01.5", "99999999999999999999999"]
        {
            assert_eq!(read_double(text), None, "{text}");
        }
        assert_eq!(read_digits("18446744073709551616"), None);
        assert_eq!(read_digits("184467440737095516150"), None);
        assert_eq!(read_digits("0"), Some((0, 1)));
    }
}
