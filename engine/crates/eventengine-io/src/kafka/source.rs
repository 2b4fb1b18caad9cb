//! The Kafka source: a member of the consumer group that copies events into the pool.
//!
//! Owns the assignment, the lanes to the core and the position of every owned partition
//! in its life: restoring, then running. One thread, which also runs the rebalance
//! callbacks.
//!
//! Rules of order:
//! - Messages wait in a queue of their own; rebalances and errors in another. While the
//!   pool or a ring has no room the first is left alone and the second still served, so
//!   that nothing is dropped and the group is never kept waiting.
//! - A partition given up is closed first, then everything applied is committed, then
//!   its state is freed, then the group goes on. If the commit can't be had in time, the
//!   whole pipeline is reset before the group goes on: what was not committed is another's.
//! - State comes before the assignment, the assignment before the first event; the
//!   control lane keeps that order.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eventengine_core::core::RESTORE_HEADER_BYTES;
use eventengine_core::executor::Feed;
use eventengine_core::parse::Reason;
use eventengine_core::pool::Allocator;
use eventengine_core::ring::{Descriptor, Kind, LANE_CONTROL, LANE_EVENTS, LANES, Producer};
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::client::{Client, KafkaError, Message, Partitions, Properties, Queue, Rebalance};
use super::publisher::{Member, security_properties};
use super::restore::{Request, Restored, Restorer, Worker};
use super::rollback::RollbackTimer;
use super::topics::{TopicError, client_properties, prepare};
use super::{lag, refusals};
use crate::allocation;
use crate::clock::{monotonic_nanoseconds, wall_seconds};
use crate::config::KafkaSource;
use crate::shared::{Backoff, PartitionPhase, PartitionReport, Shared, lock};

/// Messages taken at once.
const BATCH: usize = 256;

/// Longest that a rebalance waits for the commit of what was applied.
const REVOKE_WAIT: Duration = Duration::from_secs(10);

/// Longest that the core is given to make room for control descriptors.
const CONTROL_WAIT: Duration = Duration::from_secs(30);

/// How far ahead of a program with a declared service time the source reads.
const AHEAD: Duration = Duration::from_millis(500);

/// Time between two looks at whether Kafka answers.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);

/// What the source works with.
pub struct Parts {
    /// Shared things.
    pub shared: Arc<Shared>,
    /// Chunks for payloads.
    pub allocator: Allocator,
    /// Lanes to the core.
    pub lanes: [Producer; LANES],
    /// The way to the workers, if there are any.
    pub feed: Option<Box<dyn Feed>>,
    /// Where the publisher finds the group member.
    pub member: Member,
}

/// An owned partition.
#[derive(Debug, Clone, Copy)]
struct Owned {
    epoch: u32,
    running: bool,
}

/// What the loop and the rebalance callbacks share; both run on the source's thread.
struct State {
    shared: Arc<Shared>,
    allocator: Allocator,
    lanes: [Producer; LANES],
    feed: Option<Box<dyn Feed>>,
    restorer: Arc<Restorer>,
    topic: CString,
    messages: Option<Arc<Mutex<Queue>>>,
    owned: BTreeMap<i32, Owned>,
    to_begin: Vec<(i32, i64)>,
    joined: bool,
    /// Partitions that the brokers don't let us read, until something comes of them.
    refused: BTreeSet<i32>,
    next_epoch: u32,
    next_ticket: u64,
    generation: u64,
    rollback: RollbackTimer,
    source: u8,
    payload_bytes_max: usize,
}

/// Hands rebalances to the state.
struct Callbacks(Arc<Mutex<State>>);

impl Rebalance for Callbacks {
    fn assigned(&mut self, client: &Client, partitions: &Partitions) {
        lock(&self.0).assigned(client, partitions);
    }

    fn revoked(&mut self, client: &Client, partitions: &Partitions, lost: bool) {
        lock(&self.0).revoked(client, partitions, lost);
    }
}

impl State {
    fn assigned(&mut self, client: &Client, partitions: &Partitions) {
        // A member without partitions is ready, too: it stands by for the others'.
        self.joined = true;
        if let Some(messages) = &self.messages {
            let messages = lock(messages);
            for entry in partitions.entries() {
                client.forward_partition(&self.topic, entry.partition, &messages);
            }
        }
        // Fetching begins with the seek after the restore; until then nothing may arrive.
        let assigned = client.incremental_assign(partitions).and_then(|()| client.pause(partitions));
        if let Err(error) = assigned {
            self.shared.counters.error("assign");
            crate::log::warning("source", &format!("taking an assignment: {error}"));
        }
        for entry in partitions.entries() {
            self.restore(entry.partition, wall_seconds());
        }
    }

