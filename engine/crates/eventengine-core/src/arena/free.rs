//! Which slots are free: a bitmap under summaries of 64 to one, which gives the lowest free slot.
//!
//! The lowest slot first keeps the slots in use together, and makes the choice depend on
//! nothing but which slots are in use: after a rollback the same events get the same slots.

/// Bits summed up by one bit of the level above.
const FAN: u32 = 64;

/// The free slots of an arena.
pub(super) struct FreeSlots {
    /// From one bit a slot up to a single word; a bit above is set where the word below is not zero.
    levels: Vec<Box<[u64]>>,
    count: u32,
}

impl FreeSlots {
    /// All of `capacity` slots free.
    pub(super) fn new(capacity: u32) -> FreeSlots {
        let mut levels = Vec::new();
        let mut bits = capacity;
        loop {
            let words = bits.div_ceil(FAN).max(1);
            let mut level = vec![u64::MAX; words as usize].into_boxed_slice();
            let used = bits - (words - 1) * FAN;
            level[words as usize - 1] = if used == FAN { u64::MAX } else { (1 << used) - 1 };
            levels.push(level);
            if words == 1 {
                break;
            }
            bits = words;
        }
        FreeSlots { levels, count: capacity }
    }

    /// How many slots are free.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The lowest free slot.
    pub(super) fn lowest(&self) -> Option<u32> {
        if self.count == 0 {
            return None;
        }
        Some(
            self.levels
                .iter()
                .rev()
                .fold(0, |word, level| word * FAN + level[word as usize].trailing_zeros()),
        )
    }

    /// The free slots, lowest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.levels[0].iter().enumerate().flat_map(|(place, word)| {
            let bits = std::iter::successors(Some(*word), |bits| Some(bits & bits.wrapping_sub(1)));
            bits.take_while(|bits| *bits != 0).map(move |bits| place as u32 * FAN + bits.trailing_zeros())
        })
    }

    /// Whether a slot is free.
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.levels[0][(slot / FAN) as usize] >> (slot % FAN) & 1 == 1
    }

    /// A slot became free.
    pub(super) fn insert(&mut self, slot: u32) {
        debug_assert!(!self.contains(slot));
        self.count += 1;
        let mut bit = slot;
        for level in &mut self.levels {
            let word = &mut level[(bit / FAN) as usize];
            let was_empty = *word == 0;
            *word |= 1 << (bit % FAN);
            if !was_empty {
                break;
            }
            bit /= FAN;
        }
    }

    /// A slot is free no more.
    pub(super) fn remove(&mut self, slot: u32) {
        debug_assert!(self.contains(slot));
        self.count -= 1;
        let mut bit = slot;
        for level in &mut self.levels {
            let word = &mut level[(bit / FAN) as usize];
            *word &= !(1 << (bit % FAN));
            if *word != 0 {
                break;
            }
            bit /= FAN;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_like_an_ordered_set(capacity in 1..9_000_u32, steps in proptest::collection::vec((any::<bool>(), any::<u32>()), 0..200)) {
            let mut free = FreeSlots::new(capacity);
            let mut model: BTreeSet<u32> = (0..capacity).collect();
            for (lowest, slot) in steps {
                let slot = if lowest { model.first().copied().unwrap_or(0) } else { slot % capacity };
                if model.remove(&slot) {
                    free.remove(slot);
                } else {
                    model.insert(slot);
                    free.insert(slot);
                }
                prop_assert_eq!(free.lowest(), model.first().copied());
                prop_assert_eq!(free.count() as usize, model.len());
                prop_assert_eq!(free.contains(slot), model.contains(&slot));
            }
            prop_assert!(free.iter().eq(model.iter().copied()));
        }
    }

    #[test]
    fn the_largest_arena_is_taken_and_given_back_slot_by_slot() {
        let mut free = FreeSlots::new(64 * 64 * 3);
        for slot in 0..64 * 64 * 3 {
            assert_eq!(free.lowest(), Some(slot));
            free.remove(slot);
        }
        assert_eq!((free.lowest(), free.count()), (None, 0));
        free.insert(5000);
        assert_eq!(free.lowest(), Some(5000));
    }
}
