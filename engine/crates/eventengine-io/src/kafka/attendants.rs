//! What keeps a transactional producer from holding its owner up for ever: two threads beside it.
//!
//! librdkafka's call that sends a transaction's offsets may wait without end, whatever its timeout, when a broker that it
//! had asked is dropped meanwhile (decision 0033). So one thread makes that call, and the owner gives up waiting for it.
//! The other takes what the client reports by itself, which alone can bring it brokers again ([`super::bootstrap`]).
//!
//! Both hold the client, and go when their owner and the call have let go of it. A client whose call never returns stays
//! until the process ends; once the next one has its transactional id, brokers refuse whatever it does.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use super::client::{Client, GroupMetadata, KafkaError, Partitions};
use crate::allocation;

/// How long the first thread may take to see that it is the last one to hold the client.
const WAIT: Duration = Duration::from_millis(100);

/// How much longer than its timeout the call may take.
const GRACE: Duration = Duration::from_secs(1);

/// Offsets on their way into a transaction, and the member that they are of.
pub type Offsets = Arc<(Partitions, GroupMetadata)>;

/// The owner's side.
pub struct Attendants {
    requests: SyncSender<(Offsets, Duration)>,
    answers: Receiver<Result<(), KafkaError>>,
}

impl Attendants {
    /// Starts both for a producer.
    pub fn start(producer: &Arc<Client>) -> io::Result<Attendants> {
        let (requests, asked) = sync_channel::<(Offsets, Duration)>(1);
        let (answer, answers) = sync_channel(1);
        let reporting = Arc::clone(producer);
        Builder::new().name("ee-producer".to_owned()).spawn(move || {
            allocation::count_as("ee-producer");
            while Arc::strong_count(&reporting) > 1 {
                reporting.take_reports(WAIT);
            }
        })?;
        let sending = Arc::clone(producer);
        Builder::new().name("ee-offsets".to_owned()).spawn(move || {
            allocation::count_as("ee-offsets");
            while let Ok((offsets, timeout)) = asked.recv() {
                let sent = sending.send_offsets(&offsets.0, &offsets.1, timeout);
                if answer.send(sent).is_err() {
                    return;
                }
            }
        })?;
        Ok(Attendants { requests, answers })
    }

    /// Sends offsets into the current transaction. After a fatal error the producer must not be used again.
    pub fn send_offsets(&self, offsets: &Offsets, timeout: Duration) -> Result<(), KafkaError> {
        let lost = |reason: &str| KafkaError { fatal: true, ..KafkaError::other(reason.to_owned()) };
        self.requests
            .send((Arc::clone(offsets), timeout))
            .map_err(|_| lost("the thread that sends offsets has ended"))?;
        self.answers.recv_timeout(timeout + GRACE).unwrap_or_else(|failed| {
            Err(lost(match failed {
                RecvTimeoutError::Timeout => "the client doesn't come back from it",
                RecvTimeoutError::Disconnected => "the thread that sends offsets has ended",
            }))
        })
    }
}
