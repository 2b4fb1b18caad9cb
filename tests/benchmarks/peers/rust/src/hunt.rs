//! The treasure hunt with the same rules as the engine's: a clue new to the team scores 10, a puzzle new to it 100,
//! a district ranks its best 24 teams, and each event has one output record.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

const DISTRICTS: u32 = 12;
const PUZZLES_PER_DISTRICT: u32 = 40;
const CLUES_PER_PUZZLE: u32 = 5;
const BOARD_TEAMS: usize = 24;
const LEADERS: usize = 5;
const CLUE_SCORE: u32 = 10;
const SOLVED_SCORE: u32 = 100;
const FIRST_PARTITION: u32 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    ClueDiscovered,
    TeamSolved,
    DistrictOpened,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::ClueDiscovered => "clue_discovered",
            Kind::TeamSolved => "team_solved",
            Kind::DistrictOpened => "district_opened",
        }
    }
}

/// One event. Strings are borrowed unless they have escapes.
#[derive(Debug, Deserialize)]
pub struct Event<'a> {
    pub kind: Kind,
    pub producer: u32,
    pub sequence: u64,
    #[serde(rename = "player")]
    pub _player: u32,
    pub team: u32,
    pub district: u32,
    pub puzzle: u32,
    pub clue: u32,
    #[serde(rename = "x", default)]
    pub _x: f64,
    #[serde(rename = "y", default)]
    pub _y: f64,
    #[serde(borrow, rename = "note", default)]
    pub _note: Cow<'a, str>,
}

struct Team {
    score: u32,
    solved: u32,
    clues: u32,
    solved_puzzles: u64,
    clues_of_puzzle: [u8; PUZZLES_PER_DISTRICT as usize],
}

impl Team {
    fn new() -> Team {
        let clues_of_puzzle = [0; PUZZLES_PER_DISTRICT as usize];
        Team { score: 0, solved: 0, clues: 0, solved_puzzles: 0, clues_of_puzzle }
    }

    /// Applies what the team did; returns what it gained.
    fn gain(&mut self, event: &Event<'_>) -> u32 {
        match event.kind {
            Kind::ClueDiscovered => {
                let bit = 1_u8 << event.clue;
                let clues = &mut self.clues_of_puzzle[event.puzzle as usize];
                if *clues & bit != 0 {
                    return 0;
                }
                *clues |= bit;
                self.clues += 1;
                CLUE_SCORE
            }
            Kind::TeamSolved => {
                let bit = 1_u64 << event.puzzle;
                if self.solved_puzzles & bit != 0 {
                    return 0;
                }
                self.solved_puzzles |= bit;
                self.solved += 1;
                SOLVED_SCORE
            }
            Kind::DistrictOpened => 0,
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Place {
    team: u32,
    score: u32,
}

#[derive(Debug, Default, Clone)]
struct District {
    offset: u64,
    opened: bool,
    board: Vec<Place>,
}

impl District {
    fn promote(&mut self, team: u32, score: u32) {
        let held = self.board.iter().position(|place| place.team == team);
        let mut at = match held {
            Some(place) => place,
            None if self.board.len() < BOARD_TEAMS => {
                self.board.push(Place::default());
                self.board.len() - 1
            }
            None if self.board[BOARD_TEAMS - 1].score < score => BOARD_TEAMS - 1,
            None => return,
        };
        while at > 0 && self.board[at - 1].score < score {
            self.board[at] = self.board[at - 1];
            at -= 1;
        }
        self.board[at] = Place { team, score };
    }
}

/// The state.
pub struct Hunt {
    teams: HashMap<(u32, u32), Team>,
    districts: Vec<District>,
    digits: itoa::Buffer,
}

impl Hunt {
    pub fn new() -> Hunt {
        Hunt {
            teams: HashMap::with_capacity(1 << 15),
            districts: vec![
                District { board: Vec::with_capacity(BOARD_TEAMS), ..District::default() };
                DISTRICTS as usize
            ],
            digits: itoa::Buffer::new(),
        }
    }

    /// Changes the state and writes the output record; says whether the event was in range.
    pub fn apply(&mut self, event: &Event<'_>, output: &mut Vec<u8>) -> bool {
        if event.district >= DISTRICTS
            || event.puzzle >= PUZZLES_PER_DISTRICT
            || event.clue >= CLUES_PER_PUZZLE
        {
            return false;
        }
        let district = &mut self.districts[event.district as usize];
        let team = self.teams.entry((event.district, event.team)).or_insert_with(Team::new);
        let gained = team.gain(event);
        team.score += gained;
        district.opened |= event.kind == Kind::DistrictOpened;
        if gained > 0 {
            district.promote(event.team, team.score);
        }
        render(event, team, district, &mut self.digits, output);
        district.offset += 1;
        true
    }
}

fn render(
    event: &Event<'_>,
    team: &Team,
    district: &District,
    digits: &mut itoa::Buffer,
    output: &mut Vec<u8>,
) {
    let mut field = |output: &mut Vec<u8>, name: &str, value: u64| {
        output.extend_from_slice(name.as_bytes());
        output.extend_from_slice(digits.format(value).as_bytes());
    };
    field(output, "{\"producer\":", u64::from(event.producer));
    field(output, ",\"sequence\":", event.sequence);
    output.extend_from_slice(b",\"kind\":\"");
    output.extend_from_slice(event.kind.as_str().as_bytes());
    field(output, "\",\"district\":", u64::from(event.district));
    field(output, ",\"team\":", u64::from(event.team));
    field(output, ",\"score\":", u64::from(team.score));
    field(output, ",\"solved\":", u64::from(team.solved));
    field(output, ",\"clues\":", u64::from(team.clues));
    match district.board.iter().position(|place| place.team == event.team) {
        Some(place) => field(output, ",\"rank\":", place as u64 + 1),
        None => output.extend_from_slice(b",\"rank\":null"),
    }
    output.extend_from_slice(b",\"leaders\":[");
    for (index, place) in district.board.iter().take(LEADERS).enumerate() {
        field(output, if index == 0 { "{\"team\":" } else { ",{\"team\":" }, u64::from(place.team));
        field(output, ",\"score\":", u64::from(place.score));
        output.push(b'}');
    }
    field(output, "],\"version\":{\"partition\":", u64::from(FIRST_PARTITION + event.district));
    field(output, ",\"offset\":", district.offset);
    output.extend_from_slice(b"}}");
}
