//! The guessed walk: a payload is read as the event that the template says it is.
//!
//! Owns nothing but speed. All it needs is where the payload's quotes are
//! ([`super::index`]): then each member's place is known before the value before it is
//! read, and the machine reads many of them at once. Every byte is compared with what was
//! guessed or read as a value, so that a wrong guess is only ever a loss of time; the fast
//! walk then reads the payload from its start.

use std::arch::x86_64::{__m512i, _mm512_loadu_si512};

use super::fast::{Run, scalar};
use super::index::Found;
use super::index::x86::quotes;
use super::lanes;
use super::number::x86::{BYTES_MAX, double_within};
use super::plan::{Kind, Shape};
use super::record::{ROOT, rows_cell, string_cell};
use super::scan::{Avx512, Level};
use super::template::{Order, Template};

/// A walk along a template.
struct Guess<'x> {
    template: &'x Template,
    /// The next quote's place in the list.
    quote: *const u16,
    /// The first quotes of all. To load what was just stored by pieces would take a while.
    first: __m512i,
    found: Found,
}

/// Reads a payload that is as guessed. False: it is not, and the record holds nothing of use.
///
/// # Safety
/// The machine has [`Avx512`]; the run is of a sealed payload, and of a record and a template made for its plan.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) unsafe fn walk(run: &mut Run<'_>, template: &mut Template) -> bool {
    // SAFETY: the positions are those of the payload, each within it; behind the last one there are others, that are
    // within it too.
    unsafe {
        // A payload that begins with a quote would have a place before it looked at.
        if *run.start != b'{' || template.orders[0].members == 0 {
            return false;
        }
        let Some((found, first)) = quotes(run.start, run.bytes, &mut template.index) else {
            return false;
        };
        let (lanes, Order { members, seen }) =
            (template.lanes.get_unchecked(0), *template.orders.get_unchecked(0));
        if lanes.members < members {
            return in_parts(run, template, found, first);
        }
        let steps = template.steps.as_ptr().add(run.plan.shapes.get_unchecked(0).first);
        let object = lanes::Object { steps, list: first, brace: run.start, found: &found };
        let row = run.cells.add(ROOT);
        let Some(end) = lanes::members::<0>(run, lanes, &object, row) else { return false };
        row.write(seen);
        *end == b'}' && is_end(run, end.add(1)) && lanes.quotes_taken as usize == found.quotes
    }
}

/// Whether the payload ends there: after its brace, and so not in the middle of a character.
#[inline(always)]
fn is_end(run: &Run<'_>, at: *const u8) -> bool {
    at == run.start.wrapping_add(run.bytes.len())
}

/// As [`walk`], where not all members are read at once.
///
/// # Safety
/// As for [`walk`]; all else was found in the payload.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
#[inline(never)]
unsafe fn in_parts(run: &mut Run<'_>, template: &Template, found: Found, first: __m512i) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let mut guess = Guess { template, quote: found.positions, first, found };
        let (shape, row) = (run.plan.shapes.get_unchecked(0), run.cells.add(ROOT));
        let Some(end) = members::<true>(run, &mut guess, shape, 0, run.start, row) else { return false };
        is_end(run, end) && guess.quote == found.positions.add(found.quotes)
    }
}

