//! When each event is meant to be sent: a pure function of schedule and seed.
//!
//! Owns the walk over intended times. It never looks at a clock and never hears of
//! the target, which is what makes the load an open loop: a target that stalls delays
//! sending, but no intended time moves.

use super::plan::{Arrivals, Schedule};
use super::random::Random;

const NANOSECONDS: f64 = 1e9;

/// One event to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intended {
    /// Time since the begin.
    pub at_nanoseconds: u64,
    /// What it is about.
    pub subject: Subject,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A district opens: the given place in the burst's list of districts.
    Opening {
        /// Index of the burst.
        burst: usize,
        /// Place in the burst's list.
        place: u32,
    },
    /// A move in any district.
    Anywhere,
    /// A move in one of the districts that a burst opened.
    InBurst {
        /// Index of the burst.
        burst: usize,
    },
}

/// A span of constant rates.
#[derive(Debug)]
struct Segment {
    start_nanoseconds: u64,
    end_nanoseconds: u64,
    rate_per_second: f64,
    /// Rate of each burst that confines its events to its districts.
    confined: Vec<(usize, f64)>,
}

/// All intended events, in order of time.
#[derive(Debug)]
pub struct Walk {
    segments: Vec<Segment>,
    segment: usize,
    /// Events, as a real number, from the segment's start to the next event.
    ahead: f64,
    openings: Vec<(u64, usize, u32)>,
    opening: usize,
    arrivals: Arrivals,
    remaining: u64,
    random: Random,
}

impl Walk {
    /// The walk over a checked schedule.
    pub fn new(schedule: &Schedule, seed: u64) -> Walk {
        let mut openings: Vec<(u64, usize, u32)> = Vec::new();
        for (index, burst) in schedule.bursts.iter().enumerate() {
            openings
                .extend((0..burst.districts.unwrap_or(0)).map(|place| (burst.at_nanoseconds, index, place)));
        }
        openings.sort_unstable();
        let mut random = Random::new(seed, 1);
        let ahead = match schedule.arrivals {
            Arrivals::Constant => 0.0,
            Arrivals::Poisson => random.exponential(),
        };
        Walk {
            segments: segments(schedule),
            segment: 0,
            ahead,
            openings,
            opening: 0,
            arrivals: schedule.arrivals,
            remaining: schedule.events_max.unwrap_or(u64::MAX),
            random,
        }
    }

    /// Time of the next move, without taking it: walks to the segment that holds it.
    fn next_move(&mut self) -> Option<u64> {
        loop {
            let segment = self.segments.get(self.segment)?;
            let length = (segment.end_nanoseconds - segment.start_nanoseconds) as f64 / NANOSECONDS;
            let events = segment.rate_per_second * length;
            if self.ahead < events {
                let offset = self.ahead / segment.rate_per_second * NANOSECONDS;
                return Some((segment.start_nanoseconds + offset as u64).min(segment.end_nanoseconds - 1));
            }
            self.ahead -= events;
            self.segment += 1;
        }
    }

    fn take_move(&mut self, at_nanoseconds: u64) -> Intended {
        let segment = &self.segments[self.segment];
        let mut subject = Subject::Anywhere;
        if !segment.confined.is_empty() {
            let mut point = self.random.unit() * segment.rate_per_second;
            for &(burst, rate) in &segment.confined {
                if point < rate {
                    subject = Subject::InBurst { burst };
                    break;
                }
                point -= rate;
            }
        }
        self.ahead += match self.arrivals {
            Arrivals::Constant => 1.0,
            Arrivals::Poisson => self.random.exponential(),
        };
        Intended { at_nanoseconds, subject }
    }
}

impl Iterator for Walk {
    type Item = Intended;

    fn next(&mut self) -> Option<Intended> {
        if self.remaining == 0 {
            return None;
        }
        let next_move = self.next_move();
        let opening = self.openings.get(self.opening).copied();
        let intended = match (opening, next_move) {
            (Some((at_nanoseconds, burst, place)), time)
                if time.is_none_or(|time| at_nanoseconds <= time) =>
            {
                self.opening += 1;
                Intended { at_nanoseconds, subject: Subject::Opening { burst, place } }
            }
            (_, Some(time)) => self.take_move(time),
            (_, None) => return None,
        };
        self.remaining -= 1;
        Some(intended)
    }
}

