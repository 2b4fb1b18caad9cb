//! What a thread with nothing to do does next: go on looking, nap, or sleep until it is woken.
//!
//! Owns the bounds of the spin and the rule of the naps; reads no clock and never waits itself.
//!
//! A thread that spins never gives its CPU up, so whatever else has to run there, a kernel thread or a service of the
//! machine, gets it when the scheduler thinks it fair: for up to a tick at once, and as likely while events wait as while
//! none does. Short naps at moments without work let the others in then. They cost the events of those moments some 50
//! microseconds, so they are taken only for a time after a stall, and for longer after a longer one: on a CPU that nobody
//! else uses there are none.

/// Looks for work that long before it sleeps, where the CPU is its own.
const SPIN_NANOSECONDS: u64 = 50_000;

/// From one sleep to the next nap (decision 0035).
const NAP_INTERVAL_NANOSECONDS: u64 = 500_000;

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
    slept_at_nanoseconds: u64,
    naps_until_nanoseconds: u64,
}

impl Waiting {
    /// Of a thread that begins now, and may spin only where no other thread of the process is on its CPU.
    pub fn new(may_spin: bool, now_nanoseconds: u64) -> Waiting {
        Waiting { may_spin, slept_at_nanoseconds: now_nanoseconds, naps_until_nanoseconds: now_nanoseconds }
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
            && now_nanoseconds.saturating_sub(self.slept_at_nanoseconds) >= NAP_INTERVAL_NANOSECONDS
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

    #[test]
    fn without_a_cpu_of_its_own_a_thread_sleeps_at_once() {
        let mut waiting = Waiting::new(false, 0);
        waiting.stalled(MILLISECOND, SECOND);
        assert_eq!(waiting.next(SECOND, SECOND), Idling::Sleep);
    }

    #[test]
    fn with_a_cpu_of_its_own_a_thread_spins_for_50_microseconds_and_then_sleeps() {
        let waiting = Waiting::new(true, 0);
        assert_eq!(waiting.next(SECOND + 50 * MICROSECOND - 1, SECOND), Idling::Spin);
        assert_eq!(waiting.next(SECOND + 50 * MICROSECOND, SECOND), Idling::Sleep);
    }

    #[test]
    fn after_a_stall_there_is_a_nap_each_half_millisecond_for_ten_thousand_times_as_long() {
        let mut waiting = Waiting::new(true, 0);
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
        let mut waiting = Waiting::new(true, 0);
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
        let mut waiting = Waiting::new(true, 0);
        waiting.stalled(0, SECOND);
        assert_eq!(at(&waiting, SECOND), Idling::Spin);
    }
}
