//! The stats page: figures that one thread writes and any thread reads.
//!
//! Owns the counters of the core thread. Every field has one writer, which loads, adds
//! and stores without a locked instruction; readers see each figure whole, and figures
//! of different moments side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use crate::histogram::Histogram;
use crate::identifiers::IdentifierStats;
use crate::parse::{Fallbacks, Reason};
use crate::watch::DurationWatch;

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only ever called by the one writer.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }

    /// Replaces the figure. Only ever called by the one writer.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The figure of now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// No figure: nothing was measured so far.
const NOT_MEASURED: u64 = u64::MAX;

/// No position: the partition is not assigned to the core.
pub const NO_POSITION: i64 = -1;

/// Tenants of the arena that the page has room for: one for each source that an engine may have.
pub const TENANTS_REPORTED: usize = 8;

/// What the core thread says of itself.
#[repr(C)]
#[derive(Debug)]
pub struct CoreStats {
    /// Events applied.
    pub applied: Counter,
    /// Events refused, by reason.
    pub refused: [Counter; Reason::ALL.len()],
    /// Payloads that only a tree could make an event of, by source. Written by whoever parses.
    pub parser_fallbacks: Arc<Fallbacks>,
    /// Descriptors of partitions that were given up, or of offsets that were applied before.
    pub stale: Counter,
    /// Slots put back from the changelog.
    pub restored: Counter,
    /// Restored records that found no slot or could not be read.
    pub restore_failures: Counter,
    /// Cuts made.
    pub cuts: Counter,
    /// Slots in use.
    pub arena_in_use: Counter,
    /// Holes among the slots, in parts per million.
    pub arena_fragmentation_millionths: Counter,
    /// Slots in use by tenant, which is the source whose events made them.
    pub arena_in_use_by: [Counter; TENANTS_REPORTED],
    /// Identifiers that were seen lately.
    pub identifiers: IdentifierStats,
    /// Times that the fragmentation rose above its threshold.
    pub arena_fragmented: Counter,
    /// Slots moved to close holes.
    pub arena_moved: Counter,
    thread_allocated_bytes: Counter,
    /// Nanoseconds from an event's ingest to its output.
    pub latency: Histogram,
    /// Nanoseconds that the program took for an event, the declared service time included.
    pub service: Histogram,
    /// Times in which the core thread should have gone on and did not; the limit is `monitoring.gcPauseAlertMs`.
    pub stalls: DurationWatch,
    /// Rollbacks to what is committed, from the demand until every partition runs again; written by the source thread.
    /// The limit is `monitoring.rollbackSlaMs`.
    pub rollbacks: DurationWatch,
    /// Next offset to apply, by partition.
    pub positions: Box<[AtomicI64]>,
    /// Whether something was applied since the last cut.
    pub uncut: AtomicBool,
    /// Number of the CPU that the core thread is bound to, plus one; zero if to none.
    pub cpu_plus_one: AtomicU32,
}

impl CoreStats {
    /// A page for so many partitions.
    pub fn new(partitions: usize) -> CoreStats {
        CoreStats {
            applied: Counter::default(),
            refused: Default::default(),
            parser_fallbacks: Arc::default(),
            stale: Counter::default(),
            restored: Counter::default(),
            restore_failures: Counter::default(),
            cuts: Counter::default(),
            arena_in_use: Counter::default(),
            arena_fragmentation_millionths: Counter::default(),
            arena_in_use_by: Default::default(),
            identifiers: IdentifierStats::default(),
            arena_fragmented: Counter::default(),
            arena_moved: Counter::default(),
            thread_allocated_bytes: Counter(AtomicU64::new(NOT_MEASURED)),
            latency: Histogram::default(),
            service: Histogram::default(),
            stalls: DurationWatch::default(),
            rollbacks: DurationWatch::default(),
            positions: (0..partitions).map(|_| AtomicI64::new(NO_POSITION)).collect(),
            uncut: AtomicBool::new(false),
            cpu_plus_one: AtomicU32::new(0),
        }
    }

    /// Next offset to apply of a partition, if the core has it.
    pub fn position(&self, partition: usize) -> Option<i64> {
        let position = self.positions.get(partition)?.load(Ordering::Relaxed);
        (position != NO_POSITION).then_some(position)
    }

    /// Bytes that the core thread allocated since it warmed up; none before that, or if it can't be measured.
    pub fn thread_allocated_bytes(&self) -> Option<u64> {
        Some(self.thread_allocated_bytes.get()).filter(|bytes| *bytes != NOT_MEASURED)
    }

    /// Says how much the core thread allocated since it warmed up. Only ever called by that thread.
    pub fn set_thread_allocated_bytes(&self, bytes: u64) {
        self.thread_allocated_bytes.set(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_known_and_a_measured_zero_is_zero() {
        let stats = CoreStats::new(1);
        assert_eq!(stats.thread_allocated_bytes(), None);
        assert_eq!(stats.position(0), None);
        stats.set_thread_allocated_bytes(0);
        assert_eq!(stats.thread_allocated_bytes(), Some(0));
    }
}
