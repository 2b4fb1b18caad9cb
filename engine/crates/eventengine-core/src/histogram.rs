//! A log-linear histogram with one writer: fixed size, no lock, no allocation after its start.
//!
//! Owns counts of durations. A value's bucket is its power of two, divided into 128
//! equal parts, so that a reported value is at most 1/128 above the recorded one.
//! Counters only grow; a window is the difference of two [`Counts`] taken by a reader.

use std::sync::atomic::{AtomicU64, Ordering};

const PARTS_BITS: u32 = 7;
const PARTS: usize = 1 << PARTS_BITS;

/// Greatest power of two that has buckets of its own: about 18 minutes in nanoseconds.
const POWER_MAX: u32 = 40;

/// Buckets: one for each value below 128, then 128 for each power of two.
pub const BUCKETS: usize = PARTS * (POWER_MAX - PARTS_BITS + 2) as usize;

/// The shared counters. One thread records; any thread reads.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    greatest: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), greatest: AtomicU64::new(0) }
    }
}

fn bucket_of(value: u64) -> usize {
    let power = 63 - (value | 1).leading_zeros();
    if power < PARTS_BITS {
        return value as usize;
    }
    if power > POWER_MAX {
        return BUCKETS - 1;
    }
    let part = (value >> (power - PARTS_BITS)) as usize - PARTS;
    PARTS * (power - PARTS_BITS + 1) as usize + part
}

/// The greatest value that falls into a bucket.
fn upper_end(bucket: usize) -> u64 {
    if bucket < PARTS {
        return bucket as u64;
    }
    let shift = bucket / PARTS - 1;
    let part = (bucket % PARTS + PARTS) as u64;
    ((part + 1) << shift) - 1
}

impl Histogram {
    /// Counts a value. Only ever called by the one writer.
    pub fn record(&self, value: u64) {
        self.record_many(value, 1);
    }

    /// Counts a value several times. Only ever called by the one writer.
    pub fn record_many(&self, value: u64, times: u64) {
        let bucket = &self.buckets[bucket_of(value)];
        bucket.store(bucket.load(Ordering::Relaxed) + times, Ordering::Relaxed);
        if value > self.greatest.load(Ordering::Relaxed) {
            self.greatest.store(value, Ordering::Relaxed);
        }
    }

    /// The counts of now. The greatest value is handed out once and begins anew.
    pub fn read(&self, counts: &mut Counts) {
        for (count, bucket) in counts.buckets.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
        }
        counts.greatest = self.take_greatest();
    }

    /// The greatest value since it was handed out last.
    pub fn take_greatest(&self) -> u64 {
        self.greatest.swap(0, Ordering::Relaxed)
    }

    /// How many values there are, and how many of them did not exceed each of these rising bounds.
    ///
    /// A value counts as the upper end of its bucket, so that no bound is said to hold for a value above it.
    pub fn cumulative<const N: usize>(&self, bounds: &[u64; N]) -> (u64, [u64; N]) {
        let mut total = 0;
        let mut within = [0; N];
        for (bucket, count) in self.buckets.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                total += count;
                let end = upper_end(bucket);
                let first = bounds.partition_point(|bound| *bound < end);
                within[first..].iter_mut().for_each(|sum| *sum += count);
            }
        }
        (total, within)
    }
}

/// Counts that were read from a histogram.
#[derive(Debug, Clone)]
pub struct Counts {
    buckets: Box<[u64]>,
    greatest: u64,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { buckets: vec![0; BUCKETS].into_boxed_slice(), greatest: 0 }
    }
}

impl Counts {
    /// What was counted since `earlier` was read. The greatest value is the later one's.
    pub fn since(&self, earlier: &Counts) -> Counts {
        let buckets =
            self.buckets.iter().zip(&earlier.buckets).map(|(now, then)| now.saturating_sub(*then)).collect();
        Counts { buckets, greatest: self.greatest }
    }

    /// Adds other counts to these.
    pub fn add(&mut self, other: &Counts) {
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.greatest = self.greatest.max(other.greatest);
    }

    /// The buckets that hold something: the greatest value that falls into each, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let filled = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(bucket, count)| (upper_end(bucket), *count))
    }

    /// Number of values.
    pub fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The greatest value.
    pub fn greatest(&self) -> u64 {
        self.greatest
    }

    /// The value that a share `quantile` of all values does not exceed; zero if there are none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let total = self.total();
        if total == 0 {
            return 0;
        }
        let wanted = ((total as f64 * quantile).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                let end = upper_end(bucket);
                return if self.greatest > 0 { end.min(self.greatest) } else { end };
            }
        }
        self.greatest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_are_contiguous_and_their_ends_belong_to_them() {
        for bucket in 0..BUCKETS - 1 {
            let end = upper_end(bucket);
            assert_eq!(bucket_of(end), bucket);
            assert_eq!(bucket_of(end + 1), bucket + 1);
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_window_is_the_difference_of_two_readings() {
        let histogram = Histogram::default();
        let (mut first, mut second) = (Counts::default(), Counts::default());
        histogram.record(1_000_000);
        histogram.read(&mut first);
        histogram.record_many(50, 99);
        histogram.record(7_000);
        histogram.read(&mut second);
        let window = second.since(&first);
        assert_eq!((window.total(), window.greatest()), (100, 7_000));
        assert_eq!((window.quantile(0.5), window.quantile(0.99), window.quantile(1.0)), (50, 50, 7_000));
        assert_eq!(window.buckets().map(|(_, count)| count).sum::<u64>(), 100);
        assert_eq!(window.buckets().next(), Some((50, 99)));
        assert_eq!(Counts::default().quantile(0.99), 0);
    }

    #[test]
    fn cumulative_counts_rise_to_the_number_of_values() {
        let histogram = Histogram::default();
        [3, 5, 5, 100, 1 << 20].into_iter().for_each(|value| histogram.record(value));
        assert_eq!(histogram.cumulative(&[2, 4, 5, 127, 1 << 30]), (5, [0, 1, 3, 4, 5]));
        assert_eq!(histogram.cumulative(&[]), (5, []));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_hundred_and_twenty_eighth_of_the_sorted_values(
            mut values in proptest::collection::vec(0..1_u64 << 40, 1..400), quantile in 0.0..=1.0_f64,
        ) {
            let histogram = Histogram::default();
            values.iter().for_each(|value| histogram.record(*value));
            let mut counts = Counts::default();
            histogram.read(&mut counts);
            values.sort_unstable();
            let place = ((values.len() as f64 * quantile).ceil() as usize).clamp(1, values.len());
            let exact = values[place - 1];
            let reported = counts.quantile(quantile);
            prop_assert!(reported >= exact);
            prop_assert!(reported <= exact + exact / 128 + 1);
        }
    }
}
