//! What takes more than one reading: latencies of the last seconds, rates by thread, growth of memory, alerts.
//!
//! Owns the state between two samples; only the sampling thread touches it. Closed once a second, before the sample.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use eventengine_core::histogram::Counts;
use serde::Serialize;

use crate::alerts::Alert;
use crate::allocation::{self, ThreadTotals};
use crate::growth::{Growth, GrowthPart};
use crate::shared::Shared;
use crate::snapshot::SAMPLES_KEPT;
use crate::system;

/// Growth is measured once the engine has taken what it takes at its start.
const WARM_UP: Duration = Duration::from_secs(60);

/// Ingest to applied, over the last seconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LatencyPart {
    pub count: u64,
    pub p50_nanoseconds: u64,
    pub p99_nanoseconds: u64,
    pub p999_nanoseconds: u64,
    pub max_nanoseconds: u64,
    pub service_p99_nanoseconds: u64,
    pub window_seconds: u64,
}

/// What one named thread allocated, since the start and in the last second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ThreadPart {
    pub name: String,
    pub allocations: u64,
    pub allocated_bytes: u64,
    pub allocations_per_second: Option<f64>,
    pub allocated_bytes_per_second: Option<f64>,
}

/// What was closed last.
#[derive(Debug, Clone, Default)]
pub struct Closed {
    pub latency: LatencyPart,
    pub threads: Vec<ThreadPart>,
    pub growth: Option<GrowthPart>,
}

/// State between two seconds.
pub struct Window {
    begun: Instant,
    last_latency: Counts,
    last_service: Counts,
    latencies: VecDeque<(Counts, Counts)>,
    last_threads: Option<(Instant, Vec<ThreadTotals>)>,
    growth: Growth,
    growing: bool,
    stalls: u64,
    rollbacks: u64,
    fragmented: u64,
}

impl Window {
    /// Begins with what the engine has counted so far.
    pub fn new(shared: &Shared, now: Instant) -> Window {
        let window_seconds = shared.config.monitoring.rss_flatness_window_nanoseconds / 1_000_000_000;
        Window {
            begun: now,
            last_latency: Counts::default(),
            last_service: Counts::default(),
            latencies: VecDeque::new(),
            last_threads: None,
            growth: Growth::new(window_seconds),
            growing: false,
            stalls: 0,
            rollbacks: 0,
            fragmented: 0,
        }
    }

    /// Closes a second.
    pub fn close(&mut self, shared: &Shared, wall_seconds: i64, now: Instant) -> Closed {
        let closed =
            Closed { latency: self.latency(shared), threads: self.threads(now), growth: self.growth(now) };
        self.raise_alerts(shared, closed.growth, wall_seconds, now);
        closed
    }

    fn latency(&mut self, shared: &Shared) -> LatencyPart {
        let (mut latency, mut service) = (Counts::default(), Counts::default());
        shared.stats.latency.read(&mut latency);
        shared.stats.service.read(&mut service);
        self.latencies.push_back((latency.since(&self.last_latency), service.since(&self.last_service)));
        (self.last_latency, self.last_service) = (latency, service);
        if self.latencies.len() > SAMPLES_KEPT {
            self.latencies.pop_front();
        }
        let (mut latency, mut service) = (Counts::default(), Counts::default());
        for (more_latency, more_service) in &self.latencies {
            latency.add(more_latency);
            service.add(more_service);
        }
        LatencyPart {
            count: latency.total(),
            p50_nanoseconds: latency.quantile(0.5),
            p99_nanoseconds: latency.quantile(0.99),
            p999_nanoseconds: latency.quantile(0.999),
            max_nanoseconds: latency.greatest(),
            service_p99_nanoseconds: service.quantile(0.99),
            window_seconds: self.latencies.len() as u64,
        }
    }

    fn threads(&mut self, now: Instant) -> Vec<ThreadPart> {
        let totals = allocation::totals();
        let last = self.last_threads.replace((now, totals.clone()));
        totals.into_iter().map(|thread| rated(thread, last.as_ref(), now)).collect()
    }

    fn growth(&mut self, now: Instant) -> Option<GrowthPart> {
        let measured_for = now.duration_since(self.begun).checked_sub(WARM_UP)?;
        self.growth.observe(measured_for.as_secs(), system::rss_bytes())
    }

