//! Durations with a limit: how often something happened, how long it took, how often it took too long.
//!
//! Owns the watch over one kind of duration, with one writer, and the meter that finds the stalls of a thread among
//! the clock readings that the thread takes anyway. Nothing here reads a clock, allocates after its start, or locks.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::histogram::Histogram;
use crate::stats::Counter;

/// Shorter delays of a thread are no stalls: every kernel makes them.
pub const STALL_NANOSECONDS_MIN: u64 = 100_000;

/// A kind of duration. One thread records; any thread reads.
#[derive(Debug)]
pub struct DurationWatch {
    limit_nanoseconds: AtomicU64,
    over_limit: Counter,
    total_nanoseconds: Counter,
    longest_nanoseconds: Counter,
    durations: Histogram,
}

impl Default for DurationWatch {
    /// A watch whose limit nothing exceeds.
    fn default() -> DurationWatch {
        DurationWatch {
            limit_nanoseconds: AtomicU64::new(u64::MAX),
            over_limit: Counter::default(),
            total_nanoseconds: Counter::default(),
            longest_nanoseconds: Counter::default(),
            durations: Histogram::default(),
        }
    }
}

impl DurationWatch {
    /// Sets the limit; before anything is recorded.
    pub fn set_limit(&self, nanoseconds: u64) {
        self.limit_nanoseconds.store(nanoseconds, Ordering::Relaxed);
    }

    /// Records a duration; says whether it was over the limit. Only ever called by the one writer.
    pub fn record(&self, nanoseconds: u64) -> bool {
        self.durations.record(nanoseconds);
        self.total_nanoseconds.add(nanoseconds);
        if nanoseconds > self.longest_nanoseconds.get() {
            self.longest_nanoseconds.set(nanoseconds);
        }
        let over = nanoseconds > self.limit();
        if over {
            self.over_limit.add(1);
        }
        over
    }

    /// The limit, in nanoseconds.
    pub fn limit(&self) -> u64 {
        self.limit_nanoseconds.load(Ordering::Relaxed)
    }

    /// How many durations were over the limit.
    pub fn over_limit(&self) -> u64 {
        self.over_limit.get()
    }

    /// Sum of all durations, in nanoseconds.
    pub fn total(&self) -> u64 {
        self.total_nanoseconds.get()
    }

    /// The longest duration since the start, in nanoseconds.
    pub fn longest(&self) -> u64 {
        self.longest_nanoseconds.get()
    }

    /// The longest duration since this was asked last, in nanoseconds. For one asker.
    pub fn take_longest(&self) -> u64 {
        self.durations.take_greatest()
    }

    /// How many durations there were, and how many of them did not exceed each of these rising bounds.
    pub fn cumulative<const N: usize>(&self, bounds_nanoseconds: &[u64; N]) -> (u64, [u64; N]) {
        self.durations.cumulative(bounds_nanoseconds)
    }
}

/// Finds the stalls of one thread: times in which it should have gone on and did not.
///
/// The thread tells each clock reading that it takes, and beforehand until when it rests on purpose. What lies between
/// the time it should have been back and the next reading is a stall, whatever its cause: another thread on its CPU, a
/// page fault, a CPU quota, or one event that took that long.
#[derive(Debug)]
pub struct StallMeter {
    due_nanoseconds: u64,
}

impl StallMeter {
    /// A meter of a thread that begins now.
    pub fn new(now_nanoseconds: u64) -> StallMeter {
        StallMeter { due_nanoseconds: now_nanoseconds }
    }

    /// The thread reads its clock; says how long it was stalled, zero if it was not.
    ///
    /// Costs a subtraction and a comparison where there was no stall.
    pub fn observe(&mut self, now_nanoseconds: u64, stalls: &DurationWatch) -> u64 {
        let late = now_nanoseconds.saturating_sub(self.due_nanoseconds);
        self.due_nanoseconds = now_nanoseconds;
        if late < STALL_NANOSECONDS_MIN {
            return 0;
        }
        stalls.record(late);
        late
    }

    /// The thread rests on purpose and wants to be back at this time at the latest.
    pub fn rests_until(&mut self, due_nanoseconds: u64) {
        self.due_nanoseconds = self.due_nanoseconds.max(due_nanoseconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    #[test]
    fn a_duration_is_over_the_limit_only_if_it_exceeds_it() {
        let watch = DurationWatch::default();
        assert!(!watch.record(u64::MAX - 1), "without a limit nothing is over it");
        let watch = DurationWatch::default();
        watch.set_limit(5 * MILLISECOND);
        assert!(!watch.record(5 * MILLISECOND));
        assert!(watch.record(5 * MILLISECOND + 1));
        assert!(!watch.record(MILLISECOND));
        assert_eq!((watch.over_limit(), watch.longest()), (1, 5 * MILLISECOND + 1));
        assert_eq!(watch.total(), 11 * MILLISECOND + 1);
        assert_eq!(watch.cumulative(&[2 * MILLISECOND, 20 * MILLISECOND]), (3, [1, 3]));
    }

    #[test]
    fn the_longest_of_a_time_is_handed_out_once_and_that_of_all_times_stays() {
        let watch = DurationWatch::default();
        watch.record(7);
        watch.record(3);
        assert_eq!((watch.take_longest(), watch.take_longest()), (7, 0));
        watch.record(2);
        assert_eq!((watch.take_longest(), watch.longest()), (2, 7));
    }

    #[test]
    fn a_thread_that_goes_on_has_no_stalls_however_often_it_looks_at_its_clock() {
        let watch = DurationWatch::default();
        let mut meter = StallMeter::new(0);
        for now in (0..MILLISECOND).step_by(STALL_NANOSECONDS_MIN as usize - 1) {
            assert_eq!(meter.observe(now, &watch), 0);
        }
        assert_eq!(watch.cumulative(&[u64::MAX]), (0, [0]));
    }

    #[test]
    fn a_stall_is_the_time_between_two_readings_without_the_rest_that_was_meant() {
        let watch = DurationWatch::default();
        watch.set_limit(5 * MILLISECOND);
        let mut meter = StallMeter::new(0);
        assert_eq!(meter.observe(3 * MILLISECOND, &watch), 3 * MILLISECOND);
        assert_eq!(watch.take_longest(), 3 * MILLISECOND);
        // Rested for 20 ms, woke 6 ms too late.
        meter.rests_until(23 * MILLISECOND);
        assert_eq!(meter.observe(29 * MILLISECOND, &watch), 6 * MILLISECOND);
        assert_eq!(watch.take_longest(), 6 * MILLISECOND);
        // Woken before the rest was over: no stall, and the rest doesn't count for the next reading.
        meter.rests_until(49 * MILLISECOND);
        assert_eq!(meter.observe(30 * MILLISECOND, &watch), 0);
        assert_eq!(meter.observe(32 * MILLISECOND, &watch), 2 * MILLISECOND);
        assert_eq!(watch.take_longest(), 2 * MILLISECOND);
        assert_eq!(watch.over_limit(), 1);
    }
}
