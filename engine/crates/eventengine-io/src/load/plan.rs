//! The plan of a load, as the Python face hands it over.
//!
//! Owns its JSON form and the checks without which the other modules would have to
//! doubt it. A plan may hold secrets: it is never printed, and `Debug` is not derived
//! where they lie.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Logical producers at most.
const PRODUCERS_MAX: u32 = 1024;
/// Events in flight at most.
const QUEUE_EVENTS_MAX: usize = 1_000_000;
/// Bursts at most.
const BURSTS_MAX: usize = 16;
/// A day: no schedule is longer.
const DURATION_NANOSECONDS_MAX: u64 = 86_400_000_000_000;
/// Puzzles and clues that a district and a puzzle may have, as the program bounds them.
const PUZZLES_MAX: u32 = 64;
const CLUES_MAX: u32 = 8;

/// One run.
#[derive(Deserialize)]
pub struct Plan {
    /// Where events go.
    pub target: Target,
    /// When they go.
    pub schedule: Schedule,
    /// What they speak of.
    pub hunt: Hunt,
    /// What the events of one key share.
    pub key: Key,
    /// Seed of arrivals and contents.
    pub seed: u64,
    /// Logical producers.
    pub producers: u32,
    /// Id of the first of them.
    pub first_producer: u32,
    /// Average size of an event.
    pub payload_bytes: usize,
    /// Share of events that are broken on purpose.
    pub malformed_share: f64,
    /// Events that wait for their acknowledgement at most; then sending waits.
    pub queue_events_max: usize,
    /// How long to wait for acknowledgements at the end.
    pub acknowledge_timeout_milliseconds: u64,
}

/// Where events go.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A topic.
    Kafka(KafkaTarget),
    /// An engine's TCP source.
    Tcp(TcpTarget),
}

/// A topic.
#[derive(Deserialize)]
pub struct KafkaTarget {
    /// Brokers to ask first.
    pub bootstrap_servers: Vec<String>,
    /// The topic.
    pub topic: String,
    /// Partitions to make it with where it is missing.
    pub partitions: Option<u32>,
    /// Further properties of the client.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// An engine's TCP source.
#[derive(Deserialize)]
pub struct TcpTarget {
    /// Host and port.
    pub address: String,
    /// Connections that the producers are spread over.
    pub connections: usize,
    /// What each connection shows first.
    pub token: Option<String>,
}

/// When events go.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Schedule {
    /// Even gaps or exponential ones.
    pub arrivals: Arrivals,
    /// Events per second outside of bursts.
    pub rate_per_second: f64,
    /// Length.
    pub duration_nanoseconds: u64,
    /// End after so many events.
    pub events_max: Option<u64>,
    /// Spans with further events.
    pub bursts: Vec<Burst>,
}

/// How events follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Even gaps.
    Constant,
    /// Exponential gaps.
    Poisson,
}

/// Further events over a span; with districts, so many open at its begin and take all of it.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Burst {
    /// Begin.
    pub at_nanoseconds: u64,
    /// Length.
    pub duration_nanoseconds: u64,
    /// Events per second on top of all others.
    pub rate_per_second: f64,
    /// Districts that open.
    pub districts: Option<u32>,
}

/// Size of the hunt.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
pub struct Hunt {
    /// Players.
    pub players: u32,
    /// Players of a team.
    pub team_size: u32,
    /// Districts.
    pub districts: u32,
    /// Puzzles of a district.
    pub puzzles_per_district: u32,
    /// Clues of a puzzle.
    pub clues_per_puzzle: u32,
}

/// What the events of one key share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// Their district.
    District,
    /// District and team.
    DistrictTeam,
}

fn refuse(path: &str, message: &str) -> Result<(), Error> {
    Err(Error::Configuration { path: path.to_owned(), message: message.to_owned() })
}

impl Plan {
    /// Reads and checks a plan.
    pub fn parse(json: &str) -> Result<Plan, Error> {
        let plan: Plan = serde_json::from_str(json)
            .map_err(|error| Error::Configuration { path: "plan".to_owned(), message: error.to_string() })?;
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), Error> {
        if !(1..=PRODUCERS_MAX).contains(&self.producers) {
            refuse("producers", "must be from 1 to 1024")?;
        }
        if self.first_producer.checked_add(self.producers).is_none() {
            refuse("first_producer", "leaves no room for the producers' ids, which have 32 bits")?;
        }
        if !(1..=QUEUE_EVENTS_MAX).contains(&self.queue_events_max) {
            refuse("queue_events_max", "must be from 1 to 1000000")?;
        }
        if !(0.0..=1.0).contains(&self.malformed_share) {
            refuse("malformed_share", "must be from 0 to 1")?;
        }
        if !(300..=60_000).contains(&self.payload_bytes) {
            refuse("payload_bytes", "must be from 300 to 60000")?;
        }
        self.check_hunt()?;
        self.check_schedule()
    }

    fn check_hunt(&self) -> Result<(), Error> {
        let hunt = &self.hunt;
        if hunt.players == 0 || hunt.team_size == 0 || hunt.districts == 0 {
            refuse("hunt", "players, team_size and districts must be above 0")?;
        }
        if !(1..=PUZZLES_MAX).contains(&hunt.puzzles_per_district)
            || !(1..=CLUES_MAX).contains(&hunt.clues_per_puzzle)
        {
            refuse("hunt", "puzzles must be from 1 to 64 and clues from 1 to 8")?;
        }
        Ok(())
    }

    fn check_schedule(&self) -> Result<(), Error> {
        let schedule = &self.schedule;
        let rate_is_usable = |rate: f64| rate.is_finite() && (0.0..=5_000_000.0).contains(&rate);
        if !rate_is_usable(schedule.rate_per_second) {
            refuse("schedule.rate_per_second", "must be from 0 to 5000000")?;
        }
        if !(1..=DURATION_NANOSECONDS_MAX).contains(&schedule.duration_nanoseconds) {
            refuse("schedule.duration_nanoseconds", "must be above 0 and at most a day")?;
        }
        if schedule.bursts.len() > BURSTS_MAX {
            refuse("schedule.bursts", "must be at most 16")?;
        }
        for burst in &schedule.bursts {
            let fits = burst.at_nanoseconds < schedule.duration_nanoseconds
                && (1..=DURATION_NANOSECONDS_MAX).contains(&burst.duration_nanoseconds);
            if !fits || !rate_is_usable(burst.rate_per_second) || burst.rate_per_second == 0.0 {
                refuse("schedule.bursts", "must begin within the schedule and have a duration and a rate")?;
            }
            if burst.districts.is_some_and(|count| count == 0 || count > self.hunt.districts) {
                refuse("schedule.bursts", "must open at least one and at most all districts")?;
            }
        }
        Ok(())
    }
}
