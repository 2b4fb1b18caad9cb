//! What is computed: a schema reads payloads, a program applies what was read.
//!
//! The two are traits of their own, so that schema, program and executor vary
//! independently: several schemas may read the events of one program, and a schema can
//! be cloned for every thread that parses. All three are bound when the engine is
//! compiled; nothing is chosen on an event's way.
//!
//! A program owns the meaning of its slots' payloads and nothing else: state lives in
//! the arena, outputs in the caller's buffer. It is deterministic: the same events in
//! the same order give the same state and the same outputs, on any machine.

pub mod graph;
pub mod treasure_hunt;

use crate::arena::{Arena, Exhausted};
use crate::identifiers::Fingerprint;
use crate::parse::{Payload, Reason, Refusal};

/// Where an event comes from: the version of what it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Partition of the source.
    pub partition: u32,
    /// Offset in the partition.
    pub offset: i64,
}

/// How an output is to be routed: its record key in two parts.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    /// First part of the key.
    pub district: u32,
    /// Second part of the key.
    pub team: u32,
}

/// Reads payloads. What it learns on the way, such as the order of keys, changes its speed and never its answers.
pub trait Schema: Clone + Send {
    /// An event that was read and checked, possibly borrowed from its payload.
    type Event<'payload>: Copy + Send;

    /// Reads and checks a payload; a refusal says where in it.
    fn read<'payload>(&mut self, payload: Payload<'payload>) -> Result<Self::Event<'payload>, Refusal>;
}

/// A deterministic state machine over events of one type.
pub trait Program<Event>: Send {
    /// Slots that one event changes, at most; one that it releases counts twice.
    const SLOTS_PER_EVENT_MAX: usize;

    /// What the event is about: the key of its output, and of its partition where it came without one.
    fn routing(&self, event: &Event) -> Routing;

    /// Whom the event comes from, where that is to be counted. It changes figures only.
    fn identifier(&self, _event: &Event) -> Option<Fingerprint> {
        None
    }

    /// Applies an event: changes slots of its partition and writes exactly one output record.
    ///
    /// A refused event has changed nothing. `output` is at least 1,024 bytes long.
    fn apply(
        &mut self,
        event: &Event,
        origin: Origin,
        arena: &mut Arena,
        output: &mut Output<'_>,
    ) -> Result<(), Reason>;
}

impl From<Exhausted> for Reason {
    fn from(exhausted: Exhausted) -> Reason {
        match exhausted {
            Exhausted::Tenant => Reason::TenantExhausted,
            Exhausted::Arena | Exhausted::UnknownPartition => Reason::ArenaExhausted,
        }
    }
}

/// A record under construction, in a buffer of fixed size.
#[derive(Debug)]
pub struct Output<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl<'a> Output<'a> {
    /// An empty record.
    pub fn new(bytes: &'a mut [u8]) -> Output<'a> {
        Output { bytes, length: 0 }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends text.
    ///
    /// # Panics
    /// If the record outgrows the buffer: programs bound their records below 1,024 bytes.
    #[inline]
    pub fn text(&mut self, text: &str) {
        let end = self.length + text.len();
        self.bytes[self.length..end].copy_from_slice(text.as_bytes());
        self.length = end;
    }

    /// Appends bytes.
    ///
    /// # Panics
    /// As [`Output::text`].
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    /// Appends a number in decimal digits.
    ///
    /// # Panics
    /// As [`Output::text`].
    #[inline]
    pub fn number(&mut self, value: u64) {
        // An output has some twenty numbers: two digits a division, written where they belong.
        let digits = value.checked_ilog10().unwrap_or(0) as usize + 1;
        let end = self.length + digits;
        let place = &mut self.bytes[self.length..end];
        self.length = end;
        let mut rest = value;
        let mut left = digits;
        while left >= 2 {
            let pair = (rest % 100) as usize * 2;
            rest /= 100;
            left -= 2;
            place[left..left + 2].copy_from_slice(&DIGIT_PAIRS[pair..pair + 2]);
        }
        if left == 1 {
            place[0] = b'0' + rest as u8;
        }
    }
}

/// `00` to `99`, one behind the other.
static DIGIT_PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut number = 0;
    while number < 100 {
        pairs[number * 2] = b'0' + (number / 10) as u8;
        pairs[number * 2 + 1] = b'0' + (number % 10) as u8;
        number += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: u64) -> String {
        let mut bytes = [0; 32];
        let mut output = Output::new(&mut bytes);
        output.text("x");
        output.number(value);
        let length = output.len();
        String::from_utf8(bytes[1..length].to_vec()).expect("digits are ASCII")
    }

    #[test]
    fn numbers_of_every_length_are_written_in_decimal() {
        let powers = (0..20).map(|power| 10_u64.pow(power));
        for value in powers.flat_map(|power| [power - 1, power, power + 1]).chain([u64::MAX]) {
            assert_eq!(written(value), value.to_string());
        }
    }

    proptest! {
        #[test]
        fn any_number_is_written_as_the_standard_library_does(value: u64, shift in 0_u32..64) {
            prop_assert_eq!(written(value >> shift), (value >> shift).to_string());
        }
    }
}
