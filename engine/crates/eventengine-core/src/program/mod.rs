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

    /// Fetches what [`Program::prefetch`] is going to need for an event. A hint, which changes nothing.
    fn prefetch_place(&self, _event: &Event, _partition: u32, _arena: &Arena) {}

    /// Fetches what applying an event is going to need. A hint, which changes nothing.
    fn prefetch(&self, _event: &Event, _partition: u32, _arena: &Arena) {}

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
    #[inline(always)]
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Appends bytes.
    ///
    /// # Panics
    /// As [`Output::text`].
    #[inline(always)]
    pub fn bytes(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    /// Appends a number in decimal digits.
    ///
    /// # Panics
    /// As [`Output::text`].
    #[inline(always)]
    pub fn number(&mut self, value: u64) {
        if value < FOUR_DIGITS {
            // An output has some twenty numbers, nearly all of them of few digits. All four are made and the leading
            // zeroes shifted out: no branch depends on how many digits there are.
            let digits = four_digits(value as u32);
            let zeroes = (digits | 1 << 24).trailing_zeros() & !7;
            let word = (digits | ASCII_ZEROES as u32) >> zeroes;
            self.padded(&word.to_le_bytes(), size_of::<u32>() - (zeroes / 8) as usize);
        } else {
            let number = long_number(value);
            self.padded(&number.first.to_le_bytes(), number.length);
            if number.middle != 0 {
                self.padded(&number.middle.to_le_bytes(), size_of::<u64>());
            }
            if number.last != 0 {
                self.padded(&number.last.to_le_bytes(), size_of::<u64>());
            }
        }
    }

    /// Appends the first `length` bytes of an array. All of it is stored, where there is room: a length that is not
    /// known when this is compiled would make a loop of it. What follows overwrites the rest.
    ///
    /// # Panics
    /// As [`Output::text`].
    #[inline(always)]
    pub fn padded<const N: usize>(&mut self, bytes: &[u8; N], length: usize) {
        debug_assert!(length <= N);
        match self.bytes.get_mut(self.length..).and_then(<[u8]>::first_chunk_mut) {
            Some(place) => {
                *place = *bytes;
                self.length += length;
            }
            None => self.length = put_last(self.bytes, self.length, &bytes[..length]),
        }
    }

    /// The same record in a variable of the caller's own: one that nobody else points to is kept in registers.
    #[inline(always)]
    pub fn with_own<R>(&mut self, write: impl FnOnce(&mut Output<'_>) -> R) -> R {
        let mut own = Output { bytes: &mut *self.bytes, length: self.length };
        let result = write(&mut own);
        self.length = own.length;
        result
    }
}

/// Appends what may just fit at the end of a buffer, and says where it ends.
#[cold]
#[inline(never)]
fn put_last(buffer: &mut [u8], length: usize, bytes: &[u8]) -> usize {
    let end = length + bytes.len();
    buffer[length..end].copy_from_slice(bytes);
    end
}

/// The text of a number of five digits or more, in words of up to eight.
struct LongNumber {
    first: u64,
    /// Digits in the first word. The others have eight, or are zero if there are none.
    length: usize,
    middle: u64,
    last: u64,
}

#[inline(never)]
fn long_number(value: u64) -> LongNumber {
    let eight = |value: u64| eight_digits((value % EIGHT_DIGITS) as u32) | ASCII_ZEROES;
    let (mut first, mut middle, mut last) = (value, 0, 0);
    if first >= EIGHT_DIGITS {
        last = eight(first);
        first /= EIGHT_DIGITS;
    }
    if first >= EIGHT_DIGITS {
        middle = eight(first);
        first /= EIGHT_DIGITS;
    }
    let digits = eight_digits(first as u32);
    let zeroes = (digits | 1 << 56).trailing_zeros() & !7;
    let length = size_of::<u64>() - (zeroes / 8) as usize;
    LongNumber { first: (digits | ASCII_ZEROES) >> zeroes, length, middle, last }
}

/// Numbers below this have four digits at most.
const FOUR_DIGITS: u64 = 10_000;

/// Numbers below this have eight digits at most.
const EIGHT_DIGITS: u64 = 100_000_000;

/// `00000000`.
const ASCII_ZEROES: u64 = 0x3030_3030_3030_3030;

/// The four digits of a number below [`FOUR_DIGITS`], one a byte, the first one in the lowest byte.
///
/// Pairs, then digits are parted in all places at once: a division by a constant is a multiplication, and several small
/// ones fit into one.
#[inline(always)]
fn four_digits(value: u32) -> u32 {
    // 5243 / 2^19 is a hundredth, exact enough for what is below 10,000.
    let hundreds = (value * 5243) >> 19;
    let pairs = hundreds | (value - hundreds * 100) << 16;
    // 103 / 2^10 is a tenth, exact enough for what is below 100.
    let tens = ((pairs * 103) >> 10) & 0x000F_000F;
    tens | (pairs - tens * 10) << 8
}

/// The eight digits of a number below [`EIGHT_DIGITS`], one a byte, the first one in the lowest byte.
#[inline(always)]
fn eight_digits(value: u32) -> u64 {
    u64::from(four_digits(value / 10_000)) | u64::from(four_digits(value % 10_000)) << 32
}

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
    fn a_number_may_end_where_its_buffer_ends_and_one_that_does_not_fit_is_a_fault_of_the_program() {
        let mut bytes = [b'x'; 5];
        let mut output = Output::new(&mut bytes);
        output.number(12);
        output.number(345);
        assert_eq!(&bytes, b"12345");
        let overflow = std::panic::catch_unwind(|| Output::new(&mut [0; 2]).number(678));
        assert!(overflow.is_err());
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
