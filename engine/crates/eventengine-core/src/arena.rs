//! The arena: all state of the program, in fixed slots of 256 bytes.
//!
//! Owns the slots, the index from key to slot, the list of slots of each partition and
//! the list of dirty slots. Everything is allocated in [`Arena::new`]; an exhausted
//! arena answers `None`.
//!
//! Rules: a slot's version only ever grows, also over release and reuse, so that no
//! version is seen twice. Whoever changes a payload gets it from
//! [`Arena::payload_mut`], which bumps the version and marks the slot dirty until
//! [`Arena::clear_dirty`]. Releasing twice is an error.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};

/// Bytes of one slot.
pub const SLOT_BYTES: usize = 256;

/// Bytes of a slot that belong to the program.
pub const PAYLOAD_BYTES: usize = 224;

const NONE: u32 = u32::MAX;
const ACTIVE: u8 = 0b01;
const DIRTY: u8 = 0b10;

/// What a slot is about.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Partition that the state belongs to and moves with.
    pub partition: u32,
    /// The program's number for the kind of state.
    pub kind: u32,
    /// First part of the program's key.
    pub district: u32,
    /// Second part of the program's key.
    pub team: u32,
}

#[repr(C, align(64))]
struct Slot {
    version: u64,
    key: Key,
    reserved: u64,
    payload: [u8; PAYLOAD_BYTES],
}

const _: () = assert!(size_of::<Slot>() == SLOT_BYTES);

/// Position of a slot in the arena. Valid until the slot is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotId(u32);

/// The slot is not in use: it was released before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotInUse(pub SlotId);

#[derive(Debug, Clone, Copy)]
struct Neighbours {
    before: u32,
    after: u32,
}

/// The slots and everything that finds them.
pub struct Arena {
    slots: Box<[Slot]>,
    flags: Box<[u8]>,
    free: Vec<u32>,
    table: Box<[u32]>,
    table_mask: u64,
    seed: u64,
    neighbours: Box<[Neighbours]>,
    first_of_partition: Box<[u32]>,
    dirty: Vec<u32>,
    extent: u32,
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Arena")
            .field("slots", &self.slots.len())
            .field("in_use", &self.in_use())
            .finish()
    }
}

/// Zeroed slots without a copy through the stack.
fn zeroed_slots(capacity: usize) -> Box<[Slot]> {
    let layout = Layout::array::<Slot>(capacity).expect("at most 2^22 slots of 256 bytes");
    if capacity == 0 {
        return Box::new([]);
    }
    // SAFETY: the layout's size is not zero.
    let start = unsafe { alloc_zeroed(layout) }.cast::<Slot>();
    if start.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: allocated with the layout of this very slice; a slot of zeroes is a valid slot.
    unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(start, capacity)) }
}

impl Arena {
    /// An arena of `capacity` slots for `partitions` partitions. `seed` makes the index unpredictable from outside.
    pub fn new(capacity: u32, partitions: u32, seed: u64) -> Arena {
        let table_slots = (u64::from(capacity) * 2).next_power_of_two().max(8);
        Arena {
            slots: zeroed_slots(capacity as usize),
            flags: vec![0; capacity as usize].into_boxed_slice(),
            free: (0..capacity).rev().collect(),
            table: vec![NONE; table_slots as usize].into_boxed_slice(),
            table_mask: table_slots - 1,
            seed,
            neighbours: vec![Neighbours { before: NONE, after: NONE }; capacity as usize].into_boxed_slice(),
            first_of_partition: vec![NONE; partitions as usize].into_boxed_slice(),
            dirty: Vec::with_capacity(capacity as usize),
            extent: 0,
        }
    }

    /// Writes to every page once, so that no page fault is left for later.
    pub fn touch(&mut self) {
        for slot in &mut self.slots {
            // Written through a volatile store, or the compiler would leave it out.
            // SAFETY: a valid, exclusively borrowed field.
            unsafe { std::ptr::write_volatile(&raw mut slot.reserved, 0) };
        }
    }

