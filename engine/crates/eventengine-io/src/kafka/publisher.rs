//! The publisher: outputs, dead letters, state and offsets, committed in one transaction.
//!
//! Owns the transactional producer and the decision when to cut. One thread.
//!
//! Rules of order:
//! - Everything before a cut descriptor belongs to the current transaction, everything
//!   after it to the next. The offsets sent are those of the cut, nothing newer.
//! - The group's metadata is taken first, then the requested generation is looked at,
//!   then the offsets are sent. A rebalance that could not wait for us asks for a new
//!   generation before it lets the group go on; metadata of before such a rebalance is
//!   refused by the broker, so that nothing of ours can be committed for another's partition.
//! - After an abort nothing is published until the core says where the new generation
//!   begins: what lies between belongs to state that was thrown away.

use std::ffi::CString;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eventengine_core::core::DIRECT_BASE;
use eventengine_core::cut::CutReader;
use eventengine_core::parse::Reason;
use eventengine_core::pool::Releaser;
use eventengine_core::ring::{Consumer, Descriptor, Kind};
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::attendants::Attendants;
use super::client::{Client, KafkaError, Partitions, Properties, Topic};
use super::refusals;
use super::topics::{TopicError, client_properties, prepare_outputs};
use crate::config::Config;
use crate::direct::Replies;
use crate::shared::{Backoff, Shared, lock};

/// Descriptors between two looks at the clock.
const BATCH: usize = 256;

/// How long one call to the brokers may take before other things are looked at.
const CALL: Duration = Duration::from_millis(1_000);

/// Producers left to themselves that the process bears, for each keeps its memory and threads.
const STUCK_PRODUCERS_MAX: u32 = 8;

/// The group member that offsets are committed for; set by the source while it has one.
pub type Member = Arc<Mutex<Option<Arc<Client>>>>;

/// What the publisher works with.
pub struct Parts {
    /// Shared things.
    pub shared: Arc<Shared>,
    /// What the core publishes.
    pub ring: Consumer,
    /// The publisher's side of the cuts.
    pub cut: CutReader,
    /// The group member, if there is a Kafka source.
    pub member: Member,
    /// The way back to senders of direct events.
    pub replies: Replies,
}

/// A producer that is ready for transactions, with its topics. When it is dropped the topics go first.
struct Connection {
    output: Option<Topic>,
    dead_letter: Topic,
    changelog: Topic,
    attendants: Attendants,
    producer: Arc<Client>,
}

/// Why a transaction failed.
#[derive(Debug)]
enum Failure {
    /// Abort, reset and go on with this producer.
    Abort(String),
    /// The same, and nothing comes of it until somebody allows what the brokers refuse.
    Refused(String),
    /// The producer can't be used any more.
    Fatal(String),
}

/// See the module.
pub struct Publisher {
    parts: Parts,
    properties: Option<Properties>,
    source_topic: Option<CString>,
    connection: Option<Connection>,
    releaser: Releaser,
    generation: u64,
    open: bool,
    opened_at: Instant,
    /// While the brokers refuse transactions for want of a right: how long to leave them alone.
    refused: Option<Backoff>,
    /// Those that were left to themselves.
    stuck_producers: u32,
    outputs: u64,
    held: Vec<Descriptor>,
    held_queued: usize,
    last_cut: Instant,
    interval: Duration,
    timeout: Duration,
}

impl Publisher {
    /// A publisher that isn't connected yet.
    pub fn new(parts: Parts) -> Publisher {
        let config = &parts.shared.config;
        let properties = producer_properties(&parts.shared);
        let source_topic =
            config.kafka_source().and_then(|(_, _, kafka)| CString::new(kafka.topic.as_str()).ok());
        let transactions = &config.transactions;
        Publisher {
            releaser: Releaser::new(&parts.shared.pool),
            properties,
            source_topic,
            connection: None,
            generation: 0,
            open: false,
            opened_at: Instant::now(),
            refused: None,
            stuck_producers: 0,
            outputs: 0,
            held: Vec::new(),
            held_queued: 0,
            last_cut: Instant::now(),
            interval: Duration::from_millis(transactions.commit_interval_milliseconds),
            timeout: Duration::from_millis(transactions.timeout_milliseconds),
            parts,
        }
    }

