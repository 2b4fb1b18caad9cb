//! The machine's own floor: two threads that hand on events that are nothing.
//!
//! One thread waits for each intended time and counts the event; the other, on the next CPU, sees the count and records
//! how late that is. No payload, no parse, no state, no queue, no sleep: what is left is how long the two are kept off
//! their CPUs and how long a word takes from one to the other. No two threads that always spin can be better on this
//! machine, at that moment. Takes the arguments of a measured system, of which it needs no `--file`, and prints the same
//! document.

use std::sync::atomic::{AtomicU64, Ordering};

use eventengine_benchmarks::arguments::Arguments;
use eventengine_benchmarks::schedule::Schedule;
use eventengine_benchmarks::threads::{allowed_cpus, bind, now_nanoseconds, status_bytes};
use eventengine_benchmarks::{histogram, refuse, report};
use hdrhistogram::Histogram;
use serde_json::json;

/// A count with its cache line to itself: neighbours would be handed on, too.
#[repr(align(128))]
struct Sent(AtomicU64);

/// Counts each event at its intended time.
fn send(schedule: Schedule, seconds: u64, begin: u64, sent: &AtomicU64) {
    for (number, due) in (1..).zip(schedule.arrivals(seconds)) {
        while now_nanoseconds() < begin + due {
            std::hint::spin_loop();
        }
        sent.store(number, Ordering::Release);
    }
}

/// Records each event once it was counted; returns when the last one was seen, from the begin.
fn receive(schedule: Schedule, seconds: u64, begin: u64, sent: &AtomicU64, late: &mut Histogram<u64>) -> u64 {
    let (mut seen, mut now) = (0, begin);
    for (number, due) in (1..).zip(schedule.arrivals(seconds)) {
        while seen < number {
            std::hint::spin_loop();
            seen = sent.load(Ordering::Acquire);
            now = now_nanoseconds();
        }
        late.saturating_record(now.saturating_sub(begin + due).max(1));
    }
    now - begin
}

fn main() {
    let arguments = Arguments::read();
    let (warmup, seconds): (u64, u64) = (arguments.get("warmup", 1), arguments.require("seconds"));
    let schedule = Schedule::new(arguments.require("rate"), arguments.get("burst", 0), 10);
    let &[first, second, ..] = allowed_cpus().as_slice() else { refuse("two CPUs are needed") };
    if !bind(first) {
        refuse("the first thread could not be bound to its CPU");
    }
    let phase = |seconds| {
        let (sent, mut late) = (Sent(AtomicU64::new(0)), histogram::new());
        let begin = now_nanoseconds() + 1_000_000;
        let elapsed = std::thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                if !bind(second) {
                    refuse("the second thread could not be bound to its CPU");
                }
                receive(schedule, seconds, begin, &sent.0, &mut late)
            });
            send(schedule, seconds, begin, &sent.0);
            receiver.join().unwrap_or_else(|_| refuse("the receiving thread failed"))
        });
        (late, elapsed)
    };
    phase(warmup);
    let (late, elapsed) = phase(seconds);
    let events = schedule.events_in(seconds);
    report(json!({
        "system": "floor",
        "offered": events,
        "completed": late.len(),
        "output_bytes": 0,
        "elapsed_nanoseconds": elapsed,
        "seconds": seconds,
        "overrun": false,
        "latency": histogram::document(&late),
        "peak_rss_bytes": status_bytes("VmHWM"),
    }));
}
