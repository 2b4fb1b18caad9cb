//! The audit of an output topic: every (producer, sequence) exactly once.

use crate::Error;

/// Reads the topic of the plan with read_committed to its end and reports as JSON.
pub fn audit(_plan_json: &str) -> Result<String, Error> {
    Err(Error::Engine("this build has no audit".to_owned()))
}
