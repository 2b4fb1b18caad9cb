//! The treasure hunt: players find clues and solve puzzles for their team, district by district.
//!
//! Owns the schema of its events, the layout of its two kinds of slots and its rules:
//! - Districts, puzzles and clues are numbered from zero; a puzzle's number counts
//!   within its district, a clue's within its puzzle.
//! - `clue_discovered` needs puzzle and clue: a clue that is new to the team scores 10.
//! - `team_solved` needs a puzzle: one that is new to the team scores 100.
//! - `district_opened` opens the district for everybody.
//! - What a team has already done scores nothing and is still answered with one record.
//! - A district keeps its best [`BOARD_TEAMS`] teams. Equal scores rank in the order in
//!   which they were reached. A team outside the board has no rank (null).
//!
//! State is per source partition, therefore standings are, too. Players are counted while they
//! are active, by `player_id` (text) or else by `player` (a number).
//!
//! Districts and puzzles are there from the first event about them on: more of them, within the
//! configured numbers, need neither a restart nor a message beforehand.

mod answer;
mod slots;
#[cfg(test)]
mod tests;

use answer::Leaders;
use slots::{District, Team};

use super::{Origin, Output, Program, Routing, Schema};
use crate::arena::{Arena, Key, SlotId};
use crate::identifiers::Fingerprint;
use crate::parse::{self, Field, Forms, Limits, Parser, Payload, Presence, Reason, Refusal, Type, View};

/// Kind of a slot that holds a team's progress in one district.
pub const KIND_TEAM: u32 = 1;
/// Kind of a slot that holds a district's standings.
pub const KIND_DISTRICT: u32 = 2;

/// Teams that a district ranks.
pub const BOARD_TEAMS: usize = 24;
/// Puzzles of a district at most: one bit each in a team's slot.
pub const PUZZLES_MAX: u32 = 64;
/// Clues of a puzzle at most: one byte a puzzle in a team's slot.
pub const CLUES_MAX: u32 = 8;

/// Size of the hunt.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Districts.
    pub districts: u32,
    /// Puzzles in each district, at most [`PUZZLES_MAX`].
    pub puzzles_per_district: u32,
    /// Clues of each puzzle, at most [`CLUES_MAX`].
    pub clues_per_puzzle: u32,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A player found a clue of a puzzle.
    ClueDiscovered,
    /// A team solved a puzzle.
    TeamSolved,
    /// A district was opened.
    DistrictOpened,
}

impl EventKind {
    /// The kind's name in events and outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::ClueDiscovered => "clue_discovered",
            EventKind::TeamSolved => "team_solved",
            EventKind::DistrictOpened => "district_opened",
        }
    }

    /// The same with spaces up to one length for all, and its own length.
    #[inline(always)]
    fn padded(self) -> (&'static [u8; 16], usize) {
        match self {
            EventKind::ClueDiscovered => (b"clue_discovered ", 15),
            EventKind::TeamSolved => (b"team_solved     ", 11),
            EventKind::DistrictOpened => (b"district_opened ", 15),
        }
    }
}

/// Kinds, in the order in which the schema lists them.
const KINDS: [EventKind; 3] = [EventKind::ClueDiscovered, EventKind::TeamSolved, EventKind::DistrictOpened];

/// Fields by their position in the schema. What a program doesn't need is checked all the same.
mod field {
    pub const KIND: usize = 0;
    pub const PRODUCER: usize = 1;
    pub const SEQUENCE: usize = 2;
    pub const PLAYER: usize = 4;
    pub const TEAM: usize = 5;
    pub const DISTRICT: usize = 6;
    pub const PUZZLE: usize = 7;
    pub const CLUE: usize = 8;
    pub const PLAYER_ID: usize = 12;
}

/// What an event of a hunt of this size may hold.
fn fields(settings: &Settings) -> parse::Schema {
    let kinds = KINDS.iter().map(|kind| kind.as_str().to_owned()).collect();
    let below = |count: u32| Type::Unsigned { maximum: u64::from(count.saturating_sub(1)) };
    let required = |name, kind| Field::new(name, kind, Presence::Required);
    let optional = |name, kind| Field::new(name, kind, Presence::Optional);
    parse::Schema {
        fields: vec![
            required("kind", Type::Enum(kinds)),
            required("producer", Type::U32),
            required("sequence", Type::U64),
            optional("sent_at_ns", Type::U64),
            optional("player", Type::U32),
            required("team", Type::U32),
            required("district", below(settings.districts)),
            optional("puzzle", below(settings.puzzles_per_district)),
            optional("clue", below(settings.clues_per_puzzle)),
            optional("x", Type::F64),
            optional("y", Type::F64),
            optional("note", Type::String),
            optional("player_id", Type::String),
        ],
    }
}

/// An event whose fields are all there and in range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    kind: EventKind,
    producer: u32,
    sequence: u64,
    team: u32,
    district: u32,
    puzzle: u32,
    clue: u32,
    player: Option<Fingerprint>,
}

impl Move {
    fn team_key(&self, partition: u32) -> Key {
        Key { partition, kind: KIND_TEAM, district: self.district, team: self.team }
    }

