//! The load generator: sends events on a schedule of its own, whatever the target does.
//!
//! Owns the thread that walks the schedule. Knows nothing of the engine that it loads.
//! Rules: an event is never sent before its intended time; one that is late is sent as
//! soon as it can be and keeps its intended time; none is left out, so that a stall of
//! the target shows in the latencies and not in the rate (no coordinated omission).
//! A sequence number is used only by an event that was handed to the target's client.

pub mod events;
pub mod kafka;
pub mod plan;
pub mod random;
pub mod report;
pub mod schedule;
pub mod tcp;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Error;
use events::{Events, Written};
use kafka::KafkaSender;
use plan::{Plan, Target};
use report::Counts;
use schedule::{Intended, Walk};
use tcp::TcpSender;

/// Longest sleep: a stop is noticed within it.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// One run, from its plan to its report.
pub struct LoadGenerator {
    plan: Arc<Plan>,
    run: Mutex<Option<Arc<Run>>>,
}

/// What the threads of a run share.
struct Run {
    counts: Arc<Counts>,
    stopping: AtomicBool,
    outcome: Mutex<Option<Result<String, Error>>>,
    ended: Condvar,
}

impl LoadGenerator {
    /// Reads and checks a plan.
    pub fn new(plan_json: &str) -> Result<LoadGenerator, Error> {
        Ok(LoadGenerator { plan: Arc::new(Plan::parse(plan_json)?), run: Mutex::new(None) })
    }

    /// Connects to the target and begins with the schedule.
    pub fn start(&self) -> Result<(), Error> {
        let mut slot = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() {
            return Err(Error::Engine("this load was started before; make another one".to_owned()));
        }
        let counts = Arc::new(Counts::default());
        let sender = Sender::connect(&self.plan, &counts)?;
        counts.begin();
        let run = Arc::new(Run {
            counts,
            stopping: AtomicBool::new(false),
            outcome: Mutex::new(None),
            ended: Condvar::new(),
        });
        let (plan, shared) = (Arc::clone(&self.plan), Arc::clone(&run));
        std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                let ended = End(Arc::clone(&shared));
                let report = drive(&plan, &sender, &shared);
                ended.set(Ok(report.to_string()));
            })
            .map_err(|error| Error::Engine(format!("no thread for the load: {error}")))?;
        *slot = Some(run);
        Ok(())
    }

    fn running(&self) -> Option<Arc<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The counts of now, as JSON.
    pub fn progress(&self) -> Result<String, Error> {
        let run = self.running().ok_or_else(not_started)?;
        Ok(run.counts.progress().to_string())
    }

    /// Waits for the end; false if the time is over first.
    pub fn wait(&self, timeout: Duration) -> Result<bool, Error> {
        let run = self.running().ok_or_else(not_started)?;
        let outcome = run.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let (outcome, _) = run
            .ended
            .wait_timeout_while(outcome, timeout, |outcome| outcome.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        Ok(outcome.is_some())
    }

    /// Ends the schedule now; what was sent is waited for.
    pub fn stop(&self) {
        if let Some(run) = self.running() {
            run.stopping.store(true, Ordering::Relaxed);
        }
    }

    /// The report of a run that has ended, as JSON.
    pub fn result(&self) -> Result<String, Error> {
        let run = self.running().ok_or_else(not_started)?;
        let outcome = run.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome
            .clone()
            .unwrap_or_else(|| Err(Error::Engine("the load has not ended; wait for it".to_owned())))
    }
}

impl Drop for LoadGenerator {
    fn drop(&mut self) {
        self.stop();
    }
}

fn not_started() -> Error {
    Error::Engine("this load was not started".to_owned())
}

/// Tells those who wait that the run has ended, also if its thread panicked.
struct End(Arc<Run>);

impl End {
    fn set(&self, outcome: Result<String, Error>) {
        let mut slot = self.0.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(outcome);
        self.0.ended.notify_all();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.set(Err(Error::Engine("the load's thread panicked".to_owned())));
    }
}

/// The target's client.
enum Sender {
    Kafka(KafkaSender),
    Tcp(TcpSender),
}

impl Sender {
    fn connect(plan: &Plan, counts: &Arc<Counts>) -> Result<Sender, Error> {
        match &plan.target {
            Target::Kafka(target) => {
                let timeout = Duration::from_millis(plan.acknowledge_timeout_milliseconds);
                KafkaSender::connect(target, plan.queue_events_max, timeout, Arc::clone(counts))
                    .map(Sender::Kafka)
            }
            Target::Tcp(target) => {
                TcpSender::connect(target, plan.queue_events_max, Arc::clone(counts)).map(Sender::Tcp)
            }
        }
    }

    fn send(
        &self,
        written: Written,
        payload: &[u8],
        key: &[u8],
        intended: u64,
        give_up: impl Fn() -> bool,
    ) -> Result<bool, Error> {
        match self {
            Sender::Kafka(sender) => sender.send(payload, key, intended, give_up),
            Sender::Tcp(sender) => sender.send(written, payload, intended, give_up),
        }
    }

    fn flush(&self, timeout: Duration) {
        match self {
            Sender::Kafka(sender) => sender.flush(timeout),
            Sender::Tcp(sender) => sender.flush(timeout),
        }
    }
}

/// Walks the schedule to its end and reports.
fn drive(plan: &Arc<Plan>, sender: &Sender, run: &Run) -> serde_json::Value {
    let counts = &run.counts;
    let timeout = Duration::from_millis(plan.acknowledge_timeout_milliseconds);
    let stopping = || run.stopping.load(Ordering::Relaxed);
    let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let begin_unix = now_unix.saturating_sub(counts.elapsed());
    let mut events = Events::new(Arc::clone(plan));
    let (mut payload, mut key) = (Vec::with_capacity(4096), Vec::with_capacity(32));
    let mut interrupted = false;
    for Intended { at_nanoseconds, subject } in Walk::new(&plan.schedule, plan.seed) {
        counts.await_event(at_nanoseconds);
        if !wait_until(counts, at_nanoseconds, stopping) {
            interrupted = true;
            break;
        }
        counts.take();
        let written = events.write(subject, begin_unix + at_nanoseconds, &mut payload, &mut key);
        // A stop doesn't give up at once: the queue may yet empty, within the usual time.
        let given_up_at = Instant::now() + timeout;
        let give_up = || stopping() && Instant::now() >= given_up_at;
        let sent = sender.send(written, &payload, &key, at_nanoseconds, give_up);
        if !matches!(sent, Ok(true)) {
            // What was sent before is still waited for and reported.
            events.take_back(written);
            interrupted = true;
            if let Err(error) = sent {
                counts.note_failure(&error.to_string());
            }
            break;
        }
        counts.send(at_nanoseconds);
    }
    counts.end_schedule();
    sender.flush(timeout);
    counts.result(plan, &events, counts.elapsed(), interrupted)
}

/// Sleeps until a moment of the run; false if it is told to stop first.
fn wait_until(counts: &Counts, at_nanoseconds: u64, stopping: impl Fn() -> bool) -> bool {
    loop {
        if stopping() {
            return false;
        }
        let left = at_nanoseconds.saturating_sub(counts.elapsed());
        if left == 0 {
            return true;
        }
        std::thread::sleep(Duration::from_nanos(left).min(SLEEP_MAX));
    }
}