    /// Publishes until the pipeline is stopped.
    pub fn run(mut self) {
        self.parts.shared.publisher_waker.attach();
        let shared = Arc::clone(&self.parts.shared);
        let mut backoff = Backoff::new();
        while !shared.stop_pipeline.load(Ordering::Relaxed) {
            if self.properties.is_some() && self.connection.is_none() {
                match self.connect() {
                    Ok(()) => {
                        backoff = Backoff::new();
                        shared.health.ready("publisher");
                    }
                    Err(reason) => {
                        shared.counters.error("producer_connect");
                        shared.health.not_ready("publisher", reason);
                        shared.pause(backoff.pause(), &shared.stop_pipeline);
                        continue;
                    }
                }
            }
            if !self.round() {
                self.rest();
            }
        }
        if self.open {
            self.abort("the engine stops");
        }
    }

    /// Handles what waits, up to a bound. Says whether there was anything.
    fn round(&mut self) -> bool {
        if self.is_behind() && self.open {
            self.abort("a reset was asked for");
        }
        let mut handled = 0;
        while handled < BATCH {
            let Some(&descriptor) = self.parts.ring.pop() else { break };
            handled += 1;
            if let Err(failure) = self.handle(&descriptor) {
                self.fail(failure);
                break;
            }
        }
        self.parts.ring.release();
        self.releaser.flush();
        self.parts.replies.flush();
        if handled > 0 {
            self.parts.shared.core_waker.wake();
        }
        if let Some(connection) = &self.connection
            && let Some(error) = connection.producer.fatal_error()
        {
            self.fail(Failure::Fatal(error.message));
        }
        if let Err(failure) = self.queue_held() {
            self.fail(failure);
        }
        let settled = !self.open && self.held.is_empty();
        self.parts.shared.publisher_settled.store(settled, Ordering::Release);
        self.ask_for_cut();
        handled > 0
    }

    /// Nothing to publish: sleeps until there is, or a cut is due.
    fn rest(&mut self) {
        let until_cut = self.interval.saturating_sub(self.last_cut.elapsed());
        let pause = until_cut.clamp(Duration::from_millis(1), Duration::from_millis(50));
        let ring = &mut self.parts.ring;
        self.parts.shared.publisher_waker.sleep(pause, || !ring.is_empty());
    }

    fn ask_for_cut(&mut self) {
        let shared = &self.parts.shared;
        if self.last_cut.elapsed() >= self.interval
            && (self.open || shared.stats.uncut.load(Ordering::Relaxed))
            && !shared.cut_requested.load(Ordering::Relaxed)
        {
            shared.cut_requested.store(true, Ordering::Release);
            shared.core_waker.wake();
            self.last_cut = Instant::now();
        }
    }

    /// Whether a generation was asked for that the core has not reached yet.
    fn is_behind(&self) -> bool {
        self.parts.shared.requested_generation() > self.generation
    }

    fn handle(&mut self, descriptor: &Descriptor) -> Result<(), Failure> {
        let direct = descriptor.partition >= DIRECT_BASE;
        match descriptor.kind {
            Kind::Reset => {
                self.generation = self.generation.max(descriptor.ticket);
                Ok(())
            }
            Kind::Output | Kind::DeadLetter if direct => self.hold(*descriptor),
            Kind::Output | Kind::DeadLetter if self.is_behind() => {
                self.release(descriptor);
                Ok(())
            }
            Kind::Output | Kind::DeadLetter => {
                let queued = self.queue(descriptor);
                self.release(descriptor);
                queued
            }
            Kind::Cut if self.is_behind() => {
                self.parts.cut.give_back();
                self.parts.shared.core_waker.wake();
                Ok(())
            }
            Kind::Cut => self.commit(),
            _ => Ok(()),
        }
    }

