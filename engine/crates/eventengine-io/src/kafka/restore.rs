//! Restoring: a new owner reads a partition's state from its changelog before the first event.
//!
//! Owns one thread and, while there is work, one consumer outside of the group.
//!
//! Rules of order, for each partition:
//! 1. The group's committed offset is asked for first. It is stable: the answer waits
//!    for a transaction of a former owner that holds an offset of this partition.
//! 2. Then the changelog's high watermark is taken. All records that belong to the
//!    committed offset lie below it.
//! 3. Then the changelog is read with read_committed until its end is at or behind that
//!    watermark. An open transaction of a dead owner holds the end back; the brokers end
//!    it after the transaction timeout. Until then the partition stays unread, and the
//!    reason is shown.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::client::{Client, KafkaError, Message, OffsetSpec, Partitions, Properties, Queue};
use super::refusals;
use crate::shared::{Backoff, Shared, lock};

const TIMEOUT: Duration = Duration::from_secs(5);

/// A partition to restore under an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The partition.
    pub partition: i32,
    /// The assignment; a later one replaces it.
    pub epoch: u32,
}

/// A partition's state, ready for the core.
#[derive(Debug)]
pub struct Restored {
    /// What was asked for.
    pub request: Request,
    /// First offset to apply.
    pub start: i64,
    /// Whether the group has committed that offset.
    pub committed: bool,
    /// Changelog records, the latest of each key, in the order of their keys.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Default)]
struct Mailbox {
    requests: BTreeMap<i32, u32>,
    results: Vec<Restored>,
    stopped: bool,
}

/// The way to the restoring thread and back.
#[derive(Default)]
pub struct Restorer {
    mailbox: Mutex<Mailbox>,
    changed: Condvar,
}

impl Restorer {
    /// Asks for a partition. Replaces what was asked for it before.
    pub fn request(&self, request: Request) {
        lock(&self.mailbox).requests.insert(request.partition, request.epoch);
        self.changed.notify_all();
    }

    /// The partition is not ours any more.
    pub fn cancel(&self, partition: i32) {
        let mut mailbox = lock(&self.mailbox);
        mailbox.requests.remove(&partition);
        mailbox.results.retain(|result| result.request.partition != partition);
    }

    /// Partitions that are ready. Those of former assignments were sorted out.
    pub fn take_results(&self) -> Vec<Restored> {
        std::mem::take(&mut lock(&self.mailbox).results)
    }

    /// Ends the thread.
    pub fn stop(&self) {
        lock(&self.mailbox).stopped = true;
        self.changed.notify_all();
    }

