//! The hunt's rules, and what is answered.

use serde_json::{Value, json};

use super::*;
use crate::arena;
use crate::parse::PADDING;

const LIMITS: Limits = Limits { bytes: 65_536, depth: 32, array_length: 1024, string_bytes: 16_384 };
const SETTINGS: Settings = Settings { districts: 12, puzzles_per_district: 40, clues_per_puzzle: 5 };

struct Game {
    schema: HuntSchema,
    program: TreasureHunt,
    arena: Arena,
    offset: i64,
}

impl Game {
    fn new(slots: u32) -> Game {
        Game {
            schema: HuntSchema::new(SETTINGS, LIMITS),
            program: TreasureHunt::default(),
            arena: Arena::new(slots, 1, 3),
            offset: 0,
        }
    }

    fn apply(&mut self, event: &Value) -> Result<Value, Reason> {
        let mut bytes = [0; 1024];
        let mut output = Output::new(&mut bytes);
        let origin = Origin { partition: 0, offset: self.offset };
        let payload = event.to_string();
        let mut scratch = vec![0; payload.len() + PADDING];
        let payload = Payload::copy(payload.as_bytes(), &mut scratch).unwrap();
        let read = self.schema.read(payload).map_err(|refusal| refusal.reason)?;
        self.program.apply(&read, origin, &mut self.arena, &mut output)?;
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
    let leaders: Vec<u64> =
        output["leaders"].as_array().unwrap().iter().map(|leader| leader["team"].as_u64().unwrap()).collect();
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
    assert_eq!(game.solved(BOARD_TEAMS as u32 - 1, 0)["rank"], 2, "the team that was pushed out comes back");
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
fn leaders_are_told_as_they_are_now_after_a_rollback_and_in_any_number_of_districts() {
    let settings = Settings { districts: 1000, puzzles_per_district: 40, clues_per_puzzle: 5 };
    let arena = || {
        let settings = arena::Settings {
            capacity: 4096,
            partitions: 4,
            undo_images: 4096,
            checkpoints: 1,
            ..Default::default()
        };
        Arena::with_settings(&settings).unwrap()
    };
    let game = |arena| Game {
        schema: HuntSchema::new(settings, LIMITS),
        program: TreasureHunt::default(),
        arena,
        offset: 0,
    };
    let mut remembering = game(arena());
    let mut forgetful = game(arena());
    let mut checkpoint = 0;
    for number in 0..3_000_u32 {
        if number % 500 == 0 {
            checkpoint = remembering.arena.checkpoint();
            assert_eq!(forgetful.arena.checkpoint(), checkpoint);
        } else if number % 500 == 400 {
            remembering.arena.rollback(checkpoint).unwrap();
            forgetful.arena.rollback(checkpoint).unwrap();
        }
        forgetful.program = TreasureHunt::default();
        let event = json!({"kind": "clue_discovered", "producer": 1, "sequence": number, "team": number * 7 % 31,
            "district": number * 131 % 300, "puzzle": number * 13 % 40, "clue": number % 5});
        assert_eq!(remembering.apply(&event), forgetful.apply(&event), "{number}");
    }
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
    let mut program = TreasureHunt::default();
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
        program.apply(&read, origin, &mut arena, &mut output).unwrap();
        longest = longest.max(output.len());
    }
    assert!(longest < 700, "{longest}");
}
