//! From a key to its slot: open addressing with linear probes, half full at most.
//!
//! Removing closes the gap, so that no probe ends early and nothing has to be rebuilt.

use super::NONE;
use super::slot::{Key, Slot};
use crate::prefetch;
use crate::region::Region;

pub(super) struct Index {
    table: Region<u32>,
    mask: u64,
    /// Known to this table alone, so that nobody can aim at one place of it.
    multiplier: u64,
}

impl Index {
    pub(super) fn new(capacity: u32, seed: u64) -> Index {
        let places = (u64::from(capacity) * 2).next_power_of_two().max(8);
        Index { table: Region::filled(places as usize, NONE), mask: places - 1, multiplier: mix(!seed) | 1 }
    }

    pub(super) fn find(&self, key: &Key, slots: &[Slot]) -> Option<u32> {
        let mut place = self.place_of(key);
        loop {
            match self.table[place as usize] {
                NONE => return None,
                slot if slots[slot as usize].key == *key => return Some(slot),
                _ => place = (place + 1) & self.mask,
            }
        }
    }

    /// The slots that a key may have, the likely one first and at most so many.
    #[inline]
    pub(super) fn candidates(&self, key: &Key, most: u64) -> impl Iterator<Item = u32> {
        let own = self.place_of(key);
        let places = (own..own + most).map(|place| self.table[(place & self.mask) as usize]);
        places.take_while(|slot| *slot != NONE)
    }

    /// Fetches the place of a key.
    #[inline]
    pub(super) fn prefetch(&self, key: &Key) {
        prefetch::to_read(&raw const self.table[self.place_of(key) as usize]);
    }

    /// Adds a slot. There is room: the table has two places for each slot.
    pub(super) fn insert(&mut self, key: &Key, slot: u32) {
        let mut place = self.place_of(key);
        while self.table[place as usize] != NONE {
            place = (place + 1) & self.mask;
        }
        self.table[place as usize] = slot;
    }

    /// The key's slot moved.
    pub(super) fn replace(&mut self, key: &Key, from: u32, to: u32) {
        let place = self.place_holding(key, from);
        self.table[place as usize] = to;
    }

    /// Removes a slot, whose key it still holds.
    pub(super) fn remove(&mut self, slot: u32, slots: &[Slot]) {
        let mut hole = self.place_holding(&slots[slot as usize].key, slot);
        let mut place = hole;
        loop {
            place = (place + 1) & self.mask;
            let moved = self.table[place as usize];
            if moved == NONE {
                break;
            }
            let home = self.place_of(&slots[moved as usize].key);
            let distance_from_home = place.wrapping_sub(home) & self.mask;
            let distance_from_hole = place.wrapping_sub(hole) & self.mask;
            if distance_from_home >= distance_from_hole {
                self.table[hole as usize] = moved;
                hole = place;
            }
        }
        self.table[hole as usize] = NONE;
    }

    fn place_holding(&self, key: &Key, slot: u32) -> u64 {
        let mut place = self.place_of(key);
        while self.table[place as usize] != slot {
            place = (place + 1) & self.mask;
        }
        place
    }

    fn place_of(&self, key: &Key) -> u64 {
        let left = u64::from(key.partition) << 32 | u64::from(key.kind);
        let right = u64::from(key.district) << 32 | u64::from(key.team);
        mix(left.wrapping_mul(self.multiplier).wrapping_add(right)) & self.mask
    }
}

/// A bijection of 64 bits in which every input bit moves about half of the output bits (murmur's finaliser).
fn mix(mut value: u64) -> u64 {
    value ^= value >> 33;
    value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^= value >> 33;
    value = value.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}
