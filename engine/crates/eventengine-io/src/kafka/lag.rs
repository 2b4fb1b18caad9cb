//! Broker-side lag: asks for the last stable offset of every owned partition, once a second.
//!
//! Owns the figures' freshness. What could not be asked is forgotten by age, never kept
//! as if it were new.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::client::{Client, OffsetSpec};
use crate::shared::{Shared, StableOffset, lock};

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_millis(500);

/// A round may take this long; together with the interval it is shorter than [`FRESH`].
const TIMEOUT: Duration = Duration::from_millis(900);

/// Figures older than this are not reported.
pub const FRESH: Duration = Duration::from_millis(1_900);

/// Asks until the engine stops.
pub fn run(shared: &Arc<Shared>, client: &Client, topic: &CString) {
    let name = topic.to_string_lossy();
    let Ok(handle) = client.topic(&name) else { return };
    while !shared.stop_sources.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let partitions: Vec<i32> = lock(&shared.kafka.owned).keys().copied().collect();
        match client.list_offsets(topic, &partitions, OffsetSpec::LastStable, TIMEOUT) {
            Ok(entries) => {
                if !entries.is_empty() {
                    shared.kafka.saw_broker();
                }
                let at = Instant::now();
                let mut stable = lock(&shared.kafka.stable);
                stable.retain(|partition, _| partitions.contains(partition));
                for entry in entries {
                    if entry.error == Code::RD_KAFKA_RESP_ERR_NO_ERROR && entry.offset >= 0 {
                        stable.insert(entry.partition, StableOffset { offset: entry.offset, at });
                    }
                }
            }
            Err(_) => shared.counters.error("lag_refresh"),
        }
        if partitions.is_empty() && client.partition_count(&handle, TIMEOUT).is_ok() {
            shared.kafka.saw_broker();
        }
        if shared.pause(INTERVAL.saturating_sub(begun.elapsed()), &shared.stop_sources) {
            return;
        }
    }
}
