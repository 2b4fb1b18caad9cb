//! What a broker holds: the partitions' logs, and what was committed of outputs, offsets and changelog.

use std::collections::BTreeMap;

use eventengine_core::changelog::{decode_key, decode_value};
use eventengine_core::cut::Cut;

use crate::ledger::{Entry, Model};

/// Committed things change only in [`Broker::commit`], all together.
#[derive(Debug, Default)]
pub struct Broker {
    log: BTreeMap<u32, Vec<Entry>>,
    outputs: BTreeMap<u32, Vec<(i64, Vec<u8>)>>,
    offsets: BTreeMap<u32, i64>,
    changelog: BTreeMap<(u32, Vec<u8>), Vec<u8>>,
    commits: u64,
}

/// An output, or a dead letter, of a transaction.
pub type Produced = (u32, i64, Vec<u8>);

impl Broker {
    pub fn append(&mut self, partition: u32, entry: &Entry) {
        self.log.entry(partition).or_default().push(*entry);
    }

    /// The event at an offset; none at the end of the log.
    pub fn event(&self, partition: u32, offset: i64) -> Option<Vec<u8>> {
        self.log.get(&partition)?.get(offset as usize).map(Entry::payload)
    }

    pub fn committed(&self, partition: u32) -> Option<i64> {
        self.offsets.get(&partition).copied()
    }

    /// Key and value of each record of a partition's changelog.
    pub fn records(&self, partition: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
        let range = (partition, Vec::new())..(partition + 1, Vec::new());
        self.changelog.range(range).map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }

    pub fn events(&self) -> u64 {
        self.log.values().map(|log| log.len() as u64).sum()
    }

    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Outputs, state and offsets become visible together.
    pub fn commit(&mut self, cut: &Cut, produced: &mut Vec<Produced>) {
        for record in cut.records() {
            let key = (record.partition, record.key.to_vec());
            match record.value {
                Some(value) => self.changelog.insert(key, value.to_vec()),
                None => self.changelog.remove(&key),
            };
        }
        for position in &cut.positions {
            let before = self.offsets.insert(position.partition, position.offset).unwrap_or(0);
            assert!(before <= position.offset, "committed offsets never go back");
        }
        for (partition, offset, bytes) in produced.drain(..) {
            self.outputs.entry(partition).or_default().push((offset, bytes));
        }
        self.commits += 1;
    }

    /// Whether every event is applied and committed.
    pub fn is_consumed(&self) -> bool {
        self.log.iter().all(|(partition, log)| self.committed(*partition) == Some(log.len() as i64))
    }

    /// Compares everything committed with the model's.
    pub fn compare(&self) {
        for (partition, log) in &self.log {
            let mut model = Model::default();
            let wanted: Vec<(i64, Vec<u8>)> = (0..).zip(log.iter().map(|entry| model.apply(entry))).collect();
            let outputs = self.outputs.get(partition).map(Vec::as_slice).unwrap_or_default();
            for (output, wanted) in outputs.iter().zip(&wanted) {
                assert_eq!(output, wanted, "outputs of partition {partition}, in order and once");
            }
            assert_eq!(outputs.len(), wanted.len(), "outputs of partition {partition}");
            let image: BTreeMap<(u32, u32), u64> = self
                .records(*partition)
                .iter()
                .map(|(key, value)| {
                    let key = decode_key(*partition, key).expect("the core's own key");
                    let payload = decode_value(value).expect("the core's own value").payload;
                    let mut sum = [0; 8];
                    let length = payload.len().min(8);
                    sum[..length].copy_from_slice(&payload[..length]);
                    ((key.kind, key.district), u64::from_le_bytes(sum))
                })
                .filter(|(_, sum)| *sum > 0)
                .collect();
            let wanted: BTreeMap<(u32, u32), u64> =
                model.image().into_iter().filter(|(_, sum)| *sum > 0).collect();
            assert_eq!(image, wanted, "state of partition {partition} in the changelog");
        }
    }
}
