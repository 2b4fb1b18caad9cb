//! A directed graph with weights of one byte over the slots of the arena.
//!
//! Owns the layout of a slot of edges and how the slots of a vertex follow one another.
//! There is no store beside the arena: what rolls a slot back, cuts it into the
//! changelog or moves it to another owner does the same for edges.
//!
//! A vertex has slots numbered from zero; all but the last are full. A full slot holds
//! [`EDGES_PER_SLOT`] edges in 256 bytes, and about 45 bytes more find it: 6.8 bytes an
//! edge at best, and a slot for a vertex of a single edge at worst.

mod paths;
#[cfg(test)]
mod tests;

pub use paths::{Adjacent, Path, Paths};

use crate::arena::{Arena, Exhausted, Key, PAYLOAD_BYTES, SlotId};

/// Kind of a slot that holds edges of one vertex.
pub const KIND_EDGES: u32 = 3;

/// Edges that one slot holds.
pub const EDGES_PER_SLOT: usize = 44;

const TARGETS_AT: usize = 4;
const WEIGHTS_AT: usize = TARGETS_AT + 4 * EDGES_PER_SLOT;

const _: () = assert!(WEIGHTS_AT + EDGES_PER_SLOT == PAYLOAD_BYTES);

/// Weight of an edge: the two low bytes of its mask, one folded over the other.
pub fn weight(mask: u32) -> u8 {
    ((mask & 0xff) ^ ((mask >> 8) & 0xff)) as u8
}

/// The edges that leave one vertex, as they lie in a slot. Integers are little-endian.
///
/// ```text
/// u16 edges | u16 0 | 44 × u32 target | 44 × u8 weight
/// ```
#[derive(Clone, Copy)]
struct Edges<'a>(&'a [u8; PAYLOAD_BYTES]);

impl<'a> Edges<'a> {
    fn len(self) -> usize {
        usize::from(u16::from_le_bytes([self.0[0], self.0[1]])).min(EDGES_PER_SLOT)
    }

    fn targets(self) -> &'a [[u8; 4]] {
        self.0[TARGETS_AT..WEIGHTS_AT].as_chunks().0
    }

    /// Place of an edge. Compares all places, used or not, which takes less time than to stop in between.
    fn place(self, target: u32) -> Option<usize> {
        let wanted = target.to_le_bytes();
        let mut found = 0_u64;
        for (place, held) in self.targets().iter().enumerate() {
            found |= u64::from(*held == wanted) << place;
        }
        let place = found.trailing_zeros() as usize;
        (place < self.len()).then_some(place)
    }

    fn edge(self, place: usize) -> (u32, u8) {
        (u32::from_le_bytes(self.targets()[place]), self.0[WEIGHTS_AT + place])
    }
}

fn set_length(payload: &mut [u8; PAYLOAD_BYTES], edges: usize) {
    payload[..2].copy_from_slice(&(edges as u16).to_le_bytes());
}

fn set_edge(payload: &mut [u8; PAYLOAD_BYTES], place: usize, target: u32, weight: u8) {
    let at = TARGETS_AT + 4 * place;
    payload[at..at + 4].copy_from_slice(&target.to_le_bytes());
    payload[WEIGHTS_AT + place] = weight;
}

fn key(partition: u32, vertex: u32, number: u32) -> Key {
    Key { partition, kind: KIND_EDGES, district: vertex, team: number }
}

/// The slots of a vertex in their order, with their edges.
fn slots(arena: &Arena, partition: u32, vertex: u32) -> impl Iterator<Item = (SlotId, Edges<'_>)> {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let number = next?;
        let slot = arena.find(&key(partition, vertex, number))?;
        let edges = Edges(arena.payload(slot));
        next = (edges.len() == EDGES_PER_SLOT).then_some(number + 1);
        Some((slot, edges))
    })
}

/// Sets the weight of an edge and says whether it was there before. Changes one slot.
pub fn set(
    arena: &mut Arena,
    partition: u32,
    source: u32,
    target: u32,
    weight: u8,
) -> Result<bool, Exhausted> {
    let mut last = None;
    let mut number = 0;
    let mut held = None;
    for (slot, edges) in slots(arena, partition, source) {
        if let Some(place) = edges.place(target) {
            held = Some((slot, place));
            break;
        }
        last = Some((slot, edges.len()));
        number += 1;
    }
    if let Some((slot, place)) = held {
        arena.payload_mut(slot)[WEIGHTS_AT + place] = weight;
        return Ok(true);
    }
    let (slot, place) = match last {
        Some((slot, length)) if length < EDGES_PER_SLOT => (slot, length),
        _ => (arena.acquire(key(partition, source, number))?, 0),
    };
    let payload = arena.payload_mut(slot);
    set_edge(payload, place, target, weight);
    set_length(payload, place + 1);
    Ok(false)
}

/// Removes an edge and says whether it was there. Changes two slots at most, and releases one that gets empty.
pub fn remove(arena: &mut Arena, partition: u32, source: u32, target: u32) -> bool {
    let mut held = None;
    let mut last = None;
    for (slot, edges) in slots(arena, partition, source) {
        held = held.or_else(|| edges.place(target).map(|place| (slot, place)));
        if edges.len() > 0 {
            last = Some((slot, edges.len() - 1));
        }
    }
    let (Some((slot, place)), Some((last_slot, last_place))) = (held, last) else { return false };
    let (moved_target, moved_weight) = Edges(arena.payload(last_slot)).edge(last_place);
    set_edge(arena.payload_mut(slot), place, moved_target, moved_weight);
    if last_place == 0 {
        // The slot was found above, so it is in use.
        let released = arena.release(last_slot);
        debug_assert!(released.is_ok());
    } else {
        let payload = arena.payload_mut(last_slot);
        set_edge(payload, last_place, 0, 0);
        set_length(payload, last_place);
    }
    true
}

/// The weight of an edge.
pub fn get(arena: &Arena, partition: u32, source: u32, target: u32) -> Option<u8> {
    slots(arena, partition, source)
        .find_map(|(_, edges)| edges.place(target).map(|place| edges.edge(place).1))
}

/// The graph of one partition, to walk over.
#[derive(Debug, Clone, Copy)]
pub struct Graph<'a> {
    /// Where the edges are.
    pub arena: &'a Arena,
    /// Whose edges.
    pub partition: u32,
}

impl Adjacent for Graph<'_> {
    fn each_edge(&self, vertex: u32, mut body: impl FnMut(u32, u8)) {
        for (_, edges) in slots(self.arena, self.partition, vertex) {
            let weights = &edges.0[WEIGHTS_AT..];
            for (target, weight) in edges.targets().iter().zip(weights).take(edges.len()) {
                body(u32::from_le_bytes(*target), *weight);
            }
        }
    }
}
