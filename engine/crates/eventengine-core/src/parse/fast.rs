//! The fast walk: one pass that follows what the last events looked like, and gives up on what is rare.
//!
//! Owns nothing but speed. It may give up anywhere, on faults and on what is merely
//! unusual; [`super::careful`] then reads the payload again and decides. What it accepts,
//! the careful walk accepts with the same values: tests and fuzzing compare the two.
//!
//! A cursor is a pointer that only ever steps over bytes that were seen to be none of the
//! sentinels behind the payload; null stands for having given up. Each key is compared
//! with the one that followed the key before it last time, and looked up only if it is
//! another.

use super::Outcome;
use super::instructions::Instructions;
use super::number::{digits, double};
use super::payload::Payload;
use super::plan::{Entry, Kind, Plan, Shape};
use super::record::{ROOT, Record, rows_cell, string_cell};
use super::scan::{BLOCK_BYTES, Level, Scalar};
use super::scanner::{Limits, Scanner};
use super::string::escape_length;
use super::template::Learned;
use super::unescape::escaped_bytes;
use super::utf8;

const GAVE_UP: *const u8 = std::ptr::null();

/// A key that is no field's.
const UNKNOWN: usize = usize::MAX;

/// Everything that stays the same, or is only written, during one walk.
pub(super) struct Run<'x> {
    pub(super) plan: &'x Plan,
    pub(super) limits: Limits,
    pub(super) bytes: &'x [u8],
    pub(super) start: *const u8,
    pub(super) cells: *mut u64,
    pub(super) used: *mut u32,
    /// By entry: the entry that followed it last time.
    followers: *mut u8,
    /// Whether there was a byte beyond ASCII in a string.
    pub(super) beyond_ascii: bool,
}

impl Run<'_> {
    /// Takes all rows of the regions back. They are few, or none: the C library's fill of nothing may store, under an
    /// empty mask, to where nothing lies, and the CPU takes long for that.
    ///
    /// # Safety
    /// The run's pointers are those of a record that was made for its plan.
    #[inline(always)]
    unsafe fn forget_rows(&mut self) {
        for region in 0..self.plan.regions.len() {
            // SAFETY: there is one count for each region.
            unsafe { self.used.add(region).write(std::hint::black_box(0)) };
        }
    }
}

