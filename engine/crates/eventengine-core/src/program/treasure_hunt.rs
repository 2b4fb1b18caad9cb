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

use super::{Origin, Output, Program, Routing, Schema};
use crate::arena::{Arena, Key, PAYLOAD_BYTES, SlotId};
use crate::identifiers::Fingerprint;
use crate::parse::{self, Field, Forms, Limits, Parser, Payload, Presence, Reason, Refusal, Type, View};

/// Kind of a slot that holds a team's progress in one district.
pub const KIND_TEAM: u32 = 1;
/// Kind of a slot that holds a district's standings.
pub const KIND_DISTRICT: u32 = 2;

/// Teams that a district ranks.
pub const BOARD_TEAMS: usize = 24;
/// Teams that an output names as leaders.
const LEADERS: usize = 5;
/// Puzzles of a district at most: one bit each in a team's slot.
pub const PUZZLES_MAX: u32 = 64;
/// Clues of a puzzle at most: one byte a puzzle in a team's slot.
pub const CLUES_MAX: u32 = 8;

const CLUE_SCORE: u32 = 10;
const SOLVED_SCORE: u32 = 100;

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

/// A team's progress in one district, as it lies in a slot.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct TeamState {
    score: u32,
    solved: u32,
    clues: u32,
    events: u32,
    solved_puzzles: u64,
    clues_of_puzzle: [u8; PUZZLES_MAX as usize],
}

/// A district's standings, as they lie in a slot.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct DistrictState {
    events: u64,
    opened_at_offset: i64,
    opened: u32,
    teams: u32,
    board: [Place; BOARD_TEAMS],
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Place {
    team: u32,
    score: u32,
}

const EMPTY_PLACE: Place = Place { team: 0, score: 0 };

const _: () = assert!(BOARD_TEAMS * 8 + 24 <= PAYLOAD_BYTES);
const _: () = assert!(PUZZLES_MAX as usize + 24 <= PAYLOAD_BYTES);

/// Reads little-endian fields one after the other, so that the layout is the same on every machine.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk::<N>().expect("the layout fits the payload");
        self.0 = rest;
        *head
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

/// Writes what [`Reader`] reads.
struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (head, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        self.0 = rest;
    }
}

impl TeamState {
    fn read(payload: &[u8; PAYLOAD_BYTES]) -> TeamState {
        let mut reader = Reader(payload);
        TeamState {
            score: reader.u32(),
            solved: reader.u32(),
            clues: reader.u32(),
            events: reader.u32(),
            solved_puzzles: reader.u64(),
            clues_of_puzzle: reader.take(),
        }
    }

    fn write(&self, payload: &mut [u8; PAYLOAD_BYTES]) {
        let mut writer = Writer(payload);
        for field in [self.score, self.solved, self.clues, self.events] {
            writer.put(&field.to_le_bytes());
        }
        writer.put(&self.solved_puzzles.to_le_bytes());
        writer.put(&self.clues_of_puzzle);
    }

    /// Applies what the team did. Says whether it scored.
    fn apply(&mut self, event: &Move) -> bool {
        self.events = self.events.saturating_add(1);
        let gained = match event.kind {
            EventKind::ClueDiscovered => {
                let clues = &mut self.clues_of_puzzle[event.puzzle as usize];
                let bit = 1_u8 << event.clue;
                let new = *clues & bit == 0;
                *clues |= bit;
                self.clues += u32::from(new);
                if new { CLUE_SCORE } else { 0 }
            }
            EventKind::TeamSolved => {
                let bit = 1_u64 << event.puzzle;
                let new = self.solved_puzzles & bit == 0;
                self.solved_puzzles |= bit;
                self.solved += u32::from(new);
                if new { SOLVED_SCORE } else { 0 }
            }
            EventKind::DistrictOpened => 0,
        };
        self.score += gained;
        gained > 0
    }
}

impl DistrictState {
    fn read(payload: &[u8; PAYLOAD_BYTES]) -> DistrictState {
        let mut reader = Reader(payload);
        let mut state = DistrictState {
            events: reader.u64(),
            opened_at_offset: reader.u64() as i64,
            opened: reader.u32(),
            teams: reader.u32(),
            board: [EMPTY_PLACE; BOARD_TEAMS],
        };
        for place in &mut state.board {
            *place = Place { team: reader.u32(), score: reader.u32() };
        }
        state
    }

