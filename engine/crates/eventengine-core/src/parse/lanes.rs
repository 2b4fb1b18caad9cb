//! Many members of one object at once: each in a lane of a vector, where the quotes say that they stand.
//!
//! Owns what is known of such an object before it comes: the place of each member's
//! quotes in the list of all, which differs by two for a number and by four for a text.
//! A value's end is the comma before the next member's quote, so all but the last one's are
//! known, and that one's, too, where the payload ends behind it. Then doubles are read two at
//! a time, keys are compared two at a time and integers read eight at a time: what takes
//! longest begins first, and the machine does the rest beside it.

use std::arch::x86_64::*;

use super::fast::{Run, scalar};
use super::index::Found;
use super::number::ZEROES;
use super::number::x86::{BYTES_MAX, doubles_within};
use super::plan::{Entry, Kind};
use super::record::{LINE_CELLS, string_cell};
use super::scan::{Avx512, TEXT_BYTES};

/// Most members of an object that is read so, and most quotes up to the last one's text.
const MEMBERS_MAX: usize = 16;
const QUOTES_MAX: usize = 28;

/// Members whose keys are compared at once, and doubles that are read at once.
const PAIR: usize = 2;

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

/// Keys of two members, each with the brace or comma before it, as they stand in their windows, and which bytes count.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Keys {
    bytes: [[u8; TEXT_BYTES]; PAIR],
    mask: [[u8; TEXT_BYTES]; PAIR],
}

impl Keys {
    /// Found anywhere.
    const NONE: Keys = Keys { bytes: [[0; TEXT_BYTES]; PAIR], mask: [[0; TEXT_BYTES]; PAIR] };
}

/// Two doubles; without a second one, the first is read twice.
#[derive(Debug, Clone, Copy)]
struct Doubles {
    members: [u32; PAIR],
    cells: [u32; PAIR],
}

/// What is known of an object before it comes.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(super) struct Lanes {
    /// By pair of members.
    keys: [Keys; MEMBERS_MAX / PAIR],
    /// By member: bytes from its quote to where its key's window begins, which may be before it. The window ends with
    /// the key if so many bytes come before: what comes behind the payload may just have been written, and a load of
    /// both would have to wait for that.
    windows: [i16; 32],
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
    /// The first cell of the window; behind all cells if there is none.
    window: u32,
    /// Doubles of which it is known where they end.
    doubles: [Doubles; MEMBERS_MAX / PAIR],
    pairs_of_doubles: u32,
    /// Bits of the members that are enumerations.
    choices: u32,
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
        keys: [Keys::NONE; MEMBERS_MAX / PAIR],
        windows: [0; 32],
        quotes: [0; 32],
        next: [0; 32],
        lengths: [0; 32],
        integers: [0; 32],
        maxima: [0; INTEGERS],
        there: 0,
        window: 0,
        doubles: [Doubles { members: [0; PAIR], cells: [0; PAIR] }; MEMBERS_MAX / PAIR],
        pairs_of_doubles: 0,
        choices: 0,
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
        lanes.window = window.map_or(u32::MAX, |window| 1 + window as u32);
        let (mut taken, mut doubles, mut bytes_before) = (0, 0, 0);
        for (member, step) in steps.iter().enumerate() {
            let length = step.length as usize;
            let before = if bytes_before + length >= TEXT_BYTES { TEXT_BYTES - length } else { 0 };
            // A value is one byte at least.
            bytes_before += length + 1;
            lanes.windows[member] = -1 - before as i16;
            let keys = &mut lanes.keys[member / PAIR];
            keys.bytes[member % PAIR][before..][..length].copy_from_slice(&step.text.bytes[..length]);
            keys.mask[member % PAIR][before..][..length].fill(u8::MAX);
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
                // Sixteen bytes are loaded that end where the number does; with its one byte, more than those come.
                None if step.kind == Kind::F64 && member < known && bytes_before > BYTES_MAX => {
                    let pair = &mut lanes.doubles[doubles / PAIR];
                    pair.members[doubles % PAIR..].fill(member as u32);
                    pair.cells[doubles % PAIR..].fill(1 + step.field);
                    doubles += 1;
                }
                None if step.kind == Kind::Enum => lanes.choices |= 1 << member,
                None => lanes.others |= 1 << member,
            }
        }
        lanes.pairs_of_doubles = doubles.div_ceil(PAIR) as u32;
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

/// A row that is being filled: what belongs to the window is written all at once, for a load of cells that were
/// written one by one, or by two stores, would have to wait until they are out of the core.
struct Cells {
    row: *mut u64,
    window: usize,
    values: __m512i,
    written: u8,
}

