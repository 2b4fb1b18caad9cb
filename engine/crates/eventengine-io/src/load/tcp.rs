//! Sending to an engine's TCP source.

use std::sync::Arc;
use std::time::Duration;

use super::plan::TcpTarget;
use super::report::Counts;
use crate::Error;

/// A connected sender.
pub struct TcpSender {}

impl TcpSender {
    /// Connects.
    pub fn connect(_target: &TcpTarget, _queue: usize, _counts: Arc<Counts>) -> Result<TcpSender, Error> {
        Err(Error::Engine("this build sends to Kafka only".to_owned()))
    }

    /// Sends one event.
    pub fn send(&self, _: usize, _: &[u8], _: u64, _: impl Fn() -> bool) -> Result<bool, Error> {
        Ok(false)
    }

    /// Waits for the replies.
    pub fn flush(&self, _timeout: Duration) {}
}
