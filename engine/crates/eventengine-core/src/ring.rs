//! Rings: how descriptors move between two threads without a lock.
//!
//! Owns a single-producer single-consumer ring of 64-byte [`Descriptor`]s and the
//! [`lanes`] of one I/O thread, one of control and one for each priority, 2^16 slots in
//! total. The size is not a setting. This module never waits and makes no system call: whoever finds a ring
//! empty or full decides how to wait.
//!
//! Rules of order: descriptors of one lane arrive in the order they were pushed; a
//! pushed descriptor is visible after [`Producer::publish`]; between lanes there is no
//! order but the consumer's, who empties a more urgent lane first.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::pool::RawChunk;
use crate::prefetch;
use crate::program::Routing;
use crate::sync::{AtomicU64, UnsafeCell};

/// Slots of one I/O thread's lanes together.
pub const RING_SLOTS: usize = 1 << 16;

/// Priorities of events, from 0, which is never shed.
pub const PRIORITIES: usize = 3;

/// Lanes of one I/O thread: control, then one for each priority.
pub const LANES: usize = 1 + PRIORITIES;

/// Slots of each lane.
pub const LANE_SLOTS: [usize; LANES] = [1 << 13, 1 << 15, 1 << 14, 1 << 13];

/// The lane that is emptied before every event: assignments, barriers, restored state.
pub const LANE_CONTROL: usize = 0;
/// The lane of events of priority 0. The lanes of the other priorities follow it.
pub const LANE_EVENTS: usize = 1;

const _: () = assert!(LANE_SLOTS[0] + LANE_SLOTS[1] + LANE_SLOTS[2] + LANE_SLOTS[3] == RING_SLOTS);

/// What a descriptor asks its receiver to do.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Apply the event in the chunk.
    Event,
    /// The same, and its sender has read it already: see [`crate::executor::pinned`].
    ReadEvent,
    /// Refuse the event in the chunk for `reason`; its payload may be cut.
    Refused,
    /// The partition was read up to `offset`; nothing but control markers lie before it.
    EndOfPartition,
    /// Begin `partition` at `offset` under `epoch`.
    Assign,
    /// Apply nothing more of `partition`; its position stands still from here.
    Close,
    /// Free the state of `partition`.
    Drop,
    /// The chunk holds changelog records to put into the arena.
    Restore,
    /// Cut now, and report `ticket` once everything before it is committed.
    Barrier,
    /// Drop all state; everything after it belongs to the pipeline generation `ticket`.
    Reset,
    /// An output record is in the chunk.
    Output,
    /// A refused event is in the chunk.
    DeadLetter,
    /// Commit everything before this; the cut buffer holds positions and after-images.
    Cut,
}

impl Kind {
    /// Whether this is about an event that is to be applied.
    #[inline(always)]
    pub fn is_event(self) -> bool {
        matches!(self, Kind::Event | Kind::ReadEvent)
    }
}

/// One cache line that says what lies in a chunk, or what to do.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    /// What to do.
    pub kind: Kind,
    /// Index of the source that it came from.
    pub source: u8,
    /// Why an event was refused: a [`crate::parse::Reason`] as number.
    pub reason: u8,
    /// Priority of an event.
    pub priority: u8,
    /// Partition of the source.
    pub partition: u32,
    /// The assignment that the descriptor belongs to; others are ignored.
    pub epoch: u32,
    /// Bytes used in the chunk.
    pub length: u32,
    /// The chunk.
    pub chunk: RawChunk,
    /// Offset in the partition.
    pub offset: i64,
    /// When the event came in, on the engine's monotonic clock.
    pub ingested_at_nanoseconds: u64,
    /// Ticket of a barrier, generation of a reset, or the connection that a direct event came by.
    pub ticket: u64,
    /// Record key of an output. A dead letter has none and keeps the position of its fault here instead: see
    /// [`Descriptor::refusal_position`].
    pub routing: Routing,
    /// Bytes that the payload had before it was cut.
    pub original_length: u32,
    /// Number of a direct event on its connection.
    pub number: u32,
}

const _: () = assert!(size_of::<Descriptor>() == 64);

impl Descriptor {
    /// A descriptor with everything but its kind empty.
    pub fn new(kind: Kind) -> Descriptor {
        Descriptor {
            kind,
            source: 0,
            reason: 0,
            priority: 0,
            partition: 0,
            epoch: 0,
            length: 0,
            chunk: RawChunk::NONE,
            offset: 0,
            ingested_at_nanoseconds: 0,
            ticket: 0,
            routing: Routing { district: 0, team: 0 },
            original_length: 0,
            number: 0,
        }
    }