impl Cells {
    /// # Safety
    /// The row has the cell, by its place behind the row's begin.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn put(&mut self, cell: usize, value: u64) {
        let place = cell.wrapping_sub(self.window);
        if place < INTEGERS {
            self.values = _mm512_mask_set1_epi64(self.values, 1 << place, value as i64);
            self.written |= 1 << place;
        } else {
            // SAFETY: the caller's promise.
            unsafe { *self.row.add(cell) = value };
        }
    }
}

/// Where the members of an object are, each in the lane of its number.
struct Located {
    /// First quotes.
    quote: __m512i,
    value: __m512i,
    /// What follows a number.
    end: __m512i,
    values: Places,
    /// What follows a value.
    ends: Places,
}

impl Located {
    /// Where a member's value begins, and what follows it.
    #[inline(always)]
    fn value_of(&self, member: u32) -> (usize, usize) {
        let member = member as usize % MEMBERS_MAX;
        (usize::from(self.values.0[member]), usize::from(self.ends.0[member]))
    }
}

/// Reads the members of an object at its brace into a row. Gives what follows the last one's value.
///
/// Each caller says another number, and so has the function to itself: to call it would cost more than a few members.
///
/// # Safety
/// As for [`super::guess::walk`]: the steps are those that the lanes were made of; each place in the list of quotes up
/// to the payload's last quote, and the next [`super::index::BEHIND`], hold a position from one up to the payload's
/// length.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
#[inline]
pub(super) unsafe fn members<const CALLER: u32>(
    run: &mut Run<'_>,
    lanes: &Lanes,
    object: &Object<'_>,
    row: *mut u64,
) -> Option<*const u8> {
    let Object { steps, list, brace, found } = *object;
    // SAFETY: keys are looked for at quotes of the payload, and a key that is found lies within it: so each member's
    // place, and the one where its value begins, are such that a word can be loaded there.
    unsafe {
        let located = locate(lanes, list)?;
        let mut cells =
            Cells { row, window: lanes.window as usize, values: _mm512_setzero_si512(), written: 0 };
        let mut others = lanes.others | doubles(run, lanes, &located, &mut cells)?;
        if !has_keys(run, lanes, located.quote, brace) {
            return None;
        }
        let mut choices = lanes.choices;
        while choices != 0 {
            let member = choices.trailing_zeros();
            choices &= choices - 1;
            let step = &*steps.add(member as usize);
            let (begin, end) = located.value_of(member);
            let length = text_length(run, begin, end)?;
            if found.has_backslash(begin, end - 1) {
                return None;
            }
            let names = run.plan.names.get_unchecked(step.names as usize);
            let choice = names.find(run.start.add(begin + 1), length)?;
            cells.put(1 + step.field as usize, choice as u64);
        }
        if lanes.there != 0 {
            let numbers = integers(run, lanes, &located)?;
            let window = _mm512_mask_mov_epi64(numbers, cells.written, cells.values);
            _mm512_storeu_si512(row.add(cells.window).cast(), window);
        }
        let mut after = run.start.add(located.value_of(lanes.members - 1).1);
        while others != 0 {
            let member = others.trailing_zeros();
            others &= others - 1;
            let step = &*steps.add(member as usize);
            let cell = row.add(1 + step.field as usize);
            let (begin, end) = located.value_of(member);
            if step.kind == Kind::String {
                let length = text_length(run, begin, end)?;
                *cell = string_cell(begin + 1, length, found.has_backslash(begin, end - 1));
                continue;
            }
            let stop = scalar::<Avx512>(run, step, run.start.add(begin), cell);
            let is_known = member < lanes.known;
            if stop.is_null() || (is_known && stop != run.start.add(end)) {
                return None;
            }
            if !is_known {
                after = stop;
            }
        }
        Some(after)
    }
}

/// Where the members are, if each text stands between its own two quotes.
///
/// # Safety
/// The machine has the instructions.
#[inline(always)]
unsafe fn locate(lanes: &Lanes, list: __m512i) -> Option<Located> {
    // SAFETY: the caller's promise.
    unsafe {
        let first = _mm512_load_si512(lanes.quotes.as_ptr().cast());
        let quote = _mm512_permutexvar_epi16(first, list);
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
        let ends = Places::new(_mm512_mask_mov_epi16(end, lanes.texts, behind));
        Some(Located { quote, value, end, values: Places::new(value), ends })
    }
}