/// A level with the parts of the walk that are not inlined, compiled with the level's features.
pub(super) trait Walking: Level {
    /// See [`members`].
    ///
    /// # Safety
    /// As for [`members`].
    unsafe fn nested(run: &mut Run<'_>, shape: &Shape, at: *const u8, row: *mut u64) -> *const u8;

    /// See [`find_key`].
    ///
    /// # Safety
    /// As for [`find_key`].
    unsafe fn key(run: &mut Run<'_>, shape: &Shape, at: *const u8, previous: usize) -> (usize, *const u8);

    /// See [`items`].
    ///
    /// # Safety
    /// As for [`items`].
    unsafe fn items(run: &mut Run<'_>, region: usize, at: *const u8) -> (u64, *const u8);

    /// See [`scalars`].
    ///
    /// # Safety
    /// As for [`scalars`].
    unsafe fn scalars(run: &mut Run<'_>, region: usize, at: *const u8) -> (u64, *const u8);

    /// See [`escaped_string`].
    ///
    /// # Safety
    /// As for [`escaped_string`].
    unsafe fn escaped(run: &mut Run<'_>, start: *const u8, at: *const u8) -> (u64, *const u8);

    /// See [`whole`].
    ///
    /// # Safety
    /// As for [`whole`].
    unsafe fn whole(run: &mut Run<'_>) -> bool;
}

macro_rules! walking {
    ($level:ty, $(#[$features:meta])?) => {
        impl Walking for $level {
            $(#[$features])?
            #[inline(never)]
            unsafe fn nested(run: &mut Run<'_>, shape: &Shape, at: *const u8, row: *mut u64) -> *const u8 {
                // SAFETY: the caller's promise.
                unsafe { members::<$level>(run, shape, at, row) }
            }

            $(#[$features])?
            #[inline(never)]
            unsafe fn key(run: &mut Run<'_>, shape: &Shape, at: *const u8, previous: usize) -> (usize, *const u8) {
                // SAFETY: the caller's promise.
                unsafe { find_key::<$level>(run, shape, at, previous) }
            }

            $(#[$features])?
            #[inline(never)]
            unsafe fn items(run: &mut Run<'_>, region: usize, at: *const u8) -> (u64, *const u8) {
                // SAFETY: the caller's promise.
                unsafe { items::<$level>(run, region, at) }
            }

            $(#[$features])?
            #[inline(never)]
            unsafe fn escaped(run: &mut Run<'_>, start: *const u8, at: *const u8) -> (u64, *const u8) {
                // SAFETY: the caller's promise.
                unsafe { escaped_string::<$level>(run, start, at) }
            }

            $(#[$features])?
            #[inline(never)]
            unsafe fn scalars(run: &mut Run<'_>, region: usize, at: *const u8) -> (u64, *const u8) {
                // SAFETY: the caller's promise.
                unsafe { scalars::<$level>(run, region, at) }
            }

            $(#[$features])?
            #[inline(never)]
            unsafe fn whole(run: &mut Run<'_>) -> bool {
                // SAFETY: the caller's promise.
                unsafe { whole::<$level>(run) }
            }
        }
    };
}

walking!(Scalar,);
#[cfg(target_arch = "x86_64")]
walking!(super::scan::Sse2,);
#[cfg(target_arch = "x86_64")]
walking!(super::scan::Avx2, #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]);
#[cfg(target_arch = "x86_64")]
walking!(
    super::scan::Avx512,
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
);

/// Walks over a payload.
///
/// The machine has the instructions; record, followers and template were made for the plan.
pub(super) fn walk(
    instructions: Instructions,
    plan: &Plan,
    limits: Limits,
    payload: Payload<'_>,
    record: &mut Record,
    learned: &mut Learned,
) -> Outcome {
    debug_assert_eq!(learned.followers.len(), plan.entries.len());
    if payload.len() > limits.bytes || limits.depth == 0 {
        return Outcome::GaveUp;
    }
    let Learned { followers, template } = learned;
    let mut run = Run {
        plan,
        limits,
        bytes: payload.bytes(),
        start: payload.start(),
        cells: record.cells.as_mut_ptr(),
        used: record.used.as_mut_ptr(),
        followers: followers.as_mut_ptr(),
        beyond_ascii: false,
    };
    #[cfg(target_arch = "x86_64")]
    let guessing = instructions == Instructions::Avx512 && template.is_due();
    #[cfg(not(target_arch = "x86_64"))]
    let guessing = false;
    #[cfg(target_arch = "x86_64")]
    if guessing {
        // SAFETY: the payload has its sentinels, all else was made for the plan, and the machine has the instructions.
        let guessed = unsafe {
            run.forget_rows();
            super::guess::walk(&mut run, template)
        };
        if guessed {
            template.hit();
            return Outcome::Guessed;
        }
    }
    // SAFETY: the payload has its sentinels, all else was made for the plan, and the machine has the instructions.
    let accepted = unsafe {
        run.forget_rows();
        match instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => <super::scan::Avx512 as Walking>::whole(&mut run),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => <super::scan::Avx2 as Walking>::whole(&mut run),
            #[cfg(target_arch = "x86_64")]
            Instructions::Sse2 => <super::scan::Sse2 as Walking>::whole(&mut run),
            _ => <Scalar as Walking>::whole(&mut run),
        }
    };
    if guessing && accepted {
        template.missed(plan, limits, record, followers);
    }
    let accepted = accepted && (!run.beyond_ascii || utf8::is_utf8(instructions, payload));
    if accepted { Outcome::Read } else { Outcome::GaveUp }
}

/// # Safety
/// For this and all functions below: the run's pointers are those of a sealed payload and of a record and followers
/// made for its plan; `at` points into the payload or to its first sentinel; the machine has the level.
#[inline(always)]
pub(super) unsafe fn whole<L: Walking>(run: &mut Run<'_>) -> bool {
    // SAFETY: the first row is the payload's object.
    unsafe {
        let at = skip_space(run.start);
        if *at != b'{' {
            return false;
        }
        let (plan, row) = (run.plan, run.cells.add(ROOT));
        let at = members::<L>(run, plan.shapes.get_unchecked(0), at.add(1), row);
        !at.is_null() && skip_space(at) == run.start.add(run.bytes.len())
    }
}

/// Steps over white space; most producers write none.
#[inline(always)]
unsafe fn skip_space(at: *const u8) -> *const u8 {
    // SAFETY: the caller's promise.
    unsafe { if *at <= b' ' { skip_more_space(at) } else { at } }
}

#[cold]
#[inline(never)]
unsafe fn skip_more_space(mut at: *const u8) -> *const u8 {
    // SAFETY: a sentinel is no space.
    unsafe {
        while matches!(*at, b' ' | b'\n' | b'\r' | b'\t') {
            at = at.add(1);
        }
    }
    at
}

/// Reads the members behind an object's brace into a row. Gives what follows the object.
#[inline(always)]
unsafe fn members<L: Walking>(
    run: &mut Run<'_>,
    shape: &Shape,
    mut at: *const u8,
    row: *mut u64,
) -> *const u8 {
    // SAFETY: entries, rows and cells are those of the plan; followers are numbers of its entries.
    unsafe {
        let entries = run.plan.entries.as_ptr();
        let followers = run.followers;
        // Stands for the place before the first key.
        let mut previous = shape.first + shape.fields;
        let (mut seen, mut nulls) = (0_u64, 0_u64);
        at = skip_space(at);
        if *at == b'}' {
            *row = 0;
            return if shape.required == 0 { at.add(1) } else { GAVE_UP };
        }
        loop {
            at = skip_space(at);
            let mut index = usize::from(*followers.add(previous));
            if L::same(at, &(*entries.add(index)).text) {
                at = at.add((*entries.add(index)).length as usize);
            } else {
                (index, at) = L::key(run, shape, at, previous);
                if at.is_null() {
                    return GAVE_UP;
                }
            }
            if index == UNKNOWN {
                at = skip_value(run, at, shape.level);
                if at.is_null() {
                    return GAVE_UP;
                }
            } else {
                let entry = &*entries.add(index);
                let bit = 1_u64 << entry.field;
                if seen & bit != 0 {
                    return GAVE_UP;
                }
                seen |= bit;
                at = skip_space(at);
                let cell = row.add(1 + entry.field as usize);
                let value = at;
                at = match entry.kind {
                    Kind::Array => {
                        let (rows, end) = L::items(run, entry.region as usize, at);
                        *cell = rows;
                        end
                    }
                    Kind::Object => object::<L>(run, entry.region as usize, at, cell),
                    _ => scalar::<L>(run, entry, at, cell),
                };
                if at.is_null() {
                    if !entry.nullable || value.cast::<[u8; 4]>().read() != *b"null" {
                        return GAVE_UP;
                    }
                    nulls |= bit;
                    at = value.add(4);
                }
                previous = index;
            }
            if *at == b',' {
                at = at.add(1);
                continue;
            }
            if *at != b'}' {
                at = skip_space(at);
                if *at == b',' {
                    at = at.add(1);
                    continue;
                }
            }
            break;
        }
        at = skip_space(at);
        seen &= !nulls;
        if *at != b'}' || seen & shape.required != shape.required {
            return GAVE_UP;
        }
        *row = seen;
        at.add(1)
    }
}

/// Takes a key that was not predicted: its entry or [`UNKNOWN`], and what follows the colon.
#[inline(always)]
unsafe fn find_key<L: Walking>(
    run: &mut Run<'_>,
    shape: &Shape,
    at: *const u8,
    previous: usize,
) -> (usize, *const u8) {
    // SAFETY: the key ends at a quote, so what is looked up lies within the payload; padding follows it.
    unsafe {
        let (cell, after) = string::<L>(run, at);
        if after.is_null() || cell >> 63 == 1 {
            return (UNKNOWN, GAVE_UP);
        }
        let mut after = after;
        if *after != b':' {
            after = skip_space(after);
            if *after != b':' {
                return (UNKNOWN, GAVE_UP);
            }
        }
        let found = shape.names.find(at.add(1), (cell >> 32) as usize);
        match found {
            Some(field) => {
                let index = shape.first + field;
                *run.followers.add(previous) = index as u8;
                (index, after.add(1))
            }
            None => (UNKNOWN, after.add(1)),
        }
    }
}

/// Steps over a value that nobody wants.
#[inline(never)]
unsafe fn skip_value(run: &mut Run<'_>, at: *const u8, level: u32) -> *const u8 {
    let position = at.addr() - run.start.addr();
    let mut scanner = Scanner::resume(run.bytes, position, level, run.limits);
    if scanner.skip_value().is_err() {
        return GAVE_UP;
    }
    // Strings among what was skipped were not looked at for bytes beyond ASCII.
    run.beyond_ascii |= !run.bytes[position..scanner.position()].is_ascii();
    // SAFETY: the scanner stands within the payload or at its end.
    unsafe { run.start.add(scanner.position()) }
}

/// Reads a scalar into a cell.
#[inline(always)]
pub(super) unsafe fn scalar<L: Walking>(
    run: &mut Run<'_>,
    entry: &Entry,
    at: *const u8,
    cell: *mut u64,
) -> *const u8 {
    // SAFETY: the cell is the entry's.
    unsafe {
        match entry.kind {
            Kind::Unsigned => match digits(at) {
                Some((value, end)) if value <= entry.maximum => {
                    *cell = value;
                    end
                }
                _ => GAVE_UP,
            },
            Kind::F64 => match double(at) {
                Some((value, end)) => {
                    *cell = value.to_bits();
                    end
                }
                None => GAVE_UP,
            },
            Kind::String => {
                let (value, end) = string::<L>(run, at);
                *cell = value;
                end
            }
            Kind::Enum => {
                let (value, end) = string::<L>(run, at);
                if end.is_null() || value >> 63 == 1 {
                    return GAVE_UP;
                }
                let names = run.plan.names.get_unchecked(entry.names as usize);
                match names.find(at.add(1), (value >> 32) as usize) {
                    Some(index) => {
                        *cell = index as u64;
                        end
                    }
                    None => GAVE_UP,
                }
            }
            Kind::Signed => {
                let negative = *at == b'-';
                match digits(at.add(usize::from(negative))) {
                    Some((value, end)) if !negative && value <= entry.maximum => {
                        *cell = value;
                        end
                    }
                    Some((value, end)) if negative && value != 0 && value <= entry.minimum.unsigned_abs() => {
                        *cell = value.wrapping_neg();
                        end
                    }
                    _ => GAVE_UP,
                }
            }
            Kind::Bool => {
                let word = at.cast::<[u8; 4]>().read();
                if word == *b"true" {
                    *cell = 1;
                    at.add(4)
                } else if word == *b"fals" && *at.add(4) == b'e' {
                    *cell = 0;
                    at.add(5)
                } else {
                    GAVE_UP
                }
            }
            Kind::Object | Kind::Array | Kind::Unpredicted => GAVE_UP,
        }
    }
}

/// Takes a string: what its cell holds, and what follows it.
#[inline(always)]
unsafe fn string<L: Walking>(run: &mut Run<'_>, at: *const u8) -> (u64, *const u8) {
    // SAFETY: a sentinel is special, so no look begins behind the first of them.
    unsafe {
        if *at != b'"' {
            return (0, GAVE_UP);
        }
        let start = at.add(1);
        let at = plain_end::<L>(run, start);
        if *at != b'"' {
            return L::escaped(run, start, at);
        }
        close(run, start, at, false)
    }
}

/// Steps to the first quote, backslash or control character.
#[inline(always)]
unsafe fn plain_end<L: Walking>(run: &mut Run<'_>, mut at: *const u8) -> *const u8 {
    // SAFETY: a sentinel is special, so no look begins behind the first of them.
    unsafe {
        loop {
            let (special, high) = L::look(at);
            if special != 0 {
                if high & (special ^ special.wrapping_sub(1)) != 0 {
                    run.beyond_ascii = true;
                }
                return at.add(special.trailing_zeros() as usize);
            }
            if high != 0 {
                run.beyond_ascii = true;
            }
            at = at.add(L::WIDTH);
        }
    }
}

/// Takes a string from its first byte that is special and no quote.
#[inline(always)]
unsafe fn escaped_string<L: Walking>(
    run: &mut Run<'_>,
    start: *const u8,
    mut at: *const u8,
) -> (u64, *const u8) {
    // SAFETY: a sentinel is a control character, so no block begins behind the first of them; an escape ends within
    // the payload.
    unsafe {
        let mut before = 0;
        // Escapes that begin before this are checked.
        let mut checked = at;
        while let Some(block) = L::block(at) {
            let escaped = escaped_bytes(block.backslash, before);
            // Whether or not a control character is escaped, it must not be there.
            let ends = (block.quote & !escaped) | block.control;
            let within = ends ^ ends.wrapping_sub(1);
            if escaped & within & !(block.short_escape | block.letter_u) != 0 {
                return (0, GAVE_UP);
            }
            let mut spelled = escaped & within & block.letter_u;
            while spelled != 0 {
                let begin = at.add(spelled.trailing_zeros() as usize).sub(1);
                // The other half of a surrogate was checked with the first.
                if begin >= checked {
                    checked = escape(run, begin);
                    if checked.is_null() {
                        return (0, GAVE_UP);
                    }
                }
                spelled &= spelled - 1;
            }
            run.beyond_ascii |= block.beyond_ascii & within != 0;
            if ends != 0 {
                let end = at.add(ends.trailing_zeros() as usize);
                return if *end == b'"' { close(run, start, end, true) } else { (0, GAVE_UP) };
            }
            before = (block.backslash & !escaped) >> (BLOCK_BYTES - 1);
            at = at.add(BLOCK_BYTES);
        }
        loop {
            at = escape(run, at);
            if at.is_null() {
                return (0, GAVE_UP);
            }
            at = plain_end::<L>(run, at);
            if *at == b'"' {
                return close(run, start, at, true);
            }
        }
    }
}

/// Ends a string at its quote, unless it is too long.
#[inline(always)]
unsafe fn close(run: &Run<'_>, start: *const u8, at: *const u8, escaped: bool) -> (u64, *const u8) {
    // SAFETY: the string lies within the payload, and its quote behind it.
    unsafe {
        let length = at.offset_from_unsigned(start);
        if length > run.limits.string_bytes {
            return (0, GAVE_UP);
        }
        (string_cell(start.offset_from_unsigned(run.start), length, escaped), at.add(1))
    }
}

/// Takes an escape, if it is one.
#[inline(always)]
unsafe fn escape(run: &Run<'_>, at: *const u8) -> *const u8 {
    // SAFETY: an escape ends within the payload: none of its bytes is a sentinel.
    unsafe {
        if *at != b'\\' {
            return GAVE_UP;
        }
        if matches!(*at.add(1), b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') {
            return at.add(2);
        }
        match escape_length(&run.bytes[at.offset_from_unsigned(run.start)..]) {
            Some(length) => at.add(length),
            None => GAVE_UP,
        }
    }
}

/// Reads an object that is a field's value into a row of its region.
#[inline(always)]
unsafe fn object<L: Walking>(run: &mut Run<'_>, number: usize, at: *const u8, cell: *mut u64) -> *const u8 {
    // SAFETY: the region is the entry's; a row is taken only while there are any.
    unsafe {
        let plan = run.plan;
        let region = plan.regions.get_unchecked(number);
        let used = run.used.add(number);
        let begin = *used;
        if *at != b'{' || begin >= region.capacity || region.level + 1 > run.limits.depth {
            return GAVE_UP;
        }
        *used = begin + 1;
        *cell = rows_cell(begin, 1);
        let row = run.cells.add(region.base + begin as usize * region.stride);
        L::nested(run, plan.shapes.get_unchecked(region.shape), at.add(1), row)
    }
}

/// Reads an array's items into the rows of its region: what the array's cell holds, and what follows it.
#[inline(always)]
unsafe fn items<L: Walking>(run: &mut Run<'_>, number: usize, at: *const u8) -> (u64, *const u8) {
    // SAFETY: a row is taken only while there are any.
    unsafe {
        let plan = run.plan;
        let region = plan.regions.get_unchecked(number);
        if *at != b'[' || region.level > run.limits.depth {
            return (0, GAVE_UP);
        }
        if region.item.kind != Kind::Object {
            return L::scalars(run, number, at.add(1));
        }
        let shape = plan.shapes.get_unchecked(region.shape);
        let begin = *run.used.add(number);
        let most = region.capacity.saturating_sub(begin).min(run.limits.array_length);
        let mut row = run.cells.add(region.base + begin as usize * region.stride);
        let mut count = 0;
        let mut at = skip_space(at.add(1));
        if *at == b']' {
            return (rows_cell(begin, 0), at.add(1));
        }
        if shape.level > run.limits.depth {
            return (0, GAVE_UP);
        }
        loop {
            if *at != b'{' || count == most {
                return (0, GAVE_UP);
            }
            count += 1;
            at = members::<L>(run, shape, at.add(1), row);
            if at.is_null() {
                return (0, GAVE_UP);
            }
            row = row.add(region.stride);
            at = skip_space(at);
            if *at != b',' {
                break;
            }
            at = skip_space(at.add(1));
        }
        if *at != b']' {
            return (0, GAVE_UP);
        }
        *run.used.add(number) = begin + count;
        (rows_cell(begin, count), at.add(1))
    }
}

/// Reads an array's scalar items into the rows of its region: what the array's cell holds, and what follows it.
#[inline(always)]
unsafe fn scalars<L: Walking>(run: &mut Run<'_>, number: usize, at: *const u8) -> (u64, *const u8) {
    // SAFETY: a row is taken only while there are any.
    unsafe {
        let plan = run.plan;
        let region = plan.regions.get_unchecked(number);
        let begin = *run.used.add(number);
        let most = region.capacity.saturating_sub(begin).min(run.limits.array_length);
        let rows = run.cells.add(region.base + begin as usize);
        let mut count = 0;
        let mut at = skip_space(at);
        if *at == b']' {
            return (rows_cell(begin, 0), at.add(1));
        }
        loop {
            if count == most {
                return (0, GAVE_UP);
            }
            at = scalar::<L>(run, &region.item, at, rows.add(count as usize));
            if at.is_null() {
                return (0, GAVE_UP);
            }
            count += 1;
            at = skip_space(at);
            if *at != b',' {
                break;
            }
            at = skip_space(at.add(1));
        }
        if *at != b']' {
            return (0, GAVE_UP);
        }
        *run.used.add(number) = begin + count;
        (rows_cell(begin, count), at.add(1))
    }
}
