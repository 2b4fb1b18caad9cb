//! One slot: 256 bytes, of which the program has 224.

use crate::region::Region;

/// Bytes of one slot.
pub const SLOT_BYTES: usize = 256;

/// Bytes of a slot that belong to the program.
pub const PAYLOAD_BYTES: usize = 224;

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

/// Position of a slot in the arena. Valid until the slot is released, or moved between two events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotId(pub(super) u32);

#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) version: u64,
    pub(super) key: Key,
    pub(super) tenant: u8,
    pub(super) active: bool,
    pub(super) dirty: bool,
    reserved: [u8; 5],
    pub(super) payload: [u8; PAYLOAD_BYTES],
}

const _: () = assert!(size_of::<Slot>() == SLOT_BYTES);

/// Zeroed slots.
pub(super) fn zeroed_slots(capacity: usize) -> Region<Slot> {
    // SAFETY: a slot of zeroes is a valid slot.
    unsafe { Region::zeroed(capacity) }
}

/// Writes to every page of the slots once, so that no page fault is left for later.
pub(super) fn touch(slots: &mut [Slot]) {
    for slot in slots {
        // Written through a volatile store, or the compiler would leave it out.
        // SAFETY: a valid, exclusively borrowed field.
        unsafe { std::ptr::write_volatile(&raw mut slot.version, slot.version) };
    }
}
