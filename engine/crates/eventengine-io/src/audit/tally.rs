//! What was expected against what was seen: pure bookkeeping, one bit for each event.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::Error;

/// Expected events at most: 2^33 bits are 1 GiB.
const EXPECTED_MAX: u64 = 1 << 33;
/// (Output partition, source partition, producer) tracks whose order is followed.
const TRACKS_MAX: usize = 4_000_000;

/// Where a record lies in the output topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Partition of the output topic.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

/// A count with its first examples.
#[derive(Debug, Default)]
struct Fault {
    count: u64,
    examples: Vec<Value>,
}

impl Fault {
    fn note(&mut self, examples_max: usize, example: impl FnOnce() -> Value) {
        self.count += 1;
        if self.examples.len() < examples_max {
            self.examples.push(example());
        }
    }

    fn to_json(&self) -> Value {
        json!({"count": self.count, "examples": self.examples})
    }
}

/// One producer's events: a bit for each sequence up to the last.
#[derive(Debug)]
struct Seen {
    last: u64,
    bits: Box<[u64]>,
}

/// The bookkeeping while records are read.
#[derive(Debug)]
pub struct Tally {
    producers: HashMap<u32, Seen>,
    tracks: HashMap<(i32, u32, u32), i64>,
    examples_max: usize,
    expected: u64,
    unique: u64,
    records: u64,
    duplicates: Fault,
    extra: Fault,
    out_of_order: Fault,
    unreadable: Fault,
}

/// The verdict's figures.
#[derive(Debug)]
pub struct Findings {
    expected: u64,
    unique: u64,
    records: u64,
    missing: Fault,
    duplicates: Fault,
    extra: Fault,
    out_of_order: Fault,
    unreadable: Fault,
}

impl Tally {
    /// Expects each producer's sequences from 0 to its last.
    pub fn new(last_sequences: &HashMap<u32, u64>, examples_max: usize) -> Result<Tally, Error> {
        let expected =
            last_sequences.values().try_fold(0_u64, |sum, last| sum.checked_add(last.checked_add(1)?));
        let expected = expected.filter(|&sum| sum <= EXPECTED_MAX).ok_or_else(|| Error::Configuration {
            path: "producers".to_owned(),
            message: format!("more than {EXPECTED_MAX} events are expected; audit fewer results at once"),
        })?;
        let producers = last_sequences
            .iter()
            .map(|(&producer, &last)| {
                let words = (last / 64 + 1) as usize;
                (producer, Seen { last, bits: vec![0; words].into_boxed_slice() })
            })
            .collect();
        Ok(Tally {
            producers,
            tracks: HashMap::new(),
            examples_max,
            expected,
            unique: 0,
            records: 0,
            duplicates: Fault::default(),
            extra: Fault::default(),
            out_of_order: Fault::default(),
            unreadable: Fault::default(),
        })
    }

    /// Counts one output record; `origin` is partition and offset of the event that it answers.
    pub fn observe(&mut self, producer: u32, sequence: u64, origin: (u32, i64), place: Place) {
        self.records += 1;
        let example = || {
            json!({
                "producer": producer, "sequence": sequence,
                "partition": place.partition, "offset": place.offset,
                "source_partition": origin.0, "source_offset": origin.1,
            })
        };
        let Some(seen) = self.producers.get_mut(&producer).filter(|seen| sequence <= seen.last) else {
            self.extra.note(self.examples_max, example);
            return;
        };
        let (word, bit) = ((sequence / 64) as usize, 1_u64 << (sequence % 64));
        if seen.bits[word] & bit != 0 {
            self.duplicates.note(self.examples_max, example);
            return;
        }
        seen.bits[word] |= bit;
        self.unique += 1;
        let track = (place.partition, origin.0, producer);
        let followed = self.tracks.len();
        match self.tracks.get_mut(&track) {
            Some(last) => {
                if origin.1 <= *last {
                    self.out_of_order.note(self.examples_max, example);
                }
                *last = origin.1;
            }
            None if followed < TRACKS_MAX => {
                self.tracks.insert(track, origin.1);
            }
            None => {}
        }
    }

    /// Counts a record that is no output.
    pub fn unreadable(&mut self, place: Place, error: &str) {
        self.records += 1;
        self.unreadable.note(
            self.examples_max,
            || json!({"partition": place.partition, "offset": place.offset, "error": error}),
        );
    }

    /// Whether nothing is missing any more.
    pub fn complete(&self) -> bool {
        self.unique == self.expected
    }

    /// The figures, once everything was read.
    pub fn findings(self) -> Findings {
        let mut missing = Fault::default();
        let mut producers: Vec<_> = self.producers.iter().collect();
        producers.sort_unstable_by_key(|(producer, _)| **producer);
        for (&producer, seen) in producers {
            for (index, &word) in seen.bits.iter().enumerate() {
                let base = index as u64 * 64;
                let wanted = seen.last - base + 1;
                let mask = if wanted >= 64 { u64::MAX } else { (1_u64 << wanted) - 1 };
                let mut absent = !word & mask;
                while absent != 0 {
                    let sequence = base + u64::from(absent.trailing_zeros());
                    missing.note(self.examples_max, || json!({"producer": producer, "sequence": sequence}));
                    absent &= absent - 1;
                }
            }
        }
        Findings {
            expected: self.expected,
            unique: self.unique,
            records: self.records,
            missing,
            duplicates: self.duplicates,
            extra: self.extra,
            out_of_order: self.out_of_order,
            unreadable: self.unreadable,
        }
    }
}

