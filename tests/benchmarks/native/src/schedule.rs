//! When events are to be sent: the same rule in every measured system.
//!
//! A period holds `rate * period` events. Of these, `burst` are due in one instant, at
//! the period's begin; the others follow evenly. Without bursts the arrivals are even.
//! A rate of zero means: each event is due when it can be sent.

const SECOND_NANOSECONDS: u64 = 1_000_000_000;

/// Intended send times, counted from the begin of a run.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    period_nanoseconds: u64,
    events_per_period: u64,
    burst: u64,
}

impl Schedule {
    /// A schedule of so many events a second, of which so many come at once in each period.
    pub fn new(rate_per_second: u64, burst: u64, period_milliseconds: u64) -> Schedule {
        let period_nanoseconds = period_milliseconds.max(1) * 1_000_000;
        let events_per_period = rate_per_second * period_nanoseconds / SECOND_NANOSECONDS;
        Schedule { period_nanoseconds, events_per_period, burst: burst.min(events_per_period) }
    }

    /// Whether there are intended times at all.
    pub fn is_open(&self) -> bool {
        self.events_per_period > 0
    }

    /// Events within a time.
    pub fn events_in(&self, seconds: u64) -> u64 {
        self.events_per_period * (seconds * SECOND_NANOSECONDS / self.period_nanoseconds)
    }

    /// Intended time of an event, in nanoseconds.
    pub fn due(&self, event: u64) -> u64 {
        let (period, place) = (event / self.events_per_period, event % self.events_per_period);
        let start = period * self.period_nanoseconds;
        if place < self.burst {
            return start;
        }
        start + (place - self.burst) * self.period_nanoseconds / (self.events_per_period - self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_without_bursts_are_even() {
        let schedule = Schedule::new(1_000, 0, 10);
        assert_eq!(schedule.events_in(2), 2_000);
        assert_eq!((schedule.due(0), schedule.due(1), schedule.due(10)), (0, 1_000_000, 10_000_000));
    }

    #[test]
    fn a_burst_is_due_in_one_instant_and_the_rest_evenly_in_its_period() {
        let schedule = Schedule::new(1_000, 6, 10);
        let due: Vec<u64> = (0..11).map(|event| schedule.due(event)).collect();
        assert_eq!(due, [0, 0, 0, 0, 0, 0, 0, 2_500_000, 5_000_000, 7_500_000, 10_000_000]);
    }

    #[test]
    fn a_burst_is_no_larger_than_its_period() {
        let schedule = Schedule::new(1_000, 50, 10);
        assert_eq!((schedule.due(9), schedule.due(10)), (0, 10_000_000));
        assert!(!Schedule::new(0, 5, 10).is_open());
    }
}
