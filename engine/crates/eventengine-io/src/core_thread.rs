//! The core thread: a clock, a way of waiting and the core.
//!
//! Owns the pinned thread. It spins for a bounded time where a CPU is its own, then
//! parks; with one CPU it parks at once (`idling` says when). A declared service time is waited out without
//! burning CPU, because it stands for a program that uses its time elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use eventengine_core::core::{Core, Step};
use eventengine_core::executor::{EventOf, Executor};
use eventengine_core::program::Program;
use eventengine_core::stats::CoreStats;
use eventengine_core::watch::StallMeter;
use tikv_jemalloc_ctl::thread::{ThreadLocal, allocatedp};

use crate::affinity::{self, Placement};
use crate::clock::{monotonic_nanoseconds, sleep_precisely};
use crate::idling::{CORE_NAP_INTERVAL_NANOSECONDS, Idling, NAP, Waiting};
use crate::shared::Shared;

/// Longest park: bounds what a lost wake-up could cost.
const PARK: Duration = Duration::from_millis(20);

/// Longest park while the publisher has to catch up.
const BLOCKED_PARK: Duration = Duration::from_millis(1);

/// Steps after which the thread has warmed up: lazily made things exist.
const WARM_UP_STEPS: u64 = 10_000;

/// Events whose end one reading of the clock tells, at most.
const EVENTS_PER_READING_MAX: usize = 16;

/// How long they may take together.
const READING_INTERVAL_NANOSECONDS: u64 = 4_000;

/// Runs the core until the pipeline is stopped.
pub fn run<X: Executor, P: for<'payload> Program<EventOf<'payload, X>>>(
    shared: &Arc<Shared>,
    mut core: Core<X, P>,
    placement: &Placement,
) {
    shared.core_waker.attach();
    if let Some(cpu) = placement.core {
        let bound = affinity::bind(&[cpu]);
        shared.stats.cpu_plus_one.store(if bound { cpu as u32 + 1 } else { 0 }, Ordering::Relaxed);
        if !bound {
            crate::log::warning("core", &format!("could not be bound to CPU {cpu}"));
        }
    }
    sleep_precisely();
    let service = shared.config.program.service_time_nanoseconds;
    let mut allocations = Allocations::new();
    let mut steps = 0_u64;
    let mut now = monotonic_nanoseconds();
    let mut idle_since = now;
    let mut meter = StallMeter::new(now);
    let mut waiting = Waiting::new(placement.core_is_alone(), CORE_NAP_INTERVAL_NANOSECONDS, now);
    let mut timing = Timing::new(now);
    let stalls = &shared.stats.stalls;
    // Whether something was done that the others can't see yet.
    let mut unseen = true;
    while !shared.stop_pipeline.load(Ordering::Relaxed) {
        let step = core.step();
        steps += 1;
        if steps == WARM_UP_STEPS {
            allocations.begin();
        }
        match step {
            Step::Event { ingested_at_nanoseconds } => {
                unseen = true;
                timing.add(ingested_at_nanoseconds);
                if service > 0 {
                    meter.rests_until(now + service);
                    wait_until(shared, &mut core, now + service);
                }
                if service > 0 || timing.is_full() {
                    now = monotonic_nanoseconds();
                    timing.settle(now, &shared.stats);
                    waiting.stalled(meter.observe(now, stalls), now);
                    idle_since = now;
                }
            }
            Step::Control => {
                unseen = true;
                now = monotonic_nanoseconds();
                timing.settle(now, &shared.stats);
                waiting.stalled(meter.observe(now, stalls), now);
            }
            Step::Idle | Step::Blocked => {
                if std::mem::take(&mut unseen) {
                    flush(shared, &mut core);
                    allocations.tell(&shared.stats);
                }
                now = monotonic_nanoseconds();
                if timing.settle(now, &shared.stats) {
                    idle_since = now;
                }
                waiting.stalled(meter.observe(now, stalls), now);
                if step == Step::Blocked {
                    meter.rests_until(now + BLOCKED_PARK.as_nanos() as u64);
                    shared.core_waker.sleep(BLOCKED_PARK, || false);
                } else {
                    match waiting.next(now, idle_since) {
                        Idling::Spin => {
                            std::hint::spin_loop();
                            continue;
                        }
                        Idling::Nap => {
                            meter.rests_until(now + NAP.as_nanos() as u64);
                            std::thread::sleep(NAP);
                        }
                        Idling::Sleep => {
                            core.rest(now);
                            allocations.tell(&shared.stats);
                            meter.rests_until(now + PARK.as_nanos() as u64);
                            shared.core_waker.sleep(PARK, || !core.is_idle());
                        }
                    }
                }
                now = monotonic_nanoseconds();
                timing.settle(now, &shared.stats);
                waiting.slept(now);
                // A slow wake-up is a stall, too, but no reason for naps: they would be their own reason.
                meter.observe(now, stalls);
            }
        }
        if core.wants_flush() {
            flush(shared, &mut core);
            allocations.tell(&shared.stats);
        }
    }
    flush(shared, &mut core);
}

