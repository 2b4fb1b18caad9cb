//! What a load counts while it runs, and what it reports.
//!
//! Owns the clock of a run. The sender counts what it sends, the target's client what
//! is acknowledged, each from its own thread. Latency is taken from the intended time,
//! never from the time of sending: waiting in the generator is the target's doing, too.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use eventengine_core::histogram::{self, Histogram};
use serde_json::{Value, json};

use super::events::Events;
use super::plan::Plan;

/// Version of the result's form.
const RESULT_VERSION: u32 = 1;

/// A run's counts.
#[derive(Debug)]
pub struct Counts {
    begin: OnceLock<Instant>,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    errors: AtomicU64,
    taken: AtomicU64,
    next_intended: AtomicU64,
    scheduling: AtomicBool,
    /// Recorded by whichever thread hears from the target, one at a time.
    latency: Mutex<Histogram>,
    send_delay: Mutex<Histogram>,
    first_error: Mutex<Option<String>>,
    last_trouble: Mutex<Option<String>>,
    last_progress: Mutex<(Instant, u64)>,
}

/// A panic elsewhere leaves counts that are still counts.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn per_second(count: u64, nanoseconds: u64) -> f64 {
    if nanoseconds == 0 { 0.0 } else { count as f64 * 1e9 / nanoseconds as f64 }
}

impl Default for Counts {
    /// Nothing counted so far; the run's clock stands at zero.
    fn default() -> Counts {
        Counts {
            begin: OnceLock::new(),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            next_intended: AtomicU64::new(0),
            scheduling: AtomicBool::new(true),
            latency: Mutex::default(),
            send_delay: Mutex::default(),
            first_error: Mutex::default(),
            last_trouble: Mutex::default(),
            last_progress: Mutex::new((Instant::now(), 0)),
        }
    }
}

impl Counts {
    /// Starts the run's clock: the target is connected.
    pub fn begin(&self) {
        let begin = *self.begin.get_or_init(Instant::now);
        locked(&self.last_progress).0 = begin;
    }

    /// Nanoseconds since the begin.
    pub fn elapsed(&self) -> u64 {
        self.begin.get().map_or(0, |begin| begin.elapsed().as_nanos() as u64)
    }

    /// The event that is waited for next.
    pub fn await_event(&self, intended: u64) {
        self.next_intended.store(intended, Ordering::Relaxed);
    }

    /// An event left the schedule.
    pub fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// An event was handed to the target's client.
    pub fn send(&self, intended: u64) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        locked(&self.send_delay).record(self.elapsed().saturating_sub(intended));
    }

    /// The schedule is over.
    pub fn end_schedule(&self) {
        self.scheduling.store(false, Ordering::Relaxed);
    }

    /// The target has taken an event for good.
    pub fn acknowledge(&self, intended: u64) {
        locked(&self.latency).record(self.elapsed().saturating_sub(intended));
        self.acknowledged.fetch_add(1, Ordering::Release);
    }

    /// An event failed for good.
    pub fn fail(&self, error: &str) {
        self.note_failure(error);
        self.errors.fetch_add(1, Ordering::Release);
    }

    /// Something failed that is no event on its way.
    pub fn note_failure(&self, error: &str) {
        locked(&self.first_error).get_or_insert_with(|| error.to_owned());
    }

    /// The client is in trouble that may pass, such as a broker that is away.
    pub fn note_trouble(&self, trouble: &str) {
        *locked(&self.last_trouble) = Some(trouble.to_owned());
    }

    /// Events that were sent and of which nothing was heard yet.
    pub fn in_flight(&self) -> u64 {
        let settled = self.acknowledged.load(Ordering::Acquire) + self.errors.load(Ordering::Acquire);
        self.sent.load(Ordering::Relaxed).saturating_sub(settled)
    }

    /// The counts of now, for one line a second.
    pub fn progress(&self) -> Value {
        let now = Instant::now();
        let acknowledged = self.acknowledged.load(Ordering::Acquire);
        let (since, before) = std::mem::replace(&mut *locked(&self.last_progress), (now, acknowledged));
        let span = now.duration_since(since).as_nanos() as u64;
        let elapsed = self.elapsed();
        let scheduling = self.scheduling.load(Ordering::Relaxed);
        let behind = elapsed.saturating_sub(self.next_intended.load(Ordering::Relaxed));
        json!({
            "elapsed_nanoseconds": elapsed,
            "intended": self.taken.load(Ordering::Relaxed),
            "sent": self.sent.load(Ordering::Relaxed),
            "acknowledged": acknowledged,
            "errors": self.errors.load(Ordering::Acquire),
            "in_flight": self.in_flight(),
            "acknowledged_per_second": per_second(acknowledged.saturating_sub(before), span),
            "behind_nanoseconds": if scheduling { behind } else { 0 },
            "trouble": *locked(&self.last_trouble),
        })
    }

    /// The report at the end of a run.
    pub fn result(&self, plan: &Plan, events: &Events, end_nanoseconds: u64, interrupted: bool) -> Value {
        let sent = self.sent.load(Ordering::Relaxed);
        let acknowledged = self.acknowledged.load(Ordering::Acquire);
        let producers: Vec<Value> = events
            .last_sequences()
            .map(|(producer, last_sequence)| json!({"producer": producer, "last_sequence": last_sequence}))
            .collect();
        json!({
            "version": RESULT_VERSION,
            "seed": plan.seed,
            "key": plan.key,
            "hunt": plan.hunt,
            "schedule": plan.schedule,
            "producers": producers,
            "malformed": events.malformed(),
            "intended": self.taken.load(Ordering::Relaxed),
            "sent": sent,
            "acknowledged": acknowledged,
            "unacknowledged": self.taken.load(Ordering::Relaxed).saturating_sub(acknowledged),
            "errors": self.errors.load(Ordering::Acquire),
            "first_error": locked(&self.first_error).clone().or_else(|| locked(&self.last_trouble).clone()),
            "elapsed_nanoseconds": end_nanoseconds,
            "acknowledged_per_second": per_second(acknowledged, end_nanoseconds),
            "latency": figures(&locked(&self.latency)),
            "send_delay": figures(&locked(&self.send_delay)),
            "interrupted": interrupted,
        })
    }
}

/// The figures of a histogram that reports show.
fn figures(histogram: &Histogram) -> Value {
    let mut counts = histogram::Counts::default();
    histogram.read(&mut counts);
    json!({
        "count": counts.total(),
        "p50_nanoseconds": counts.quantile(0.5),
        "p99_nanoseconds": counts.quantile(0.99),
        "p999_nanoseconds": counts.quantile(0.999),
        "max_nanoseconds": counts.greatest(),
    })
}
