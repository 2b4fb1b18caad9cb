//! Cuts: what must be committed together, handed from the core to the publisher.
//!
//! Owns one buffer that is either the core's or the publisher's. The core fills it at
//! an event boundary with the position of every partition that moved and the
//! after-image of every slot that changed, then hands it over and pushes a cut
//! descriptor behind the outputs. The publisher commits exactly that and gives the
//! buffer back; until then the core goes on without being able to cut again.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::changelog::{KEY_BYTES, VALUE_BYTES_MAX};

/// Next offset to apply of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: i64,
}

#[derive(Debug, Clone, Copy)]
struct RecordEnd {
    partition: u32,
    end: usize,
}

/// One changelog record of a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Partition of the changelog topic.
    pub partition: u32,
    /// Key, as [`crate::changelog`] writes it.
    pub key: &'a [u8],
    /// Value, as [`crate::changelog`] writes it; none where the key's slot is gone.
    pub value: Option<&'a [u8]>,
}

/// Positions and after-images of one cut.
#[derive(Debug)]
pub struct Cut {
    /// Where each partition that moved stands.
    pub positions: Vec<Position>,
    /// The latest barrier that this cut answers; zero for none.
    pub ticket: u64,
    bytes: Vec<u8>,
    ends: Vec<RecordEnd>,
}

impl Cut {
    fn new(partitions: usize, records: usize) -> Cut {
        Cut {
            positions: Vec::with_capacity(partitions),
            ticket: 0,
            bytes: Vec::with_capacity(records * (KEY_BYTES + VALUE_BYTES_MAX)),
            ends: Vec::with_capacity(records),
        }
    }

    /// Empties the cut. Its memory stays.
    pub fn clear(&mut self) {
        self.positions.clear();
        self.bytes.clear();
        self.ends.clear();
        self.ticket = 0;
    }

    /// Adds a record; an empty value says that the key's slot is gone. The room for it was allocated at the start; [`Cut::room`] says how much is left.
    pub fn push(&mut self, partition: u32, key: &[u8; KEY_BYTES], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.ends.push(RecordEnd { partition, end: self.bytes.len() });
    }

    /// Records that still fit.
    pub fn room(&self) -> usize {
        self.ends.capacity() - self.ends.len()
    }

    /// The records in the order they were added.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut start = 0;
        self.ends.iter().map(move |record| {
            let (key, value) = self.bytes[start..record.end].split_at(KEY_BYTES);
            start = record.end;
            Record { partition: record.partition, key, value: (!value.is_empty()).then_some(value) }
        })
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty() && self.ends.is_empty()
    }
}

struct Exchange {
    cut: UnsafeCell<Cut>,
    with_publisher: AtomicBool,
}

// SAFETY: the cut is reached by the core's side only while `with_publisher` is false and by
// the publisher's only while it is true; each side hands over with release and looks with acquire.
unsafe impl Sync for Exchange {}
// SAFETY: as above.
unsafe impl Send for Exchange {}

/// The core's side.
pub struct CutWriter(Arc<Exchange>);

/// The publisher's side.
pub struct CutReader(Arc<Exchange>);

/// An exchange for cuts of so many partitions and records.
pub fn exchange(partitions: usize, records: usize) -> (CutWriter, CutReader) {
    let exchange = Arc::new(Exchange {
        cut: UnsafeCell::new(Cut::new(partitions, records)),
        with_publisher: AtomicBool::new(false),
    });
    (CutWriter(Arc::clone(&exchange)), CutReader(exchange))
}

impl CutWriter {
    /// The buffer, unless the publisher has it.
    pub fn buffer(&mut self) -> Option<&mut Cut> {
        if self.0.with_publisher.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: the buffer is this side's, and this side is borrowed exclusively.
        Some(unsafe { &mut *self.0.cut.get() })
    }

    /// Hands the buffer to the publisher.
    pub fn hand_over(&mut self) {
        self.0.with_publisher.store(true, Ordering::Release);
    }
}

impl CutReader {
    /// The buffer, if the core handed it over.
    pub fn buffer(&mut self) -> Option<&Cut> {
        if !self.0.with_publisher.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: the buffer is this side's until `give_back`, which needs this side exclusively.
        Some(unsafe { &*self.0.cut.get() })
    }

    /// Gives the buffer back to the core.
    pub fn give_back(&mut self) {
        self.0.with_publisher.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_has_one_owner_at_a_time() {
        let (mut writer, mut reader) = exchange(4, 4);
        assert!(reader.buffer().is_none());
        let cut = writer.buffer().unwrap();
        cut.clear();
        cut.push(3, &[1; KEY_BYTES], b"value");
        cut.push(2, &[2; KEY_BYTES], b"");
        cut.positions.push(Position { partition: 3, offset: 17 });
        assert_eq!(cut.room(), 2);
        writer.hand_over();
        assert!(writer.buffer().is_none());
        let cut = reader.buffer().unwrap();
        let records: Vec<Record<'_>> = cut.records().collect();
        assert_eq!(records[0], Record { partition: 3, key: &[1; KEY_BYTES], value: Some(b"value") });
        assert_eq!(records[1], Record { partition: 2, key: &[2; KEY_BYTES], value: None });
        reader.give_back();
        assert!(reader.buffer().is_none());
        assert!(writer.buffer().is_some());
    }
}
