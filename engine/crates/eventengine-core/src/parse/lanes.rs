//! Many members of one object at once: each in a lane of a vector, where the quotes say that they stand.
//!
//! Owns what is known of such an object before it comes: the place of each member's
//! quotes in the list of all, which differs by two for a number and by four for a text.
//! All keys are compared first; then the ends of all values are computed, and integers
//! are read eight at a time. A value's end is the comma before the next member's quote,
//! so all but the last one's are known, and that one's, too, where the payload ends behind it.

use std::arch::x86_64::*;

use super::fast::{Run, scalar};
use super::index::Found;
use super::number::{self, ZEROES};
use super::plan::{Entry, Kind};
use super::record::{LINE_CELLS, string_cell};
use super::scan::Avx512;

/// Most members of an object that is read so, and most quotes up to the last one's text.
const MEMBERS_MAX: usize = 16;
const QUOTES_MAX: usize = 28;

/// Fewest members for which it is worth the while.
const MEMBERS_MIN: usize = 5;

/// Integers that are read at once, into as many cells beside each other: the window. All of it is written, and what
/// else belongs there is written later; writing some of it only would keep who reads it from having it soon.
const INTEGERS: usize = LINE_CELLS;

/// Positions as they are written at once and read one by one.
#[repr(C, align(64))]
struct Places([u16; 32]);

impl Places {
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn new(places: __m512i) -> Places {
        // SAFETY: a vector is as many bytes.
        unsafe { std::mem::transmute(places) }
    }
}

/// What is known of an object before it comes.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(super) struct Lanes {
    /// By member: its first quote's place among the object's.
    quotes: [u16; 32],
    /// By member: that of the next member.
    next: [u16; 32],
    /// By member: bytes from its quote to its value.
    lengths: [u16; 32],
    /// By cell of the window: the member that is its integer, and what that may be at most.
    integers: [u16; 32],
    maxima: [u64; INTEGERS],
    /// Bits of the window's cells that have an integer.
    there: u8,
    /// The first cell of the window.
    window: u32,
    /// Bits of the members that are texts.
    texts: u32,
    /// Bits of the members that are read one by one.
    others: u32,
    /// Members; zero if the object is not read so. An array behind them is none of them.
    pub(super) members: u32,
    /// The first so many members, of which it is known where their values end.
    known: u32,
    /// Quotes of all of them.
    pub(super) quotes_taken: u32,
}

impl Lanes {
    /// Nothing is known.
    pub(super) const NONE: Lanes = Lanes {
        quotes: [0; 32],
        next: [0; 32],
        lengths: [0; 32],
        integers: [0; 32],
        maxima: [0; INTEGERS],
        there: 0,
        window: 0,
        texts: 0,
        others: 0,
        members: 0,
        known: 0,
        quotes_taken: 0,
    };

    /// What follows from the members' steps, in an object with so many fields.
    pub(super) fn new(steps: &[Entry], fields: usize, is_outermost: bool) -> Lanes {
        let mut lanes = Lanes::NONE;
        // An array has quotes of its own, as many as it likes.
        let (steps, is_ended) = match steps.split_last() {
            Some((last, before)) if last.kind == Kind::Array => (before, false),
            _ => (steps, is_outermost),
        };
        let texts = |step: &Entry| matches!(step.kind, Kind::String | Kind::Enum);
        let quotes: usize = steps.iter().map(|step| if texts(step) { 4 } else { 2 }).sum();
        if !(MEMBERS_MIN..=MEMBERS_MAX).contains(&steps.len())
            || quotes > QUOTES_MAX
            || steps.iter().any(|step| step.kind == Kind::Array)
        {
            return lanes;
        }
        let known = steps.len() - usize::from(!is_ended);
        let is_integer = |step: &Entry| step.kind == Kind::Unsigned;
        // Windows lie one behind the other from the first field on, and within the row.
        let first = steps[..known].iter().find(|step| is_integer(step)).map(|step| step.field as usize);
        let window = first.map(|field| field - field % INTEGERS).filter(|window| window + INTEGERS <= fields);
        lanes.window = 1 + window.unwrap_or_default() as u32;
        let mut taken = 0;
        for (member, step) in steps.iter().enumerate() {
            lanes.quotes[member] = taken;
            lanes.lengths[member] = step.length as u16 - 1;
            if texts(step) {
                lanes.texts |= 1 << member;
            }
            taken += if texts(step) { 4 } else { 2 };
            lanes.next[member] = taken;
            let place = window.and_then(|window| (step.field as usize).checked_sub(window));
            match place.filter(|place| is_integer(step) && member < known && *place < INTEGERS) {
                Some(place) => {
                    lanes.integers[place] = member as u16;
                    lanes.maxima[place] = step.maximum;
                    lanes.there |= 1 << place;
                }
                None => lanes.others |= 1 << member,
            }
        }
        lanes.quotes_taken = u32::from(taken);
        lanes.members = steps.len() as u32;
        lanes.known = known as u32;
        lanes
    }
}