    /// Begins a new life of a partition.
    fn restore(&mut self, partition: i32, assigned_at_seconds: i64) {
        self.next_epoch += 1;
        let epoch = self.next_epoch;
        self.owned.insert(partition, Owned { epoch, running: false });
        self.to_begin.retain(|(waiting, _)| *waiting != partition);
        let report = PartitionReport { phase: PartitionPhase::Restoring, assigned_at_seconds, start: None };
        lock(&self.shared.kafka.owned).insert(partition, report);
        self.restorer.request(Request { partition, epoch });
    }

    fn revoked(&mut self, client: &Client, partitions: &Partitions, lost: bool) {
        let given_up: Vec<i32> = partitions.entries().iter().map(|entry| entry.partition).collect();
        let mut applied = false;
        for partition in &given_up {
            self.restorer.cancel(*partition);
            self.refused.remove(partition);
            self.to_begin.retain(|(waiting, _)| waiting != partition);
            applied |= self.owned.remove(partition).is_some_and(|owned| owned.running);
            self.control(Descriptor { partition: *partition as u32, ..Descriptor::new(Kind::Close) });
        }
        let committed = if lost { !applied } else { !applied || self.flush(REVOKE_WAIT) };
        if committed {
            for partition in &given_up {
                self.control(Descriptor { partition: *partition as u32, ..Descriptor::new(Kind::Drop) });
            }
            self.publish_control();
        } else {
            self.shared.counters.error("revoked_uncommitted");
            crate::log::warning(
                "source",
                "partitions went before their events were committed; starting over",
            );
            self.shared.request_reset(self.generation);
            self.reset(client);
        }
        let mut owned = lock(&self.shared.kafka.owned);
        for partition in &given_up {
            owned.remove(partition);
        }
    }

    /// Has everything applied so far committed. False if that can't be had in time.
    fn flush(&mut self, wait: Duration) -> bool {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.control(Descriptor { ticket, ..Descriptor::new(Kind::Barrier) });
        self.publish_control();
        let generation = self.generation;
        let shared = Arc::clone(&self.shared);
        self.shared.commits.wait(ticket, Instant::now() + wait, || shared.requested_generation() > generation)
    }

    /// Drops all state and begins every owned partition anew from what is committed.
    fn reset(&mut self, client: &Client) {
        self.generation = self.shared.requested_generation();
        self.rollback.begin(Instant::now());
        self.control(Descriptor { ticket: self.generation, ..Descriptor::new(Kind::Reset) });
        self.publish_control();
        let mut partitions = Partitions::default();
        for partition in self.owned.keys() {
            partitions.add(&self.topic, *partition, 0);
        }
        if let Err(error) = client.pause(&partitions) {
            crate::log::warning("source", &format!("pausing for a reset: {error}"));
        }
        let reported = lock(&self.shared.kafka.owned).clone();
        for partition in self.owned.keys().copied().collect::<Vec<_>>() {
            let since =
                reported.get(&partition).map_or_else(wall_seconds, |report| report.assigned_at_seconds);
            self.restore(partition, since);
        }
    }

