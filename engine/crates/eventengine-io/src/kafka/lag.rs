//! Broker-side lag: asks for the last stable offset of every owned partition, once a second.
//!
//! Owns the figures' freshness. What could not be asked is forgotten by age, never kept
//! as if it were new.

use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::client::{Client, OffsetSpec};
use crate::clock::wall_nanoseconds;
use crate::shared::{Shared, StableOffset, lock};

/// Nanoseconds into a second at which the round for its sample begins: early enough for an answer before the
/// second is over.
const ROUND_AT_NANOSECONDS: u64 = 850_000_000;

/// A round may take this long; an answer that comes after the sample counts for the next one.
const TIMEOUT: Duration = Duration::from_millis(800);

/// Figures older than this are not reported: they belong to a round before the sample's own.
pub const FRESH: Duration = Duration::from_millis(1_000);

/// Asks until the engine stops.
pub fn run(shared: &Arc<Shared>, client: &Client, topic: &CString) {
    let name = topic.to_string_lossy();
    let Ok(handle) = client.topic(&name) else { return };
    while !wait_for_round(shared) {
        let partitions: Vec<i32> = lock(&shared.kafka.owned).keys().copied().collect();
        if partitions.is_empty() {
            if client.partition_count(&handle, TIMEOUT).is_ok() {
                shared.kafka.saw_broker();
            }
            continue;
        }
        // The positions are read before the offsets are asked for: lag may be a little too high for a
        // moment, but it is never zero while events are waiting.
        let positions: Vec<Option<i64>> =
            partitions.iter().map(|partition| position(shared, *partition)).collect();
        match client.list_offsets(topic, &partitions, OffsetSpec::LastStable, TIMEOUT) {
            Ok(entries) => {
                shared.kafka.saw_broker();
                let at = Instant::now();
                let mut stable = lock(&shared.kafka.stable);
                stable.retain(|partition, _| partitions.contains(partition));
                for entry in entries {
                    let place = partitions.iter().position(|partition| *partition == entry.partition);
                    let position = place.and_then(|place| positions[place]);
                    if entry.error == Code::RD_KAFKA_RESP_ERR_NO_ERROR && entry.offset >= 0 {
                        stable.insert(entry.partition, StableOffset { offset: entry.offset, position, at });
                    }
                }
            }
            Err(_) => shared.counters.error("lag_refresh"),
        }
    }
}

/// Sleeps until the next round; true if the engine stops.
fn wait_for_round(shared: &Shared) -> bool {
    let into_second = (wall_nanoseconds() % 1_000_000_000) as u64;
    let wait = (ROUND_AT_NANOSECONDS + 1_000_000_000 - into_second) % 1_000_000_000;
    shared.pause(Duration::from_nanos(wait.max(10_000_000)), &shared.stop_sources)
}

/// Where a partition stands: what the core applied, or where it will begin.
fn position(shared: &Shared, partition: i32) -> Option<i64> {
    shared
        .stats
        .position(partition as usize)
        .or_else(|| lock(&shared.kafka.owned).get(&partition).and_then(|report| report.start))
}
