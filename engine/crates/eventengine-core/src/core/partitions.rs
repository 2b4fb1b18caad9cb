//! The life of a partition: restored, assigned, closed, dropped; and the reset of all of them.
//!
//! Owns what control descriptors do. State comes before the assignment, the assignment
//! before the first event; a partition whose state can't be read never opens.

use std::sync::atomic::Ordering;

use super::{Core, DIRECT_BASE, PartitionState, RESTORE_HEADER_BYTES, UNASSIGNED};
use crate::changelog::{KEY_BYTES, decode_key, decode_value};
use crate::executor::{EventOf, Executor};
use crate::program::Program;
use crate::ring::{Descriptor, Kind};
use crate::stats::NO_POSITION;

impl<X: Executor, P: for<'payload> Program<EventOf<'payload, X>>> Core<X, P> {
    pub(super) fn control(&mut self, descriptor: &Descriptor) {
        match descriptor.kind {
            Kind::Restore => self.restore(descriptor),
            Kind::Barrier => self.cut_ticket = self.cut_ticket.max(descriptor.ticket),
            Kind::Reset => self.reset(descriptor),
            Kind::Assign => self.assign(descriptor),
            Kind::Close => {
                if let Some(partition) = self.partitions.get_mut(descriptor.partition as usize) {
                    partition.open = false;
                }
            }
            Kind::Drop => self.drop_partition(descriptor.partition),
            Kind::Event
            | Kind::ReadEvent
            | Kind::Refused
            | Kind::EndOfPartition
            | Kind::Output
            | Kind::DeadLetter
            | Kind::Cut => {
                debug_assert!(false, "{:?} does not belong into the control lane", descriptor.kind);
            }
        }
    }

    /// Opens a partition whose state was put back before. `ticket` 1 says that its position is not committed yet.
    fn assign(&mut self, descriptor: &Descriptor) {
        let Some(partition) = self.partitions.get_mut(descriptor.partition as usize) else { return };
        if partition.failed {
            return;
        }
        *partition = PartitionState {
            epoch: descriptor.epoch,
            open: true,
            moved: false,
            failed: false,
            position: descriptor.offset,
        };
        self.moved.retain(|moved| *moved != descriptor.partition);
        if descriptor.ticket == 1 {
            partition.moved = true;
            self.moved.push(descriptor.partition);
            self.stats.uncut.store(true, Ordering::Relaxed);
        }
        self.stats.positions[descriptor.partition as usize].store(descriptor.offset, Ordering::Relaxed);
    }

    /// Puts the records of a chunk into the arena. A partition with a record that can't be held never opens.
    fn restore(&mut self, descriptor: &Descriptor) {
        let Ok(chunk) = self.pool.claim(descriptor.chunk) else { return };
        let bytes = &self.pool.bytes(&chunk)[..descriptor.length as usize];
        self.arena.act_for(descriptor.source);
        let mut rest = bytes;
        let mut restored = 0;
        let mut complete = true;
        while let Some((header, more)) = rest.split_first_chunk::<RESTORE_HEADER_BYTES>() {
            let length = usize::from(u16::from_le_bytes([header[KEY_BYTES], header[KEY_BYTES + 1]]));
            let (value, more) = more.split_at(length.min(more.len()));
            rest = more;
            let read = decode_key(descriptor.partition, &header[..KEY_BYTES])
                .and_then(|key| decode_value(value).map(|image| (key, image)));
            let loaded = read
                .is_ok_and(|(key, image)| self.arena.load(key, image.slot_version, image.payload).is_ok());
            restored += u64::from(loaded);
            complete &= loaded;
        }
        self.releaser.release(chunk);
        self.stats.restored.add(restored);
        if !complete {
            self.stats.restore_failures.add(1);
            if let Some(partition) = self.partitions.get_mut(descriptor.partition as usize) {
                partition.failed = true;
            }
        }
    }

    pub(super) fn drop_partition(&mut self, partition: u32) {
        let Some(state) = self.partitions.get_mut(partition as usize) else { return };
        *state = PartitionState { epoch: state.epoch, ..UNASSIGNED };
        self.moved.retain(|moved| *moved != partition);
        self.arena.release_partition(partition);
        self.stats.positions[partition as usize].store(NO_POSITION, Ordering::Relaxed);
    }

    /// Drops the state of all Kafka partitions and tells the publisher where the new generation begins.
    fn reset(&mut self, descriptor: &Descriptor) {
        for partition in 0..DIRECT_BASE {
            if self.partitions[partition as usize].position != NO_POSITION
                || self.arena.slots_of(partition).next().is_some()
            {
                self.drop_partition(partition);
            }
        }
        self.cut_ticket = 0;
        self.emit(Descriptor { kind: Kind::Reset, ..*descriptor });
    }
}