/// An object that is read.
#[derive(Clone, Copy)]
pub(super) struct Object<'x> {
    /// What the lanes were made of.
    pub(super) steps: *const Entry,
    /// The positions of its quotes.
    pub(super) list: __m512i,
    pub(super) brace: *const u8,
    /// What else was found in the payload.
    pub(super) found: &'x Found,
}

/// Reads the members of an object at its brace into a row. Gives what follows the last one's value.
///
/// # Safety
/// As for [`super::guess::walk`]: the steps are those that the lanes were made of; each place in the list of quotes up
/// to the payload's last quote, and the next [`super::index::BEHIND`], hold a position from one up to the payload's
/// length.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
#[inline]
pub(super) unsafe fn members(
    run: &mut Run<'_>,
    lanes: &Lanes,
    object: &Object<'_>,
    row: *mut u64,
) -> Option<*const u8> {
    let Object { steps, list, brace, found } = *object;
    // SAFETY: keys are looked for at quotes of the payload, and a key that is found lies within it: so each member's
    // place, and the one where its value begins, are such that a word can be loaded there.
    unsafe {
        let start = run.start;
        let first = _mm512_load_si512(lanes.quotes.as_ptr().cast());
        let quote = _mm512_permutexvar_epi16(first, list);
        let keys = Places::new(quote).0;
        let mut different = _mm256_setzero_si256();
        for (member, position) in keys.iter().enumerate().take(lanes.members as usize) {
            let text = &(*steps.add(member)).text;
            let bytes = _mm256_loadu_si256(start.add(usize::from(*position)).sub(1).cast());
            let wanted = _mm256_load_si256(text.bytes.as_ptr().cast());
            let mask = _mm256_load_si256(text.mask.as_ptr().cast());
            // What differs under the mask is added to what did before.
            different = _mm256_ternarylogic_epi64::<0xF8>(different, _mm256_xor_si256(bytes, wanted), mask);
        }
        if _mm256_testz_si256(different, different) == 0 || brace != start.add(usize::from(keys[0])).sub(1) {
            return None;
        }
        let value = _mm512_add_epi16(quote, _mm512_load_si512(lanes.lengths.as_ptr().cast()));
        let next = _mm512_load_si512(lanes.next.as_ptr().cast());
        let end = _mm512_sub_epi16(_mm512_permutexvar_epi16(next, list), _mm512_set1_epi16(1));
        let known = (1_u32 << lanes.known) - 1;
        // A text has its own two quotes, the second one right before the end.
        let place =
            |quote: i16| _mm512_permutexvar_epi16(_mm512_add_epi16(first, _mm512_set1_epi16(quote)), list);
        let (opening, closing) = (place(2), place(3));
        let behind = _mm512_add_epi16(closing, _mm512_set1_epi16(1));
        let misplaced = _mm512_mask_cmpneq_epu16_mask(lanes.texts, opening, value)
            | _mm512_mask_cmpneq_epu16_mask(lanes.texts & known, behind, end);
        if misplaced != 0 {
            return None;
        }
        let values = Places::new(value);
        let ends = Places::new(_mm512_mask_mov_epi16(end, lanes.texts, behind));
        if lanes.there != 0 && !integers(run, lanes, value, end, &ends, row) {
            return None;
        }
        let mut others = lanes.others;
        let mut after = start.add(usize::from(ends.0[lanes.members as usize - 1]));
        while others != 0 {
            let member = others.trailing_zeros() as usize;
            others &= others - 1;
            let step = &*steps.add(member);
            let cell = row.add(1 + step.field as usize);
            let (begin, end) = (usize::from(values.0[member]), usize::from(ends.0[member]));
            let at = start.add(begin);
            match step.kind {
                Kind::String | Kind::Enum => {
                    // There is none if there are no more quotes.
                    if end < begin + 2 || end - begin - 2 > run.limits.string_bytes {
                        return None;
                    }
                    let length = end - begin - 2;
                    let escaped = found.has_backslash(begin, end - 1);
                    if step.kind == Kind::Enum {
                        if escaped {
                            return None;
                        }
                        let names = run.plan.names.get_unchecked(step.names as usize);
                        *cell = names.find(at.add(1), length)? as u64;
                    } else {
                        *cell = string_cell(begin + 1, length, escaped);
                    }
                }
                Kind::F64 if known >> member & 1 == 1 && matches!(end.wrapping_sub(begin), 1..=16) => {
                    *cell = number::x86::double_within(at, end - begin)?.to_bits();
                }
                _ => {
                    let stop = scalar::<Avx512>(run, step, at, cell);
                    let is_known = known >> member & 1 == 1;
                    if stop.is_null() || (is_known && stop != start.add(end)) {
                        return None;
                    }
                    if !is_known {
                        after = stop;
                    }
                }
            }
        }
        Some(after)
    }
}

