//! The Rust peer: a bounded tokio channel between the injecting thread and one task that owns the state, on the
//! multi-thread runtime; payloads decoded by serde_json into a borrowing struct.
//!
//! It prints the document that every measured system prints, and takes the same arguments; tests/benchmarks/native
//! has the reference of both, and of the schedule.

mod hunt;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Instant;

use hdrhistogram::Histogram;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::hunt::{Event, Hunt};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const QUEUE_SLOTS: usize = 1 << 16;
const SECOND: u64 = 1_000_000_000;
const LONGEST: u64 = 60 * SECOND;
const BEHIND_MAX: u64 = SECOND;

/// When events are due: in each period a burst at its begin, the rest evenly.
#[derive(Clone, Copy)]
struct Schedule {
    period: u64,
    events: u64,
    burst: u64,
}

impl Schedule {
    fn new(rate: u64, burst: u64, period_milliseconds: u64) -> Schedule {
        let period = period_milliseconds * 1_000_000;
        let events = rate * period / SECOND;
        Schedule { period, events, burst: burst.min(events) }
    }

    fn events_in(&self, seconds: u64) -> u64 {
        self.events * (seconds * SECOND / self.period)
    }

    fn due(&self, event: u64) -> u64 {
        let (start, place) = (event / self.events * self.period, event % self.events);
        if place < self.burst {
            start
        } else {
            start + (place - self.burst) * self.period / (self.events - self.burst)
        }
    }
}

struct Message {
    payload: Vec<u8>,
    intended: u64,
}

/// What the working task found in one phase.
struct Outcome {
    completed: u64,
    refused: u64,
    output_bytes: u64,
    elapsed: u64,
    latency: Histogram<u64>,
    hunt: Hunt,
}

struct Phase {
    offered: u64,
    overrun: bool,
    outcome: Outcome,
}

struct Run {
    origin: Instant,
    payloads: Vec<Vec<u8>>,
    next: usize,
}

/// Owns the state until the channel is closed.
async fn work(mut queue: mpsc::Receiver<Message>, origin: Instant, begin: u64, hunt: Hunt) -> Outcome {
    let latency = Histogram::new_with_bounds(1, LONGEST, 3).expect("constant bounds are valid");
    let mut outcome = Outcome { completed: 0, refused: 0, output_bytes: 0, elapsed: 0, latency, hunt };
    let mut output = Vec::with_capacity(1024);
    while let Some(message) = queue.recv().await {
        output.clear();
        let applied = serde_json::from_slice::<Event<'_>>(&message.payload)
            .is_ok_and(|event| outcome.hunt.apply(&event, &mut output));
        let now = origin.elapsed().as_nanos() as u64;
        if applied {
            outcome.output_bytes += output.len() as u64;
        } else {
            outcome.refused += 1;
        }
        outcome.completed += 1;
        outcome.elapsed = now - begin;
        outcome.latency.saturating_record(now.saturating_sub(message.intended));
    }
    outcome
}

impl Run {
    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    fn message(&mut self, intended: u64) -> Message {
        let payload = self.payloads[self.next].clone();
        self.next = (self.next + 1) % self.payloads.len();
        Message { payload, intended }
    }

    fn measure(&mut self, runtime: &Runtime, schedule: Schedule, seconds: u64, hunt: Hunt) -> Phase {
        let (sender, receiver) = mpsc::channel(QUEUE_SLOTS);
        let begin = self.now();
        let worker = runtime.spawn(work(receiver, self.origin, begin, hunt));
        let (mut offered, mut overrun) = (0, false);
        let send = |message| sender.blocking_send(message).expect("the worker outlives the sender");
        if schedule.events == 0 {
            while self.now() < begin + seconds * SECOND {
                let message = self.message(self.now());
                send(message);
                offered += 1;
            }
        } else {
            while offered < schedule.events_in(seconds) && !overrun {
                let intended = begin + schedule.due(offered);
                while self.now() < intended {
                    std::hint::spin_loop();
                }
                overrun = self.now() - intended > BEHIND_MAX;
                let message = self.message(intended);
                send(message);
                offered += 1;
            }
        }
        drop(sender);
        let outcome = runtime.block_on(worker).expect("the worker does not panic");
        Phase { offered, overrun, outcome }
    }
}

fn status_bytes(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kibibytes| kibibytes * 1024)
}

fn argument<T: FromStr>(arguments: &BTreeMap<String, String>, name: &str, default: T) -> T {
    arguments.get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let arguments: BTreeMap<String, String> = words
        .chunks_exact(2)
        .map(|pair| (pair[0].trim_start_matches('-').to_owned(), pair[1].clone()))
        .collect();
    let file = std::fs::read(argument(&arguments, "file", String::new())).expect("--file can be read");
    let payloads = file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec);
    let mut run = Run { origin: Instant::now(), payloads: payloads.collect(), next: 0 };
    let schedule = Schedule::new(
        argument(&arguments, "rate", 0),
        argument(&arguments, "burst", 0),
        argument(&arguments, "period", 10),
    );
    let seconds = argument(&arguments, "seconds", 1);
    let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("threads can be started");
    let mut phase = run.measure(&runtime, schedule, argument(&arguments, "warmup", 1), Hunt::new());
    if !phase.overrun {
        phase = run.measure(&runtime, schedule, seconds, phase.outcome.hunt);
    }
    let Phase { offered, overrun, outcome } = phase;
    let counts: Vec<(u64, u64)> = outcome
        .latency
        .iter_recorded()
        .map(|step| (step.value_iterated_to(), step.count_at_value()))
        .collect();
    let document = json!({
        "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
        "system": "rust-tokio",
        "offered": offered,
        "completed": outcome.completed,
        "refused": outcome.refused,
        "output_bytes": outcome.output_bytes,
        "elapsed_nanoseconds": outcome.elapsed,
        "seconds": seconds,
        "overrun": overrun,
        "latency": {"counts": counts, "max": outcome.latency.max()},
        "peak_rss_bytes": status_bytes("VmHWM"),
    });
    println!("{document}");
}
