//! Reading a topic with read_committed from a beginning to its end.
//!
//! Owns the consumer. It joins no group and commits nothing. The end of a partition is
//! its last stable offset; only when that is the high watermark, too, is no transaction
//! open and the topic settled.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::Error;

/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(15);
/// Longest wait for one record.
const POLL: Duration = Duration::from_millis(100);
/// Pause between two looks at the ends of the partitions.
const LOOK: Duration = Duration::from_millis(200);
/// With neither a record nor an end of a partition for so long, the topic can't be read.
const STALL: Duration = Duration::from_secs(60);

/// A topic that is there.
pub struct Reading {
    committed: BaseConsumer,
    uncommitted: BaseConsumer,
    topic: String,
    partitions: usize,
}

fn failed(what: &str, error: &KafkaError) -> Error {
    Error::Engine(format!("{what}: {error}"))
}

impl Reading {
    /// Looks for a topic; `None` if it doesn't exist.
    pub fn open(
        bootstrap_servers: &[String],
        properties: &BTreeMap<String, String>,
        topic: &str,
    ) -> Result<Option<Reading>, Error> {
        let consumer = |isolation_level: &str| -> Result<BaseConsumer, Error> {
            let mut configuration = ClientConfig::new();
            for (name, value) in properties {
                configuration.set(name, value);
            }
            configuration
                .set("bootstrap.servers", bootstrap_servers.join(","))
                .set("client.id", "eventengine-audit")
                .set("group.id", "eventengine-audit")
                .set("enable.auto.commit", "false")
                .set("enable.partition.eof", "true")
                .set("auto.offset.reset", "error")
                .set("queued.max.messages.kbytes", "16384")
                .set("isolation.level", isolation_level)
                .create()
                .map_err(|error| Error::Configuration {
                    path: "properties".to_owned(),
                    message: error.to_string(),
                })
        };
        let (committed, uncommitted) = (consumer("read_committed")?, consumer("read_uncommitted")?);
        let metadata = committed.fetch_metadata(None, ANSWER).map_err(|error| {
            failed(&format!("no broker answers at {}", bootstrap_servers.join(",")), &error)
        })?;
        let partitions =
            metadata.topics().iter().find(|found| found.name() == topic).map(|t| t.partitions().len());
        Ok(partitions.filter(|&count| count > 0).map(|partitions| Reading {
            committed,
            uncommitted,
            topic: topic.to_owned(),
            partitions,
        }))
    }

    /// Gives every record to `handle`. Ends where every partition was read to its end, and either
    /// all is `complete` and settled, or the deadline has passed. Says whether the topic is settled.
    pub fn to_end<State>(
        &self,
        start_offsets: &HashMap<i32, i64>,
        deadline: Instant,
        state: &mut State,
        complete: impl Fn(&State) -> bool,
        mut handle: impl FnMut(&mut State, &BorrowedMessage<'_>),
    ) -> Result<bool, Error> {
        self.assign(start_offsets)?;
        let mut ended = vec![false; self.partitions];
        let (mut heard_at, mut looked_at) = (Instant::now(), None::<Instant>);
        loop {
            match self.committed.poll(POLL) {
                Some(Ok(message)) => {
                    ended[message.partition() as usize] = false;
                    handle(state, &message);
                    heard_at = Instant::now();
                    continue;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended[partition as usize] = true;
                    heard_at = Instant::now();
                }
                Some(Err(error)) if heard_at.elapsed() >= STALL || is_final(&error) => {
                    return Err(failed(&format!("the topic {} can't be read", self.topic), &error));
                }
                Some(Err(_)) | None => {}
            }
            if ended.iter().all(|&ended| ended) {
                heard_at = Instant::now();
                if looked_at.is_some_and(|time| time.elapsed() < LOOK) {
                    continue;
                }
                looked_at = Some(Instant::now());
                let expired = Instant::now() >= deadline;
                if complete(state) || expired {
                    let settled = self.settled()?;
                    if settled || expired {
                        return Ok(settled);
                    }
                }
            } else if heard_at.elapsed() >= STALL {
                return Err(Error::Engine(format!(
                    "the topic {} can't be read: nothing came for {} s",
                    self.topic,
                    STALL.as_secs()
                )));
            }
        }
    }

    fn assign(&self, start_offsets: &HashMap<i32, i64>) -> Result<(), Error> {
        let mut assignment = TopicPartitionList::new();
        for partition in 0..self.partitions as i32 {
            let start =
                start_offsets.get(&partition).map_or(Offset::Beginning, |&offset| Offset::Offset(offset));
            assignment
                .add_partition_offset(&self.topic, partition, start)
                .map_err(|error| failed("an offset to start from can't be used", &error))?;
        }
        self.committed.assign(&assignment).map_err(|error| failed("the partitions can't be assigned", &error))
    }

    /// Whether no transaction is open: everything written can be read.
    fn settled(&self) -> Result<bool, Error> {
        for partition in 0..self.partitions as i32 {
            let end = |consumer: &BaseConsumer| {
                consumer.fetch_watermarks(&self.topic, partition, ANSWER).map(|(_, end)| end).map_err(
                    |error| {
                        failed(&format!("the end of {} [{partition}] can't be asked", self.topic), &error)
                    },
                )
            };
            if end(&self.committed)? != end(&self.uncommitted)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Errors that time doesn't heal.
fn is_final(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::TopicAuthorizationFailed
                | Code::UnknownTopicOrPartition
                | Code::AutoOffsetReset
                | Code::OffsetOutOfRange
                | Code::Fatal
        )
    )
}
