//! The core thread: a clock, a way of waiting and the core.
//!
//! Owns the pinned thread. It spins for a bounded time where a CPU is its own, then
//! parks; with one CPU it parks at once. A declared service time is waited out without
//! burning CPU, because it stands for a program that uses its time elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use eventengine_core::core::{Core, Step};
use eventengine_core::executor::{EventOf, Executor};
use eventengine_core::program::Program;
use eventengine_core::watch::StallMeter;

use crate::affinity::{self, Placement};
use crate::clock::monotonic_nanoseconds;
use crate::shared::Shared;

/// Looks for work that long before it parks, where the CPU is its own.
const SPIN_NANOSECONDS: u64 = 50_000;

/// Longest park: bounds what a lost wake-up could cost.
const PARK: Duration = Duration::from_millis(20);

/// Longest park while the publisher has to catch up.
const BLOCKED_PARK: Duration = Duration::from_millis(1);

/// Steps after which the thread has warmed up: lazily made things exist.
const WARM_UP_STEPS: u64 = 10_000;

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
    let spin = if placement.core_is_alone() { SPIN_NANOSECONDS } else { 0 };
    let service = shared.config.program.service_time_nanoseconds;
    let allocated = tikv_jemalloc_ctl::thread::allocatedp::read().ok();
    let mut baseline = allocated.as_ref().map_or(0, |pointer| pointer.get());
    let mut steps = 0_u64;
    let mut now = monotonic_nanoseconds();
    let mut idle_since = now;
    let mut meter = StallMeter::new(now);
    let stalls = &shared.stats.stalls;
    while !shared.stop_pipeline.load(Ordering::Relaxed) {
        let step = core.step();
        match step {
            Step::Event { ingested_at_nanoseconds } => {
                let started = now;
                if service > 0 {
                    meter.rests_until(started + service);
                    wait_until(shared, &mut core, started + service);
                }
                now = monotonic_nanoseconds();
                shared.stats.service.record(now.saturating_sub(started));
                shared.stats.latency.record(now.saturating_sub(ingested_at_nanoseconds));
                idle_since = now;
            }
            Step::Control => now = monotonic_nanoseconds(),
            Step::Idle | Step::Blocked => {
                flush(shared, &mut core);
                now = monotonic_nanoseconds();
                meter.observe(now, stalls);
                if step == Step::Blocked {
                    meter.rests_until(now + BLOCKED_PARK.as_nanos() as u64);
                    shared.core_waker.sleep(BLOCKED_PARK, || false);
                } else if now.saturating_sub(idle_since) < spin {
                    std::hint::spin_loop();
                } else {
                    core.rest(now);
                    meter.rests_until(now + PARK.as_nanos() as u64);
                    shared.core_waker.sleep(PARK, || !core.is_idle());
                }
                now = monotonic_nanoseconds();
            }
        }
        meter.observe(now, stalls);
        if core.wants_flush() {
            flush(shared, &mut core);
        }
        steps += 1;
        if let Some(pointer) = &allocated {
            if steps == WARM_UP_STEPS {
                baseline = pointer.get();
            }
            if steps > WARM_UP_STEPS {
                shared.stats.set_thread_allocated_bytes(pointer.get().saturating_sub(baseline));
            }
        }
    }
    flush(shared, &mut core);
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
