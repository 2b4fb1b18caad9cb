//! One engine: what it allocates, which threads it runs, how it stops.

use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::config::{Config, Identity};

/// One engine.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// Reads an engine's figures from any thread.
#[derive(Debug, Clone)]
pub struct Observer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    identity: Identity,
}

impl Engine {
    /// Reads and checks configuration and identity.
    pub fn new(config_json: &str, identity_json: &str) -> Result<Engine, Error> {
        let config = Config::parse(config_json)?;
        let identity = Identity::parse(identity_json)?;
        Ok(Engine { shared: Arc::new(Shared { config, identity }) })
    }

    /// Starts the threads.
    pub fn start(&mut self) -> Result<(), Error> {
        Err(Error::Engine(format!("the engine {} has no threads yet", self.shared.config.name)))
    }

    /// Stops; true if everything was flushed in time.
    pub fn stop(&mut self, _deadline: Duration) -> bool {
        true
    }

    /// A reader of the engine's figures.
    pub fn observer(&self) -> Observer {
        Observer { shared: Arc::clone(&self.shared) }
    }
}

impl Observer {
    /// The sample closed at a second, or the latest.
    pub fn snapshot(&self, _at_seconds: Option<i64>) -> Option<Vec<u8>> {
        None
    }

    /// Prometheus text.
    pub fn metrics(&self) -> String {
        format!("eventengine_build_info{{engine=\"{}\"}} 1\n", self.shared.identity.engine)
    }

    /// `{"ready", "live", "reasons"}`.
    pub fn readiness_json(&self) -> String {
        String::from(r#"{"ready":false,"live":true,"reasons":["the engine has not started"]}"#)
    }
}
