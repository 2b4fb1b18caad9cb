//! The core: one state machine between the rings of the I/O threads and the ring of the publisher.
//!
//! Owns the arena, the program and the position of every partition. [`Core::step`] does
//! one thing and returns; the caller brings the clock and decides how to wait. Nothing
//! here allocates, locks or makes a system call.
//!
//! Rules of order:
//! - Control descriptors are handled before the next event. A more urgent event goes before
//!   a less urgent one, but at most [`OVERTAKING_MAX`] before that gets a turn. An event counts only if its
//!   partition is open under the event's epoch and its offset was not applied before;
//!   others are dropped as stale, and that is what makes a repeated delivery harmless.
//! - An event's output goes into the event's own chunk and follows the event's order.
//! - A cut is made between two events. It holds exactly what the outputs before it did.
//! - Direct partitions (from [`DIRECT_BASE`]) live in memory only: no changelog, no offsets.

mod applying;
mod cutting;
mod partitions;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::arena::Arena;
use crate::changelog::KEY_BYTES;
use crate::cut::CutWriter;
use crate::executor::{EventOf, Executor};
use crate::identifiers::Identifiers;
use crate::pool::{Pool, Releaser};
use crate::program::Program;
use crate::ring::{Consumer, LANE_CONTROL, LANE_EVENTS, LANES, Producer};
use crate::stats::{CoreStats, NO_POSITION};

/// Kafka partitions that the core can hold.
pub const KAFKA_PARTITIONS_MAX: usize = 1024;

/// Partitions of directly ingested events.
pub const DIRECT_PARTITIONS: usize = 64;

/// The first direct partition.
pub const DIRECT_BASE: u32 = KAFKA_PARTITIONS_MAX as u32;

/// All partitions.
pub const PARTITIONS: usize = KAFKA_PARTITIONS_MAX + DIRECT_PARTITIONS;

/// Places in the publish ring that events leave to control descriptors.
const PUBLISH_RESERVE: u64 = 64;

/// Events that may overtake a lane in which less urgent ones wait, before it gets a turn.
pub const OVERTAKING_MAX: u32 = 64;

/// Events between two times that rings are released and published without being asked.
const BATCH: u32 = 32;

/// Bytes of a restored record's header: partition-less key, then the value's length.
pub const RESTORE_HEADER_BYTES: usize = KEY_BYTES + 2;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An event was applied or refused; it came in at this time.
    Event {
        /// When the event came in.
        ingested_at_nanoseconds: u64,
    },
    /// A control descriptor, a stale event or a cut was dealt with.
    Control,
    /// There is nothing to do.
    Idle,
    /// There are events, but the publisher has to catch up first.
    Blocked,
}

#[derive(Debug, Clone, Copy)]
struct PartitionState {
    epoch: u32,
    open: bool,
    moved: bool,
    failed: bool,
    position: i64,
}

const UNASSIGNED: PartitionState =
    PartitionState { epoch: 0, open: false, moved: false, failed: false, position: NO_POSITION };

/// The state machine's surroundings, made once by whoever starts the threads.
pub struct Parts {
    /// The slab.
    pub pool: Arc<Pool>,
    /// Lanes of each I/O thread.
    pub inputs: Vec<[Consumer; LANES]>,
    /// The way to the publisher.
    pub publish: Producer,
    /// The core's side of the cuts.
    pub cut: CutWriter,
    /// Records that a cut has room for.
    pub cut_records: usize,
    /// Set by the publisher to ask for a cut.
    pub cut_requested: Arc<AtomicBool>,
    /// The page that the core writes.
    pub stats: Arc<CoreStats>,
}

/// See the module.
pub struct Core<X, P> {
    executor: X,
    program: P,
    arena: Arena,
    pool: Arc<Pool>,
    releaser: Releaser,
    inputs: Vec<[Consumer; LANES]>,
    next_input: usize,
    overtaken: [u32; LANES],
    publish: Producer,
    cut: CutWriter,
    cut_records: usize,
    cut_requested: Arc<AtomicBool>,
    cut_ticket: u64,
    moved: Vec<u32>,
    partitions: Box<[PartitionState]>,
    scratch: Box<[u8]>,
    stats: Arc<CoreStats>,
    identifiers: Option<Identifiers>,
    since_flush: u32,
}

