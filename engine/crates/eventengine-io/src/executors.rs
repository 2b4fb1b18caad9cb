//! Executors as threads: the core's body and the workers that parse for it, made from the configuration.
//!
//! Owns the choice of the executor, which is made once, at construction: each body is
//! compiled for its schema, program and executor. A worker spins for a bounded time where
//! its CPU is its own, then parks; whoever publishes events wakes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use eventengine_core::arena::Arena;
use eventengine_core::core::{Core, Parts};
use eventengine_core::executor::Feeds;
use eventengine_core::executor::pinned::{BEHIND_EVENTS, pinned};
use eventengine_core::executor::work_stealing::{WORKERS_MAX, Worker, work_stealing};
use eventengine_core::identifiers::Identifiers;
use eventengine_core::program::{Program, Schema};
use eventengine_core::stats::Counter;

use crate::affinity::{self, Placement};
use crate::config::{Config, Executor, Identity};
use crate::core_thread;
use crate::shared::Shared;
use crate::wake::Waker;
use crate::{Error, log};

/// Looks for events that long before it parks, where the CPU is its own.
const SPIN: Duration = Duration::from_micros(50);

/// Longest park: bounds what a lost wake-up could cost.
const PARK: Duration = Duration::from_millis(20);

/// What a thread is to run.
pub(crate) type Body = Box<dyn FnOnce(&Arc<Shared>, &Placement) + Send>;

/// The threads between the rings, none of them started, and what I/O threads need of them.
pub(crate) struct Machine {
    /// The core thread's.
    pub(crate) core: Body,
    /// The workers', none in the pinned executor.
    pub(crate) workers: Vec<Body>,
    /// One for each I/O thread.
    pub(crate) feeds: Feeds,
    /// What the workers will say of themselves; to be shared before they start.
    pub(crate) reports: Vec<WorkerReport>,
}

/// What a worker says of itself.
#[derive(Debug, Default)]
pub struct WorkerReport {
    /// Its doorbell.
    pub waker: Waker,
    /// Events that it parsed.
    pub parsed: Arc<Counter>,
    /// Number of the CPU that it is bound to, plus one; zero if to none.
    pub cpu_plus_one: AtomicU32,
}

/// Where the threads go. Refuses an executor that the process has no cores for.
pub(crate) fn place(config: &Config, identity: &Identity) -> Result<Placement, Error> {
    let allowed = affinity::allowed_cpus();
    let cores = affinity::cores(&allowed, identity.cpu_limit_millicores);
    let placement = affinity::place(&allowed, identity.pinning != "Off", cores);
    match config.executor {
        Executor::Pinned => Ok(placement),
        Executor::WorkStealing if cores >= 2 => Ok(placement.with_workers(WORKERS_MAX)),
        Executor::WorkStealing => {
            let limit =
                identity.cpu_limit_millicores.map_or_else(|| "none".to_owned(), |limit| format!("{limit}m"));
            Err(Error::Configuration {
                path: "executor".to_owned(),
                message: format!(
                    "work-stealing needs two CPU cores, and this process has one (CPUs {}, CPU limit {limit}): \
                     give it more cores, or say `executor: pinned`",
                    affinity::list_format(&allowed),
                ),
            })
        }
    }
}

/// Binds schema, program and the placement's executor together.
pub(crate) fn assemble<S, P>(
    placement: &Placement,
    schema: S,
    program: P,
    arena: Arena,
    identifiers: Identifiers,
    parts: Parts,
) -> Machine
where
    S: Schema + 'static,
    P: for<'payload> Program<S::Event<'payload>> + 'static,
{
    if placement.workers == 0 {
        let (executor, feeds) = pinned(schema, &parts.pool, parts.inputs.len(), BEHIND_EVENTS);
        let mut core = Core::new(executor, program, arena, parts);
        core.count_identifiers(identifiers);
        let core: Body = Box::new(move |shared, placement| core_thread::run(shared, core, placement));
        return Machine { core, workers: Vec::new(), feeds, reports: Vec::new() };
    }
    let (executor, crew, feeds) =
        work_stealing(schema, &parts.pool, placement.workers, parts.inputs.len().max(1));
    let report = |worker: &Worker<S>| WorkerReport { parsed: worker.parsed(), ..WorkerReport::default() };
    let reports = crew.iter().map(report).collect();
    let mut core = Core::new(executor, program, arena, parts);
    core.count_identifiers(identifiers);
    let core: Body = Box::new(move |shared, placement| core_thread::run(shared, core, placement));
    let workers = crew.into_iter().enumerate().map(|(index, worker)| {
        let body: Body = Box::new(move |shared, placement| work(shared, placement, index, worker));
        body
    });
    Machine { core, workers: workers.collect(), feeds, reports }
}

/// A worker's thread: parses until the pipeline is stopped.
fn work<S: Schema>(shared: &Shared, placement: &Placement, index: usize, mut worker: Worker<S>) {
    let report = &shared.workers[index];
    report.waker.attach();
    if let Some(&cpu) = placement.worker_cpus.get(index) {
        let bound = affinity::bind(&[cpu]);
        report.cpu_plus_one.store(if bound { cpu as u32 + 1 } else { 0 }, Ordering::Relaxed);
        if !bound {
            log::warning("worker", &format!("worker {index} could not be bound to CPU {cpu}"));
        }
    }
    let spin = if placement.worker_is_alone(index) { SPIN } else { Duration::ZERO };
    while !shared.stop_pipeline.load(Ordering::Relaxed) {
        if worker.step() {
            shared.core_waker.wake();
            continue;
        }
        let idle_since = Instant::now();
        while worker.is_idle() && idle_since.elapsed() < spin {
            std::hint::spin_loop();
        }
        if worker.is_idle() {
            report.waker.sleep(PARK, || !worker.is_idle());
        }
    }
}