/// Reads the integers into their cells. False: one of them is none, or is too large.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
#[inline]
unsafe fn integers(
    run: &Run<'_>,
    lanes: &Lanes,
    value: __m512i,
    end: __m512i,
    ends: &Places,
    row: *mut u64,
) -> bool {
    // SAFETY: a word can be loaded where a value begins; one that ends nine bytes or more behind its begin can be
    // loaded eight before its end. The window lies within the row.
    unsafe {
        let there = lanes.there;
        let members = _mm512_load_si512(lanes.integers.as_ptr().cast());
        let wide =
            |vector| _mm512_cvtepu16_epi64(_mm512_castsi512_si128(_mm512_permutexvar_epi16(members, vector)));
        let (begin, end) = (wide(value), wide(end));
        let count = _mm512_sub_epi64(end, begin);
        let numeral =
            _mm512_cmple_epu64_mask(_mm512_sub_epi64(count, _mm512_set1_epi64(1)), _mm512_set1_epi64(15));
        if !numeral & there != 0 {
            return false;
        }
        let zero = _mm512_setzero_si512();
        let zeroes = _mm512_set1_epi64(ZEROES as i64);
        let front = _mm512_mask_i64gather_epi64::<1>(zero, there, begin, run.start.cast());
        let front = _mm512_maskz_xor_epi64(there, front, zeroes);
        let bits = _mm512_slli_epi64::<3>(count);
        // Digits that are none are zeroes before the first; shifting by more than there is leaves nothing else.
        let mut low = _mm512_sllv_epi64(front, _mm512_sub_epi64(_mm512_set1_epi64(64), bits));
        let high = _mm512_sllv_epi64(front, _mm512_sub_epi64(_mm512_set1_epi64(128), bits));
        let long = _mm512_cmpgt_epu64_mask(count, _mm512_set1_epi64(8)) & there;
        // Few are, so their last digits are fetched one by one.
        let mut left = long;
        while left != 0 {
            let place = left.trailing_zeros() as usize;
            left &= left - 1;
            let end = usize::from(ends.0[usize::from(lanes.integers[place]) % MEMBERS_MAX]);
            let word = run.start.add(end).sub(8).cast::<[u8; 8]>().read();
            low = _mm512_mask_set1_epi64(low, 1 << place, (u64::from_le_bytes(word) ^ ZEROES) as i64);
        }
        let nine = _mm512_set1_epi8(9);
        let no_digits = _mm512_cmpgt_epu8_mask(low, nine) | _mm512_cmpgt_epu8_mask(high, nine);
        let needless_zero = _mm512_testn_epi64_mask(front, _mm512_set1_epi64(0xFF))
            & _mm512_cmpgt_epu64_mask(count, _mm512_set1_epi64(1));
        let number = _mm512_add_epi64(
            eight_digits(low),
            _mm512_mul_epu32(eight_digits(high), _mm512_set1_epi64(100_000_000)),
        );
        let too_large = _mm512_cmpgt_epu64_mask(number, _mm512_load_si512(lanes.maxima.as_ptr().cast()));
        if no_digits != 0 || (needless_zero | too_large) & there != 0 {
            return false;
        }
        _mm512_storeu_si512(row.add(lanes.window as usize).cast(), number);
        true
    }
}

/// The numbers that eight decimal places each make, the first in the lowest byte.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn eight_digits(values: __m512i) -> __m512i {
    let pairs = _mm512_maddubs_epi16(values, _mm512_set1_epi16(0x010A));
    let fours = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x0001_0064));
    let front = _mm512_mul_epu32(fours, _mm512_set1_epi64(10_000));
    _mm512_add_epi64(front, _mm512_srli_epi64::<32>(fours))
}