/// Reads an object at its brace into a row. Gives what follows it.
///
/// That a member begins where the value before it ended is checked last, for all members together: so the machine
/// need not know one value's end to read the next. Until then a member may be looked for at any quote of the
/// payload, and is found only if its key and the comma before it stand there.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
#[inline]
unsafe fn members<const OUTERMOST: bool>(
    run: &mut Run<'_>,
    guess: &mut Guess<'_>,
    shape: &Shape,
    number: usize,
    brace: *const u8,
    row: *mut u64,
) -> Option<*const u8> {
    // SAFETY: a text is found within the payload only, so that what follows it is at most the first sentinel. None is
    // found at places behind the last quote, so the list is not left.
    unsafe {
        let Order { members, seen } = *guess.template.orders.get_unchecked(number);
        let steps = guess.template.steps.as_ptr().add(shape.first);
        let lanes = guess.template.lanes.get_unchecked(number);
        let mut quote = guess.quote;
        let mut expected = brace;
        let mut misplaced = 0;
        if lanes.members > 0 {
            let list = if OUTERMOST { guess.first } else { _mm512_loadu_si512(quote.cast()) };
            let object = lanes::Object { steps, list, brace, found: &guess.found };
            expected = lanes::members::<1>(run, lanes, &object, row)?;
            quote = quote.add(lanes.quotes_taken as usize);
        }
        for index in lanes.members as usize..members as usize {
            let step = &*steps.add(index);
            let at = run.start.add(usize::from(*quote)).sub(1);
            if !Avx512::same(at, &step.text) {
                return None;
            }
            misplaced |= at.addr() ^ expected.addr();
            let at = at.add(step.length as usize);
            let cell = row.add(1 + step.field as usize);
            expected = match step.kind {
                Kind::String | Kind::Enum => {
                    let begin = run.start.add(usize::from(*quote.add(2)));
                    let end = run.start.add(usize::from(*quote.add(3)));
                    // There is no end where there are no more quotes.
                    if begin != at || end <= begin {
                        return None;
                    }
                    quote = quote.add(4);
                    let length = end.offset_from_unsigned(begin) - 1;
                    if length > run.limits.string_bytes {
                        return None;
                    }
                    let (first, last) =
                        (begin.offset_from_unsigned(run.start), end.offset_from_unsigned(run.start));
                    let escaped = guess.found.has_backslash(first, last);
                    if step.kind == Kind::Enum {
                        if escaped {
                            return None;
                        }
                        let names = run.plan.names.get_unchecked(step.names as usize);
                        *cell = names.find(begin.add(1), length)? as u64;
                    } else {
                        *cell = string_cell(first + 1, length, escaped);
                    }
                    end.add(1)
                }
                Kind::Array => {
                    if !OUTERMOST {
                        return None;
                    }
                    guess.quote = quote.add(2);
                    let (rows, end) = items(run, guess, usize::from(step.region), at)?;
                    *cell = rows;
                    quote = guess.quote;
                    end
                }
                _ => {
                    quote = quote.add(2);
                    // The comma before the next member ends the value, and the payload's last byte the last value of
                    // all. What ends another object's last one is not known.
                    let next = run.start.add(usize::from(*quote)).sub(1);
                    let length = next.addr().wrapping_sub(at.addr());
                    let is_known = OUTERMOST || index + 1 < members as usize;
                    let is_short = (1..=BYTES_MAX).contains(&length)
                        && next.addr().wrapping_sub(run.start.addr()) >= BYTES_MAX;
                    if step.kind == Kind::F64 && is_known && is_short {
                        *cell = double_within(at, length)?.to_bits();
                        next
                    } else {
                        let end = scalar::<Avx512>(run, step, at, cell);
                        if end.is_null() {
                            return None;
                        }
                        end
                    }
                }
            };
        }
        guess.quote = quote;
        if misplaced != 0 || *expected != b'}' {
            return None;
        }
        *row = seen;
        Some(expected.add(1))
    }
}

/// Reads an array of objects at its bracket: what the array's cell holds, and what follows it.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
#[inline]
unsafe fn items(
    run: &mut Run<'_>,
    guess: &mut Guess<'_>,
    number: usize,
    at: *const u8,
) -> Option<(u64, *const u8)> {
    // SAFETY: a row is taken only while there are any.
    unsafe {
        let plan = run.plan;
        let region = plan.regions.get_unchecked(number);
        let shape = plan.shapes.get_unchecked(region.shape);
        if *at != b'[' || guess.template.orders.get_unchecked(region.shape).members == 0 {
            return None;
        }
        let begin = *run.used.add(number);
        let most = region.capacity.saturating_sub(begin).min(run.limits.array_length);
        let mut row = run.cells.add(region.base + begin as usize * region.stride);
        let mut count = 0;
        let mut at = at.add(1);
        if *at != b']' {
            loop {
                if count == most {
                    return None;
                }
                at = members::<false>(run, guess, shape, region.shape, at, row)?;
                count += 1;
                row = row.add(region.stride);
                if *at != b',' {
                    break;
                }
                at = at.add(1);
            }
        }
        if *at != b']' {
            return None;
        }
        *run.used.add(number) = begin + count;
        Some((rows_cell(begin, count), at.add(1)))
    }
}