impl Findings {
    /// Whether every event was applied exactly once, in order, and nothing else was written.
    pub fn exact(&self, allow_other_producers: bool) -> bool {
        let faults = [&self.missing, &self.duplicates, &self.out_of_order, &self.unreadable];
        faults.iter().all(|fault| fault.count == 0) && (allow_other_producers || self.extra.count == 0)
    }

    /// The figures as they are reported.
    pub fn to_json(&self) -> Value {
        json!({
            "expected": self.expected,
            "unique": self.unique,
            "records": self.records,
            "missing": self.missing.to_json(),
            "duplicates": self.duplicates.to_json(),
            "extra": self.extra.to_json(),
            "out_of_order": self.out_of_order.to_json(),
            "unreadable": self.unreadable.to_json(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(last_sequences: &[(u32, u64)]) -> Tally {
        Tally::new(&last_sequences.iter().copied().collect(), 3).unwrap()
    }

    fn place(offset: i64) -> Place {
        Place { partition: 0, offset }
    }

    fn count(report: &Value, kind: &str) -> u64 {
        report[kind]["count"].as_u64().unwrap()
    }

    #[test]
    fn every_event_once_and_in_order_is_exact() {
        let mut tally = tally(&[(7, 129), (8, 0)]);
        for sequence in 0..130 {
            assert!(!tally.complete());
            tally.observe(7, sequence, (3, sequence as i64 * 2), place(sequence as i64));
        }
        tally.observe(8, 0, (3, 1), place(200));
        assert!(tally.complete());
        let findings = tally.findings();
        assert!(findings.exact(false));
        let report = findings.to_json();
        assert_eq!((report["expected"].as_u64(), report["unique"].as_u64()), (Some(131), Some(131)));
    }

    #[test]
    fn what_is_missing_is_named_up_to_the_last_sequence_of_each_producer() {
        let mut tally = tally(&[(7, 64)]);
        (0..64).filter(|&sequence| sequence != 5).for_each(|sequence| {
            tally.observe(7, sequence, (0, sequence as i64), place(sequence as i64));
        });
        let findings = tally.findings();
        assert!(!findings.exact(true));
        let report = findings.to_json();
        assert_eq!(count(&report, "missing"), 2);
        assert_eq!(
            report["missing"]["examples"],
            json!([{"producer": 7, "sequence": 5}, {"producer": 7, "sequence": 64}])
        );
    }

    #[test]
    fn a_doubled_event_is_a_duplicate_and_not_out_of_order() {
        let mut tally = tally(&[(7, 0)]);
        tally.observe(7, 0, (0, 4), place(1));
        tally.observe(7, 0, (0, 4), place(2));
        let findings = tally.findings();
        assert!(!findings.exact(true));
        let report = findings.to_json();
        assert_eq!((count(&report, "duplicates"), count(&report, "out_of_order")), (1, 0));
        assert_eq!(report["duplicates"]["examples"][0]["offset"], 2);
    }

    #[test]
    fn foreign_outputs_are_a_fault_unless_they_are_allowed() {
        let mut tally = tally(&[(7, 0)]);
        tally.observe(7, 0, (0, 0), place(0));
        tally.observe(7, 1, (0, 1), place(1));
        tally.observe(9, 0, (0, 2), place(2));
        let findings = tally.findings();
        assert_eq!(count(&findings.to_json(), "extra"), 2);
        assert!(findings.exact(true) && !findings.exact(false));
    }

    #[test]
    fn order_holds_per_source_partition_and_producer_only() {
        let mut tally = tally(&[(7, 2)]);
        tally.observe(7, 1, (0, 9), place(0));
        tally.observe(7, 0, (1, 3), place(1));
        tally.observe(7, 2, (0, 8), place(2));
        let report = tally.findings().to_json();
        assert_eq!(count(&report, "out_of_order"), 1);
        assert_eq!(report["out_of_order"]["examples"][0]["source_offset"], 8);
    }

    #[test]
    fn examples_are_bounded_and_counts_are_not() {
        let mut tally = tally(&[(7, 0)]);
        (0..50).for_each(|offset| tally.unreadable(place(offset), "no JSON"));
        let report = tally.findings().to_json();
        assert_eq!(count(&report, "unreadable"), 50);
        assert_eq!(report["unreadable"]["examples"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn an_expectation_beyond_memory_is_refused() {
        assert!(Tally::new(&HashMap::from([(1, u64::MAX - 1)]), 3).is_err());
        assert!(Tally::new(&HashMap::from([(1, u64::MAX), (2, 5)]), 3).is_err());
    }
}
