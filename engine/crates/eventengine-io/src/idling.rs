//! What a thread with nothing to do does next: go on looking, nap, or sleep until it is woken.
//!
//! Owns the bounds of the spin and the rule of the naps; reads no clock and never waits itself. The core thread goes by
//! [`Waiting`], a caller that is the I/O thread of an engine in its own process by [`Resting`].
//!
//! A thread that spins never gives its CPU up, so whatever else has to run there, a kernel thread or a service of the
//! machine, gets it when the scheduler thinks it fair: for up to a tick at once, and as likely while events wait as while
//! none does. Short naps at moments without work let the others in then. They cost the events of those moments some 50
//! microseconds, so they are taken only for a time after a stall, and for longer after a longer one: on a CPU that nobody
//! else uses there are none.

use std::time::Duration;

use eventengine_core::watch::STALL_NANOSECONDS_MIN;

/// A nap: as short as gives others the CPU. With the wake-up it takes two to three times as long.
pub const NAP: Duration = Duration::from_micros(20);

/// Looks for work that long before it sleeps, where the CPU is its own.
const SPIN_NANOSECONDS: u64 = 50_000;

/// From one sleep of the core thread to its next nap (decision 0035).
pub const CORE_NAP_INTERVAL_NANOSECONDS: u64 = 500_000;

/// The same of a caller (decision 0036).
pub const CALLER_NAP_INTERVAL_NANOSECONDS: u64 = 250_000;

/// Naps are taken for so many times as long as the stall was, and no longer than the limit after the last one.
const NAPPING_TIME_PER_STALL: u64 = 10_000;
const NAPPING_NANOSECONDS_MAX: u64 = 10_000_000_000;

/// What to do without work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idling {
    /// Look again at once.
    Spin,
    /// Leave the CPU to others for a moment, whether there is work or not.
    Nap,
    /// Sleep until there is work.
    Sleep,
}

/// One thread's way of waiting.
#[derive(Debug)]
pub struct Waiting {
    may_spin: bool,
    nap_interval_nanoseconds: u64,
    slept_at_nanoseconds: u64,
    naps_until_nanoseconds: u64,
}

impl Waiting {
    /// Of a thread that begins now, and may spin only where no other thread of the process is on its CPU.
    pub fn new(may_spin: bool, nap_interval_nanoseconds: u64, now_nanoseconds: u64) -> Waiting {
        Waiting {
            may_spin,
            nap_interval_nanoseconds,
            slept_at_nanoseconds: now_nanoseconds,
            naps_until_nanoseconds: now_nanoseconds,
        }
    }

    /// The thread did not go on for so long when it should have; none if zero.
    pub fn stalled(&mut self, stall_nanoseconds: u64, now_nanoseconds: u64) {
        if stall_nanoseconds > 0 {
            let until = self.naps_until_nanoseconds.max(now_nanoseconds);
            let more = stall_nanoseconds.saturating_mul(NAPPING_TIME_PER_STALL);
            self.naps_until_nanoseconds =
                until.saturating_add(more).min(now_nanoseconds + NAPPING_NANOSECONDS_MAX);
        }
    }

    /// What to do now, without work since then.
    pub fn next(&self, now_nanoseconds: u64, idle_since_nanoseconds: u64) -> Idling {
        if !self.may_spin || now_nanoseconds.saturating_sub(idle_since_nanoseconds) >= SPIN_NANOSECONDS {
            Idling::Sleep
        } else if now_nanoseconds < self.naps_until_nanoseconds
            && now_nanoseconds.saturating_sub(self.slept_at_nanoseconds) >= self.nap_interval_nanoseconds
        {
            Idling::Nap
        } else {
            Idling::Spin
        }
    }

    /// The thread is back from a nap or a sleep.
    pub fn slept(&mut self, now_nanoseconds: u64) {
        self.slept_at_nanoseconds = now_nanoseconds;
    }
}

/// How a thread rests that has its own loop and says now and then what time it is.
///
/// What passes between a rest and the next reading of the clock beyond what one round of a loop takes is a stall. What
/// passes between two readings without a rest is the thread's own affair.
#[derive(Debug)]
pub struct Resting {
    waiting: Waiting,
    read_at_nanoseconds: u64,
    since_reading: SinceReading,
}

/// What the thread did since its last reading of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SinceReading {
    Work,
    Rest,
    Nap,
}

impl Resting {
    /// Of a thread that goes by these rules.
    pub fn new(waiting: Waiting) -> Resting {
        Resting { waiting, read_at_nanoseconds: 0, since_reading: SinceReading::Work }
    }

    /// The thread read its clock.
    pub fn goes_on(&mut self, now_nanoseconds: u64) {
        let passed = now_nanoseconds.saturating_sub(self.read_at_nanoseconds);
        match std::mem::replace(&mut self.since_reading, SinceReading::Work) {
            SinceReading::Rest if passed >= STALL_NANOSECONDS_MIN => {
                self.waiting.stalled(passed, now_nanoseconds);
            }
            // A slow wake-up is no reason for naps: they would be their own reason.
            SinceReading::Nap => self.waiting.slept(now_nanoseconds),
            SinceReading::Rest | SinceReading::Work => {}
        }
        self.read_at_nanoseconds = now_nanoseconds;
    }

