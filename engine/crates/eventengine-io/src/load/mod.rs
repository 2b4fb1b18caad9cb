//! The load generator: sends events on a schedule of its own, whatever the engine does.
//!
//! Owns the plan of a load, its threads and its report. Knows nothing of the engine
//! that it loads.

use std::time::Duration;

use crate::Error;

/// A running or ended load.
#[derive(Debug)]
pub struct LoadGenerator {}

impl LoadGenerator {
    /// Reads the plan and starts the load.
    pub fn new(_plan_json: &str) -> Result<LoadGenerator, Error> {
        Err(Error::Engine("this build has no load generator".to_owned()))
    }

    /// What was sent so far, as JSON.
    pub fn progress(&self) -> String {
        String::from("{}")
    }

    /// Waits for the end; false if the time is over first.
    pub fn wait(&mut self, _timeout: Duration) -> bool {
        true
    }

    /// Ends the load early.
    pub fn stop(&mut self) {}

    /// The report of a load that ended, as JSON.
    pub fn result(&mut self) -> Result<String, Error> {
        Err(Error::Engine("this build has no load generator".to_owned()))
    }
}
