//! The arena: all state of the program, in fixed slots of 256 bytes.
//!
//! Owns the slots, the index from key to slot, the list of slots of each partition, the
//! list of dirty slots, the tenants' quotas and the undo log. Everything is allocated at
//! construction; an exhausted arena or tenant is refused by name.
//!
//! Rules:
//! - One clock counts all changes. A changed slot gets its next value as version, over
//!   release, reuse, rollback and moving, too: no version is seen twice, and two slots
//!   of the same version are the same slot with the same content.
//! - Whoever changes a payload gets it from [`Arena::payload_mut`], which logs the
//!   before-image, bumps the version and marks the slot dirty until [`Arena::clear_dirty`].
//! - The dirty slots and what they were last known as give the changelog's next records
//!   ([`Arena::changes`]): images of what is there, and the keys of what is there no more.
//!   What a rollback puts back is a change like any other, so the changelog follows it.
//! - Slots that come or go with their partition's owner (loaded, or released with the
//!   partition) can't be rolled back: they end every checkpoint and outdate snapshots.
//! - A [`SlotId`] is good until the next event: [`Arena::compact`] moves slots between
//!   events, and only the index knows where to.

mod free;
mod index;
#[cfg(test)]
mod model;
mod slot;
mod snapshot;
mod tenants;
#[cfg(test)]
mod tests;
mod undo;

use free::FreeSlots;
use index::Index;
pub use slot::{Key, PAYLOAD_BYTES, SLOT_BYTES, SlotId};
use slot::{Slot, zeroed_slots};
pub use snapshot::{ArenaSnapshot, Outdated};
use tenants::Tenants;
pub use tenants::{Exhausted, Overcommitted, Quota, TENANTS_MAX};
pub use undo::RollbackError;
use undo::UndoLog;

use crate::prefetch;
use crate::region::Region;

const NONE: u32 = u32::MAX;

/// No key: partitions are counted from zero and far fewer.
const NO_KEY: Key = Key { partition: NONE, kind: 0, district: 0, team: 0 };

/// Slots of which one is likely a key's: the index has two places for each slot.
const CANDIDATES_FETCHED: u64 = 2;

/// Slots that are moved at once while the core has nothing else to do: a few microseconds.
const TIDY_MOVES: u32 = 16;

/// The slot is not in use: it was released before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotInUse(pub SlotId);

/// How large an arena is and what it keeps besides its slots.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// Number of slots.
    pub capacity: u32,
    /// Partitions that state may belong to.
    pub partitions: u32,
    /// State of partitions from this one on lives in memory only: it is never dirty.
    pub volatile_from: u32,
    /// Makes the index unpredictable from outside.
    pub seed: u64,
    /// What each tenant may hold; empty for one tenant that may use everything.
    pub tenants: &'a [Quota],
    /// Before-images that the undo log has room for; zero to keep none.
    pub undo_images: u32,
    /// Checkpoints that are kept at most.
    pub checkpoints: u32,
    /// Share of holes, from 0 to 1, above which [`Arena::tidy`] compacts.
    pub fragmentation_threshold: f64,
}