    /// The thread has nothing to do since its last reading; says whether it is to nap now.
    pub fn rests(&mut self) -> bool {
        let nap = self.waiting.next(self.read_at_nanoseconds, self.read_at_nanoseconds) != Idling::Spin;
        self.since_reading = if nap { SinceReading::Nap } else { SinceReading::Rest };
        nap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: u64 = 1_000;
    const MILLISECOND: u64 = 1_000_000;
    const SECOND: u64 = 1_000_000_000;

    /// What is done at a moment by a thread that had work until just before.
    fn at(waiting: &Waiting, now: u64) -> Idling {
        waiting.next(now, now - MICROSECOND)
    }

    /// One that naps each half millisecond after a stall.
    fn waiting(may_spin: bool) -> Waiting {
        Waiting::new(may_spin, 500 * MICROSECOND, 0)
    }

    #[test]
    fn without_a_cpu_of_its_own_a_thread_sleeps_at_once() {
        let mut waiting = waiting(false);
        waiting.stalled(MILLISECOND, SECOND);
        assert_eq!(waiting.next(SECOND, SECOND), Idling::Sleep);
    }

    #[test]
    fn with_a_cpu_of_its_own_a_thread_spins_for_50_microseconds_and_then_sleeps() {
        let waiting = waiting(true);
        assert_eq!(waiting.next(SECOND + 50 * MICROSECOND - 1, SECOND), Idling::Spin);
        assert_eq!(waiting.next(SECOND + 50 * MICROSECOND, SECOND), Idling::Sleep);
    }

    #[test]
    fn after_a_stall_there_is_a_nap_each_half_millisecond_for_ten_thousand_times_as_long() {
        let mut waiting = waiting(true);
        waiting.stalled(200 * MICROSECOND, SECOND);
        assert_eq!(at(&waiting, SECOND), Idling::Nap);
        waiting.slept(SECOND);
        assert_eq!(at(&waiting, SECOND + 500 * MICROSECOND - 1), Idling::Spin);
        assert_eq!(at(&waiting, SECOND + 500 * MICROSECOND), Idling::Nap);
        assert_eq!(at(&waiting, 3 * SECOND - 1), Idling::Nap);
        assert_eq!(at(&waiting, 3 * SECOND), Idling::Spin);
    }

    #[test]
    fn stalls_add_up_but_never_to_more_than_ten_seconds_of_naps() {
        let mut waiting = waiting(true);
        waiting.stalled(100 * MICROSECOND, SECOND);
        waiting.stalled(100 * MICROSECOND, SECOND);
        assert_eq!(at(&waiting, 3 * SECOND - 1), Idling::Nap);
        assert_eq!(at(&waiting, 3 * SECOND), Idling::Spin);
        waiting.stalled(u64::MAX, 4 * SECOND);
        assert_eq!(at(&waiting, 14 * SECOND - 1), Idling::Nap);
        assert_eq!(at(&waiting, 14 * SECOND), Idling::Spin);
    }

    #[test]
    fn without_a_stall_there_is_no_nap() {
        let mut waiting = waiting(true);
        waiting.stalled(0, SECOND);
        assert_eq!(at(&waiting, SECOND), Idling::Spin);
    }

    /// A thread that reads its clock at one moment, rests, and reads it again at the other.
    fn rested(from: u64, to: u64) -> Resting {
        let mut resting = Resting::new(waiting(true));
        resting.goes_on(from);
        assert!(!resting.rests(), "there was no stall yet");
        resting.goes_on(to);
        resting
    }

    #[test]
    fn a_caller_that_comes_back_late_from_a_rest_naps_at_its_next_rests() {
        assert!(rested(SECOND, SECOND + STALL_NANOSECONDS_MIN).rests());
        assert!(!rested(SECOND, SECOND + STALL_NANOSECONDS_MIN - 1).rests());
    }

    #[test]
    fn a_caller_naps_once_in_an_interval() {
        let mut resting = rested(SECOND, SECOND + MILLISECOND);
        assert!(resting.rests());
        let back = SECOND + 2 * MILLISECOND;
        resting.goes_on(back);
        assert!(!resting.rests());
        resting.goes_on(back + 10 * MICROSECOND);
        assert!(!resting.rests());
        resting.goes_on(back + 60 * MICROSECOND);
        resting.goes_on(back + 500 * MICROSECOND);
        assert!(resting.rests());
    }

    #[test]
    fn what_a_caller_does_between_two_readings_is_no_stall() {
        let mut resting = Resting::new(waiting(true));
        resting.goes_on(SECOND);
        resting.goes_on(2 * SECOND);
        assert!(!resting.rests());
    }

    #[test]
    fn a_slow_return_from_a_nap_is_no_reason_for_more() {
        let mut resting = rested(SECOND, SECOND + 100 * MICROSECOND);
        assert!(resting.rests());
        resting.goes_on(SECOND + 900 * MILLISECOND);
        resting.goes_on(2 * SECOND + 100 * MICROSECOND);
        assert!(!resting.rests(), "the time for naps is over");
    }

    #[test]
    fn a_caller_that_shares_its_cpu_with_the_core_naps_at_each_rest() {
        let mut resting = Resting::new(waiting(false));
        for round in 0..3 {
            resting.goes_on(SECOND + round);
            assert!(resting.rests());
        }
    }
}