    fn release(&mut self, descriptor: &Descriptor) {
        if let Ok(chunk) = self.parts.shared.pool.claim(descriptor.chunk) {
            self.releaser.release(chunk);
        }
    }

    /// Keeps a direct event's output until it is committed: unlike Kafka's, its source can't be read again.
    fn hold(&mut self, descriptor: Descriptor) -> Result<(), Failure> {
        if self.properties.is_none() {
            self.release(&descriptor);
            self.parts.replies.settle(&descriptor);
            return Ok(());
        }
        self.held.push(descriptor);
        self.queue_held()
    }

    /// Queues the held outputs that are not in the current transaction.
    fn queue_held(&mut self) -> Result<(), Failure> {
        while self.held_queued < self.held.len() && self.connection.is_some() && !self.is_behind() {
            let descriptor = self.held[self.held_queued];
            self.queue(&descriptor)?;
            self.held_queued += 1;
        }
        Ok(())
    }

    /// Frees the held outputs that were committed and answers their senders.
    fn settle_held(&mut self) {
        for index in 0..self.held_queued {
            let descriptor = self.held[index];
            self.release(&descriptor);
            self.parts.replies.settle(&descriptor);
        }
        self.held.drain(..std::mem::take(&mut self.held_queued));
    }

    /// Queues an output or a dead letter at the producer. The chunk stays in transit.
    fn queue(&mut self, descriptor: &Descriptor) -> Result<(), Failure> {
        self.begin()?;
        let shared = Arc::clone(&self.parts.shared);
        let chunk = shared.pool.claim(descriptor.chunk).ok();
        let payload: &[u8] = match &chunk {
            Some(chunk) => &shared.pool.bytes(chunk)[..descriptor.length as usize],
            None => &[],
        };
        let queued = if descriptor.kind == Kind::Output {
            self.queue_output(descriptor, payload)
        } else {
            self.queue_dead_letter(descriptor, payload)
        };
        if let Some(chunk) = chunk {
            shared.pool.send(chunk);
        }
        self.outputs += u64::from(descriptor.kind == Kind::Output);
        queued
    }

