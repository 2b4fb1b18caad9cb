//! How long a cache line takes from one CPU to another and back.
//!
//! It says whether the two share a cache. In a virtual machine that can change from one minute to the next, and the rate
//! of whatever hands events from thread to thread changes with it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::threads;

/// Round trips that are timed together, so that reading the clock counts for little.
const TRIPS: u64 = 200;
/// Timings, of which the median is taken: a thread may lose its CPU in some.
const TIMINGS: usize = 21;

/// A word with its cache line to itself: neighbours would be handed on, too.
#[repr(align(128))]
#[derive(Default)]
struct Word(AtomicU64);

/// Nanoseconds between the first two CPUs that the caller may use; `None` if there is one only.
///
/// The calling thread must not have real-time priority, nor does it stay bound: two threads of its own spin.
pub fn median_nanoseconds() -> Option<u64> {
    let &[first, second, ..] = threads::allowed_cpus().as_slice() else { return None };
    let (there, back) = (Word::default(), Word::default());
    let last = TRIPS * TIMINGS as u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            threads::bind(second);
            for trip in 1..=last {
                wait_for(&there.0, trip);
                back.0.store(trip, Ordering::Release);
            }
        });
        let timing = scope.spawn(|| {
            threads::bind(first);
            let mut timings = [0; TIMINGS];
            let mut trip = 0;
            for timing in &mut timings {
                let begin = threads::now_nanoseconds();
                for _ in 0..TRIPS {
                    trip += 1;
                    there.0.store(trip, Ordering::Release);
                    wait_for(&back.0, trip);
                }
                *timing = (threads::now_nanoseconds() - begin) / TRIPS;
            }
            timings.sort_unstable();
            timings[TIMINGS / 2]
        });
        timing.join().ok()
    })
}

fn wait_for(word: &AtomicU64, value: u64) {
    while word.load(Ordering::Acquire) < value {
        std::hint::spin_loop();
    }
}
