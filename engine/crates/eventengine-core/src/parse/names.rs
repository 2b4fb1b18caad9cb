//! A perfect hash of a few names: which of them, if any, stands at a place of a payload.
//!
//! Owns the table behind the prediction of keys and behind enumerations. It is made once,
//! with a multiplier under which no two names share a slot; a lookup is one hash over
//! length and bytes and one comparison.

use super::payload::PADDING;
use super::schema::NAME_BYTES_MAX;

const WORD: usize = 8;

/// Masks of the first bytes of a word.
const MASKS: [u64; WORD + 1] = {
    let mut masks = [0; WORD + 1];
    let mut bytes = 1;
    while bytes <= WORD {
        masks[bytes] = u64::MAX >> (64 - 8 * bytes);
        bytes += 1;
    }
    masks
};

/// Multipliers to try per size of the table before it is doubled.
const TRIES: u64 = 256;

#[derive(Debug, Clone, Copy)]
struct Slot {
    words: [u64; 2],
    length: u8,
    index: u8,
}

const EMPTY: Slot = Slot { words: [0; 2], length: u8::MAX, index: 0 };

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Names {
    multiplier: u64,
    shift: u32,
    slots: Box<[Slot]>,
    texts: Box<[Box<[u8]>]>,
}

impl Names {
    /// A table of at most 255 distinct names of at most [`NAME_BYTES_MAX`] bytes.
    pub(super) fn new(texts: &[&[u8]]) -> Names {
        let padded: Vec<Vec<u8>> = texts.iter().map(|text| [text, &[0; PADDING][..]].concat()).collect();
        let mut size = (texts.len() * 2).next_power_of_two().max(4);
        loop {
            for attempt in 0..TRIES {
                let mut names = Names {
                    multiplier: (attempt + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
                    shift: 64 - size.trailing_zeros(),
                    slots: vec![EMPTY; size].into(),
                    texts: texts.iter().map(|text| (*text).into()).collect(),
                };
                if padded
                    .iter()
                    .zip(texts)
                    .enumerate()
                    .all(|(index, (bytes, text))| names.insert(bytes, text.len(), index))
                {
                    return names;
                }
            }
            size *= 2;
        }
    }

    fn insert(&mut self, padded: &[u8], length: usize, index: usize) -> bool {
        debug_assert!(length <= NAME_BYTES_MAX && padded.len() >= length + PADDING);
        // SAFETY: as many zero bytes follow the name as a hash may load.
        let (words, slot) = unsafe { (head(padded.as_ptr(), length), self.hash(padded.as_ptr(), length)) };
        if self.slots[slot].length != EMPTY.length {
            return false;
        }
        self.slots[slot] = Slot { words, length: length as u8, index: index as u8 };
        true
    }

    /// # Safety
    /// [`PADDING`] bytes can be loaded behind the name's end.
    #[inline(always)]
    unsafe fn hash(&self, at: *const u8, length: usize) -> usize {
        // SAFETY: the caller's promise.
        let [low, high] = unsafe { head(at, length) };
        let mut hash = (low ^ length as u64).wrapping_mul(self.multiplier)
            ^ high.wrapping_mul(self.multiplier.rotate_left(32));
        let mut done = 2 * WORD;
        while done < length {
            // SAFETY: the caller's promise.
            let word = unsafe { load(at.add(done), (length - done).min(WORD)) };
            hash = (hash ^ word).wrapping_mul(self.multiplier);
            done += WORD;
        }
        (hash >> self.shift) as usize
    }

    /// Which name stands there, by its position among the names.
    ///
    /// # Safety
    /// [`PADDING`] bytes can be loaded behind the text's end.
    #[inline(always)]
    pub(super) unsafe fn find(&self, at: *const u8, length: usize) -> Option<usize> {
        if length > NAME_BYTES_MAX {
            return None;
        }
        // SAFETY: the caller's promise; a hash is below the table's size by its shift.
        unsafe {
            let slot = self.slots.get_unchecked(self.hash(at, length));
            let same = slot.length as usize == length && slot.words == head(at, length);
            if !same {
                return None;
            }
            let index = slot.index as usize;
            if length > 2 * WORD && std::slice::from_raw_parts(at, length) != &*self.texts[index] {
                return None;
            }
            Some(index)
        }
    }

    /// The names, by position.
    pub(super) fn texts(&self) -> &[Box<[u8]>] {
        &self.texts
    }
}

/// The first sixteen bytes, with zeroes for what is not there.
#[inline(always)]
unsafe fn head(at: *const u8, length: usize) -> [u64; 2] {
    // SAFETY: the caller's promise: sixteen bytes can be loaded.
    unsafe { [load(at, length.min(WORD)), load(at.add(WORD), length.saturating_sub(WORD).min(WORD))] }
}

#[inline(always)]
unsafe fn load(at: *const u8, bytes: usize) -> u64 {
    // SAFETY: the caller's promise: eight bytes can be loaded.
    unsafe { u64::from_le_bytes(at.cast::<[u8; WORD]>().read()) & MASKS[bytes] }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn find(names: &Names, text: &[u8], behind: u8) -> Option<usize> {
        let padded = [text, &[behind; PADDING][..]].concat();
        // SAFETY: the padding is there.
        unsafe { names.find(padded.as_ptr(), text.len()) }
    }

    proptest! {
        #[test]
        fn it_finds_exactly_the_names(
            texts in proptest::collection::btree_set("[a-c]{0,40}", 0..63), other in "[a-c]{0,70}", behind in any::<u8>()
        ) {
            let texts: BTreeSet<String> = texts;
            let list: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
            let names = Names::new(&list);
            for (index, text) in list.iter().enumerate() {
                prop_assert_eq!(find(&names, text, behind), Some(index));
            }
            let expected = list.iter().position(|text| *text == other.as_bytes());
            prop_assert_eq!(find(&names, other.as_bytes(), behind), expected);
        }
    }
}
