//! What the threads of one engine share.
//!
//! Owns health, counters, the pipeline's generation and the acknowledgement of barriers.
//! Nothing here is touched by the core thread but atomics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use eventengine_core::pool::Pool;
use eventengine_core::ring::{Gauge, PRIORITIES};
use eventengine_core::stats::CoreStats;

use crate::alerts::Alerts;
use crate::config::{Config, Identity, SOURCES_MAX};
use crate::executors::WorkerReport;
use crate::wake::Waker;

/// Locks a mutex; a panic of another holder is no reason to stop reporting.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the engine takes events, component by component.
#[derive(Debug, Default)]
pub struct Health {
    reasons: Mutex<BTreeMap<&'static str, String>>,
    dead: Mutex<Option<String>>,
}

/// The answer to "are you ready?".
#[derive(Debug, Clone, serde::Serialize)]
pub struct Readiness {
    /// Takes events.
    pub ready: bool,
    /// Should go on living.
    pub live: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

impl Health {
    /// A component isn't ready, and why. Logged when the reason changes.
    pub fn not_ready(&self, component: &'static str, reason: impl Into<String>) {
        let reason = crate::log::without_secrets(&reason.into());
        let former = lock(&self.reasons).insert(component, reason.clone());
        if former.as_ref() != Some(&reason) {
            crate::log::warning(component, &format!("not ready: {reason}"));
        }
    }

    /// As [`Health::not_ready`], but a reason that is shown already stays: the first one says more.
    pub fn not_ready_yet(&self, component: &'static str, reason: impl Into<String>) {
        let known = lock(&self.reasons).contains_key(component);
        if !known {
            self.not_ready(component, reason);
        }
    }

    /// A component is ready.
    pub fn ready(&self, component: &'static str) {
        if lock(&self.reasons).remove(component).is_some() {
            crate::log::info(component, "ready");
        }
    }

    /// The engine can't go on and has to be started anew.
    pub fn dead(&self, reason: impl Into<String>) {
        let reason = crate::log::without_secrets(&reason.into());
        crate::log::error("engine", &format!("can't go on: {reason}"));
        lock(&self.dead).get_or_insert(reason);
    }

    /// Health as of now.
    pub fn readiness(&self) -> Readiness {
        let mut reasons: Vec<String> =
            lock(&self.reasons).iter().map(|(component, reason)| format!("{component}: {reason}")).collect();
        let dead = lock(&self.dead).clone();
        let live = dead.is_none();
        reasons.extend(dead);
        Readiness { ready: reasons.is_empty(), live, reasons }
    }
}

/// Acknowledges barriers: how far everything is committed.
#[derive(Debug, Default)]
pub struct Commits {
    done: Mutex<u64>,
    changed: Condvar,
}

impl Commits {
    /// Everything before the barrier `ticket` is committed.
    pub fn done(&self, ticket: u64) {
        let mut done = lock(&self.done);
        *done = ticket.max(*done);
        self.changed.notify_all();
    }

    /// Wakes waiters so that they look at what they wait for besides.
    pub fn disturb(&self) {
        let _done = lock(&self.done);
        self.changed.notify_all();
    }

