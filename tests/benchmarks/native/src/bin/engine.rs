//! The engine under load: the real core thread, this thread as source and sink.
//!
//! Owns the injection: events carry their intended time, and what the engine can't take
//! is offered again, late, with the time it was intended for. Prints the document that
//! every measured system prints.
//!
//! Arguments: `--config` and `--identity`, the two files that an engine is told by; `--file` payloads, `--rate` events a second (0: as fast as they are taken),
//! `--burst` of them at once in each period of `--period` milliseconds or `--arrivals random`, `--warmup` and
//! `--seconds`. With `--urgent-rate` these are of the lowest priority, and so many events
//! of priority 0 a second come evenly beside them.

use eventengine_benchmarks::arguments::Arguments;
use eventengine_benchmarks::payloads::Payloads;
use eventengine_benchmarks::schedule::{Arrivals, Schedule};
use eventengine_benchmarks::threads::{now_nanoseconds, status_bytes};
use eventengine_benchmarks::{histogram, refuse, report};
use eventengine_core::histogram::Counts;
use eventengine_io::in_process::InProcess;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Events of one stream offered between two looks at the others and at the outcomes.
const OFFERS: u64 = 32;

/// Outcomes taken between two looks at the schedule.
const OUTCOMES: usize = 64;

/// A run that is so far behind its schedule is given up: it can't be sustained.
const BEHIND_NANOSECONDS_MAX: u64 = 1_000_000_000;

/// Time for what was taken to come out at the end of a phase.
const DRAIN_NANOSECONDS_MAX: u64 = 10_000_000_000;

const LOWEST_PRIORITY: u8 = 2;
const PRIORITIES: usize = 3;

/// Events of one priority.
struct Stream {
    priority: u8,
    arrivals: Arrivals,
    due: Option<u64>,
}

impl Stream {
    fn new(schedule: Schedule, seconds: u64, priority: u8) -> Stream {
        let mut arrivals = schedule.arrivals(seconds);
        Stream { priority, due: arrivals.next(), arrivals }
    }
}

/// What one phase of a run showed.
struct Phase {
    offered: u64,
    completed: u64,
    refused: u64,
    output_bytes: u64,
    elapsed_nanoseconds: u64,
    overrun: bool,
    answered: [Histogram<u64>; PRIORITIES],
}

impl Phase {
    fn new() -> Phase {
        Phase {
            offered: 0,
            completed: 0,
            refused: 0,
            output_bytes: 0,
            elapsed_nanoseconds: 0,
            overrun: false,
            answered: [histogram::new(), histogram::new(), histogram::new()],
        }
    }
}

/// One engine and the events it is given.
struct Run {
    engine: InProcess,
    payloads: Payloads,
    next_payload: usize,
}

impl Run {
    fn offer(&mut self, priority: u8, intended: u64) -> bool {
        let taken = self.engine.offer(self.payloads.get(self.next_payload), priority, intended);
        if taken {
            self.next_payload += 1;
            if self.next_payload == self.payloads.len() {
                self.next_payload = 0;
            }
        }
        taken
    }

    fn take(&mut self, begin: u64, phase: &mut Phase) -> usize {
        let now = now_nanoseconds();
        let taken = self.engine.take(now, OUTCOMES, |outcome| {
            if outcome.applied {
                phase.output_bytes += outcome.bytes.len() as u64;
            } else {
                phase.refused += 1;
            }
            let answered = &mut phase.answered[usize::from(outcome.priority).min(PRIORITIES - 1)];
            answered.saturating_record(now.saturating_sub(outcome.ingested_at_nanoseconds));
        });
        if taken > 0 {
            phase.completed += taken as u64;
            phase.elapsed_nanoseconds = now - begin;
        }
        taken
    }

    /// Offers what is due of a stream; says whether the stream is over.
    fn offer_due(&mut self, stream: &mut Stream, begin: u64, phase: &mut Phase) -> bool {
        let now = now_nanoseconds() - begin;
        for _ in 0..OFFERS {
            let Some(due) = stream.due else { return true };
            if due > now {
                return false;
            }
            if !self.offer(stream.priority, begin + due) {
                phase.overrun |= now - due > BEHIND_NANOSECONDS_MAX;
                return false;
            }
            stream.due = stream.arrivals.next();
            phase.offered += 1;
        }
        false
    }

    /// Sends the streams at their intended times, and waits for all outcomes.
    fn scheduled(&mut self, streams: &mut [Stream]) -> Phase {
        let mut phase = Phase::new();
        let begin = now_nanoseconds();
        let mut over = false;
        while !over && !phase.overrun {
            over = true;
            let before = phase.offered;
            for stream in &mut *streams {
                over &= self.offer_due(stream, begin, &mut phase);
            }
            self.engine.publish();
            if self.take(begin, &mut phase) == 0 && phase.offered == before {
                self.engine.rest();
            }
        }
        self.drain(begin, &mut phase);
        phase
    }

