//! The native half's log: one line a message on standard error, at a bounded rate.
//!
//! Owns the format and the bound. Never writes payloads, properties or tokens.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Lines a second at most; what is above is counted and said with the next line.
const LINES_PER_SECOND: u32 = 20;

struct Bound {
    second: Option<Instant>,
    lines: u32,
    left_out: u64,
}

static BOUND: Mutex<Bound> = Mutex::new(Bound { second: None, lines: 0, left_out: 0 });

/// Writes a line: `eventengine component: message`.
pub fn write(component: &str, message: &str) {
    let Ok(mut bound) = BOUND.lock() else { return };
    let now = Instant::now();
    if bound.second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
        bound.second = Some(now);
        bound.lines = 0;
    }
    if bound.lines >= LINES_PER_SECOND {
        bound.left_out += 1;
        return;
    }
    bound.lines += 1;
    let left_out = std::mem::take(&mut bound.left_out);
    drop(bound);
    let message = message.replace('\n', " ");
    if left_out > 0 {
        eprintln!("eventengine {component}: {message} ({left_out} lines left out before this)");
    } else {
        eprintln!("eventengine {component}: {message}");
    }
}