    fn raise_alerts(&mut self, shared: &Shared, growth: Option<GrowthPart>, wall_seconds: i64, now: Instant) {
        let stats = &shared.stats;
        let (stalls, rollbacks) = (stats.stalls.over_limit(), stats.rollbacks.over_limit());
        let longest = milliseconds(stats.stalls.take_longest());
        let message = format!(
            "the core thread did not go on for up to {longest}; the limit is {} (monitoring.gcPauseAlertMs)",
            milliseconds(stats.stalls.limit())
        );
        let raise = |alert, times, message: &str| {
            shared.alerts.raise(alert, times, message, wall_seconds, now);
        };
        raise(Alert::CoreStall, stalls - std::mem::replace(&mut self.stalls, stalls), &message);
        let longest = milliseconds(stats.rollbacks.take_longest());
        let message = format!(
            "a rollback took {longest}; the limit is {} (monitoring.rollbackSlaMs)",
            milliseconds(stats.rollbacks.limit())
        );
        raise(Alert::RollbackSla, rollbacks - std::mem::replace(&mut self.rollbacks, rollbacks), &message);
        let fragmented = stats.arena_fragmented.get();
        let message = format!(
            "fragmentation rose above arena.fragmentationThreshold ({}): slots are moved together while the core \
             has nothing else to do ({} so far)",
            shared.config.arena.fragmentation_threshold,
            stats.arena_moved.get()
        );
        let times = fragmented - std::mem::replace(&mut self.fragmented, fragmented);
        raise(Alert::ArenaFragmentation, times, &message);
        let limit = shared.config.monitoring.rss_growth_alert_ratio;
        let grows = growth.is_some_and(|growth| growth.growth_ratio > limit);
        if let Some(growth) = growth.filter(|_| grows && !self.growing) {
            let message = format!(
                "resident memory grew by {} bytes ({:.1} %) over {} s; the limit is {:.1} % \
                 (monitoring.rssGrowthAlertRatio)",
                growth.growth_bytes,
                growth.growth_ratio * 100.0,
                growth.window_seconds,
                limit * 100.0
            );
            raise(Alert::RssGrowth, 1, &message);
        }
        self.growing = grows;
    }
}

/// A thread's totals with its rates since the last second; none for a thread that wasn't there.
fn rated(thread: ThreadTotals, last: Option<&(Instant, Vec<ThreadTotals>)>, now: Instant) -> ThreadPart {
    let before = last.and_then(|(at, threads)| {
        let before = threads.iter().find(|before| before.name == thread.name)?;
        let seconds = now.duration_since(*at).as_secs_f64();
        (seconds > 0.0).then_some((before, seconds))
    });
    ThreadPart {
        allocations_per_second: before
            .map(|(before, seconds)| (thread.allocations - before.allocations) as f64 / seconds),
        allocated_bytes_per_second: before
            .map(|(before, seconds)| (thread.bytes - before.bytes) as f64 / seconds),
        name: thread.name,
        allocations: thread.allocations,
        allocated_bytes: thread.bytes,
    }
}

fn milliseconds(nanoseconds: u64) -> String {
    format!("{:.1} ms", nanoseconds as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(allocations: u64, bytes: u64) -> ThreadTotals {
        ThreadTotals { name: "ee-tcp".to_owned(), allocations, bytes }
    }

    #[test]
    fn a_rate_is_known_from_the_second_reading_on() {
        let begun = Instant::now();
        let first = rated(totals(10, 1000), None, begun);
        assert_eq!((first.allocations, first.allocations_per_second), (10, None));
        let last = (begun, vec![totals(10, 1000)]);
        let second = rated(totals(30, 5000), Some(&last), begun + Duration::from_secs(2));
        assert_eq!(second.allocations_per_second, Some(10.0));
        assert_eq!(second.allocated_bytes_per_second, Some(2000.0));
        let stranger = rated(ThreadTotals { name: "ee-lag".to_owned(), ..totals(1, 1) }, Some(&last), begun);
        assert_eq!(stranger.allocations_per_second, None);
    }

    #[test]
    fn durations_are_told_in_milliseconds() {
        assert_eq!(milliseconds(5_000_000), "5.0 ms");
        assert_eq!(milliseconds(12_345_678), "12.3 ms");
    }
}