    /// Sends as fast as events are taken, for a time.
    fn unscheduled(&mut self, seconds: u64) -> Phase {
        let mut phase = Phase::new();
        let begin = now_nanoseconds();
        let end = begin + seconds * 1_000_000_000;
        loop {
            let now = now_nanoseconds();
            if now >= end {
                break;
            }
            let mut offered = 0;
            while offered < OFFERS && self.offer(0, now) {
                offered += 1;
            }
            phase.offered += offered;
            self.engine.publish();
            self.take(begin, &mut phase);
        }
        self.drain(begin, &mut phase);
        phase
    }

    fn drain(&mut self, begin: u64, phase: &mut Phase) {
        let end = now_nanoseconds() + DRAIN_NANOSECONDS_MAX;
        while phase.completed < phase.offered {
            self.take(begin, phase);
            if now_nanoseconds() > end {
                refuse(&format!("{} events never came out", phase.offered - phase.completed));
            }
        }
    }
}

fn text_of(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| refuse(&format!("{path}: {error}")))
}

/// The engine's own histogram of applied minus intended, in the form of results.
fn applied(counts: &Counts) -> Value {
    let pairs: Vec<(u64, u64)> = counts.buckets().collect();
    json!({"counts": pairs, "max": counts.greatest()})
}

fn jemalloc_resident_bytes() -> usize {
    // A row is gated by it: what can't be read must not pass for little.
    tikv_jemalloc_ctl::epoch::advance().expect("jemalloc brings its figures up to date");
    tikv_jemalloc_ctl::stats::resident::read().expect("jemalloc says what is resident")
}

fn streams(arguments: &Arguments, seconds: u64) -> Vec<Stream> {
    let rate = arguments.get("rate", 0);
    let urgent_rate: u64 = arguments.get("urgent-rate", 0);
    let schedule = Schedule::new(rate, arguments.get("burst", 0), arguments.get("period", 10));
    let schedule = match arguments.get("arrivals", "even".to_owned()).as_str() {
        "even" => schedule,
        "random" => schedule.at_random(),
        other => refuse(&format!("--arrivals {other}: even or random")),
    };
    let stream = |schedule, priority| Stream::new(schedule, seconds, priority);
    match (rate, urgent_rate) {
        (0, _) => Vec::new(),
        (_, 0) => vec![stream(schedule, 0)],
        _ => vec![stream(Schedule::new(urgent_rate, 0, 10), 0), stream(schedule, LOWEST_PRIORITY)],
    }
}

fn main() {
    let arguments = Arguments::read();
    let (warmup, seconds): (u64, u64) = (arguments.get("warmup", 1), arguments.require("seconds"));
    let payloads = Payloads::read(&arguments.require::<String>("file"));
    let texts = ["config", "identity"].map(|name| text_of(&arguments.require::<String>(name)));
    let engine = InProcess::start(&texts[0], &texts[1]).unwrap_or_else(|error| refuse(&error.to_string()));
    let pinned = engine.placement().core.is_some();
    let payload_file_bytes = payloads.total_bytes();
    let mut run = Run { engine, payloads, next_payload: 0 };
    let phase_of = |run: &mut Run, seconds| match streams(&arguments, seconds) {
        streams if streams.is_empty() => run.unscheduled(seconds),
        mut streams => run.scheduled(&mut streams),
    };
    let warm = phase_of(&mut run, warmup);
    let (mut before, mut after) = (Counts::default(), Counts::default());
    run.engine.stats().latency.read(&mut before);
    let phase = if warm.overrun { warm } else { phase_of(&mut run, seconds) };
    run.engine.stats().latency.read(&mut after);
    let stats = run.engine.stats();
    report(json!({
        "system": "eventengine",
        "offered": phase.offered,
        "completed": phase.completed,
        "refused": phase.refused,
        "output_bytes": phase.output_bytes,
        "elapsed_nanoseconds": phase.elapsed_nanoseconds,
        "seconds": seconds,
        "overrun": phase.overrun,
        "latency": applied(&after.since(&before)),
        "answered": histogram::document(&phase.answered[0]),
        "answered_lowest": histogram::document(&phase.answered[usize::from(LOWEST_PRIORITY)]),
        "peak_rss_bytes": status_bytes("VmHWM"),
        "payload_file_bytes": payload_file_bytes,
        "native_resident_bytes": jemalloc_resident_bytes(),
        "core_thread_allocated_bytes": stats.thread_allocated_bytes(),
        "pool_high_water": run.engine.pool_high_water(),
        "pinned": pinned,
    }));
}
