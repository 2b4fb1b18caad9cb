//! When events are to be sent: the same rule in every measured system.
//!
//! A period holds `rate * period` events. Of these, `burst` are due in one instant, at
//! the period's begin; the others follow evenly. Without bursts the arrivals are even.
//! A rate of zero means: each event is due when it can be sent. Arrivals at random, as of
//! many senders that know nothing of each other, have the same rate and no periods.

const SECOND_NANOSECONDS: u64 = 1_000_000_000;

/// How many events are sent when.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    period_nanoseconds: u64,
    events_per_period: u64,
    burst: u64,
    random: bool,
}

impl Schedule {
    /// A schedule of so many events a second, of which so many come at once in each period.
    pub fn new(rate_per_second: u64, burst: u64, period_milliseconds: u64) -> Schedule {
        let period_nanoseconds = period_milliseconds.max(1) * 1_000_000;
        let events_per_period = rate_per_second * period_nanoseconds / SECOND_NANOSECONDS;
        Schedule { period_nanoseconds, events_per_period, burst: burst.min(events_per_period), random: false }
    }

    /// The same rate with arrivals at random: a Poisson process.
    pub fn at_random(self) -> Schedule {
        Schedule { random: true, ..self }
    }

    /// Whether there are intended times at all.
    pub fn is_open(&self) -> bool {
        self.events_per_period > 0
    }

    /// Events within a time.
    pub fn events_in(&self, seconds: u64) -> u64 {
        self.events_per_period * (seconds * SECOND_NANOSECONDS / self.period_nanoseconds)
    }

    /// The intended times of all events within a time, in nanoseconds from its begin, in order.
    pub fn arrivals(&self, seconds: u64) -> Arrivals {
        let rest = (self.events_per_period - self.burst).max(1);
        Arrivals {
            schedule: *self,
            left: self.events_in(seconds),
            step: self.period_nanoseconds / rest,
            remainder: self.period_nanoseconds % rest,
            start: 0,
            place: 0,
            offset: 0,
            carried: 0,
            random: SEED,
            at: 0.0,
        }
    }
}

/// Runs repeat each other.
const SEED: u64 = 20_261_121;

/// Intended times; made one after the other, because a sender has no time for divisions.
#[derive(Debug, Clone)]
pub struct Arrivals {
    schedule: Schedule,
    left: u64,
    /// Nanoseconds between two events outside of bursts, and what is left over of a period.
    step: u64,
    remainder: u64,
    start: u64,
    place: u64,
    offset: u64,
    carried: u64,
    random: u64,
    at: f64,
}

impl Iterator for Arrivals {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        Some(if self.schedule.random { self.next_at_random() } else { self.next_in_period() })
    }
}

impl Arrivals {
    #[inline]
    fn next_in_period(&mut self) -> u64 {
        let Schedule { period_nanoseconds, events_per_period, burst, .. } = self.schedule;
        if self.place == events_per_period {
            self.start += period_nanoseconds;
            (self.place, self.offset, self.carried) = (0, 0, 0);
        }
        let due = self.start + self.offset;
        if self.place >= burst {
            self.offset += self.step;
            self.carried += self.remainder;
            if self.carried >= events_per_period - burst {
                self.carried -= events_per_period - burst;
                self.offset += 1;
            }
        }
        self.place += 1;
        due
    }

    /// Times between arrivals are exponential.
    fn next_at_random(&mut self) -> u64 {
        let mean = self.schedule.period_nanoseconds as f64 / self.schedule.events_per_period as f64;
        // Marsaglia's xorshift; its upper 53 bits make a number in (0, 1].
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let uniform = ((self.random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        self.at -= mean * uniform.ln();
        self.at as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(schedule: &Schedule, events: usize) -> Vec<u64> {
        schedule.arrivals(1).take(events).collect()
    }

    #[test]
    fn arrivals_without_bursts_are_even() {
        let schedule = Schedule::new(1_000, 0, 10);
        assert_eq!(schedule.events_in(2), 2_000);
        assert_eq!(due(&schedule, 11)[..2], [0, 1_000_000]);
        assert_eq!(due(&schedule, 11)[10], 10_000_000);
        assert_eq!(schedule.arrivals(2).count(), 2_000);
    }

    #[test]
    fn a_burst_is_due_in_one_instant_and_the_rest_evenly_in_its_period() {
        let schedule = Schedule::new(1_000, 6, 10);
        assert_eq!(due(&schedule, 11), [0, 0, 0, 0, 0, 0, 0, 2_500_000, 5_000_000, 7_500_000, 10_000_000]);
    }

    #[test]
    fn a_burst_is_no_larger_than_its_period() {
        let schedule = Schedule::new(1_000, 50, 10);
        assert_eq!((due(&schedule, 11)[9], due(&schedule, 11)[10]), (0, 10_000_000));
        assert!(!Schedule::new(0, 5, 10).is_open());
    }

    #[test]
    fn a_period_that_its_events_do_not_divide_loses_no_time() {
        let schedule = Schedule::new(120_000, 240, 10);
        for (event, due) in (0_u64..).zip(schedule.arrivals(1)) {
            let (period, place) = (event / 1200, event % 1200);
            assert_eq!(due, period * 10_000_000 + place.saturating_sub(240) * 10_000_000 / 960);
        }
        let thirds = Schedule::new(300, 0, 10);
        assert_eq!(due(&thirds, 4), [0, 3_333_333, 6_666_666, 10_000_000]);
    }

    #[test]
    fn arrivals_at_random_have_the_rate_and_the_spread_of_a_poisson_process() {
        let schedule = Schedule::new(100_000, 0, 10).at_random();
        let times: Vec<u64> = schedule.arrivals(10).collect();
        assert_eq!(times.len(), 1_000_000);
        assert!(times.is_sorted());
        let last = times[times.len() - 1] as f64;
        assert!((last / 1e10 - 1.0).abs() < 0.01, "{last}");
        let gaps = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64);
        let above_mean = gaps.filter(|gap| *gap > 10_000.0).count() as f64 / times.len() as f64;
        assert!((above_mean - (-1.0_f64).exp()).abs() < 0.01, "{above_mean}");
    }
}
