//! Broker-side lag: asks for the last stable offset of every owned partition, twice a second.
//!
//! Owns the figures' freshness. What could not be asked is forgotten by age, never kept
//! as if it were new. A sample takes the latest answer, as a rule of its own second: on a busy
//! broker or node a few slow answers leave no sample without lag.

use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::client::{Client, OffsetSpec};
use crate::clock::wall_nanoseconds;
use crate::shared::{Shared, StableOffset, lock};

const SECOND_NANOSECONDS: u64 = 1_000_000_000;

/// Nanoseconds into a second at which the rounds for its sample begin: the last one early enough for an answer before
/// the second is over, as a rule.
const ROUNDS_AT_NANOSECONDS: [u64; 2] = [350_000_000, 850_000_000];

/// A round may take this long; an answer that comes after the sample counts for the next one.
const TIMEOUT: Duration = Duration::from_millis(800);

/// Figures older than this are not reported: several rounds were not answered, so nobody knows.
pub const FRESH: Duration = Duration::from_secs(3);

/// Asks until the engine stops.
pub fn run(shared: &Arc<Shared>, client: &Client, topic: &CString) {
    let name = topic.to_string_lossy();
    let Ok(handle) = client.topic(&name) else { return };
    while !wait_for_round(shared) {
        // They would otherwise pile up: nobody else takes this client's.
        client.take_reports(Duration::ZERO);
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
    let into_second = (wall_nanoseconds() % u128::from(SECOND_NANOSECONDS)) as u64;
    shared.pause(until_round(into_second), &shared.stop_sources)
}

/// From that moment of a second to the next round, at least ten milliseconds.
fn until_round(into_second_nanoseconds: u64) -> Duration {
    let waits = ROUNDS_AT_NANOSECONDS
        .map(|round| (round + SECOND_NANOSECONDS - into_second_nanoseconds) % SECOND_NANOSECONDS);
    Duration::from_nanos(waits[0].min(waits[1]).max(10_000_000))
}

/// Where a partition stands: what the core applied, or where it will begin.
fn position(shared: &Shared, partition: i32) -> Option<i64> {
    shared
        .stats
        .position(partition as usize)
        .or_else(|| lock(&shared.kafka.owned).get(&partition).and_then(|report| report.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_begin_at_their_moments_of_a_second() {
        let milliseconds = |into: u64| until_round(into * 1_000_000).as_millis();
        assert_eq!(milliseconds(0), 350);
        assert_eq!(milliseconds(340), 10);
        assert_eq!(milliseconds(351), 499);
        assert_eq!(milliseconds(849), 10);
        assert_eq!(milliseconds(860), 490);
    }
}
