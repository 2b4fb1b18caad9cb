//! The audit of an output topic: every (producer, sequence) is there exactly once.
//!
//! Owns the reading of topics with read_committed and the verdict. It believes nobody:
//! what was sent it knows from the load's result, what was applied only from records
//! that consumers can see. Memory is bounded by one bit for each expected event.

mod reading;
mod tally;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Error;
use reading::Reading;
use tally::{Findings, Place, Tally};

/// Version of the report's form.
const REPORT_VERSION: u32 = 1;
/// Dead letters whose origin is remembered, to find doubled ones.
const ORIGINS_MAX: usize = 1_000_000;
/// Different reasons that are told apart.
const REASONS_MAX: usize = 64;
/// Examples of each fault.
const EXAMPLES_MAX: usize = 100;

/// What to audit.
#[derive(Deserialize)]
struct Plan {
    bootstrap_servers: Vec<String>,
    topic: String,
    /// Each producer's last sequence.
    producers: HashMap<u32, u64>,
    properties: BTreeMap<String, String>,
    start_offsets: HashMap<i32, i64>,
    allow_other_producers: bool,
    dead_letter: Option<DeadLetterPlan>,
    wait_milliseconds: u64,
    examples_max: usize,
}

#[derive(Deserialize)]
struct DeadLetterPlan {
    topic: String,
    expected: Option<BTreeMap<String, u64>>,
}

/// The members of an output that the audit needs.
#[derive(Deserialize)]
struct Output {
    producer: u32,
    sequence: u64,
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    partition: u32,
    offset: i64,
}

/// Reads the topics of the plan to their ends and reports as JSON.
pub fn audit(plan_json: &str) -> Result<String, Error> {
    let begin = Instant::now();
    let plan: Plan = serde_json::from_str(plan_json)
        .map_err(|error| Error::Configuration { path: "plan".to_owned(), message: error.to_string() })?;
    let deadline = begin + Duration::from_millis(plan.wait_milliseconds);
    let (findings, settled) = audit_outputs(&plan, deadline)?;
    let (dead_letters, dead_exact, dead_settled) = match &plan.dead_letter {
        Some(dead_letter) => audit_dead_letters(&plan, dead_letter, deadline)?,
        None => (Value::Null, true, true),
    };
    let exact = findings.exact(plan.allow_other_producers) && dead_exact;
    let mut report = findings.to_json();
    report["version"] = json!(REPORT_VERSION);
    report["topic"] = json!(plan.topic);
    report["exact"] = json!(exact);
    report["settled"] = json!(settled && dead_settled);
    report["dead_letters"] = dead_letters;
    report["elapsed_milliseconds"] = json!(begin.elapsed().as_millis() as u64);
    Ok(report.to_string())
}

fn audit_outputs(plan: &Plan, deadline: Instant) -> Result<(Findings, bool), Error> {
    let reading = Reading::open(&plan.bootstrap_servers, &plan.properties, &plan.topic)?
        .ok_or_else(|| Error::Engine(format!("the topic {} doesn't exist", plan.topic)))?;
    let mut tally = Tally::new(&plan.producers, plan.examples_max.min(EXAMPLES_MAX))?;
    let settled =
        reading.to_end(&plan.start_offsets, deadline, &mut tally, Tally::complete, |tally, message| {
            let place = Place { partition: message.partition(), offset: message.offset() };
            match serde_json::from_slice::<Output>(message.payload().unwrap_or_default()) {
                Ok(output) => tally.observe(
                    output.producer,
                    output.sequence,
                    (output.version.partition, output.version.offset),
                    place,
                ),
                Err(error) => tally.unreadable(place, &error.to_string()),
            }
        })?;
    Ok((tally.findings(), settled))
}

/// Dead letters by reason, and whether an origin stands there twice.
#[derive(Default)]
struct DeadLetters {
    records: u64,
    reasons: BTreeMap<String, u64>,
    origins: HashSet<(String, String)>,
    duplicates: u64,
}

impl DeadLetters {
    fn observe(&mut self, message: &BorrowedMessage<'_>) {
        self.records += 1;
        let header = |name: &str| {
            let headers = message.headers()?;
            let found = headers.iter().find(|header| header.key == name)?;
            found.value.and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned)
        };
        let mut reason = header("reason").unwrap_or_else(|| "(none)".to_owned());
        if self.reasons.len() >= REASONS_MAX && !self.reasons.contains_key(&reason) {
            "(other)".clone_into(&mut reason);
        }
        *self.reasons.entry(reason).or_default() += 1;
        if let (Some(partition), Some(offset)) = (header("source.partition"), header("source.offset"))
            && self.origins.len() < ORIGINS_MAX
            && !self.origins.insert((partition, offset))
        {
            self.duplicates += 1;
        }
    }
}

fn audit_dead_letters(
    plan: &Plan,
    dead_letter: &DeadLetterPlan,
    deadline: Instant,
) -> Result<(Value, bool, bool), Error> {
    let mut found = DeadLetters::default();
    let expected = &dead_letter.expected;
    let as_expected =
        |found: &DeadLetters| expected.as_ref().is_none_or(|expected| found.reasons == *expected);
    // Without the topic there are no dead letters, which may be what was expected.
    let settled = match Reading::open(&plan.bootstrap_servers, &plan.properties, &dead_letter.topic)? {
        Some(reading) => {
            reading.to_end(&HashMap::new(), deadline, &mut found, as_expected, DeadLetters::observe)?
        }
        None => true,
    };
    let exact = as_expected(&found) && found.duplicates == 0;
    let report = json!({
        "topic": dead_letter.topic,
        "records": found.records,
        "reasons": found.reasons,
        "duplicates": found.duplicates,
        "expected": expected,
        "exact": exact,
    });
    Ok((report, exact, settled))
}