/// What the thread allocates after it has warmed up, by the allocator's own count.
struct Allocations {
    allocated: Option<ThreadLocal<u64>>,
    baseline: Option<u64>,
}

impl Allocations {
    fn new() -> Allocations {
        Allocations { allocated: allocatedp::read().ok(), baseline: None }
    }

    /// From here on they count.
    fn begin(&mut self) {
        self.baseline = self.allocated.as_ref().map(|allocated| allocated.get());
    }

    fn tell(&self, stats: &CoreStats) {
        if let (Some(allocated), Some(baseline)) = (&self.allocated, self.baseline) {
            stats.set_thread_allocated_bytes(allocated.get().saturating_sub(baseline));
        }
    }
}

/// Events that were done since the clock was read last.
///
/// Reading the clock takes as long as a part of an event. One reading ends several events, as many as a few
/// microseconds have; it counts for all of them, so that no event is said to have been faster than it was.
struct Timing {
    ingested_at_nanoseconds: [u64; EVENTS_PER_READING_MAX],
    events: usize,
    events_per_reading: usize,
    read_at_nanoseconds: u64,
}

impl Timing {
    fn new(now_nanoseconds: u64) -> Timing {
        Timing {
            ingested_at_nanoseconds: [0; EVENTS_PER_READING_MAX],
            events: 0,
            events_per_reading: 1,
            read_at_nanoseconds: now_nanoseconds,
        }
    }

    /// An event was done, and the clock was not read since. There is room unless [`Timing::is_full`].
    fn add(&mut self, ingested_at_nanoseconds: u64) {
        self.ingested_at_nanoseconds[self.events] = ingested_at_nanoseconds;
        self.events += 1;
    }

    fn is_full(&self) -> bool {
        self.events >= self.events_per_reading
    }

    /// The clock was read: records the events that were done by then. Says whether there were any.
    fn settle(&mut self, now_nanoseconds: u64, stats: &CoreStats) -> bool {
        let passed = now_nanoseconds.saturating_sub(self.read_at_nanoseconds);
        self.read_at_nanoseconds = now_nanoseconds;
        let done = &self.ingested_at_nanoseconds[..std::mem::take(&mut self.events)];
        if done.is_empty() {
            return false;
        }
        let each = passed / done.len() as u64;
        stats.service.record_many(each, done.len() as u64);
        for ingested_at_nanoseconds in done {
            stats.latency.record(now_nanoseconds.saturating_sub(*ingested_at_nanoseconds));
        }
        self.events_per_reading =
            ((READING_INTERVAL_NANOSECONDS / each.max(1)) as usize).clamp(1, EVENTS_PER_READING_MAX);
        true
    }
}

fn flush<X: Executor, P: for<'payload> Program<EventOf<'payload, X>>>(
    shared: &Shared,
    core: &mut Core<X, P>,
) {
    if core.flush() {
        shared.publisher_waker.wake();
    }
}

/// Waits for a time on the monotonic clock. What was done before is visible to the others meanwhile.
fn wait_until<X: Executor, P: for<'payload> Program<EventOf<'payload, X>>>(
    shared: &Shared,
    core: &mut Core<X, P>,
    due: u64,
) {
    flush(shared, core);
    loop {
        let now = monotonic_nanoseconds();
        if now >= due || shared.stop_pipeline.load(Ordering::Relaxed) {
            return;
        }
        std::thread::park_timeout(Duration::from_nanos(due - now));
    }
}

#[cfg(test)]
mod tests {
    use eventengine_core::histogram::Counts;

    use super::*;

    fn recorded(histogram: &eventengine_core::histogram::Histogram) -> Vec<(u64, u64)> {
        let mut counts = Counts::default();
        histogram.read(&mut counts);
        counts.buckets().collect()
    }

    #[test]
    fn one_reading_of_the_clock_ends_all_events_since_the_last_and_none_seems_faster_than_it_was() {
        let stats = CoreStats::new(1);
        let mut timing = Timing::new(1_000);
        timing.add(990);
        assert!(timing.is_full(), "how long events take is not known yet");
        assert!(timing.settle(1_100, &stats));
        assert_eq!((recorded(&stats.latency), recorded(&stats.service)), (vec![(110, 1)], vec![(100, 1)]));
        for ingested_at in [1_000, 1_050, 1_090] {
            assert!(!timing.is_full());
            timing.add(ingested_at);
        }
        assert!(timing.settle(1_100 + 30, &stats));
        assert_eq!(recorded(&stats.latency), [(40, 1), (80, 1), (110, 1), (130, 1)]);
        assert_eq!(recorded(&stats.service), [(10, 3), (100, 1)]);
        assert!(!timing.settle(9_000, &stats), "nothing was done since");
    }

    #[test]
    fn slow_events_are_timed_one_by_one() {
        let stats = CoreStats::new(1);
        let mut timing = Timing::new(0);
        timing.add(0);
        timing.settle(100, &stats);
        for _ in 0..EVENTS_PER_READING_MAX {
            assert!(!timing.is_full());
            timing.add(0);
        }
        assert!(timing.is_full());
        timing.settle(100 + 100_000, &stats);
        timing.add(0);
        assert!(timing.is_full());
    }
}