    /// What a dead letter carries in the place of a routing: where in its payload the fault is.
    pub fn refused_at(position: u32) -> Routing {
        Routing { district: position, team: 0 }
    }

    /// Byte position of a dead letter's fault.
    pub fn refusal_position(&self) -> u32 {
        debug_assert!(matches!(self.kind, Kind::Refused | Kind::DeadLetter));
        self.routing.district
    }
}

/// Slots between the one that is used and the one that is asked for: what a line takes from the other core. None is asked
/// for before it was published: its producer, about to write it, would have to fetch it back.
const SLOTS_AHEAD: u64 = 16;

#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
    slots: Box<[UnsafeCell<MaybeUninit<Descriptor>>]>,
    head: Padded<AtomicU64>,
    tail: Padded<AtomicU64>,
    high_water: Padded<AtomicU64>,
}

// SAFETY: a slot is written by the producer before the tail passes it and read by the
// consumer after; the producer writes it again only once the head has passed it.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// The figures of a ring, readable from any thread.
#[derive(Clone)]
pub struct Gauge(Arc<Shared>);

impl Gauge {
    /// Slots of the ring.
    pub fn slots(&self) -> usize {
        self.0.slots.len()
    }

    /// Descriptors that are published and not taken yet.
    pub fn in_use(&self) -> u64 {
        let head = self.0.head.0.load(Ordering::Acquire);
        self.0.tail.0.load(Ordering::Acquire).saturating_sub(head)
    }

    /// The most descriptors that were ever waiting, as the producer saw it.
    pub fn high_water(&self) -> u64 {
        self.0.high_water.0.load(Ordering::Relaxed)
    }
}

/// The ring has no free slot: whoever wanted to push still has the descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingFull;

/// The writing end. Belongs to one thread.
pub struct Producer {
    shared: Arc<Shared>,
    mask: u64,
    tail: u64,
    published: u64,
    head_seen: u64,
    high_water: u64,
}

/// The reading end. Belongs to one thread.
pub struct Consumer {
    shared: Arc<Shared>,
    head: u64,
    released: u64,
    tail_seen: u64,
    foreseen: u64,
}

/// A ring of `slots` descriptors, a power of two.
///
/// # Panics
/// If `slots` is not a power of two.
pub fn ring(slots: usize) -> (Producer, Consumer) {
    assert!(slots.is_power_of_two());
    let shared = Arc::new(Shared {
        slots: (0..slots).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        head: Padded(AtomicU64::new(0)),
        tail: Padded(AtomicU64::new(0)),
        high_water: Padded(AtomicU64::new(0)),
    });
    let mask = slots as u64 - 1;
    let producer =
        Producer { shared: Arc::clone(&shared), mask, tail: 0, published: 0, head_seen: 0, high_water: 0 };
    (producer, Consumer { shared, head: 0, released: 0, tail_seen: 0, foreseen: 0 })
}

/// The lanes of one I/O thread, most urgent first.
pub fn lanes() -> ([Producer; LANES], [Consumer; LANES]) {
    let [control, first, second, third] = LANE_SLOTS.map(ring);
    ([control.0, first.0, second.0, third.0], [control.1, first.1, second.1, third.1])
}

impl Shared {
    #[inline(always)]
    fn slot(&self, position: u64) -> &UnsafeCell<MaybeUninit<Descriptor>> {
        &self.slots[(position & (self.slots.len() as u64 - 1)) as usize]
    }
}

impl Producer {
    /// Free slots, at least. Looks at the consumer's progress only if fewer than `wanted` seem free.
    #[inline(always)]
    pub fn free(&mut self, wanted: u64) -> u64 {
        let capacity = self.mask + 1;
        let free = capacity - (self.tail - self.head_seen);
        if free >= wanted {
            return free;
        }
        self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        capacity - (self.tail - self.head_seen)
    }

    /// Writes a descriptor, unless the ring is full. Invisible until [`Producer::publish`].
    #[inline(always)]
    pub fn push(&mut self, descriptor: Descriptor) -> Result<(), RingFull> {
        if self.free(1) == 0 {
            return Err(RingFull);
        }
        prefetch::to_write(self.shared.slot(self.tail + SLOTS_AHEAD));
        let slot = self.shared.slot(self.tail);
        // SAFETY: the slot is free (checked above), and this is the only producer.
        slot.with_mut(|slot| unsafe { (*slot).write(descriptor) });
        self.tail += 1;
        Ok(())
    }