    /// Pushes a control descriptor, waiting for room if need be.
    fn control(&mut self, descriptor: Descriptor) {
        let deadline = Instant::now() + CONTROL_WAIT;
        while self.lanes[LANE_CONTROL].push(descriptor).is_err() {
            self.publish_control();
            if Instant::now() > deadline {
                self.shared.health.dead("the core takes no control descriptors any more");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn publish_control(&mut self) {
        self.lanes[LANE_CONTROL].publish();
        self.shared.core_waker.wake();
    }

    /// Hands a restored partition to the core: state first, then the assignment.
    fn install(&mut self, restored: Restored) {
        let partition = restored.request.partition;
        let epoch = restored.request.epoch;
        if self.owned.get(&partition).is_none_or(|owned| owned.epoch != epoch) {
            return;
        }
        let base = Descriptor {
            partition: partition as u32,
            epoch,
            source: self.source,
            ..Descriptor::new(Kind::Restore)
        };
        // What the core may hold of an earlier life goes first.
        self.control(Descriptor { kind: Kind::Drop, ..base });
        if !self.push_records(base, &restored.records) {
            crate::log::warning("source", "the pool had no chunk for restored state in time; trying again");
            self.restore(partition, wall_seconds());
            return;
        }
        let uncommitted = u64::from(!restored.committed);
        self.control(Descriptor { kind: Kind::Assign, offset: restored.start, ticket: uncommitted, ..base });
        self.publish_control();
        self.to_begin.push((partition, restored.start));
    }

    /// Packs records into chunks. False if the pool stays empty.
    fn push_records(&mut self, base: Descriptor, records: &[(Vec<u8>, Vec<u8>)]) -> bool {
        let pool = Arc::clone(self.allocator.pool());
        let mut rest = records;
        while !rest.is_empty() {
            let deadline = Instant::now() + CONTROL_WAIT;
            let mut chunk = loop {
                if let Some(chunk) = self.allocator.allocate() {
                    break chunk;
                }
                if Instant::now() > deadline {
                    return false;
                }
                self.publish_control();
                std::thread::sleep(Duration::from_millis(1));
            };
            let bytes = pool.bytes_mut(&mut chunk);
            let mut length = 0;
            while let Some(((key, value), more)) = rest.split_first() {
                let header = key.len() + 2;
                let end = length + header + value.len();
                if header != RESTORE_HEADER_BYTES || end > bytes.len() {
                    break;
                }
                bytes[length..length + key.len()].copy_from_slice(key);
                bytes[length + key.len()..length + header]
                    .copy_from_slice(&(value.len() as u16).to_le_bytes());
                bytes[length + header..end].copy_from_slice(value);
                length = end;
                rest = more;
            }
            let stuck = length == 0;
            if stuck {
                // A record that no chunk takes is none of ours: the core refuses it, and the partition with it.
                bytes[..RESTORE_HEADER_BYTES].fill(0);
                length = RESTORE_HEADER_BYTES;
                rest = &rest[1..];
            }
            self.control(Descriptor { chunk: pool.send(chunk), length: length as u32, ..base });
        }
        true
    }

    /// Seeks installed partitions to their beginning and lets them run.
    fn begin_installed(&mut self, client: &Client) {
        if self.to_begin.is_empty() {
            return;
        }
        let mut partitions = Partitions::default();
        for (partition, start) in &self.to_begin {
            partitions.add(&self.topic, *partition, *start);
        }
        if let Err(error) = client.seek(&partitions, Duration::from_millis(1_000)) {
            crate::log::warning("source", &format!("seeking: {error}"));
            return;
        }
        let mut resumed = Partitions::default();
        for entry in partitions.entries() {
            // An assignment that librdkafka has not begun yet can't seek: it is tried again.
            if entry.error == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                resumed.add(&self.topic, entry.partition, entry.offset);
            }
        }
        if let Err(error) = client.resume(&resumed) {
            crate::log::warning("source", &format!("resuming: {error}"));
            return;
        }
        for entry in resumed.entries() {
            self.to_begin.retain(|(partition, _)| *partition != entry.partition);
            if let Some(owned) = self.owned.get_mut(&entry.partition) {
                owned.running = true;
            }
            if let Some(report) = lock(&self.shared.kafka.owned).get_mut(&entry.partition) {
                report.phase = PartitionPhase::Running;
            }
        }
    }

    /// Times a rollback that is over.
    fn note_rollback(&mut self) {
        let running = self.owned.values().map(|owned| owned.running);
        if let Some(took) = self.rollback.end(Instant::now(), running) {
            self.shared.stats.rollbacks.record(took.as_nanos() as u64);
        }
    }

    /// Messages that may be taken now.
    fn room(&mut self, credit: u64) -> usize {
        let free_chunks = self.allocator.capacity().saturating_sub(self.allocator.in_use());
        let free_credit = credit.saturating_sub(self.lanes[LANE_EVENTS].in_use());
        let free_slots = self.lanes[LANE_EVENTS].free(BATCH as u64);
        free_chunks.min(free_credit).min(free_slots).min(BATCH as u64) as usize
    }

    /// Copies messages into the pool and publishes them together.
    fn ingest(&mut self, messages: &mut Vec<Message>) {
        let now = monotonic_nanoseconds();
        let mut taken = 0;
        for message in messages.drain(..) {
            let Some(owned) = self.owned.get(&message.partition()).copied().filter(|owned| owned.running)
            else {
                continue;
            };
            let base = Descriptor {
                source: self.source,
                partition: message.partition() as u32,
                epoch: owned.epoch,
                offset: message.offset(),
                ingested_at_nanoseconds: now,
                ..Descriptor::new(Kind::Event)
            };
            match message.error() {
                None => {
                    self.ingest_one(base, message.payload().unwrap_or_default());
                    taken += 1;
                }
                Some(Code::RD_KAFKA_RESP_ERR__PARTITION_EOF) => {
                    self.push(Descriptor { kind: Kind::EndOfPartition, ..base });
                }
                Some(error) => {
                    self.shared.counters.error("fetch");
                    let error = KafkaError { message: message.error_text(), ..KafkaError::from_code(error) };
                    if refusals::is_refusal(error.code, &self.shared.config) {
                        self.refused.insert(message.partition());
                        refuse(&self.shared, &error);
                        continue;
                    }
                    let text = format!("partition {}: {error} ({:?})", message.partition(), error.code);
                    crate::log::warning("source", &text);
                    continue;
                }
            }
            // It can be read again.
            if !self.refused.is_empty() {
                self.refused.remove(&message.partition());
            }
        }
        self.shared.counters.events_in.fetch_add(taken, Ordering::Relaxed);
        if self.lanes[LANE_EVENTS].publish() {
            self.shared.wake_for_events();
        }
    }

    fn ingest_one(&mut self, base: Descriptor, payload: &[u8]) {
        // Room for all messages of the batch was made sure of before they were taken.
        let Some(mut chunk) = self.allocator.allocate() else {
            self.shared.health.dead("the pool had no chunk for an event that was taken");
            return;
        };
        let pool = Arc::clone(self.allocator.pool());
        let bytes = pool.bytes_mut(&mut chunk);
        let allowed = bytes.len().min(self.payload_bytes_max);
        let length = payload.len().min(bytes.len());
        bytes[..length].copy_from_slice(&payload[..length]);
        let event = Descriptor {
            kind: Kind::Event,
            chunk: pool.send(chunk),
            length: length as u32,
            original_length: payload.len() as u32,
            ..base
        };
        if payload.len() <= allowed {
            self.push(event);
        } else {
            let routing = Descriptor::refused_at(allowed as u32);
            self.push(Descriptor { kind: Kind::Refused, reason: Reason::TooLarge as u8, routing, ..event });
        }
    }

    fn push(&mut self, mut descriptor: Descriptor) {
        let lane = &mut self.lanes[LANE_EVENTS];
        if let (Kind::Event, Some(feed)) = (descriptor.kind, &mut self.feed) {
            descriptor.kind = feed.offer(descriptor.chunk, descriptor.length, descriptor.source, lane);
        }
        if lane.push(descriptor).is_err() {
            self.shared.health.dead("the ring had no slot for an event that was taken");
        }
    }
}

/// Events that may wait in the ring.
pub fn credit(shared: &Shared) -> u64 {
    let slots = eventengine_core::ring::LANE_SLOTS[LANE_EVENTS] as u64;
    match shared.config.program.service_time_nanoseconds {
        0 => slots,
        service => (AHEAD.as_nanos() as u64 / service).clamp(16, slots),
    }
}

/// Runs the source until it is told to stop.
pub fn run(parts: Parts) {
    let shared = Arc::clone(&parts.shared);
    let Some((index, _, kafka)) = shared.config.kafka_source() else { return };
    let kafka = kafka.clone();
    let topic = CString::new(kafka.topic.as_str());
    let changelog = CString::new(shared.config.changelog.topic.as_str());
    let (Ok(topic), Ok(changelog)) = (topic, changelog) else {
        shared.health.dead("a topic's name contains a zero byte");
        return;
    };
    let Some(admin) = prepare_topics(&shared, &kafka) else { return };
    let admin = Arc::new(admin);
    let restorer = Arc::new(Restorer::default());
    let state = Arc::new(Mutex::new(State {
        shared: Arc::clone(&shared),
        payload_bytes_max: shared.config.payload.max_bytes,
        allocator: parts.allocator,
        lanes: parts.lanes,
        feed: parts.feed,
        restorer: Arc::clone(&restorer),
        topic: topic.clone(),
        messages: None,
        owned: BTreeMap::new(),
        to_begin: Vec::new(),
        joined: false,
        refused: BTreeSet::new(),
        next_epoch: 0,
        next_ticket: 0,
        generation: 0,
        rollback: RollbackTimer::default(),
        source: index as u8,
    }));
    let callbacks = Box::new(Callbacks(Arc::clone(&state)));
    let member = match Client::consumer(&consumer_properties(&kafka), Some(callbacks)) {
        Ok(client) => Arc::new(client),
        Err(error) => {
            shared.health.dead(format!("the consumer's properties can't be used: {error}"));
            return;
        }
    };
    *lock(&parts.member) = Some(Arc::clone(&member));
    let worker = Worker {
        shared: Arc::clone(&shared),
        restorer: Arc::clone(&restorer),
        admin: Arc::clone(&admin),
        member: Arc::clone(&member),
        properties: reader_properties(&kafka),
        source_topic: topic.clone(),
        changelog_topic: changelog,
        from_earliest: kafka.start_from == "earliest",
    };
    let lag_shared = Arc::clone(&shared);
    let lag_topic = topic.clone();
    std::thread::scope(|scope| {
        let restoring = std::thread::Builder::new().name("ee-restore".to_owned());
        let asking = std::thread::Builder::new().name("ee-lag".to_owned());
        let spawned = restoring
            .spawn_scoped(scope, || {
                allocation::count_as("ee-restore");
                worker.run();
            })
            .and(asking.spawn_scoped(scope, || {
                allocation::count_as("ee-lag");
                lag::run(&lag_shared, &admin, &lag_topic);
            }));
        match spawned {
            Ok(_) => consume(&shared, &state, &member, &topic),
            Err(error) => shared.health.dead(format!("no thread for the Kafka source: {error}")),
        }
        restorer.stop();
    });
    *lock(&parts.member) = None;
}

/// Finds and makes the topics, for as long as it takes. None if the engine stops first.
fn prepare_topics(shared: &Shared, kafka: &KafkaSource) -> Option<Client> {
    let mut backoff = Backoff::new();
    let properties = client_properties(&kafka.bootstrap_servers, &security_properties(&kafka.properties));
    shared.health.not_ready("source", "looking for the topics");
    while !shared.stop_sources.load(Ordering::Relaxed) {
        let admin = match Client::consumer(&properties, None) {
            Ok(admin) => admin,
            Err(error) => {
                shared.health.dead(format!("the consumer's properties can't be used: {error}"));
                return None;
            }
        };
        match prepare(&admin, &shared.config, kafka) {
            Ok(partitions) => {
                shared.kafka.partitions_total.store(partitions, Ordering::Relaxed);
                shared.kafka.saw_broker();
                shared.health.not_ready("source", "waiting for partitions of the consumer group");
                return Some(admin);
            }
            Err(TopicError::Passing(error)) => {
                shared.counters.error("topics");
                refuse(shared, &admin.explain(error));
            }
            Err(TopicError::Wrong(reason)) => {
                shared.counters.error("topics");
                shared.health.not_ready("source", reason);
            }
        }
        shared.pause(backoff.pause(), &shared.stop_sources);
    }
    None
}

/// The source's loop.
fn consume(shared: &Arc<Shared>, state: &Arc<Mutex<State>>, member: &Arc<Client>, topic: &CString) {
    let begun = member.forward_main_to_consumer().and_then(|()| member.consumer_queue());
    let events = match begun {
        Ok(queue) => queue,
        Err(error) => {
            shared.health.dead(format!("the consumer has no queue: {error}"));
            return;
        }
    };
    let messages = Arc::new(Mutex::new(member.new_queue()));
    lock(state).messages = Some(Arc::clone(&messages));
    if let Err(error) = member.subscribe(topic) {
        shared.health.dead(format!("subscribing: {error}"));
        return;
    }
    let credit = credit(shared);
    let mut batch = Vec::with_capacity(BATCH);
    let mut checked = Instant::now() - HEALTH_INTERVAL;
    while !shared.stop_sources.load(Ordering::Relaxed) {
        serve_events(shared, &events, &mut batch, Duration::ZERO);
        let (room, well) = {
            let mut state = lock(state);
            if shared.requested_generation() > state.generation {
                state.reset(member);
            }
            let restored = state.restorer.take_results();
            restored.into_iter().for_each(|restored| state.install(restored));
            state.begin_installed(member);
            state.note_rollback();
            (state.room(credit), state.joined && state.refused.is_empty())
        };
        if well && checked.elapsed() >= HEALTH_INTERVAL {
            checked = Instant::now();
            report_health(shared, member);
        }
        if room == 0 {
            serve_events(shared, &events, &mut batch, Duration::from_millis(2));
            continue;
        }
        lock(&messages).take(Duration::from_millis(20), room, &mut batch);
        if !batch.is_empty() {
            lock(state).ingest(&mut batch);
        }
    }
    leave(shared, state, member);
    lock(state).messages = None;
}

/// Ready while a broker answers: an idle engine can tell by nothing else.
fn report_health(shared: &Shared, member: &Client) {
    if shared.kafka.connected() {
        shared.health.ready("source");
        return;
    }
    let error = member
        .take_last_error()
        .unwrap_or_else(|| KafkaError::other("no request was answered for seconds".to_owned()));
    shared.health.not_ready_yet("source", sentence(shared, &error));
}

/// Says that the brokers refuse what the source needs, and what to do about it.
fn refuse(shared: &Shared, error: &KafkaError) {
    shared.health.not_ready("source", sentence(shared, error));
}

fn sentence(shared: &Shared, error: &KafkaError) -> String {
    refusals::sentence(&shared.config.source_brokers(), error, &shared.config)
}

/// Runs rebalances and notes errors. Messages in this queue are of partitions that were not forwarded yet, and read again.
fn serve_events(shared: &Shared, events: &Queue, batch: &mut Vec<Message>, wait: Duration) {
    events.take(wait, BATCH, batch);
    for message in batch.drain(..) {
        let Some(error) = message.error() else { continue };
        if error == Code::RD_KAFKA_RESP_ERR__PARTITION_EOF {
            continue;
        }
        shared.counters.error("consumer");
        let error = KafkaError { message: message.error_text(), ..KafkaError::from_code(error) };
        if refusals::is_refusal(error.code, &shared.config) {
            refuse(shared, &error);
        } else {
            crate::log::warning("source", &format!("{error} ({:?})", error.code));
        }
    }
}

/// Applies what was fetched, for a part of the time there is, then gives everything up.
fn leave(shared: &Shared, state: &Arc<Mutex<State>>, member: &Client) {
    shared.health.not_ready("source", "the engine is stopping");
    let drain =
        Duration::from_millis(shared.config.drain_timeout_milliseconds / 4).min(Duration::from_secs(5));
    let deadline = Instant::now() + drain;
    while lock(state).lanes[LANE_EVENTS].in_use() > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    if let Err(error) = member.close() {
        crate::log::warning("source", &format!("leaving the group: {error}"));
    }
}

/// Properties of the group member.
fn consumer_properties(kafka: &KafkaSource) -> Properties {
    let mut properties = client_properties(&kafka.bootstrap_servers, &kafka.properties);
    for (name, value) in [
        ("group.id", kafka.group_id.as_str()),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("isolation.level", "read_committed"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
    ] {
        properties.insert(name.to_owned(), value.to_owned());
    }
    for (name, value) in [
        ("auto.offset.reset", kafka.start_from.as_str()),
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "2000"),
        ("max.poll.interval.ms", "60000"),
        ("queued.max.messages.kbytes", "16384"),
        ("queued.min.messages", "20000"),
        ("fetch.message.max.bytes", "524288"),
        ("fetch.wait.max.ms", "100"),
        ("fetch.error.backoff.ms", "100"),
    ] {
        properties.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    properties
}

/// Properties of the consumer that reads changelogs: a group name that nothing is ever committed for.
fn reader_properties(kafka: &KafkaSource) -> Properties {
    let mut properties = client_properties(&kafka.bootstrap_servers, &security_properties(&kafka.properties));
    for (name, value) in [
        ("group.id", format!("{}-restore", kafka.group_id)),
        ("isolation.level", "read_committed".to_owned()),
        ("enable.auto.commit", "false".to_owned()),
        ("enable.auto.offset.store", "false".to_owned()),
        ("enable.partition.eof", "true".to_owned()),
        ("auto.offset.reset", "earliest".to_owned()),
        ("queued.max.messages.kbytes", "16384".to_owned()),
        ("fetch.wait.max.ms", "50".to_owned()),
        ("fetch.error.backoff.ms", "100".to_owned()),
    ] {
        properties.insert(name.to_owned(), value);
    }
    properties
}