    fn write(&self, payload: &mut [u8; PAYLOAD_BYTES]) {
        let mut writer = Writer(payload);
        writer.put(&self.events.to_le_bytes());
        writer.put(&self.opened_at_offset.to_le_bytes());
        writer.put(&self.opened.to_le_bytes());
        writer.put(&self.teams.to_le_bytes());
        for place in self.board {
            writer.put(&place.team.to_le_bytes());
            writer.put(&place.score.to_le_bytes());
        }
    }

    /// Teams on the board: places with a score, from the top.
    fn ranked(&self) -> &[Place] {
        let count = self.board.iter().position(|place| place.score == 0).unwrap_or(BOARD_TEAMS);
        &self.board[..count]
    }

    /// Moves a team that scored to the place its score earns, behind those who had as much before.
    fn promote(&mut self, team: u32, score: u32) {
        let count = self.ranked().len();
        let held = self.board[..count].iter().position(|place| place.team == team);
        let from = match held {
            Some(place) => place,
            None if count < BOARD_TEAMS => count,
            None if self.board[BOARD_TEAMS - 1].score < score => BOARD_TEAMS - 1,
            None => return,
        };
        let mut place = from;
        while place > 0 && self.board[place - 1].score < score {
            self.board[place] = self.board[place - 1];
            place -= 1;
        }
        self.board[place] = Place { team, score };
    }

