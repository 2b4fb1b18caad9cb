//! Gives a client that knows no broker any more the bootstrap servers again.
//!
//! A broker that registers anew with its controller answers metadata that name topics and no broker, itself included.
//! librdkafka then drops every broker it knew, and up to 2.12.1 it asks nobody from there on, for as long as the
//! process lives (decision 0033). Its statistics say so; called with them, this gives it someone to ask.
//!
//! Must never be called for any other reason: librdkafka keeps each list that it is given.

use std::ffi::CStr;

use rdkafka_sys as rd;

/// What has a client tell its statistics, and how often, in milliseconds: the longest that it knows nobody to ask.
pub const STATISTICS_INTERVAL: (&str, &str) = ("statistics.interval.ms", "5000");

/// What is said when it was done.
pub const ADDED: &str = "the last metadata named no broker; asking the bootstrap servers again";

/// Brokers that a client can ask, in its statistics; the others stand for coordinators or for the client itself.
const ASKABLE: [&str; 2] = ["\"source\":\"configured\"", "\"source\":\"learned\""];

/// Whether the client of these statistics knows a broker, reachable or not. They begin with the brokers.
fn knows_a_broker(statistics: &str) -> bool {
    ASKABLE.iter().any(|source| statistics.contains(source))
}

/// Adds the bootstrap servers to a client whose statistics name no broker, and says whether it did.
///
/// # Safety
/// A valid client.
pub unsafe fn add_if_needed(
    client: *mut rd::rd_kafka_t,
    statistics: &[u8],
    bootstrap_servers: &CStr,
) -> bool {
    let needed = std::str::from_utf8(statistics).is_ok_and(|statistics| !knows_a_broker(statistics));
    if needed {
        // SAFETY: the client is valid, as the caller promises; the string ends in a zero byte and is copied.
        unsafe { rd::rd_kafka_brokers_add(client, bootstrap_servers.as_ptr()) };
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_and_the_client_itself_are_nobody_to_ask() {
        let broker = |source: &str| format!("{{\"name\":\"b\", \"source\":\"{source}\", \"state\":\"UP\"}}");
        let known = |sources: &[&str]| {
            knows_a_broker(&sources.iter().map(|source| broker(source)).collect::<String>())
        };
        assert!(!known(&[]));
        assert!(!known(&["internal", "logical"]));
        assert!(known(&["internal", "logical", "configured"]));
        assert!(known(&["learned", "internal"]));
    }
}