    /// Number of slots.
    pub fn capacity(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Slots in use.
    pub fn in_use(&self) -> u32 {
        self.capacity() - self.free.len() as u32
    }

    /// Free slots.
    pub fn free(&self) -> u32 {
        self.free.len() as u32
    }

    /// Share of holes among the slots up to the highest one in use.
    pub fn fragmentation(&self) -> f64 {
        if self.extent == 0 { 0.0 } else { f64::from(self.extent - self.in_use()) / f64::from(self.extent) }
    }

    /// The slot of a key.
    pub fn find(&self, key: &Key) -> Option<SlotId> {
        let mut place = self.place_of(key);
        loop {
            match self.table[place as usize] {
                NONE => return None,
                slot if self.slots[slot as usize].key == *key => return Some(SlotId(slot)),
                _ => place = (place + 1) & self.table_mask,
            }
        }
    }

    /// A fresh slot for a key that has none, or `None` if the arena is exhausted or the partition unknown.
    ///
    /// The payload is zeroes. The slot is not dirty before it is written.
    pub fn acquire(&mut self, key: Key) -> Option<SlotId> {
        debug_assert!(self.find(&key).is_none());
        let first = *self.first_of_partition.get(key.partition as usize)?;
        let index = self.free.pop()?;
        let slot = &mut self.slots[index as usize];
        slot.version += 1;
        slot.key = key;
        slot.payload = [0; PAYLOAD_BYTES];
        self.flags[index as usize] = ACTIVE;
        self.neighbours[index as usize] = Neighbours { before: NONE, after: first };
        if first != NONE {
            self.neighbours[first as usize].before = index;
        }
        self.first_of_partition[key.partition as usize] = index;
        let mut place = self.place_of(&key);
        while self.table[place as usize] != NONE {
            place = (place + 1) & self.table_mask;
        }
        self.table[place as usize] = index;
        self.extent = self.extent.max(index + 1);
        Some(SlotId(index))
    }

    /// What the slot is about.
    pub fn key(&self, slot: SlotId) -> Key {
        self.slots[slot.0 as usize].key
    }

    /// The slot's version: it grows with every change and never goes back.
    pub fn version(&self, slot: SlotId) -> u64 {
        self.slots[slot.0 as usize].version
    }

    /// The program's bytes of a slot.
    pub fn payload(&self, slot: SlotId) -> &[u8; PAYLOAD_BYTES] {
        &self.slots[slot.0 as usize].payload
    }

    /// The program's bytes of a slot, to change: the version grows and the slot is dirty.
    pub fn payload_mut(&mut self, slot: SlotId) -> &mut [u8; PAYLOAD_BYTES] {
        let flags = &mut self.flags[slot.0 as usize];
        debug_assert!(*flags & ACTIVE != 0);
        if *flags & DIRTY == 0 {
            *flags |= DIRTY;
            self.dirty.push(slot.0);
        }
        let slot = &mut self.slots[slot.0 as usize];
        slot.version += 1;
        &mut slot.payload
    }

    /// Puts a restored payload in place of what the slot holds. The slot is as clean as the changelog it came from.
    ///
    /// The version becomes greater than both its own and the restored one.
    pub fn restore(&mut self, slot: SlotId, version: u64, payload: &[u8]) {
        let slot = &mut self.slots[slot.0 as usize];
        slot.version = slot.version.max(version) + 1;
        let length = payload.len().min(PAYLOAD_BYTES);
        slot.payload[..length].copy_from_slice(&payload[..length]);
        slot.payload[length..].fill(0);
    }

    /// Slots that changed since the last [`Arena::clear_dirty`], in the order of their first change.
    pub fn dirty(&self) -> impl Iterator<Item = SlotId> + '_ {
        self.dirty.iter().map(|index| SlotId(*index))
    }

    /// Number of dirty slots.
    pub fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    /// Marks everything clean: the after-images were taken.
    pub fn clear_dirty(&mut self) {
        for index in self.dirty.drain(..) {
            self.flags[index as usize] &= !DIRTY;
        }
    }

    /// Frees a slot.
    pub fn release(&mut self, slot: SlotId) -> Result<(), NotInUse> {
        if self.flags.get(slot.0 as usize).is_none_or(|flags| flags & ACTIVE == 0) {
            return Err(NotInUse(slot));
        }
        if self.flags[slot.0 as usize] & DIRTY != 0 {
            self.dirty.retain(|index| *index != slot.0);
        }
        self.unlink(slot.0);
        self.free_slot(slot.0);
        Ok(())
    }

    /// Frees every slot of a partition and says how many there were.
    pub fn release_partition(&mut self, partition: u32) -> u32 {
        let Some(first) = self.first_of_partition.get_mut(partition as usize) else { return 0 };
        let mut index = std::mem::replace(first, NONE);
        let mut freed = 0;
        while index != NONE {
            let after = self.neighbours[index as usize].after;
            self.free_slot(index);
            freed += 1;
            index = after;
        }
        if freed > 0 {
            let flags = &self.flags;
            self.dirty.retain(|index| flags[*index as usize] & DIRTY != 0);
        }
        freed
    }