    /// Waits for requests; none when it is time to stop.
    fn wait(&self) -> Option<BTreeMap<i32, u32>> {
        let mut mailbox = lock(&self.mailbox);
        loop {
            if mailbox.stopped {
                return None;
            }
            if !mailbox.requests.is_empty() {
                return Some(mailbox.requests.clone());
            }
            mailbox = self.changed.wait(mailbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn current(&self) -> Option<BTreeMap<i32, u32>> {
        let mailbox = lock(&self.mailbox);
        (!mailbox.stopped).then(|| mailbox.requests.clone())
    }

    /// Hands a result over, unless the partition was cancelled or assigned anew meanwhile.
    fn finish(&self, result: Restored) {
        let mut mailbox = lock(&self.mailbox);
        if mailbox.requests.get(&result.request.partition) == Some(&result.request.epoch) {
            mailbox.requests.remove(&result.request.partition);
            mailbox.results.push(result);
        }
    }
}

/// A partition whose changelog is being read.
struct Reading {
    epoch: u32,
    start: i64,
    committed: bool,
    high_watermark: i64,
    next: i64,
    records: HashMap<Vec<u8>, Vec<u8>>,
}

/// What the restoring thread works with.
pub struct Worker {
    /// Shared things.
    pub shared: Arc<Shared>,
    /// The mailbox.
    pub restorer: Arc<Restorer>,
    /// A client for asking.
    pub admin: Arc<Client>,
    /// The member of the group, for committed offsets.
    pub member: Arc<Client>,
    /// Properties of the reading consumer.
    pub properties: Properties,
    /// The source topic.
    pub source_topic: CString,
    /// The changelog topic.
    pub changelog_topic: CString,
    /// Where a group without committed offsets begins.
    pub from_earliest: bool,
}

impl Worker {
    /// Restores what is asked for until it is stopped.
    pub fn run(self) {
        let mut backoff = Backoff::new();
        while self.restorer.wait().is_some() {
            match self.read_all() {
                Ok(()) => {
                    backoff = Backoff::new();
                    self.shared.health.ready("restore");
                }
                Err(error) => {
                    self.shared.counters.error("restore");
                    self.not_ready(&error);
                    if self.shared.pause(backoff.pause(), &self.shared.stop_sources) {
                        return;
                    }
                }
            }
        }
    }

    /// Works with one consumer until nothing is asked for any more.
    fn read_all(&self) -> Result<(), KafkaError> {
        let reader = Client::consumer(&self.properties, None)?;
        reader.forward_main_to_consumer()?;
        let queue = reader.consumer_queue()?;
        let mut readings: BTreeMap<i32, Reading> = BTreeMap::new();
        let mut waiting_since = Instant::now();
        loop {
            let Some(requests) = self.restorer.current() else { return Ok(()) };
            if requests.is_empty() {
                return Ok(());
            }
            let before: Vec<i32> = readings.keys().copied().collect();
            readings.retain(|partition, reading| requests.get(partition) == Some(&reading.epoch));
            let new: Vec<Request> = requests
                .iter()
                .filter(|(partition, _)| !readings.contains_key(partition))
                .map(|(partition, epoch)| Request { partition: *partition, epoch: *epoch })
                .collect();
            if !new.is_empty() {
                for (partition, reading) in self.begin(&new)? {
                    readings.insert(partition, reading);
                }
                waiting_since = Instant::now();
            }
            self.finish_complete(&mut readings);
            if readings.keys().ne(before.iter()) {
                self.assign(&reader, &readings)?;
            }
            self.read_some(&queue, &mut readings)?;
            self.explain(&readings, waiting_since);
        }
    }

    /// Steps 1 and 2 for new partitions.
    fn begin(&self, new: &[Request]) -> Result<Vec<(i32, Reading)>, KafkaError> {
        let mut committed = Partitions::default();
        for request in new {
            committed.add(&self.source_topic, request.partition, 0);
        }
        self.member.committed(&committed, TIMEOUT)?;
        let mut starts: BTreeMap<i32, (i64, bool)> = BTreeMap::new();
        for entry in committed.entries() {
            if entry.error != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(KafkaError::from_code(entry.error));
            }
            if entry.offset >= 0 {
                starts.insert(entry.partition, (entry.offset, true));
            }
        }
        let fresh: Vec<i32> = new
            .iter()
            .map(|request| request.partition)
            .filter(|partition| !starts.contains_key(partition))
            .collect();
        let spec = if self.from_earliest { OffsetSpec::Earliest } else { OffsetSpec::LastStable };
        for (partition, offset) in self.offsets(&self.source_topic, &fresh, spec)? {
            starts.insert(partition, (offset, false));
        }
        let mut owned = lock(&self.shared.kafka.owned);
        for (partition, (start, _)) in &starts {
            if let Some(report) = owned.get_mut(partition) {
                report.start = Some(*start);
            }
        }
        drop(owned);
        let partitions: Vec<i32> = new.iter().map(|request| request.partition).collect();
        let ends = self.offsets(&self.changelog_topic, &partitions, OffsetSpec::HighWatermark)?;
        let begins = self.offsets(&self.changelog_topic, &partitions, OffsetSpec::Earliest)?;
        let readings = new.iter().filter_map(|request| {
            let partition = request.partition;
            let (start, committed) = *starts.get(&partition)?;
            let reading = Reading {
                epoch: request.epoch,
                start,
                committed,
                high_watermark: *ends.get(&partition)?,
                next: *begins.get(&partition)?,
                records: HashMap::new(),
            };
            Some((partition, reading))
        });
        Ok(readings.collect())
    }

    fn offsets(
        &self,
        topic: &CString,
        partitions: &[i32],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let entries = self.admin.list_offsets(topic, partitions, spec, TIMEOUT)?;
        entries
            .into_iter()
            .map(|entry| match entry.error {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok((entry.partition, entry.offset)),
                code => Err(KafkaError::from_code(code)),
            })
            .collect()
    }

    fn assign(&self, reader: &Client, readings: &BTreeMap<i32, Reading>) -> Result<(), KafkaError> {
        let mut partitions = Partitions::default();
        for (partition, reading) in readings {
            partitions.add(&self.changelog_topic, *partition, reading.next);
        }
        reader.assign(&partitions)
    }

    /// Step 3: takes what the reader has.
    fn read_some(&self, queue: &Queue, readings: &mut BTreeMap<i32, Reading>) -> Result<(), KafkaError> {
        let mut messages = Vec::new();
        queue.take(Duration::from_millis(100), 256, &mut messages);
        for message in messages {
            let Some(reading) = readings.get_mut(&message.partition()) else {
                if let Some(error) =
                    message.error().filter(|error| *error != Code::RD_KAFKA_RESP_ERR__PARTITION_EOF)
                {
                    self.note(error, &message);
                }
                continue;
            };
            match message.error() {
                None => {
                    reading.next = message.offset() + 1;
                    self.keep(reading, &message);
                }
                Some(Code::RD_KAFKA_RESP_ERR__PARTITION_EOF) => {
                    reading.next = reading.next.max(message.offset())
                }
                Some(error) => self.note(error, &message),
            }
        }
        self.finish_complete(readings);
        Ok(())
    }

    /// An error that the client gets over by itself, shown until the restore is through.
    fn note(&self, error: Code, message: &Message) {
        self.shared.counters.error("restore");
        self.not_ready(&KafkaError { message: message.error_text(), ..KafkaError::from_code(error) });
    }

    fn not_ready(&self, error: &KafkaError) {
        let config = &self.shared.config;
        let reason = refusals::sentence(&config.source_brokers(), error, config);
        self.shared.health.not_ready("restore", format!("reading the changelog: {reason}"));
    }

    fn keep(&self, reading: &mut Reading, message: &Message) {
        let Some(key) = message.key() else { return };
        match message.payload() {
            Some(value) => {
                reading.records.insert(key.to_vec(), value.to_vec());
            }
            None => {
                reading.records.remove(key);
            }
        }
    }

    /// Hands over the partitions that were read to their watermark.
    fn finish_complete(&self, readings: &mut BTreeMap<i32, Reading>) {
        let complete: Vec<i32> = readings
            .iter()
            .filter(|(_, reading)| reading.next >= reading.high_watermark)
            .map(|(partition, _)| *partition)
            .collect();
        for partition in complete {
            let Some(reading) = readings.remove(&partition) else { continue };
            let mut records: Vec<(Vec<u8>, Vec<u8>)> = reading.records.into_iter().collect();
            records.sort_unstable();
            self.restorer.finish(Restored {
                request: Request { partition, epoch: reading.epoch },
                start: reading.start,
                committed: reading.committed,
                records,
            });
        }
    }

    fn explain(&self, readings: &BTreeMap<i32, Reading>, since: Instant) {
        let waited = since.elapsed();
        if readings.is_empty()
            || waited < Duration::from_secs(2)
            || self.shared.stop_sources.load(Ordering::Relaxed)
        {
            return;
        }
        let reason = format!(
            "the changelog of {} partition(s) is held back by a transaction that is still open; \
             the brokers end it after its timeout of {} ms",
            readings.len(),
            self.shared.config.transactions.timeout_milliseconds
        );
        self.shared.health.not_ready("restore", reason);
    }
}
