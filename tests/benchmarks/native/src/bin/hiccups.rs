//! The hiccup meter: one thread per CPU that sleeps a millisecond over and over and records how late it woke.
//!
//! Runs until its standard input ends, then prints one histogram of all threads. With `--round-trip` it measures how long
//! a cache line takes between the CPUs instead, once, which asks for CPUs without other work.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eventengine_benchmarks::{histogram, refuse, report, round_trip, threads};
use hdrhistogram::Histogram;
use serde_json::json;

const INTERVAL: Duration = Duration::from_millis(1);

/// One thread's record, and whether it had real-time priority.
fn watch(cpu: usize, stop: &AtomicBool) -> (Histogram<u64>, bool) {
    threads::bind(cpu);
    threads::sleep_precisely();
    let real_time = threads::real_time();
    let mut late = histogram::new();
    while !stop.load(Ordering::Relaxed) {
        let due = threads::now_nanoseconds() + INTERVAL.as_nanos() as u64;
        std::thread::sleep(INTERVAL);
        late.saturating_record(threads::now_nanoseconds().saturating_sub(due));
    }
    (late, real_time)
}

fn main() {
    if std::env::args().any(|argument| argument == "--round-trip") {
        return report(json!({"round_trip_nanoseconds": round_trip::median_nanoseconds()}));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let watchers: Vec<_> = threads::allowed_cpus()
        .into_iter()
        .map(|cpu| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || watch(cpu, &stop))
        })
        .collect();
    let mut rest = Vec::new();
    if let Err(error) = std::io::stdin().read_to_end(&mut rest) {
        refuse(&format!("standard input: {error}"));
    }
    stop.store(true, Ordering::Relaxed);
    let mut all = histogram::new();
    let mut real_time = true;
    for watcher in watchers {
        let Ok((late, privileged)) = watcher.join() else { refuse("a watching thread failed") };
        real_time &= privileged;
        if all.add(&late).is_err() {
            refuse("histograms of equal bounds could not be added");
        }
    }
    report(json!({"hiccups": histogram::document(&all), "real_time": real_time}));
}
