//! A log-linear histogram of nanoseconds with an error below one percent, in fixed memory.

use serde_json::{Value, json};

/// Each power of two is cut into so many steps.
const STEPS: u64 = 128;
const STEP_BITS: u32 = STEPS.trailing_zeros();
const BUCKETS: usize = (STEPS as usize) * (64 - STEP_BITS as usize + 1);

/// Counts by value.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS].into_boxed_slice(), count: 0, max: 0 }
    }
}

fn bucket_of(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let shift = value.ilog2() - STEP_BITS;
    (u64::from(shift + 1) * STEPS + ((value >> shift) - STEPS)) as usize
}

/// The largest value that falls into a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = (bucket / STEPS - 1) as u32;
    let low = (STEPS + bucket % STEPS) << shift;
    low + ((1_u64 << shift) - 1)
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.counts[bucket_of(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// The value that `share` of all values don't exceed; 0 if there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_bound(bucket).min(self.max);
            }
        }
        self.max
    }

    /// The figures that reports show.
    pub fn to_json(&self) -> Value {
        json!({
            "count": self.count,
            "p50_nanoseconds": self.quantile(0.5),
            "p99_nanoseconds": self.quantile(0.99),
            "p999_nanoseconds": self.quantile(0.999),
            "max_nanoseconds": self.max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_within_one_percent() {
        let mut value = 1_u64;
        while value < u64::MAX / 3 {
            for probe in [value - 1, value, value + 1, value * 2 - 1] {
                let bound = upper_bound(bucket_of(probe));
                assert!(bound >= probe && bound as f64 <= probe as f64 * 1.01 + 1.0, "{probe} in {bound}");
            }
            value = value * 3 / 2 + 1;
        }
        assert_eq!(upper_bound(bucket_of(u64::MAX)), u64::MAX);
        assert!(bucket_of(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_are_of_the_recorded_values() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=1000).for_each(|value| histogram.record(value * 1000));
        let near =
            |share: f64, expected: f64| (histogram.quantile(share) as f64 / expected - 1.0).abs() < 0.01;
        assert!(near(0.5, 500_000.0) && near(0.99, 990_000.0) && near(0.999, 999_000.0));
        assert_eq!(histogram.quantile(1.0), 1_000_000);
    }
}