    /// Takes what the schema read. Which of the optional fields an event needs is a matter of its kind.
    fn check(event: &View<'_>) -> Option<Move> {
        // The schema bounds all of these to 32 bits.
        let number = |field| event.unsigned(field).map(|value| value as u32);
        let kind = KINDS[event.choice(field::KIND)?];
        let (puzzle, clue) = (number(field::PUZZLE), number(field::CLUE));
        // Escapes are taken as they stand: a sender writes its identifier the same way each time.
        let text = event.string(field::PLAYER_ID).map(|text| Fingerprint::of_text(text.bytes()));
        Some(Move {
            kind,
            player: text.or_else(|| event.unsigned(field::PLAYER).map(Fingerprint::of_number)),
            producer: number(field::PRODUCER)?,
            sequence: event.unsigned(field::SEQUENCE)?,
            team: number(field::TEAM)?,
            district: number(field::DISTRICT)?,
            puzzle: if kind == EventKind::DistrictOpened { puzzle.unwrap_or(0) } else { puzzle? },
            clue: if kind == EventKind::ClueDiscovered { clue? } else { clue.unwrap_or(0) },
        })
    }
}

/// The schema of JSON events.
#[derive(Debug, Clone)]
pub struct HuntSchema {
    parser: Parser,
    forms: Forms,
}

impl HuntSchema {
    /// The events of a hunt of the given size.
    ///
    /// # Panics
    /// If the size is nothing, or beyond what a slot holds: the configuration was checked before.
    pub fn new(settings: Settings, limits: Limits) -> HuntSchema {
        assert!((1..=PUZZLES_MAX).contains(&settings.puzzles_per_district));
        assert!((1..=CLUES_MAX).contains(&settings.clues_per_puzzle) && settings.districts > 0);
        let parser = Parser::new(&fields(&settings), limits).expect("the hunt's schema is well formed");
        HuntSchema { parser, forms: Forms::default() }
    }

    /// The same schema with a form for each source's payloads.
    pub fn with_forms(mut self, forms: Forms) -> HuntSchema {
        if forms.need_trees() {
            self.parser = self.parser.with_trees();
        }
        self.forms = forms;
        self
    }
}

impl Schema for HuntSchema {
    type Event<'payload> = Move;

    fn read(&mut self, payload: Payload<'_>) -> Result<Move, Refusal> {
        let (event, fell_back) = self.parser.parse_as(payload, self.forms.of(payload.source()))?;
        let read = Move::check(&event).ok_or(Refusal::new(Reason::MissingField, payload.len()))?;
        if fell_back {
            self.forms.count_fallback(payload.source());
        }
        Ok(read)
    }
}

/// The program.
#[derive(Debug, Clone, Default)]
pub struct TreasureHunt {
    leaders: Leaders,
}

impl TreasureHunt {
    /// Both slots of an event, made where they are missing; all or nothing.
    fn slots(arena: &mut Arena, team: Key, district: Key) -> Result<(SlotId, SlotId, bool), Reason> {
        if let (Some(team), Some(district)) = (arena.find(&team), arena.find(&district)) {
            return Ok((team, district, false));
        }
        TreasureHunt::make_slots(arena, team, district)
    }

    #[cold]
    fn make_slots(arena: &mut Arena, team: Key, district: Key) -> Result<(SlotId, SlotId, bool), Reason> {
        let found = (arena.find(&team), arena.find(&district));
        let missing = u32::from(found.0.is_none()) + u32::from(found.1.is_none());
        arena.room_for(missing)?;
        let new_team = found.0.is_none();
        let team = found.0.map_or_else(|| arena.acquire(team), Ok)?;
        let district = found.1.map_or_else(|| arena.acquire(district), Ok)?;
        Ok((team, district, new_team))
    }
}

impl Program<Move> for TreasureHunt {
    const SLOTS_PER_EVENT_MAX: usize = 2;

    fn routing(&self, event: &Move) -> Routing {
        Routing { district: event.district, team: event.team }
    }

    fn identifier(&self, event: &Move) -> Option<Fingerprint> {
        event.player
    }

    #[inline]
    fn prefetch_place(&self, event: &Move, partition: u32, arena: &Arena) {
        arena.prefetch_place(&event.team_key(partition));
    }

    #[inline]
    fn prefetch(&self, event: &Move, partition: u32, arena: &Arena) {
        // Districts are few and in the cache; teams are many.
        arena.prefetch(&event.team_key(partition));
    }

    fn apply(
        &mut self,
        event: &Move,
        origin: Origin,
        arena: &mut Arena,
        output: &mut Output<'_>,
    ) -> Result<(), Reason> {
        let Move { team, district, .. } = *event;
        let partition = origin.partition;
        let team_key = event.team_key(partition);
        let district_key = Key { partition, kind: KIND_DISTRICT, district, team: 0 };
        let (team_slot, district_slot, new_team) = TreasureHunt::slots(arena, team_key, district_key)?;

        let mut progress = Team(arena.payload_mut(team_slot));
        let scored = progress.apply(event);
        let progress = progress.progress();

        let mut standings = District(arena.payload_mut(district_slot));
        standings.count(new_team);
        if event.kind == EventKind::DistrictOpened {
            standings.open(origin.offset);
        }
        if scored {
            standings.promote(team, progress.score);
        }
        answer::write(output, event, origin, progress, &standings, &mut self.leaders);
        Ok(())
    }
}