    /// Makes everything pushed visible. Says whether there was anything.
    pub fn publish(&mut self) -> bool {
        if self.published == self.tail {
            return false;
        }
        self.published = self.tail;
        self.shared.tail.0.store(self.tail, Ordering::Release);
        let waiting = self.tail - self.head_seen;
        if waiting > self.high_water {
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
            let waiting = self.tail - self.head_seen;
            if waiting > self.high_water {
                self.high_water = waiting;
                self.shared.high_water.0.store(waiting, Ordering::Relaxed);
            }
        }
        true
    }

    /// Whether the consumer has more than so many still to take, unpublished ones included. Looks at its progress only if
    /// it seems so.
    #[inline]
    pub fn has_waiting(&mut self, descriptors: u64) -> bool {
        self.tail - self.head_seen > descriptors && self.in_use() > descriptors
    }

    /// Descriptors that the consumer has not taken yet, unpublished ones included.
    pub fn in_use(&mut self) -> u64 {
        self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        self.tail - self.head_seen
    }

    /// The ring's figures for other threads.
    pub fn gauge(&self) -> Gauge {
        Gauge(Arc::clone(&self.shared))
    }
}

impl Consumer {
    /// The next descriptor, which stays where it is.
    #[inline(always)]
    pub fn peek(&mut self) -> Option<&Descriptor> {
        if self.is_empty() {
            return None;
        }
        let slot = self.shared.slot(self.head);
        // SAFETY: the tail has passed this slot, so it was written, and the producer leaves it alone until
        // the head has passed it; this is the only consumer, and it is borrowed for as long as the reference.
        Some(slot.with(|slot| unsafe { (*slot).assume_init_ref() }))
    }

    /// Shows each descriptor once, as soon as it is published and at most so many places behind the next one. All stay
    /// where they are.
    #[inline(always)]
    pub fn foresee(&mut self, places: u64, mut show: impl FnMut(&Descriptor)) {
        if self.tail_seen - self.head <= places {
            self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
        }
        self.foreseen = self.foreseen.max(self.head);
        let end = self.tail_seen.min(self.head + places + 1);
        while self.foreseen < end {
            // SAFETY: as in `peek`.
            show(self.shared.slot(self.foreseen).with(|slot| unsafe { (*slot).assume_init_ref() }));
            self.foreseen += 1;
        }
    }

    /// The last descriptor that is at most so many places behind the next one, among those that this end has seen to be
    /// published. It stays where it is.
    #[inline(always)]
    pub fn peek_behind(&self, places: u64) -> Option<&Descriptor> {
        let last = (self.tail_seen - self.head).checked_sub(1)?;
        let slot = self.shared.slot(self.head + last.min(places));
        // SAFETY: as in `peek`.
        Some(slot.with(|slot| unsafe { (*slot).assume_init_ref() }))
    }

    /// Takes the next descriptor. Its slot is free for the producer after [`Consumer::release`].
    #[inline(always)]
    pub fn pop(&mut self) -> Option<&Descriptor> {
        if self.is_empty() {
            return None;
        }
        if self.tail_seen - self.head > SLOTS_AHEAD {
            prefetch::to_read(self.shared.slot(self.head + SLOTS_AHEAD));
        }
        let slot = self.shared.slot(self.head);
        self.head += 1;
        // SAFETY: as in `peek`; the producer gets the slot back only by `release`, when this reference is over.
        Some(slot.with(|slot| unsafe { (*slot).assume_init_ref() }))
    }

    /// Frees the slots of everything taken so far.
    pub fn release(&mut self) {
        if self.released != self.head {
            self.released = self.head;
            self.shared.head.0.store(self.head, Ordering::Release);
        }
    }

    /// Whether nothing is waiting.
    #[inline(always)]
    pub fn is_empty(&mut self) -> bool {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
        }
        self.head == self.tail_seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(offset: i64) -> Descriptor {
        Descriptor { offset, ..Descriptor::new(Kind::Event) }
    }