/// Cuts the schedule where a rate changes.
fn segments(schedule: &Schedule) -> Vec<Segment> {
    let end = schedule.duration_nanoseconds;
    let mut cuts = vec![0, end];
    for burst in &schedule.bursts {
        cuts.push(burst.at_nanoseconds);
        cuts.push((burst.at_nanoseconds + burst.duration_nanoseconds).min(end));
    }
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2)
        .map(|cut| {
            let active = schedule.bursts.iter().enumerate().filter(|(_, burst)| {
                burst.at_nanoseconds <= cut[0] && cut[0] < burst.at_nanoseconds + burst.duration_nanoseconds
            });
            let mut segment = Segment {
                start_nanoseconds: cut[0],
                end_nanoseconds: cut[1],
                rate_per_second: schedule.rate_per_second,
                confined: Vec::new(),
            };
            for (index, burst) in active {
                segment.rate_per_second += burst.rate_per_second;
                if burst.districts.is_some() {
                    segment.confined.push((index, burst.rate_per_second));
                }
            }
            segment
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::Burst;

    const SECOND: u64 = 1_000_000_000;

    fn schedule(arrivals: Arrivals, rate_per_second: f64, bursts: Vec<Burst>) -> Schedule {
        Schedule { arrivals, rate_per_second, duration_nanoseconds: 10 * SECOND, events_max: None, bursts }
    }

    fn burst(at: u64, duration: u64, rate_per_second: f64, districts: Option<u32>) -> Burst {
        Burst {
            at_nanoseconds: at * SECOND,
            duration_nanoseconds: duration * SECOND,
            rate_per_second,
            districts,
        }
    }

    fn times(schedule: &Schedule) -> Vec<u64> {
        Walk::new(schedule, 7).map(|intended| intended.at_nanoseconds).collect()
    }

    #[test]
    fn constant_arrivals_have_even_gaps_from_the_first_moment() {
        let times = times(&schedule(Arrivals::Constant, 4.0, Vec::new()));
        assert_eq!(times.len(), 40);
        assert_eq!(&times[..3], &[0, SECOND / 4, SECOND / 2]);
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_and_vary_the_gaps() {
        let times = times(&schedule(Arrivals::Poisson, 1_000.0, Vec::new()));
        assert!((9_600..10_400).contains(&times.len()), "{} events", times.len());
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Of an exponential distribution the standard deviation is the mean.
        assert!((0.9..1.1).contains(&(variance.sqrt() / mean)));
    }

    #[test]
    fn a_burst_adds_its_rate_over_its_span_and_no_longer() {
        let times = times(&schedule(Arrivals::Constant, 10.0, vec![burst(2, 3, 90.0, None)]));
        let within = |from: u64, to: u64| {
            times.iter().filter(|&&time| (from * SECOND..to * SECOND).contains(&time)).count()
        };
        assert_eq!((within(0, 2), within(2, 5), within(5, 10)), (20, 300, 50));
    }

    #[test]
    fn a_burst_past_the_end_is_cut_there() {
        assert_eq!(times(&schedule(Arrivals::Constant, 0.0, vec![burst(9, 5, 100.0, None)])).len(), 100);
    }

    #[test]
    fn districts_open_in_one_instant_before_the_moves_in_them() {
        let schedule = schedule(Arrivals::Constant, 10.0, vec![burst(1, 2, 40.0, Some(10))]);
        let all: Vec<Intended> = Walk::new(&schedule, 7).collect();
        let openings: Vec<usize> =
            (0..all.len()).filter(|&index| matches!(all[index].subject, Subject::Opening { .. })).collect();
        assert_eq!(openings.len(), 10);
        assert!(openings.iter().all(|&index| all[index].at_nanoseconds == SECOND));
        let confined: Vec<usize> =
            (0..all.len()).filter(|&index| all[index].subject == Subject::InBurst { burst: 0 }).collect();
        assert!(confined.iter().all(|&index| index > openings[9]));
        // Of 100 moves in the span, four in five belong to the burst.
        assert!((65..=95).contains(&confined.len()), "{} confined", confined.len());
    }

    #[test]
    fn a_limit_of_events_ends_the_schedule() {
        let mut limited = schedule(Arrivals::Constant, 100.0, Vec::new());
        limited.events_max = Some(17);
        assert_eq!(times(&limited).len(), 17);
    }

    #[test]
    fn a_schedule_is_the_same_for_the_same_seed_only() {
        let schedule = schedule(Arrivals::Poisson, 100.0, Vec::new());
        let of = |seed| Walk::new(&schedule, seed).collect::<Vec<_>>();
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }
}
