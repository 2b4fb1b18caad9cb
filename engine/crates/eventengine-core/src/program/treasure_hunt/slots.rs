//! The hunt's state as it lies in slots: a team's progress in one district, and a district's standings.
//!
//! Owns the layout of both, little-endian on every machine. What an event doesn't change is not written: a slot is
//! read and changed in place.

use super::{BOARD_TEAMS, EventKind, Move, PUZZLES_MAX};
use crate::arena::PAYLOAD_BYTES;

const CLUE_SCORE: u32 = 10;
const SOLVED_SCORE: u32 = 100;

/// Places of a team's fields.
mod team {
    pub const SCORE: usize = 0;
    pub const SOLVED: usize = 4;
    pub const CLUES: usize = 8;
    pub const EVENTS: usize = 12;
    pub const SOLVED_PUZZLES: usize = 16;
    pub const CLUES_OF_PUZZLE: usize = 24;
}

/// Places of a district's fields. The board is pairs of team and score, from the top; no score marks a free place.
mod district {
    pub const EVENTS: usize = 0;
    pub const OPENED_AT_OFFSET: usize = 8;
    pub const OPENED: usize = 16;
    pub const TEAMS: usize = 20;
    pub const BOARD: usize = 24;
}

const _: () = assert!(district::BOARD + BOARD_BYTES <= PAYLOAD_BYTES);
const _: () = assert!(team::CLUES_OF_PUZZLE + PUZZLES_MAX as usize <= PAYLOAD_BYTES);

const PLACE_BYTES: usize = 8;

type Payload = [u8; PAYLOAD_BYTES];

#[inline(always)]
fn u32_at(payload: &Payload, at: usize) -> u32 {
    u32::from_le_bytes([payload[at], payload[at + 1], payload[at + 2], payload[at + 3]])
}

#[inline(always)]
fn u64_at(payload: &Payload, at: usize) -> u64 {
    u64::from(u32_at(payload, at)) | u64::from(u32_at(payload, at + 4)) << 32
}

#[inline(always)]
fn put(payload: &mut Payload, at: usize, bytes: &[u8]) {
    payload[at..at + bytes.len()].copy_from_slice(bytes);
}

#[inline(always)]
fn add(payload: &mut Payload, at: usize, more: u32) -> u32 {
    let sum = u32_at(payload, at).saturating_add(more);
    put(payload, at, &sum.to_le_bytes());
    sum
}

/// Bytes of a board.
const BOARD_BYTES: usize = BOARD_TEAMS * PLACE_BYTES;

/// A bit for each place of a board that names a team.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn places_of(board: &[u8; BOARD_BYTES], team: u32) -> u32 {
    use std::arch::x86_64::*;
    const VECTOR_BYTES: usize = 16;
    let (vectors, _) = board.as_chunks::<VECTOR_BYTES>();
    // SAFETY: every x86-64 has these instructions, and each load is of as many bytes as the vector has.
    unsafe {
        let wanted = _mm_set1_epi32(team.cast_signed());
        let load = |vector: usize| _mm_castsi128_ps(_mm_loadu_si128(vectors[vector].as_ptr().cast()));
        // The teams of four places, of which two vectors hold two each.
        let matches = |four: usize| {
            let teams = _mm_shuffle_ps::<0b10_00_10_00>(load(2 * four), load(2 * four + 1));
            _mm_cmpeq_epi32(_mm_castps_si128(teams), wanted)
        };
        let eight = |eight: usize| _mm_packs_epi32(matches(2 * eight), matches(2 * eight + 1));
        let low = _mm_movemask_epi8(_mm_packs_epi16(eight(0), eight(1)));
        let high = _mm_movemask_epi8(_mm_packs_epi16(eight(2), _mm_setzero_si128()));
        (low | high << 16).cast_unsigned()
    }
}

/// A bit for each place of a board that names a team.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn places_of(board: &[u8; BOARD_BYTES], team: u32) -> u32 {
    let (places, _) = board.as_chunks::<PLACE_BYTES>();
    let names = |place: &[u8; PLACE_BYTES]| place[..4] == team.to_le_bytes();
    (0..).zip(places).fold(0, |found, (place, bytes)| found | u32::from(names(bytes)) << place)
}

const _: () = assert!(BOARD_TEAMS == 24);