    fn queue_output(&self, descriptor: &Descriptor, payload: &[u8]) -> Result<(), Failure> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let Some(topic) = &connection.output else { return Ok(()) };
        let mut key = [0_u8; 10];
        let key = decimal(descriptor.routing.district, &mut key);
        self.retry_while_full(|| connection.producer.produce(topic, -1, key, Some(payload)))
    }

    fn queue_dead_letter(&self, descriptor: &Descriptor, payload: &[u8]) -> Result<(), Failure> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let config = &self.parts.shared.config;
        let reason = Reason::from_number(descriptor.reason).unwrap_or(Reason::InvalidJson).as_str();
        let source = config.sources.get(usize::from(descriptor.source));
        let topic = source.map_or("", |source| {
            source.kafka.as_ref().map_or(source.name.as_str(), |kafka| kafka.topic.as_str())
        });
        let (partition, offset) = (descriptor.partition.to_string(), descriptor.offset.to_string());
        let original = descriptor.original_length.to_string();
        let position = descriptor.refusal_position().to_string();
        let headers = [
            (c"reason", reason.as_bytes()),
            (c"source.topic", topic.as_bytes()),
            (c"payload.bytes", original.as_bytes()),
            (c"payload.position", position.as_bytes()),
            (c"source.partition", partition.as_bytes()),
            (c"source.offset", offset.as_bytes()),
        ];
        // A direct event that is refused has no place in any partition.
        let direct = descriptor.partition >= DIRECT_BASE;
        let headers = if direct { &headers[..4] } else { &headers[..] };
        let kept = &payload[..payload.len().min(config.dead_letter.max_payload_bytes)];
        self.retry_while_full(|| {
            connection.producer.produce_with_headers(&connection.dead_letter, -1, headers, kept)
        })
    }

    /// Repeats a call while the producer's queue is full, for as long as a transaction may take.
    fn retry_while_full(&self, call: impl Fn() -> Result<(), KafkaError>) -> Result<(), Failure> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match call() {
                Ok(()) => return Ok(()),
                Err(error)
                    if error.code == Code::RD_KAFKA_RESP_ERR__QUEUE_FULL && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(failure(&self.parts.shared.config, "queueing a record", error)),
            }
        }
    }

    fn begin(&mut self) -> Result<(), Failure> {
        let Some(connection) = &self.connection else {
            return Err(Failure::Abort("there is no producer".to_owned()));
        };
        if !self.open {
            connection
                .producer
                .begin_transaction()
                .map_err(|error| failure(&self.parts.shared.config, "beginning a transaction", error))?;
            self.open = true;
            self.opened_at = Instant::now();
        }
        Ok(())
    }

    /// Commits everything before the cut, with the cut's after-images and offsets.
    fn commit(&mut self) -> Result<(), Failure> {
        let shared = Arc::clone(&self.parts.shared);
        let Some(cut) = self.parts.cut.buffer() else { return Ok(()) };
        let ticket = cut.ticket;
        if self.properties.is_none() || (!self.open && cut.is_empty()) {
            self.parts.cut.give_back();
            self.committed(ticket, 0);
            return Ok(());
        }
        let staged = self.begin().and_then(|()| self.stage_cut());
        // Whatever comes of it, the core may go on: what the buffer held is queued, or will be thrown away.
        self.parts.cut.give_back();
        shared.core_waker.wake();
        staged?;
        let deadline = self.opened_at.max(Instant::now()) + self.timeout;
        self.call_until(deadline, "committing", |connection| connection.producer.commit_transaction(CALL))?;
        self.open = false;
        if self.refused.take().is_some() {
            shared.health.ready("publisher");
        }
        self.committed(ticket, 1);
        Ok(())
    }

    fn committed(&mut self, ticket: u64, transactions: u64) {
        let counters = &self.parts.shared.counters;
        counters.outputs_committed.fetch_add(std::mem::take(&mut self.outputs), Ordering::Relaxed);
        counters.transactions_committed.fetch_add(transactions, Ordering::Relaxed);
        self.parts.shared.commits.done(ticket);
        self.settle_held();
        self.parts.shared.core_waker.wake();
    }

    /// Queues the cut's after-images and sends its offsets.
    fn stage_cut(&mut self) -> Result<(), Failure> {
        let offsets = {
            let Some(cut) = self.parts.cut.buffer() else { return Ok(()) };
            let mut offsets = Partitions::default();
            if let Some(topic) = &self.source_topic {
                for position in &cut.positions {
                    offsets.add(topic, position.partition as i32, position.offset);
                }
            }
            (!cut.positions.is_empty() && self.source_topic.is_some()).then_some(offsets)
        };
        self.stage_records()?;
        let Some(offsets) = offsets else { return Ok(()) };
        let member = lock(&self.parts.member).clone();
        let metadata = member.as_ref().and_then(|member| member.group_metadata());
        let Some(metadata) = metadata else {
            return Err(Failure::Abort("the engine has left its consumer group".to_owned()));
        };
        if self.is_behind() {
            return Err(Failure::Abort("a reset was asked for".to_owned()));
        }
        let deadline = Instant::now() + self.timeout;
        let offsets = Arc::new((offsets, metadata));
        self.call_until(deadline, "sending offsets", |connection| {
            connection.attendants.send_offsets(&offsets, CALL)
        })
    }

    fn stage_records(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + self.timeout;
        let Some(connection) = &self.connection else { return Ok(()) };
        let Some(cut) = self.parts.cut.buffer() else { return Ok(()) };
        for record in cut.records() {
            loop {
                let partition = record.partition as i32;
                match connection.producer.produce(&connection.changelog, partition, record.key, record.value)
                {
                    Ok(()) => break,
                    Err(error)
                        if error.code == Code::RD_KAFKA_RESP_ERR__QUEUE_FULL && Instant::now() < deadline =>
                    {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Err(error) => return Err(failure(&self.parts.shared.config, "queueing state", error)),
                }
            }
        }
        Ok(())
    }

    /// Repeats a call that may be repeated, until it succeeds or the deadline is over.
    fn call_until(
        &self,
        deadline: Instant,
        what: &str,
        call: impl Fn(&Connection) -> Result<(), KafkaError>,
    ) -> Result<(), Failure> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let begun = Instant::now();
        loop {
            match call(connection) {
                Ok(()) => {
                    if self.refused.is_none() {
                        self.parts.shared.health.ready("publisher");
                    }
                    return Ok(());
                }
                Err(error) if error.retriable && !error.abortable && !error.fatal => {
                    if Instant::now() >= deadline {
                        return Err(Failure::Abort(format!("{what}: no answer in time: {}", error.message)));
                    }
                    if begun.elapsed() >= CALL {
                        let brokers = self.parts.shared.config.output_brokers();
                        let reason = format!("{brokers}: {what}: {}; trying again", error.message);
                        self.parts.shared.health.not_ready("publisher", reason);
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(failure(&self.parts.shared.config, what, error)),
            }
        }
    }

    /// A transaction can't be committed: aborts it and asks for a reset.
    fn fail(&mut self, failure: Failure) {
        let mut pause = Duration::ZERO;
        match failure {
            Failure::Abort(reason) => self.abort(&reason),
            Failure::Refused(reason) => {
                pause = self.refused.get_or_insert_with(Backoff::new).pause();
                self.parts.shared.health.not_ready("publisher", reason.as_str());
                self.abort(&reason);
            }
            Failure::Fatal(reason) => self.lose_producer(&reason),
        }
        if self.source_topic.is_some() {
            self.parts.shared.request_reset(self.generation);
        }
        self.parts.shared.pause(pause, &self.parts.shared.stop_pipeline);
    }

    fn lose_producer(&mut self, reason: &str) {
        self.parts.shared.counters.error("producer_fatal");
        self.parts.shared.health.not_ready("publisher", format!("the producer is made anew: {reason}"));
        let is_stuck = self.connection.take().is_some_and(|connection| connection.attendants.is_stuck());
        self.stuck_producers += u32::from(is_stuck);
        if self.stuck_producers > STUCK_PRODUCERS_MAX {
            let stuck = self.stuck_producers;
            self.parts.shared.health.dead(format!("{stuck} producers never came back from a call: {reason}"));
        }
        self.close_transaction();
    }

    /// Aborts the open transaction. If even that is impossible the producer is made anew, which fences the old one off.
    fn abort(&mut self, reason: &str) {
        self.parts.shared.counters.error("transaction");
        crate::log::warning("publisher", &format!("aborting a transaction: {reason}"));
        if self.open {
            let deadline = Instant::now() + self.timeout;
            let aborted = self
                .call_until(deadline, "aborting", |connection| connection.producer.abort_transaction(CALL));
            if let Err(Failure::Abort(reason) | Failure::Refused(reason) | Failure::Fatal(reason)) = aborted {
                self.lose_producer(&reason);
                return;
            }
        }
        self.close_transaction();
    }

    fn close_transaction(&mut self) {
        if std::mem::take(&mut self.open) {
            self.parts.shared.counters.transactions_aborted.fetch_add(1, Ordering::Relaxed);
        }
        self.outputs = 0;
        self.held_queued = 0;
    }

    /// Makes a producer and fences off the one before it.
    fn connect(&mut self) -> Result<(), String> {
        let Some(properties) = &self.properties else { return Ok(()) };
        let shared = &self.parts.shared;
        let config = &shared.config;
        let producer = Client::producer(properties).map_err(|error| {
            shared.health.dead(format!("the producer's properties can't be used: {error}"));
            error.message
        })?;
        let producer = Arc::new(producer);
        let attendants = Attendants::start(&producer).map_err(|error| {
            shared.health.dead(format!("no threads for the producer: {error}"));
            error.to_string()
        })?;
        let topic = |name: &str| producer.topic(name).map_err(|error| error.message);
        let connection = Connection {
            output: config.kafka_sink().map(|sink| topic(&sink.topic)).transpose()?,
            dead_letter: topic(&config.dead_letter.topic)?,
            changelog: topic(&config.changelog.topic)?,
            attendants,
            producer,
        };
        let begun = Instant::now();
        let brokers = config.output_brokers();
        loop {
            match connection.producer.init_transactions(CALL) {
                Ok(()) => break,
                Err(error) if error.retriable && begun.elapsed() < self.timeout => {
                    let reason = refusals::sentence(&brokers, &connection.producer.explain(error), config);
                    shared.health.not_ready("publisher", reason.as_str());
                    if shared.stop_pipeline.load(Ordering::Relaxed) {
                        return Err(reason);
                    }
                }
                Err(error) => {
                    return Err(refusals::sentence(&brokers, &connection.producer.explain(error), config));
                }
            }
        }
        if self.source_topic.is_none() {
            prepare_outputs(&connection.producer, config).map_err(|error| match error {
                TopicError::Passing(error) => refusals::sentence(&brokers, &error, config),
                TopicError::Wrong(reason) => reason,
            })?;
        }
        self.connection = Some(connection);
        Ok(())
    }
}

fn failure(config: &Config, what: &str, error: KafkaError) -> Failure {
    let error = KafkaError { message: format!("{what}: {error}"), ..error };
    if error.fatal {
        Failure::Fatal(error.message)
    } else if refusals::is_refusal(error.code, config) {
        Failure::Refused(refusals::sentence(&config.output_brokers(), &error, config))
    } else {
        Failure::Abort(error.message)
    }
}

/// A number's decimal digits.
fn decimal(mut value: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[start..];
        }
    }
}