impl<X: Executor, P: for<'payload> Program<EventOf<'payload, X>>> Core<X, P> {
    /// A core with an empty state in which the direct partitions are open.
    pub fn new(executor: X, program: P, arena: Arena, parts: Parts) -> Core<X, P> {
        let mut partitions = vec![UNASSIGNED; PARTITIONS].into_boxed_slice();
        for partition in &mut partitions[DIRECT_BASE as usize..] {
            *partition = PartitionState { open: true, position: 0, ..UNASSIGNED };
        }
        Core {
            executor,
            program,
            arena,
            releaser: Releaser::new(&parts.pool),
            scratch: vec![0; parts.pool.chunk_bytes()].into_boxed_slice(),
            pool: parts.pool,
            inputs: parts.inputs,
            next_input: 0,
            overtaken: [0; LANES],
            publish: parts.publish,
            cut: parts.cut,
            cut_records: parts.cut_records,
            cut_requested: parts.cut_requested,
            cut_ticket: 0,
            moved: Vec::with_capacity(PARTITIONS),
            partitions,
            stats: parts.stats,
            identifiers: None,
            since_flush: 0,
        }
    }

    /// Counts whom applied events come from, from here on.
    pub fn count_identifiers(&mut self, identifiers: Identifiers) {
        self.identifiers = Some(identifiers);
    }

    /// What is to be done now and then while there are no events.
    pub fn rest(&mut self, now_nanoseconds: u64) {
        if let Some(identifiers) = &mut self.identifiers {
            identifiers.rest(now_nanoseconds, &self.stats.identifiers);
        }
    }

    /// The state.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Does the next thing: a control descriptor, a cut that is due, or one event.
    pub fn step(&mut self) -> Step {
        for input in 0..self.inputs.len() {
            if let Some(&descriptor) = self.inputs[input][LANE_CONTROL].pop() {
                self.control(&descriptor);
                self.inputs[input][LANE_CONTROL].release();
                return Step::Control;
            }
        }
        if (self.cut_ticket != 0 || self.cut_requested.load(Ordering::Relaxed)) && self.try_cut() {
            return Step::Control;
        }
        if self.publish.free(PUBLISH_RESERVE + 1) <= PUBLISH_RESERVE || !self.has_room_for_changes() {
            return if self.has_events() { Step::Blocked } else { Step::Idle };
        }
        match self.next_event() {
            Step::Idle if self.tidy() => Step::Control,
            step => step,
        }
    }

    /// Moves a few slots together, if the arena needs it. Slots that programs found before are void.
    fn tidy(&mut self) -> bool {
        let moved = self.arena.tidy();
        self.stats.arena_moved.add(u64::from(moved));
        moved > 0
    }

    /// Makes everything done so far visible to the other threads. Says whether the publisher has something new.
    pub fn flush(&mut self) -> bool {
        self.since_flush = 0;
        for lanes in &mut self.inputs {
            lanes.iter_mut().for_each(Consumer::release);
        }
        self.releaser.flush();
        self.stats.arena_in_use.set(u64::from(self.arena.in_use()));
        let millionths = (self.arena.fragmentation() * 1e6) as u64;
        self.stats.arena_fragmentation_millionths.set(millionths);
        for (tenant, in_use) in (0..).zip(&self.stats.arena_in_use_by) {
            in_use.set(u64::from(self.arena.in_use_by(tenant)));
        }
        self.stats.arena_fragmented.add(u64::from(self.arena.became_fragmented()));
        self.publish.publish()
    }

    /// Whether enough was done since the last flush that others should see it.
    pub fn wants_flush(&self) -> bool {
        self.since_flush >= BATCH
    }

    /// Whether nothing can be done now: every lane is empty, or its first event is in a worker's hands.
    pub fn is_idle(&mut self) -> bool {
        let executor = &self.executor;
        let nothing = |lane: &mut Consumer| lane.peek().is_none_or(|next| !executor.is_ready(next));
        self.inputs.iter_mut().flatten().all(nothing)
            && !(self.cut_requested.load(Ordering::Acquire) && self.cut.buffer().is_some())
    }

    fn has_events(&mut self) -> bool {
        self.inputs.iter_mut().any(|lanes| lanes[LANE_EVENTS..].iter_mut().any(|lane| !lane.is_empty()))
    }

    /// Whether the after-images of one more event surely fit into the next cut. If not, a cut is due.
    fn has_room_for_changes(&mut self) -> bool {
        let fits = self.arena.change_count() + P::SLOTS_PER_EVENT_MAX <= self.cut_records;
        if !fits {
            self.cut_requested.store(true, Ordering::Relaxed);
        }
        fits
    }
}