    /// Slots of a partition, latest first.
    pub fn slots_of(&self, partition: u32) -> impl Iterator<Item = SlotId> + '_ {
        let first = self.first_of_partition.get(partition as usize).copied().unwrap_or(NONE);
        std::iter::successors((first != NONE).then_some(SlotId(first)), |slot| {
            let after = self.neighbours[slot.0 as usize].after;
            (after != NONE).then_some(SlotId(after))
        })
    }

    fn unlink(&mut self, index: u32) {
        let Neighbours { before, after } = self.neighbours[index as usize];
        match before {
            NONE => self.first_of_partition[self.slots[index as usize].key.partition as usize] = after,
            before => self.neighbours[before as usize].after = after,
        }
        if after != NONE {
            self.neighbours[after as usize].before = before;
        }
    }

    /// Takes a slot out of the index and onto the free stack. Its version stays: it never returns to an old one.
    fn free_slot(&mut self, index: u32) {
        self.forget(index);
        self.flags[index as usize] = 0;
        self.free.push(index);
        while self.extent > 0 && self.flags[self.extent as usize - 1] & ACTIVE == 0 {
            self.extent -= 1;
        }
    }

    /// Removes a slot from the table and closes the gap, so that no probe ends early.
    fn forget(&mut self, index: u32) {
        let mut hole = self.place_of(&self.slots[index as usize].key);
        while self.table[hole as usize] != index {
            hole = (hole + 1) & self.table_mask;
        }
        let mut place = hole;
        loop {
            place = (place + 1) & self.table_mask;
            let moved = self.table[place as usize];
            if moved == NONE {
                break;
            }
            let home = self.place_of(&self.slots[moved as usize].key);
            let distance_from_home = place.wrapping_sub(home) & self.table_mask;
            let distance_from_hole = place.wrapping_sub(hole) & self.table_mask;
            if distance_from_home >= distance_from_hole {
                self.table[hole as usize] = moved;
                hole = place;
            }
        }
        self.table[hole as usize] = NONE;
    }

    fn place_of(&self, key: &Key) -> u64 {
        let left = u64::from(key.partition) << 32 | u64::from(key.kind);
        let right = u64::from(key.district) << 32 | u64::from(key.team);
        let mixed = mix(self.seed ^ left).wrapping_add(right);
        mix(mixed) & self.table_mask
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn key(partition: u32, district: u32, team: u32) -> Key {
        Key { partition, kind: 1, district, team }
    }

    #[test]
    fn a_version_never_returns_to_an_old_one() {
        let mut arena = Arena::new(1, 1, 7);
        let slot = arena.acquire(key(0, 1, 1)).unwrap();
        arena.payload_mut(slot)[0] = 9;
        let before = arena.version(slot);
        arena.release(slot).unwrap();
        let again = arena.acquire(key(0, 2, 2)).unwrap();
        assert_eq!(slot, again);
        assert!(arena.version(again) > before);
        assert_eq!(
            arena.payload(again),
            &[0; PAYLOAD_BYTES],
            "a reused slot holds nothing of the former one"
        );
        arena.restore(again, before + 100, b"restored");
        assert!(arena.version(again) > before + 100);
        assert!(arena.payload(again).starts_with(b"restored\0"));
    }

    #[test]
    fn releasing_twice_is_refused() {
        let mut arena = Arena::new(4, 1, 7);
        let slot = arena.acquire(key(0, 1, 1)).unwrap();
        arena.release(slot).unwrap();
        assert_eq!(arena.release(slot), Err(NotInUse(slot)));
        assert_eq!(arena.free(), 4);
    }

    #[test]
    fn an_exhausted_arena_and_an_unknown_partition_answer_none() {
        let mut arena = Arena::new(2, 2, 7);
        assert!(arena.acquire(key(2, 0, 0)).is_none());
        arena.acquire(key(0, 0, 0)).unwrap();
        arena.acquire(key(1, 0, 0)).unwrap();
        assert!(arena.acquire(key(1, 0, 1)).is_none());
        assert_eq!(arena.release_partition(0), 1);
        assert!(arena.acquire(key(1, 0, 1)).is_some());
    }

    #[test]
    fn releasing_a_partition_takes_its_slots_off_the_dirty_list() {
        let mut arena = Arena::new(8, 2, 7);
        for partition in 0..2 {
            for team in 0..3 {
                let slot = arena.acquire(key(partition, 0, team)).unwrap();
                arena.payload_mut(slot)[0] = 1;
            }
        }
        assert_eq!(arena.dirty_count(), 6);
        assert_eq!(arena.release_partition(0), 3);
        assert_eq!(arena.dirty_count(), 3);
        assert!(arena.dirty().all(|slot| arena.key(slot).partition == 1));
        let slot = arena.acquire(key(0, 5, 5)).unwrap();
        arena.payload_mut(slot)[0] = 1;
        assert_eq!(arena.dirty_count(), 4);
        arena.clear_dirty();
        arena.payload_mut(slot)[0] = 2;
        assert_eq!(arena.dirty().collect::<Vec<_>>(), [slot]);
    }

    #[test]
    fn fragmentation_is_the_share_of_holes_below_the_highest_slot_in_use() {
        let mut arena = Arena::new(8, 1, 7);
        let slots: Vec<SlotId> = (0..4).map(|team| arena.acquire(key(0, 0, team)).unwrap()).collect();
        assert_eq!(arena.fragmentation(), 0.0);
        arena.release(slots[1]).unwrap();
        assert_eq!(arena.fragmentation(), 0.25);
        arena.release(slots[3]).unwrap();
        arena.release(slots[2]).unwrap();
        assert_eq!(arena.fragmentation(), 0.0);
        arena.release(slots[0]).unwrap();
        assert_eq!((arena.fragmentation(), arena.in_use()), (0.0, 0));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(Key, u8),
        Release(Key),
        ReleasePartition(u32),
        ClearDirty,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = (0..3_u32, 0..2_u32, 0..4_u32, 0..6_u32)
            .prop_map(|(partition, kind, district, team)| Key { partition, kind, district, team });
        let step = prop_oneof![
            8 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Write(key, value)),
            3 => key.prop_map(Step::Release),
            1 => (0..3_u32).prop_map(Step::ReleasePartition),
            1 => Just(Step::ClearDirty),
        ];
        proptest::collection::vec(step, 0..300)
    }

    proptest! {
        /// The arena against a plain map: same keys, same payloads, same dirty set, versions that only grow.
        #[test]
        fn it_behaves_like_a_plain_map(steps in steps(), seed in any::<u64>()) {
            const CAPACITY: usize = 24;
            let mut arena = Arena::new(CAPACITY as u32, 3, seed);
            let mut model: BTreeMap<Key, u8> = BTreeMap::new();
            let mut dirty: BTreeSet<Key> = BTreeSet::new();
            let mut versions: BTreeMap<u32, u64> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Write(key, value) => {
                        let slot = arena.find(&key).or_else(|| arena.acquire(key));
                        prop_assert_eq!(slot.is_some(), model.contains_key(&key) || model.len() < CAPACITY);
                        if let Some(slot) = slot {
                            arena.payload_mut(slot)[0] = value;
                            model.insert(key, value);
                            dirty.insert(key);
                            let version = arena.version(slot);
                            let last = versions.insert(slot.0, version).unwrap_or(0);
                            prop_assert!(version > last);
                        }
                    }
                    Step::Release(key) => match arena.find(&key) {
                        Some(slot) => {
                            arena.release(slot).unwrap();
                            prop_assert!(arena.release(slot).is_err());
                            prop_assert!(model.remove(&key).is_some());
                            dirty.remove(&key);
                        }
                        None => prop_assert!(!model.contains_key(&key)),
                    },
                    Step::ReleasePartition(partition) => {
                        let expected = model.keys().filter(|key| key.partition == partition).count();
                        prop_assert_eq!(arena.release_partition(partition) as usize, expected);
                        model.retain(|key, _| key.partition != partition);
                        dirty.retain(|key| key.partition != partition);
                    }
                    Step::ClearDirty => {
                        arena.clear_dirty();
                        dirty.clear();
                    }
                }
                prop_assert_eq!(arena.in_use() as usize, model.len());
                for (key, value) in &model {
                    let slot = arena.find(key);
                    prop_assert!(slot.is_some());
                    prop_assert_eq!(arena.payload(slot.unwrap())[0], *value);
                }
                let seen: BTreeSet<Key> = arena.dirty().map(|slot| arena.key(slot)).collect();
                prop_assert_eq!(arena.dirty_count(), dirty.len());
                prop_assert_eq!(&seen, &dirty);
                for partition in 0..3 {
                    let listed: BTreeSet<Key> = arena.slots_of(partition).map(|slot| arena.key(slot)).collect();
                    let expected: BTreeSet<Key> =
                        model.keys().copied().filter(|key| key.partition == partition).collect();
                    prop_assert_eq!(listed, expected);
                }
            }
        }
    }
}
