//! The undo log: before-images of slots that changed since a checkpoint.
//!
//! Owns a ring of images and a list of checkpoints, both bounded. Between two
//! checkpoints a slot is logged once, before its first change. When the ring is full the
//! oldest checkpoint goes, and with it the images that only it needed.

use std::collections::VecDeque;

use super::slot::{SLOT_BYTES, Slot, touch, zeroed_slots};
use crate::prefetch::{self, LINE_BYTES};
use crate::region::Region;

/// Images between the one that is put back and the one that is fetched: it takes that long to come from memory.
const IMAGES_AHEAD: usize = 8;

/// A version that can't be rolled back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackError {
    /// The version is older than what is kept.
    Gone {
        /// What was asked for.
        version: u64,
        /// The oldest version that is kept, if any is.
        oldest: Option<u64>,
    },
    /// Nothing was kept at that version: it is between two checkpoints, or still to come.
    NoCheckpoint {
        /// What was asked for.
        version: u64,
        /// The latest checkpoint before it.
        before: u64,
    },
}

impl std::fmt::Display for RollbackError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RollbackError::Gone { version, oldest: Some(oldest) } => {
                write!(formatter, "version {version} is gone; the oldest one kept is {oldest}")
            }
            RollbackError::Gone { version, oldest: None } => {
                write!(formatter, "version {version} is gone; none is kept: make a checkpoint first")
            }
            RollbackError::NoCheckpoint { version, before } => write!(
                formatter,
                "no checkpoint was made at version {version}; the latest one before it is {before}"
            ),
        }
    }
}

impl std::error::Error for RollbackError {}

#[derive(Debug, Clone, Copy)]
struct Checkpoint {
    version: u64,
    /// Number of the first image that was logged after it.
    first: u64,
}

pub(super) struct UndoLog {
    images: Region<Slot>,
    owners: Box<[u32]>,
    /// Numbers of the oldest image kept and of the next one.
    oldest: u64,
    next: u64,
    /// Where the next one goes: its number, modulo the room for images.
    next_place: usize,
    checkpoints: VecDeque<Checkpoint>,
    checkpoints_max: usize,
    /// Slots of a greater version are logged already.
    boundary: u64,
}

impl UndoLog {
    pub(super) fn new(images: u32, checkpoints_max: u32) -> UndoLog {
        let checkpoints_max = if images == 0 { 0 } else { checkpoints_max as usize };
        UndoLog {
            images: zeroed_slots(images as usize),
            owners: vec![0; images as usize].into_boxed_slice(),
            oldest: 0,
            next: 0,
            next_place: 0,
            checkpoints: VecDeque::with_capacity(checkpoints_max),
            checkpoints_max,
            boundary: 0,
        }
    }

    pub(super) fn touch(&mut self) {
        touch(&mut self.images);
        self.owners.fill(0);
    }

    /// Whether a slot of this version has to be logged before it changes.
    pub(super) fn wants(&self, version: u64) -> bool {
        version <= self.boundary && !self.checkpoints.is_empty()
    }

    pub(super) fn log(&mut self, owner: u32, image: &Slot) {
        while self.next - self.oldest == self.images.len() as u64 {
            self.drop_oldest();
            if self.checkpoints.is_empty() {
                return;
            }
        }
        self.images[self.next_place] = *image;
        self.owners[self.next_place] = owner;
        self.next += 1;
        self.next_place = if self.next_place + 1 == self.images.len() { 0 } else { self.next_place + 1 };
    }

    pub(super) fn checkpoint(&mut self, version: u64) {
        let repeated = self.checkpoints.back().is_some_and(|last| last.version == version);
        if self.checkpoints_max == 0 || repeated {
            return;
        }
        if self.checkpoints.len() == self.checkpoints_max {
            self.drop_oldest();
        }
        self.checkpoints.push_back(Checkpoint { version, first: self.next });
        self.boundary = version;
    }

    pub(super) fn oldest_version(&self) -> Option<u64> {
        self.checkpoints.front().map(|checkpoint| checkpoint.version)
    }

    /// Finds a checkpoint: its place and how many images lie behind it.
    pub(super) fn find(&self, version: u64) -> Result<(usize, u64), RollbackError> {
        let oldest = self.oldest_version();
        if oldest.is_none_or(|oldest| version < oldest) {
            return Err(RollbackError::Gone { version, oldest });
        }
        let behind = self.checkpoints.partition_point(|checkpoint| checkpoint.version <= version) - 1;
        let checkpoint = self.checkpoints[behind];
        if checkpoint.version != version {
            return Err(RollbackError::NoCheckpoint { version, before: checkpoint.version });
        }
        Ok((behind, self.next - checkpoint.first))
    }

    /// Takes the latest image back, and fetches one of those behind it with the slot that it belongs to.
    pub(super) fn pop(&mut self, slots: &[Slot]) -> (u32, &Slot) {
        self.next -= 1;
        self.next_place = self.next_place.checked_sub(1).unwrap_or(self.images.len() - 1);
        if let Some(place) = self.next_place.checked_sub(IMAGES_AHEAD) {
            let owner = self.owners[place] as usize;
            let lines = (0..SLOT_BYTES).step_by(LINE_BYTES);
            let (image, slot) = (&raw const self.images[place], &raw const slots[owner]);
            lines.clone().for_each(|line| prefetch::to_read(image.wrapping_byte_add(line)));
            lines.for_each(|line| prefetch::to_write(slot.wrapping_byte_add(line)));
        }
        (self.owners[self.next_place], &self.images[self.next_place])
    }

    /// Forgets the checkpoints behind one that was rolled back to at `version`.
    pub(super) fn rolled_back(&mut self, place: usize, version: u64) {
        self.checkpoints.truncate(place + 1);
        self.boundary = version;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.checkpoints.clear();
        self.oldest = self.next;
    }

    fn drop_oldest(&mut self) {
        self.checkpoints.pop_front();
        self.oldest = self.checkpoints.front().map_or(self.next, |checkpoint| checkpoint.first);
    }
}