/// Properties of the transactional producer; none if nothing goes to Kafka.
fn producer_properties(shared: &Shared) -> Option<Properties> {
    let config = &shared.config;
    let source = config.kafka_source().map(|(_, _, kafka)| kafka);
    let sink = config.kafka_sink();
    let servers =
        sink.map(|sink| &sink.bootstrap_servers).or(source.map(|source| &source.bootstrap_servers))?;
    let own = match (sink, source) {
        (Some(sink), _) => sink.properties.clone(),
        (None, Some(source)) => security_properties(&source.properties),
        (None, None) => return None,
    };
    let mut properties = client_properties(servers, &own);
    let group = source.map_or(config.name.as_str(), |source| source.group_id.as_str());
    let timeout = config.transactions.timeout_milliseconds.to_string();
    for (name, value) in [
        ("transactional.id", format!("{group}-{}", shared.identity.incarnation)),
        ("transaction.timeout.ms", timeout),
        ("enable.idempotence", "true".to_owned()),
    ] {
        properties.insert(name.to_owned(), value);
    }
    for (name, value) in [
        ("linger.ms", "5"),
        ("partitioner", "murmur2_random"),
        ("queue.buffering.max.kbytes", "65536"),
        ("queue.buffering.max.messages", "200000"),
    ] {
        properties.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    Some(properties)
}

/// Of a source's properties, those that a client of another kind needs to reach the same brokers.
pub fn security_properties(
    own: &std::collections::BTreeMap<String, String>,
) -> std::collections::BTreeMap<String, String> {
    const PREFIXES: [&str; 5] = ["security.", "sasl.", "ssl.", "socket.", "broker.address."];
    own.iter()
        .filter(|(name, _)| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