/// Whether the keys, and what stands before them, are there.
///
/// # Safety
/// As for [`members`].
#[inline(always)]
unsafe fn has_keys(run: &Run<'_>, lanes: &Lanes, quote: __m512i, brace: *const u8) -> bool {
    // SAFETY: a window begins within the payload, and padding follows that.
    unsafe {
        let window = _mm512_add_epi16(quote, _mm512_load_si512(lanes.windows.as_ptr().cast()));
        if _mm512_movepi16_mask(window) != 0 {
            return false;
        }
        let places = Places::new(window).0;
        let mut different = _mm512_setzero_si512();
        let pairs = (lanes.members as usize).div_ceil(PAIR);
        for (keys, places) in lanes.keys.iter().zip(places.chunks_exact(PAIR)).take(pairs) {
            let text = |member: usize| _mm256_loadu_si256(run.start.add(usize::from(places[member])).cast());
            let bytes = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(text(0)), text(1));
            let wanted = _mm512_load_si512(keys.bytes.as_ptr().cast());
            let mask = _mm512_load_si512(keys.mask.as_ptr().cast());
            // What differs under the mask is added to what did before.
            different = _mm512_ternarylogic_epi64::<0xF8>(different, _mm512_xor_si512(bytes, wanted), mask);
        }
        _mm512_test_epi64_mask(different, different) == 0 && brace == run.start.add(usize::from(places[0]))
    }
}

/// Bytes of a text between its quotes, unless it is too long, or its closing quote none of the payload.
#[inline(always)]
fn text_length(run: &Run<'_>, begin: usize, end: usize) -> Option<usize> {
    let length = end.checked_sub(begin + 2)?;
    (length <= run.limits.string_bytes).then_some(length)
}

/// Reads the doubles. Gives the bits of the members that were not read because a number is too long; none at all if
/// one of them is no double.
///
/// # Safety
/// As for [`members`], but for the keys, which need not be there.
#[inline(always)]
unsafe fn doubles(run: &Run<'_>, lanes: &Lanes, located: &Located, cells: &mut Cells) -> Option<u32> {
    let mut left = 0;
    for pair in lanes.doubles.iter().take(lanes.pairs_of_doubles as usize) {
        let ((first, first_end), (second, second_end)) =
            (located.value_of(pair.members[0]), located.value_of(pair.members[1]));
        let (length, other_length) = (first_end.wrapping_sub(first), second_end.wrapping_sub(second));
        if (length.wrapping_sub(1) | other_length.wrapping_sub(1)) >= BYTES_MAX {
            left |= 1 << pair.members[0] | 1 << pair.members[1];
            continue;
        }
        // Where the keys are there, so many bytes come before.
        let (first, second) = (first.max(BYTES_MAX), second.max(BYTES_MAX));
        // SAFETY: a value begins at most a key's length behind the payload, and padding follows that.
        unsafe {
            let numbers = [(run.start.add(first), length), (run.start.add(second), other_length)];
            let [double, other] = doubles_within(numbers)?;
            cells.put(pair.cells[0] as usize, double.to_bits());
            cells.put(pair.cells[1] as usize, other.to_bits());
        }
    }
    Some(left)
}

/// Reads the integers, each in the lane of its cell. None: one of them is none, or is too large.
///
/// # Safety
/// As for [`members`].
#[inline(always)]
unsafe fn integers(run: &Run<'_>, lanes: &Lanes, located: &Located) -> Option<__m512i> {
    // SAFETY: a word can be loaded where a value begins; one that ends nine bytes or more behind its begin can be
    // loaded eight before its end.
    unsafe {
        let there = lanes.there;
        let members = _mm512_load_si512(lanes.integers.as_ptr().cast());
        let wide =
            |vector| _mm512_cvtepu16_epi64(_mm512_castsi512_si128(_mm512_permutexvar_epi16(members, vector)));
        let (begin, end) = (wide(located.value), wide(located.end));
        let count = _mm512_sub_epi64(end, begin);
        let numeral =
            _mm512_cmple_epu64_mask(_mm512_sub_epi64(count, _mm512_set1_epi64(1)), _mm512_set1_epi64(15));
        if !numeral & there != 0 {
            return None;
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
            let (_, end) = located.value_of(u32::from(lanes.integers[place]));
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
            return None;
        }
        Some(number)
    }
}

/// The numbers that eight decimal places each make, the first in the lowest byte.
///
/// # Safety
/// The machine has the instructions.
#[inline(always)]
unsafe fn eight_digits(values: __m512i) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let pairs = _mm512_maddubs_epi16(values, _mm512_set1_epi16(0x010A));
        let fours = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x0001_0064));
        let front = _mm512_mul_epu32(fours, _mm512_set1_epi64(10_000));
        _mm512_add_epi64(front, _mm512_srli_epi64::<32>(fours))
    }
}
