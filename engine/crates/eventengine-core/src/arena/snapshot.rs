//! Snapshots: the whole content of an arena, in memory that was allocated before.

use super::slot::{PAYLOAD_BYTES, Slot, touch, zeroed_slots};
use super::{Arena, Key};
use crate::region::Region;

/// Room for the content of one arena.
pub struct ArenaSnapshot {
    slots: Region<Slot>,
    extent: u32,
    version: u64,
    ownership: u64,
}

/// The snapshot was taken of another arena's size, or before slots came or went with their partition's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outdated {
    /// Version of the arena when the snapshot was taken.
    pub version: u64,
}

impl std::fmt::Display for Outdated {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "the snapshot of version {} is outdated: partitions were taken or given up since; take a new one",
            self.version
        )
    }
}

impl std::error::Error for Outdated {}

impl ArenaSnapshot {
    /// Empty room for snapshots of an arena.
    pub fn new(arena: &Arena) -> ArenaSnapshot {
        let mut slots = zeroed_slots(arena.slots.len());
        touch(&mut slots);
        ArenaSnapshot { slots, extent: 0, version: 0, ownership: 0 }
    }

    /// Version of the arena when the snapshot was taken.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What it holds, in the order of the slots.
    pub fn content(&self) -> impl Iterator<Item = (Key, &[u8; PAYLOAD_BYTES])> {
        let slots = self.slots[..self.extent as usize].iter();
        slots.filter(|slot| slot.active).map(|slot| (slot.key, &slot.payload))
    }
}

impl Arena {
    /// Copies the whole content and says its version.
    ///
    /// # Panics
    /// If the snapshot was made for an arena of another size.
    pub fn snapshot(&self, into: &mut ArenaSnapshot) -> u64 {
        assert_eq!(into.slots.len(), self.slots.len(), "made for an arena of another size");
        let extent = self.extent as usize;
        into.slots[..extent].copy_from_slice(&self.slots[..extent]);
        into.extent = self.extent;
        into.version = self.clock;
        into.ownership = self.ownership;
        self.clock
    }

    /// Puts the content of a snapshot back and says how many slots differed. Checkpoints stay.
    ///
    /// Slots that differ get new versions and are dirty.
    pub fn restore(&mut self, snapshot: &ArenaSnapshot) -> Result<u32, Outdated> {
        if snapshot.ownership != self.ownership || snapshot.slots.len() != self.slots.len() {
            return Err(Outdated { version: snapshot.version });
        }
        let mut differing = 0;
        for index in 0..self.extent.max(snapshot.extent) {
            let slot = &self.slots[index as usize];
            let image = &snapshot.slots[index as usize];
            let held = index < snapshot.extent && image.active;
            if held && slot.version == image.version || !held && !slot.active {
                continue;
            }
            self.log_before(index);
            if held {
                self.put_back(index, image);
            } else {
                self.change(index, |arena| arena.detach(index));
            }
            differing += 1;
        }
        Ok(differing)
    }
}