impl Default for Settings<'_> {
    /// No slots, one tenant, no undo log, never compacted.
    fn default() -> Self {
        Settings {
            capacity: 0,
            partitions: 0,
            volatile_from: u32::MAX,
            seed: 0,
            tenants: &[],
            undo_images: 0,
            checkpoints: 0,
            fragmentation_threshold: 1.0,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Neighbours {
    before: u32,
    after: u32,
}

/// A record that the changelog lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// The slot of a key has this content.
    Image {
        /// What the slot is about.
        key: Key,
        /// Its version.
        version: u64,
        /// Its content.
        payload: &'a [u8; PAYLOAD_BYTES],
    },
    /// A key that the changelog knows has no slot any more.
    Gone {
        /// What the slot was about.
        key: Key,
    },
}

/// The slots and everything that finds them.
pub struct Arena {
    slots: Region<Slot>,
    free: FreeSlots,
    index: Index,
    neighbours: Region<Neighbours>,
    first_of_partition: Box<[u32]>,
    dirty: Vec<u32>,
    volatile_from: u32,
    /// What the changelog knows each slot as.
    known_as: Region<Key>,
    /// Dirty slots that the changelog knows as something that they aren't any more.
    outdated: u32,
    tenants: Tenants,
    acting: u8,
    undo: UndoLog,
    clock: u64,
    extent: u32,
    fragmentation_threshold: f64,
    /// Whether the fragmentation was above the threshold when it was last looked at.
    fragmented: bool,
    /// Counts the changes of ownership that snapshots can't reach back over.
    ownership: u64,
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

impl Arena {
    /// An arena of `capacity` slots for `partitions` partitions and one tenant, without an undo log.
    pub fn new(capacity: u32, partitions: u32, seed: u64) -> Arena {
        let settings = Settings { capacity, partitions, seed, ..Settings::default() };
        Arena::build(&settings, Tenants::one(capacity))
    }

    /// An arena of these settings, or which reserves it has no room for.
    pub fn with_settings(settings: &Settings<'_>) -> Result<Arena, Overcommitted> {
        let tenants = match settings.tenants {
            [] => Tenants::one(settings.capacity),
            quotas => Tenants::new(settings.capacity, quotas)?,
        };
        Ok(Arena::build(settings, tenants))
    }

    fn build(settings: &Settings<'_>, tenants: Tenants) -> Arena {
        let capacity = settings.capacity as usize;
        Arena {
            slots: zeroed_slots(capacity),
            free: FreeSlots::new(settings.capacity),
            index: Index::new(settings.capacity, settings.seed),
            neighbours: Region::filled(capacity, Neighbours { before: NONE, after: NONE }),
            first_of_partition: vec![NONE; settings.partitions as usize].into_boxed_slice(),
            dirty: Vec::with_capacity(capacity),
            volatile_from: settings.volatile_from,
            known_as: Region::filled(capacity, NO_KEY),
            outdated: 0,
            tenants,
            acting: 0,
            undo: UndoLog::new(settings.undo_images, settings.checkpoints),
            clock: 0,
            extent: 0,
            fragmentation_threshold: settings.fragmentation_threshold,
            fragmented: false,
            ownership: 0,
        }
    }

    /// Writes to every page once, so that no page fault is left for later.
    pub fn touch(&mut self) {
        slot::touch(&mut self.slots);
        self.undo.touch();
    }

    /// Number of slots.
    pub fn capacity(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Slots in use.
    pub fn in_use(&self) -> u32 {
        self.capacity() - self.free.count()
    }

    /// Free slots.
    pub fn free(&self) -> u32 {
        self.free.count()
    }

    /// Tenants that share the arena.
    pub fn tenants(&self) -> usize {
        self.tenants.count()
    }

    /// Slots that a tenant holds.
    pub fn in_use_by(&self, tenant: u8) -> u32 {
        self.tenants.in_use(tenant)
    }

    /// From here on slots are acquired for this tenant. An unknown one counts as the last.
    pub fn act_for(&mut self, tenant: u8) {
        self.acting = tenant.min((self.tenants.count() - 1) as u8);
    }

    /// Whether the acting tenant may acquire so many slots more.
    pub fn room_for(&self, slots: u32) -> Result<(), Exhausted> {
        self.tenants.room(self.acting, slots)
    }

    /// Share of holes among the slots up to the highest one in use.
    pub fn fragmentation(&self) -> f64 {
        if self.extent == 0 { 0.0 } else { f64::from(self.extent - self.in_use()) / f64::from(self.extent) }
    }

    /// Fetches what [`Arena::prefetch`] is going to need.
    #[inline]
    pub fn prefetch_place(&self, key: &Key) {
        self.index.prefetch(key);
    }

    /// Fetches the slots that a key may have, and what a change of them needs.
    #[inline]
    pub fn prefetch(&self, key: &Key) {
        for slot in self.index.candidates(key, CANDIDATES_FETCHED) {
            let start = std::ptr::from_ref(&self.slots[slot as usize]).cast::<u8>();
            prefetch::to_write(start);
            prefetch::to_write(start.wrapping_add(prefetch::LINE_BYTES));
            prefetch::to_read(&raw const self.known_as[slot as usize]);
        }
    }

    /// The slot of a key.
    pub fn find(&self, key: &Key) -> Option<SlotId> {
        self.index.find(key, &self.slots).map(SlotId)
    }

    /// A fresh slot for a key that has none, taken for the acting tenant. The payload is zeroes.
    pub fn acquire(&mut self, key: Key) -> Result<SlotId, Exhausted> {
        debug_assert!(self.find(&key).is_none());
        self.check(&key)?;
        let index = self.free.lowest().ok_or(Exhausted::Arena)?;
        self.log_before(index);
        let tenant = self.acting;
        self.change(index, |arena| arena.attach(index, key, tenant));
        self.slots[index as usize].payload = [0; PAYLOAD_BYTES];
        Ok(SlotId(index))
    }

    fn check(&self, key: &Key) -> Result<(), Exhausted> {
        if key.partition as usize >= self.first_of_partition.len() {
            return Err(Exhausted::UnknownPartition);
        }
        self.room_for(1)
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
        let index = slot.0;
        debug_assert!(self.slots[index as usize].active);
        self.log_before(index);
        self.stamp(index);
        &mut self.slots[index as usize].payload
    }

    /// Puts what the changelog holds of a key into a slot, taken for the acting tenant where the key has none.
    ///
    /// The partition was released when it was taken over, so that nothing of it still waits to be told.
    ///
    /// The slot is as clean as the changelog. Its version becomes greater than both its own and the loaded one.
    pub fn load(&mut self, key: Key, version: u64, payload: &[u8]) -> Result<SlotId, Exhausted> {
        self.end_checkpoints();
        let index = match self.find(&key) {
            Some(SlotId(index)) => index,
            None => {
                self.check(&key)?;
                // What a free slot is still known as has to reach the changelog before it is known as this.
                let unknown = |index: &u32| self.known_as[*index as usize] == NO_KEY;
                let index = self.free.iter().find(unknown).ok_or(Exhausted::Arena)?;
                self.attach(index, key, self.acting);
                index
            }
        };
        self.clock = self.clock.max(version) + 1;
        if !self.is_outdated(index) {
            self.known_as[index as usize] = key;
        }
        let slot = &mut self.slots[index as usize];
        slot.version = self.clock;
        let length = payload.len().min(PAYLOAD_BYTES);
        slot.payload[..length].copy_from_slice(&payload[..length]);
        slot.payload[length..].fill(0);
        Ok(SlotId(index))
    }

    /// Number of dirty slots.
    pub fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    /// At most so many records come out of [`Arena::changes`].
    pub fn change_count(&self) -> usize {
        self.dirty.len() + self.outdated as usize
    }

    /// What changed since the last [`Arena::clear_dirty`]: the records that bring a changelog up to date.
    ///
    /// No key comes twice.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        self.dirty.iter().flat_map(|index| {
            let (slot, known_as) = (&self.slots[*index as usize], self.known_as[*index as usize]);
            // A key that has another slot by now gets that slot's image, which is dirty, too.
            let gone = self.is_outdated(*index) && self.find(&known_as).is_none();
            let is_kept = slot.active && slot.key.partition < self.volatile_from;
            let image = is_kept.then_some(Change::Image {
                key: slot.key,
                version: slot.version,
                payload: &slot.payload,
            });
            gone.then_some(Change::Gone { key: known_as }).into_iter().chain(image)
        })
    }

    /// Marks everything clean: the changes were taken.
    pub fn clear_dirty(&mut self) {
        for index in self.dirty.drain(..) {
            let slot = &mut self.slots[index as usize];
            slot.dirty = false;
            let is_kept = slot.active && slot.key.partition < self.volatile_from;
            self.known_as[index as usize] = if is_kept { slot.key } else { NO_KEY };
        }
        self.outdated = 0;
    }

    /// Frees a slot.
    pub fn release(&mut self, slot: SlotId) -> Result<(), NotInUse> {
        let index = slot.0;
        if !self.slots.get(index as usize).is_some_and(|slot| slot.active) {
            return Err(NotInUse(slot));
        }
        self.log_before(index);
        self.change(index, |arena| arena.detach(index));
        Ok(())
    }

    /// Frees every slot of a partition and says how many there were. The changelog stays its new owner's.
    pub fn release_partition(&mut self, partition: u32) -> u32 {
        let Some(first) = self.first_of_partition.get(partition as usize) else { return 0 };
        let mut index = *first;
        self.end_checkpoints();
        let mut freed = 0;
        while index != NONE {
            let after = self.neighbours[index as usize].after;
            self.detach(index);
            self.clock += 1;
            self.slots[index as usize].version = self.clock;
            if self.known_as[index as usize].partition == partition {
                self.known_as[index as usize] = NO_KEY;
            }
            freed += 1;
            index = after;
        }
        self.forget_changes_of(partition);
        freed
    }

    /// Slots of a partition, in no order.
    pub fn slots_of(&self, partition: u32) -> impl Iterator<Item = SlotId> + '_ {
        let first = self.first_of_partition.get(partition as usize).copied().unwrap_or(NONE);
        std::iter::successors((first != NONE).then_some(SlotId(first)), |slot| {
            let after = self.neighbours[slot.0 as usize].after;
            (after != NONE).then_some(SlotId(after))
        })
    }

    /// Keeps the present content, so that it can be rolled back to, and says its version.
    ///
    /// Repeated without a change in between it is the same checkpoint.
    pub fn checkpoint(&mut self) -> u64 {
        self.undo.checkpoint(self.clock);
        self.clock
    }

    /// The oldest version that can be rolled back to.
    pub fn oldest_checkpoint(&self) -> Option<u64> {
        self.undo.oldest_version()
    }

    /// Puts the content of a checkpoint back, in time proportional to what changed, and says how many slots that were.
    ///
    /// The checkpoint stays; later ones are gone. The slots that are put back get new versions and are dirty.
    pub fn rollback(&mut self, version: u64) -> Result<u32, RollbackError> {
        let (place, images) = self.undo.find(version)?;
        let mut undo = std::mem::replace(&mut self.undo, UndoLog::new(0, 0));
        for _ in 0..images {
            let (index, image) = undo.pop(&self.slots);
            self.put_back(index, image);
        }
        undo.rolled_back(place, self.clock);
        self.undo = undo;
        Ok(images as u32)
    }

    /// Whether the fragmentation has risen above its threshold since it was last asked.
    pub fn became_fragmented(&mut self) -> bool {
        let is_fragmented = self.is_fragmented();
        let was_fragmented = std::mem::replace(&mut self.fragmented, is_fragmented);
        is_fragmented && !was_fragmented
    }

    /// Compacts a few slots if the fragmentation is above its threshold, and says how many it moved.
    ///
    /// Only between events, while there is nothing else to do: every [`SlotId`] is void afterwards.
    pub fn tidy(&mut self) -> u32 {
        if self.is_fragmented() { self.compact(TIDY_MOVES) } else { 0 }
    }

    fn is_fragmented(&self) -> bool {
        self.fragmentation() > self.fragmentation_threshold
    }

    /// Moves slots from the end into holes, at most so many, and says how many it moved.
    ///
    /// Only between events: every [`SlotId`] is void afterwards.
    pub fn compact(&mut self, moves_max: u32) -> u32 {
        for moved in 0..moves_max {
            let Some(hole) = self.free.lowest().filter(|hole| *hole < self.extent) else { return moved };
            // A hole that the changelog knows as something else has to be told of first.
            if self.known_as[hole as usize] != NO_KEY {
                return moved;
            }
            self.move_slot(self.extent - 1, hole);
        }
        moves_max
    }

    fn move_slot(&mut self, from: u32, to: u32) {
        self.log_before(from);
        self.log_before(to);
        let Slot { key, tenant, dirty, payload, .. } = self.slots[from as usize];
        self.index.replace(&key, from, to);
        self.unlink(from);
        self.free.insert(from);
        self.slots[from as usize].active = false;
        self.free.remove(to);
        self.slots[to as usize].active = true;
        self.slots[to as usize].key = key;
        self.slots[to as usize].tenant = tenant;
        self.slots[to as usize].payload = payload;
        self.link(to);
        self.known_as[to as usize] = std::mem::replace(&mut self.known_as[from as usize], NO_KEY);
        for index in [from, to] {
            self.clock += 1;
            self.slots[index as usize].version = self.clock;
        }
        if dirty {
            self.mark_dirty(to);
        }
        self.shrink_extent();
    }

    fn log_before(&mut self, index: u32) {
        let slot = &self.slots[index as usize];
        if self.undo.wants(slot.version) {
            self.undo.log(index, slot);
        }
    }

    /// Changes which key a slot has; keeps version, dirty list and what the changelog lacks in step.
    fn change(&mut self, index: u32, body: impl FnOnce(&mut Arena)) {
        let before = self.is_outdated(index);
        body(self);
        self.stamp(index);
        self.outdated = self.outdated + u32::from(self.is_outdated(index)) - u32::from(before);
    }

    fn is_outdated(&self, index: u32) -> bool {
        let (slot, known_as) = (&self.slots[index as usize], self.known_as[index as usize]);
        known_as != NO_KEY && !(slot.active && slot.key == known_as)
    }

    fn stamp(&mut self, index: u32) {
        self.clock += 1;
        self.slots[index as usize].version = self.clock;
        self.mark_dirty(index);
    }

    fn mark_dirty(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let is_kept = slot.key.partition < self.volatile_from || self.known_as[index as usize] != NO_KEY;
        if !slot.dirty && is_kept {
            slot.dirty = true;
            self.dirty.push(index);
        }
    }

    fn put_back(&mut self, index: u32, image: &Slot) {
        let slot = &self.slots[index as usize];
        if slot.active && image.active && slot.key == image.key && slot.tenant == image.tenant {
            self.stamp(index);
        } else {
            self.change(index, |arena| {
                if arena.slots[index as usize].active {
                    arena.detach(index);
                }
                if image.active {
                    arena.attach(index, image.key, image.tenant);
                }
            });
        }
        if image.active {
            self.slots[index as usize].payload = image.payload;
        }
    }

    fn attach(&mut self, index: u32, key: Key, tenant: u8) {
        let slot = &mut self.slots[index as usize];
        slot.key = key;
        slot.tenant = tenant;
        slot.active = true;
        self.index.insert(&key, index);
        self.link(index);
        self.tenants.take(tenant);
        self.free.remove(index);
        self.extent = self.extent.max(index + 1);
    }

    /// Frees a slot. Its version stays: it never returns to an old one.
    fn detach(&mut self, index: u32) {
        self.unlink(index);
        self.index.remove(index, &self.slots);
        self.tenants.give(self.slots[index as usize].tenant);
        self.slots[index as usize].active = false;
        self.free.insert(index);
        self.shrink_extent();
    }

    fn shrink_extent(&mut self) {
        while self.extent > 0 && !self.slots[self.extent as usize - 1].active {
            self.extent -= 1;
        }
    }

    fn link(&mut self, index: u32) {
        let first = &mut self.first_of_partition[self.slots[index as usize].key.partition as usize];
        let after = std::mem::replace(first, index);
        self.neighbours[index as usize] = Neighbours { before: NONE, after };
        if after != NONE {
            self.neighbours[after as usize].before = index;
        }
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

    /// Takes a partition that is given up out of what the changelog is going to be told.
    fn forget_changes_of(&mut self, partition: u32) {
        let (slots, known_as) = (&mut self.slots, &mut self.known_as);
        self.dirty.retain(|index| {
            let (slot, known_as) = (&mut slots[*index as usize], &mut known_as[*index as usize]);
            if known_as.partition == partition {
                *known_as = NO_KEY;
            }
            slot.dirty = slot.active || *known_as != NO_KEY;
            slot.dirty
        });
        self.outdated =
            (0..self.dirty.len()).filter(|place| self.is_outdated(self.dirty[*place])).count() as u32;
    }

    fn end_checkpoints(&mut self) {
        self.undo.clear();
        self.ownership += 1;
    }
}