/// What an answer says of a team.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    pub(super) score: u32,
    pub(super) solved: u32,
    pub(super) clues: u32,
}

/// A team's slot.
pub(super) struct Team<'a>(pub(super) &'a mut Payload);

impl Team<'_> {
    /// Applies what the team did. Says whether it scored.
    #[inline]
    pub(super) fn apply(&mut self, event: &Move) -> bool {
        add(self.0, team::EVENTS, 1);
        match event.kind {
            EventKind::ClueDiscovered => {
                let clues =
                    &mut self.0[team::CLUES_OF_PUZZLE..][..PUZZLES_MAX as usize][event.puzzle as usize];
                let bit = 1_u8 << event.clue;
                if *clues & bit != 0 {
                    return false;
                }
                *clues |= bit;
                add(self.0, team::CLUES, 1);
                add(self.0, team::SCORE, CLUE_SCORE);
            }
            EventKind::TeamSolved => {
                let bit = 1_u64 << event.puzzle;
                let solved = u64_at(self.0, team::SOLVED_PUZZLES);
                if solved & bit != 0 {
                    return false;
                }
                put(self.0, team::SOLVED_PUZZLES, &(solved | bit).to_le_bytes());
                add(self.0, team::SOLVED, 1);
                add(self.0, team::SCORE, SOLVED_SCORE);
            }
            EventKind::DistrictOpened => return false,
        }
        true
    }

    #[inline]
    pub(super) fn progress(&self) -> Progress {
        Progress {
            score: u32_at(self.0, team::SCORE),
            solved: u32_at(self.0, team::SOLVED),
            clues: u32_at(self.0, team::CLUES),
        }
    }
}

/// A place on a district's board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) team: u32,
    pub(super) score: u32,
}

/// A district's slot.
pub(super) struct District<'a>(pub(super) &'a mut Payload);

impl District<'_> {
    /// Counts an event, and its team if it is the team's first one here.
    #[inline]
    pub(super) fn count(&mut self, new_team: bool) {
        let events = u64_at(self.0, district::EVENTS) + 1;
        put(self.0, district::EVENTS, &events.to_le_bytes());
        if new_team {
            add(self.0, district::TEAMS, 1);
        }
    }

    /// Opens the district, unless it is open.
    pub(super) fn open(&mut self, offset: i64) {
        if u32_at(self.0, district::OPENED) == 0 {
            put(self.0, district::OPENED, &1_u32.to_le_bytes());
            put(self.0, district::OPENED_AT_OFFSET, &offset.to_le_bytes());
        }
    }

    #[inline(always)]
    pub(super) fn place(&self, place: usize) -> Place {
        let at = district::BOARD + place * PLACE_BYTES;
        Place { team: u32_at(self.0, at), score: u32_at(self.0, at + 4) }
    }

    #[inline(always)]
    fn set(&mut self, place: usize, Place { team, score }: Place) {
        let at = district::BOARD + place * PLACE_BYTES;
        put(self.0, at, &team.to_le_bytes());
        put(self.0, at + 4, &score.to_le_bytes());
    }

    /// Where a team stands, from zero; nothing if it is not on the board.
    ///
    /// All places are compared, without a branch: which one it is can't be predicted.
    #[inline]
    pub(super) fn rank(&self, team: u32) -> Option<usize> {
        let found =
            places_of(self.0[district::BOARD..].first_chunk().expect("the board fits the slot"), team);
        // A free place has team 0, too, but lies behind all that are taken.
        let rank = found.trailing_zeros() as usize;
        (rank < BOARD_TEAMS && self.place(rank).score > 0).then_some(rank)
    }

    /// Moves a team that scored to the place its score earns, behind those who had as much before.
    pub(super) fn promote(&mut self, team: u32, score: u32) {
        let last = BOARD_TEAMS - 1;
        let mut place = match self.rank(team) {
            Some(held) => held,
            None if self.place(last).score == 0 => {
                (0..last).find(|place| self.place(*place).score == 0).unwrap_or(last)
            }
            None if self.place(last).score < score => last,
            None => return,
        };
        while place > 0 && self.place(place - 1).score < score {
            self.set(place, self.place(place - 1));
            place -= 1;
        }
        self.set(place, Place { team, score });
    }
}