    #[test]
    fn a_full_ring_takes_no_descriptor() {
        let (mut producer, mut consumer) = ring(2);
        producer.push(numbered(0)).unwrap();
        producer.push(numbered(1)).unwrap();
        assert_eq!(producer.push(numbered(2)), Err(RingFull));
        assert!(consumer.pop().is_none(), "nothing is visible before it is published");
        assert!(producer.publish());
        assert_eq!(consumer.pop().unwrap().offset, 0);
        assert!(producer.push(numbered(2)).is_err(), "a taken slot is free once it is released");
        consumer.release();
        producer.push(numbered(2)).unwrap();
        assert!(producer.publish());
        assert!(!producer.publish());
        assert_eq!(consumer.pop().unwrap().offset, 1);
        assert_eq!(consumer.pop().unwrap().offset, 2);
        assert!(consumer.is_empty());
    }

    #[test]
    fn what_comes_later_is_shown_once_as_far_as_it_was_published() {
        let (mut producer, mut consumer) = ring(8);
        let shown = |consumer: &mut Consumer| {
            let mut offsets = Vec::new();
            consumer.foresee(2, |descriptor| offsets.push(descriptor.offset));
            offsets
        };
        (0..5).for_each(|offset| producer.push(numbered(offset)).unwrap());
        assert!(shown(&mut consumer).is_empty());
        producer.publish();
        assert_eq!(shown(&mut consumer), [0, 1, 2]);
        assert!(shown(&mut consumer).is_empty());
        consumer.pop();
        consumer.pop();
        assert_eq!(shown(&mut consumer), [3, 4]);
        (0..3).for_each(|_| assert!(consumer.pop().is_some()));
        producer.push(numbered(5)).unwrap();
        producer.publish();
        assert_eq!(consumer.pop().unwrap().offset, 5, "what was never shown can be taken");
        producer.push(numbered(6)).unwrap();
        producer.publish();
        assert_eq!(shown(&mut consumer), [6]);
    }

    #[test]
    fn the_last_one_within_reach_can_be_looked_at() {
        let (mut producer, mut consumer) = ring(4);
        (0..3).for_each(|offset| producer.push(numbered(offset)).unwrap());
        producer.publish();
        assert!(consumer.peek_behind(1).is_none(), "this end has not looked yet");
        assert!(!consumer.is_empty());
        let seen = |consumer: &Consumer, places| consumer.peek_behind(places).map(|next| next.offset);
        assert_eq!([0, 1, 9].map(|places| seen(&consumer, places)), [Some(0), Some(1), Some(2)]);
        assert_eq!(consumer.pop().unwrap().offset, 0);
        assert_eq!([0, 9].map(|places| seen(&consumer, places)), [Some(1), Some(2)]);
    }

    #[test]
    fn gauges_count_what_waits_and_the_most_that_ever_waited() {
        let (mut producer, mut consumer) = ring(8);
        let gauge = producer.gauge();
        for offset in 0..5 {
            producer.push(numbered(offset)).unwrap();
        }
        producer.publish();
        assert_eq!((gauge.in_use(), gauge.high_water(), gauge.slots()), (5, 5, 8));
        while consumer.pop().is_some() {}
        consumer.release();
        producer.push(numbered(9)).unwrap();
        producer.publish();
        assert_eq!((gauge.in_use(), gauge.high_water()), (1, 5));
    }

    #[test]
    fn the_lanes_together_have_the_fixed_number_of_slots() {
        let (producers, _consumers) = lanes();
        assert_eq!(producers.iter().map(|lane| lane.gauge().slots()).sum::<usize>(), 65_536);
    }

    #[test]
    fn two_threads_exchange_two_million_in_order_and_lose_none() {
        let (mut producer, mut consumer) = ring(1024);
        let total: i64 = if crate::sync::is_checked_slowly() { 5_000 } else { 2_000_000 };
        let reader = std::thread::spawn(move || {
            let mut expected = 0;
            while expected < total {
                match consumer.pop() {
                    Some(&descriptor) => {
                        assert_eq!(descriptor.offset, expected);
                        assert_eq!(descriptor.ticket, expected as u64 ^ 0xA5A5);
                        expected += 1;
                        if expected % 61 == 0 {
                            consumer.release();
                        }
                    }
                    None => {
                        consumer.release();
                        std::thread::yield_now();
                    }
                }
            }
        });
        for offset in 0..total {
            let mut descriptor = numbered(offset);
            descriptor.ticket = offset as u64 ^ 0xA5A5;
            while producer.push(descriptor).is_err() {
                producer.publish();
                std::thread::yield_now();
            }
            if offset % 37 == 0 {
                producer.publish();
            }
        }
        producer.publish();
        reader.join().unwrap();
    }
}