    fn rank(&self, team: u32) -> Option<usize> {
        self.ranked().iter().position(|place| place.team == team).map(|place| place + 1)
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
#[derive(Debug, Clone, Copy, Default)]
pub struct TreasureHunt;

impl TreasureHunt {
    /// Both slots of an event, made where they are missing; all or nothing.
    fn slots(arena: &mut Arena, team: Key, district: Key) -> Result<(SlotId, SlotId, bool), Reason> {
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

    fn apply(
        &mut self,
        event: &Move,
        origin: Origin,
        arena: &mut Arena,
        output: &mut Output<'_>,
    ) -> Result<(), Reason> {
        let Move { team, district, .. } = *event;
        let partition = origin.partition;
        let team_key = Key { partition, kind: KIND_TEAM, district, team };
        let district_key = Key { partition, kind: KIND_DISTRICT, district, team: 0 };
        let (team_slot, district_slot, new_team) = TreasureHunt::slots(arena, team_key, district_key)?;

        let mut progress = TeamState::read(arena.payload(team_slot));
        let scored = progress.apply(event);
        progress.write(arena.payload_mut(team_slot));

        let mut standings = DistrictState::read(arena.payload(district_slot));
        standings.events += 1;
        standings.teams += u32::from(new_team);
        if event.kind == EventKind::DistrictOpened && standings.opened == 0 {
            standings.opened = 1;
            standings.opened_at_offset = origin.offset;
        }
        if scored {
            standings.promote(team, progress.score);
        }
        standings.write(arena.payload_mut(district_slot));

        write_output(output, event, origin, &progress, &standings);
        Ok(())
    }
}

/// Writes the one record that answers an event.
fn write_output(
    output: &mut Output<'_>,
    event: &Move,
    origin: Origin,
    progress: &TeamState,
    standings: &DistrictState,
) {
    // Each text is a constant where it is written, so that it is stored and not copied.
    output.text("{\"producer\":");
    output.number(u64::from(event.producer));
    output.text(",\"sequence\":");
    output.number(event.sequence);
    output.text(",\"kind\":\"");
    output.text(event.kind.as_str());
    output.text("\",\"district\":");
    output.number(u64::from(event.district));
    output.text(",\"team\":");
    output.number(u64::from(event.team));
    output.text(",\"score\":");
    output.number(u64::from(progress.score));
    output.text(",\"solved\":");
    output.number(u64::from(progress.solved));
    output.text(",\"clues\":");
    output.number(u64::from(progress.clues));
    output.text(",\"rank\":");
    match standings.rank(event.team) {
        Some(rank) => output.number(rank as u64),
        None => output.text("null"),
    }
    output.text(",\"leaders\":[");
    for (index, place) in standings.ranked().iter().take(LEADERS).enumerate() {
        if index > 0 {
            output.text(",");
        }
        output.text("{\"team\":");
        output.number(u64::from(place.team));
        output.text(",\"score\":");
        output.number(u64::from(place.score));
        output.text("}");
    }
    output.text("],\"version\":{\"partition\":");
    output.number(u64::from(origin.partition));
    output.text(",\"offset\":");
    output.number(origin.offset.unsigned_abs());
    output.text("}}");
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::parse::PADDING;

    const LIMITS: Limits = Limits { bytes: 65_536, depth: 32, array_length: 1024, string_bytes: 16_384 };
    const SETTINGS: Settings = Settings { districts: 12, puzzles_per_district: 40, clues_per_puzzle: 5 };

    struct Game {
        schema: HuntSchema,
        arena: Arena,
        offset: i64,
    }

    impl Game {
        fn new(slots: u32) -> Game {
            Game { schema: HuntSchema::new(SETTINGS, LIMITS), arena: Arena::new(slots, 1, 3), offset: 0 }
        }

        fn apply(&mut self, event: &Value) -> Result<Value, Reason> {
            let mut bytes = [0; 1024];
            let mut output = Output::new(&mut bytes);
            let origin = Origin { partition: 0, offset: self.offset };
            let payload = event.to_string();
            let mut scratch = vec![0; payload.len() + PADDING];
            let payload = Payload::copy(payload.as_bytes(), &mut scratch).unwrap();
            let read = self.schema.read(payload).map_err(|refusal| refusal.reason)?;
            TreasureHunt.apply(&read, origin, &mut self.arena, &mut output)?;
            self.offset += 1;
            let length = output.len();
            Ok(serde_json::from_slice(&bytes[..length]).expect("outputs are JSON"))
        }

        fn clue(&mut self, team: u32, puzzle: u32, clue: u32) -> Value {
            self.apply(&json!({"kind": "clue_discovered", "producer": 1, "sequence": 9, "team": team,
                "district": 3, "puzzle": puzzle, "clue": clue}))
                .unwrap()
        }

        fn solved(&mut self, team: u32, puzzle: u32) -> Value {
            self.apply(&json!({"kind": "team_solved", "producer": 1, "sequence": 9, "team": team,
                "district": 3, "puzzle": puzzle}))
                .unwrap()
        }
    }

    #[test]
    fn an_output_names_event_standing_and_version() {
        let mut game = Game::new(16);
        game.clue(7, 0, 0);
        let output = game.solved(8, 4);
        assert_eq!(
            output,
            json!({
                "producer": 1, "sequence": 9, "kind": "team_solved", "district": 3, "team": 8,
                "score": 100, "solved": 1, "clues": 0, "rank": 1,
                "leaders": [{"team": 8, "score": 100}, {"team": 7, "score": 10}],
                "version": {"partition": 0, "offset": 1},
            })
        );
    }

    #[test]
    fn what_a_team_has_done_already_scores_nothing_and_is_still_answered() {
        let mut game = Game::new(16);
        assert_eq!(game.clue(7, 2, 1)["score"], 10);
        let again = game.clue(7, 2, 1);
        assert_eq!((&again["score"], &again["clues"]), (&json!(10), &json!(1)));
        assert_eq!(game.solved(7, 2)["score"], 110);
        assert_eq!(game.solved(7, 2)["score"], 110);
    }

    #[test]
    fn equal_scores_rank_in_the_order_in_which_they_were_reached() {
        let mut game = Game::new(64);
        for team in [5, 6, 7] {
            game.clue(team, 0, 0);
        }
        assert_eq!(game.clue(6, 0, 1)["rank"], 1);
        let output = game.clue(7, 0, 1);
        assert_eq!(output["rank"], 2);
        let leaders: Vec<u64> = output["leaders"]
            .as_array()
            .unwrap()
            .iter()
            .map(|leader| leader["team"].as_u64().unwrap())
            .collect();
        assert_eq!(leaders, [6, 7, 5]);
    }

    #[test]
    fn a_team_outside_of_the_board_has_no_rank_until_it_earns_one() {
        let mut game = Game::new(64);
        for team in 0..BOARD_TEAMS as u32 {
            assert_eq!(game.clue(team, 0, 0)["rank"], team + 1);
        }
        assert_eq!(game.clue(99, 0, 0)["rank"], Value::Null);
        assert_eq!(game.solved(99, 0)["rank"], 1);
        assert_eq!(
            game.solved(BOARD_TEAMS as u32 - 1, 0)["rank"],
            2,
            "the team that was pushed out comes back"
        );
    }

    #[test]
    fn missing_fields_unknown_kinds_and_numbers_out_of_range_change_nothing() {
        let mut game = Game::new(16);
        let good = json!({"kind": "clue_discovered", "producer": 1, "sequence": 0, "team": 1, "district": 1,
            "puzzle": 1, "clue": 1});
        let with = |field: &str, value: Value| {
            let mut event = good.clone();
            event[field] = value;
            event
        };
        for field in ["kind", "producer", "sequence", "team", "district", "puzzle", "clue"] {
            let mut event = good.clone();
            event.as_object_mut().unwrap().remove(field);
            assert_eq!(game.apply(&event), Err(Reason::MissingField), "{field}");
        }
        assert_eq!(game.apply(&with("kind", json!("clue"))), Err(Reason::UnknownKind));
        assert_eq!(game.apply(&with("district", json!(12))), Err(Reason::OutOfRange));
        assert_eq!(game.apply(&with("puzzle", json!(40))), Err(Reason::OutOfRange));
        assert_eq!(game.apply(&with("clue", json!(5))), Err(Reason::OutOfRange));
        assert_eq!((game.arena.in_use(), game.arena.dirty_count()), (0, 0));
        assert!(game.apply(&good).is_ok());
    }

    #[test]
    fn an_event_that_the_arena_has_no_room_for_leaves_no_half_of_its_state() {
        let mut game = Game::new(3);
        game.clue(1, 0, 0);
        let elsewhere = json!({"kind": "clue_discovered", "producer": 1, "sequence": 0, "team": 1,
            "district": 4, "puzzle": 1, "clue": 1});
        assert_eq!(game.apply(&elsewhere), Err(Reason::ArenaExhausted));
        assert_eq!(game.arena.in_use(), 2);
        assert_eq!(game.clue(2, 0, 0)["score"], 10);
        assert_eq!(game.clue(1, 0, 1)["score"], 20, "teams that are there play on");
    }

    #[test]
    fn the_same_events_give_the_same_outputs_and_the_same_state() {
        let kinds = ["clue_discovered", "team_solved", "district_opened"];
        let events: Vec<Value> = (0..500_u32)
            .map(|number| {
                json!({
                    "kind": kinds[number as usize % 3],
                    "producer": 1, "sequence": number, "team": number * 7 % 31, "district": number % 5,
                    "puzzle": number * 13 % 40, "clue": number % 5, "note": "ü\n",
                })
            })
            .collect();
        let play = |slots, seed| {
            let mut game = Game::new(slots);
            game.arena = Arena::new(slots, 1, seed);
            let outputs: Vec<Value> = events.iter().map(|event| game.apply(event).unwrap()).collect();
            let mut state: Vec<(Key, Vec<u8>)> = game
                .arena
                .slots_of(0)
                .map(|slot| (game.arena.key(slot), game.arena.payload(slot).to_vec()))
                .collect();
            state.sort();
            (outputs, state)
        };
        assert_eq!(play(256, 1), play(1024, 2));
    }

    #[test]
    fn a_source_read_automatically_falls_back_to_trees_and_counts_them() {
        let stats = crate::stats::CoreStats::new(1);
        let forms = [parse::Form::Schema, parse::Form::Auto];
        let forms = Forms::new(forms, std::sync::Arc::clone(&stats.parser_fallbacks));
        let mut schema = HuntSchema::new(SETTINGS, LIMITS).with_forms(forms);
        let mut read = |source: u8, team: &str| {
            let payload = format!(
                r#"{{"kind":"team_solved","producer":1,"sequence":2,"team":{team},"district":3,"puzzle":4}}"#
            );
            let mut scratch = [0; 256];
            let payload = Payload::copy(payload.as_bytes(), &mut scratch).unwrap();
            schema.read(payload.from_source(source)).map_err(|refusal| refusal.reason)
        };
        let by_schema = read(1, "7").unwrap();
        assert_eq!(read(0, "\"7\""), Err(Reason::WrongType));
        assert_eq!(read(1, "\"7\""), Ok(by_schema));
        assert_eq!(read(1, "\"seven\""), Err(Reason::WrongType));
        assert_eq!((stats.parser_fallbacks.of(0), stats.parser_fallbacks.of(1)), (0, 1));
    }

    #[test]
    fn the_longest_output_fits_its_buffer() {
        let settings =
            Settings { districts: u32::MAX, puzzles_per_district: PUZZLES_MAX, clues_per_puzzle: CLUES_MAX };
        let mut schema = HuntSchema::new(settings, LIMITS);
        let mut arena = Arena::new(64, 1, 1);
        let mut longest = 0;
        for team in 0..30 {
            let event = json!({"kind": "clue_discovered", "producer": u32::MAX, "sequence": u64::MAX,
                "team": u32::MAX - team, "district": u32::MAX - 1, "puzzle": 0, "clue": 0});
            let mut bytes = [0; 1024];
            let mut output = Output::new(&mut bytes);
            let origin = Origin { partition: 0, offset: i64::MAX };
            let mut scratch = [0; 512];
            let payload = Payload::copy(event.to_string().as_bytes(), &mut scratch).unwrap();
            let read = schema.read(payload).unwrap();
            TreasureHunt.apply(&read, origin, &mut arena, &mut output).unwrap();
            longest = longest.max(output.len());
        }
        assert!(longest < 700, "{longest}");
    }
}
