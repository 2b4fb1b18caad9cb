//! Events that are alike, as one input spells them: a layout with holes, and what fills the holes in one event after
//! the other.
//!
//! Owns that spelling, for the fuzzers and the tests. A walk that takes an event for the like of the last ones is
//! reached only by events that are, and a fuzzer that changes single bytes hardly ever finds two of them. Here a byte
//! that it changes in the layout changes all events, and one that it changes in a filling changes a value, or whatever
//! is spelled in a value's place.

use eventengine_core::parse::Parser;

use crate::differential::{agree, same_on_all_levels};

/// Stands between the layout and the fillings. Like the holes, it is in no UTF-8.
const DIVIDER: u8 = 0xFE;

/// Stands in the layout where values go, and in a filling between two of them.
const HOLE: u8 = 0xFF;

/// Events of one input that are looked at.
const EVENTS_MAX: usize = 6;

/// Times that an event comes before it is guessed, at most.
const LESSONS: usize = 3;

/// The events that an input spells. A filling with one value more than there are holes changes one byte of its event:
/// the value's first byte says where, its second one to what.
pub fn events(input: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = input.split(|byte| *byte == DIVIDER);
    let layout = parts.next().unwrap_or_default();
    let fill = |filling: &[u8]| {
        let mut values = filling.split(|byte| *byte == HOLE);
        let mut pieces = layout.split(|byte| *byte == HOLE);
        let mut event = pieces.next().unwrap_or_default().to_vec();
        for piece in pieces {
            event.extend_from_slice(values.next().unwrap_or_default());
            event.extend_from_slice(piece);
        }
        if let (Some([place, byte, ..]), false) = (values.next(), event.is_empty()) {
            let place = usize::from(*place) % event.len();
            event[place] = *byte;
        }
        event
    };
    parts.take(EVENTS_MAX).map(fill).collect()
}

/// Parsers that learned the first event read the others as the reference does. The first one comes in between, so
/// that the others stay what is not expected.
pub fn judge(parsers: &mut [Parser], input: &[u8]) {
    let events = events(input);
    let Some((first, others)) = events.split_first() else { return };
    events.iter().for_each(|event| agree(event));
    for _ in 0..LESSONS {
        same_on_all_levels(parsers, [&first[..]]);
    }
    for event in others {
        same_on_all_levels(parsers, [&event[..], &first[..]]);
    }
}
