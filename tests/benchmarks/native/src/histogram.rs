//! HDR histograms and the form in which results carry them.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longest time that is told apart: a minute.
const LONGEST_NANOSECONDS: u64 = 60_000_000_000;

/// A histogram of nanoseconds with three significant digits, allocated whole; longer times count as a minute.
///
/// # Panics
/// Never: the bounds are constants that the library accepts.
pub fn new() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NANOSECONDS, 3).expect("constant bounds are valid")
}

/// `{"counts": [[value, count], ...], "max": value}`.
pub fn document(histogram: &Histogram<u64>) -> Value {
    let counts: Vec<(u64, u64)> =
        histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
    json!({"counts": counts, "max": histogram.max()})
}