    /// Waits until `ticket` is committed; false if `hopeless` or the deadline comes first.
    pub fn wait(&self, ticket: u64, deadline: Instant, hopeless: impl Fn() -> bool) -> bool {
        let mut done = lock(&self.done);
        loop {
            if *done >= ticket {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || hopeless() {
                return false;
            }
            let slice = left.min(Duration::from_millis(50));
            done = self.changed.wait_timeout(done, slice).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// State of an owned partition, as it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionPhase {
    /// Its state is being read from the changelog.
    Restoring,
    /// Its events are applied.
    Running,
}

/// An owned partition, as it is reported.
#[derive(Debug, Clone, Copy)]
pub struct PartitionReport {
    /// Restoring or running.
    pub phase: PartitionPhase,
    /// When it was assigned, in Unix time.
    pub assigned_at_seconds: i64,
    /// Where it will begin, known before the core has it.
    pub start: Option<i64>,
}

/// Last stable offset of a partition, and when it was asked.
#[derive(Debug, Clone, Copy)]
pub struct StableOffset {
    /// The offset.
    pub offset: i64,
    /// Next offset to apply when it was asked for, if that was known.
    pub position: Option<i64>,
    /// When the answer came.
    pub at: Instant,
}

/// Figures of the Kafka source.
#[derive(Debug, Default)]
pub struct KafkaReport {
    /// Partitions of the topic.
    pub partitions_total: AtomicUsize,
    /// The owned partitions.
    pub owned: Mutex<BTreeMap<i32, PartitionReport>>,
    /// What the brokers said last.
    pub stable: Mutex<BTreeMap<i32, StableOffset>>,
    /// When a broker last answered.
    pub answered: Mutex<Option<Instant>>,
}

impl KafkaReport {
    /// A broker answered just now.
    pub fn saw_broker(&self) {
        *lock(&self.answered) = Some(Instant::now());
    }

    /// Whether a broker answered in the last seconds.
    pub fn connected(&self) -> bool {
        lock(&self.answered).is_some_and(|at| at.elapsed() < Duration::from_secs(5))
    }
}

/// Totals since the start, but those of the core.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events taken from sources.
    pub events_in: AtomicU64,
    /// Output records in committed transactions.
    pub outputs_committed: AtomicU64,
    /// Committed transactions.
    pub transactions_committed: AtomicU64,
    /// Aborted transactions.
    pub transactions_aborted: AtomicU64,
    /// Heap profiles written.
    pub heap_profiles_written: AtomicU64,
    /// Direct events that were refused because a threshold was passed, by source and priority.
    pub shed: [[AtomicU64; PRIORITIES]; SOURCES_MAX],
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    /// Counts an error of a kind.
    pub fn error(&self, kind: &'static str) {
        *lock(&self.errors).entry(kind).or_default() += 1;
    }

    /// Errors by kind.
    pub fn errors(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.errors).clone()
    }
}

/// One ring as it is reported.
#[derive(Clone)]
pub struct RingReport {
    /// Name in metrics.
    pub name: String,
    /// Its lanes.
    pub lanes: Vec<Gauge>,
    /// Descriptors that may wait in it, at most.
    pub bound: usize,
}

/// Everything that threads share.
pub struct Shared {
    /// What the engine was told.
    pub config: Config,
    /// Who it is.
    pub identity: Identity,
    /// When it started, in Unix time.
    pub started_at_seconds: i64,
    /// Whether it takes events.
    pub health: Health,
    /// The slab.
    pub pool: Arc<Pool>,
    /// What the core says of itself.
    pub stats: Arc<CoreStats>,
    /// The rings.
    pub rings: Vec<RingReport>,
    /// Totals.
    pub counters: Counters,
    /// Limits that were crossed.
    pub alerts: Alerts,
    /// The Kafka source.
    pub kafka: KafkaReport,
    /// How far everything is committed.
    pub commits: Commits,
    /// Doorbell of the core thread.
    pub core_waker: Waker,
    /// Threads that parse beside the core thread.
    pub workers: Vec<WorkerReport>,
    /// Doorbell of the publisher.
    pub publisher_waker: Waker,
    /// Set by the publisher to ask the core for a cut.
    pub cut_requested: Arc<AtomicBool>,
    /// The publisher holds nothing that is not committed.
    pub publisher_settled: AtomicBool,
    /// Sources are to stop fetching and to leave.
    pub stop_sources: AtomicBool,
    /// The core and the publisher are to stop.
    pub stop_pipeline: AtomicBool,
    /// Everything else is to stop.
    pub stop_all: AtomicBool,
    requested_generation: AtomicU64,
}

impl Shared {
    /// What the threads of an engine will share.
    pub fn new(
        config: Config,
        identity: Identity,
        pool: Arc<Pool>,
        stats: Arc<CoreStats>,
        rings: Vec<RingReport>,
    ) -> Shared {
        Shared {
            config,
            identity,
            started_at_seconds: crate::clock::wall_seconds(),
            health: Health::default(),
            pool,
            stats,
            rings,
            counters: Counters::default(),
            alerts: Alerts::default(),
            kafka: KafkaReport::default(),
            commits: Commits::default(),
            core_waker: Waker::default(),
            workers: Vec::new(),
            publisher_waker: Waker::default(),
            cut_requested: Arc::new(AtomicBool::new(false)),
            publisher_settled: AtomicBool::new(true),
            stop_sources: AtomicBool::new(false),
            stop_pipeline: AtomicBool::new(false),
            stop_all: AtomicBool::new(false),
            requested_generation: AtomicU64::new(0),
        }
    }

    /// The generation that the pipeline has to be in. One that is behind has to be reset: see `kafka::publisher`.
    pub fn requested_generation(&self) -> u64 {
        self.requested_generation.load(Ordering::Acquire)
    }

    /// Asks for a reset of everything that is in `generation`. Asking again changes nothing.
    pub fn request_reset(&self, generation: u64) {
        self.requested_generation.fetch_max(generation + 1, Ordering::AcqRel);
        self.commits.disturb();
        self.publisher_waker.wake();
        self.core_waker.wake();
    }

    /// Wakes whoever parses and applies events, once they are visible in the rings.
    pub fn wake_for_events(&self) {
        self.workers.iter().for_each(|worker| worker.waker.wake());
        self.core_waker.wake();
    }

    /// Sleeps in slices until `duration` is over or `stop` is set; true if it was set.
    pub fn pause(&self, duration: Duration, stop: &AtomicBool) -> bool {
        let end = Instant::now() + duration;
        while !stop.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        true
    }
}

/// A growing pause between two tries.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The first pause.
    const FIRST: Duration = Duration::from_millis(200);
    /// No pause is longer.
    const LONGEST: Duration = Duration::from_secs(5);

    /// A fresh one.
    pub fn new() -> Backoff {
        Backoff { next: Backoff::FIRST }
    }

    /// The pause to make now; the next is twice as long.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(Backoff::LONGEST);
        pause
    }
}
