//! One engine: what it allocates, which threads it runs, how it stops.
//!
//! Owns the order of start and stop. Start: sampling, core, publisher, sources. Stop:
//! sources leave first and have everything applied committed, then the pipeline ends,
//! then sampling.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eventengine_core::core::{PARTITIONS, Parts as CoreParts};
use eventengine_core::cut::{CutReader, exchange};
use eventengine_core::executor::Feeds;
use eventengine_core::pool::{Allocator, Pool};
use eventengine_core::ring::{Consumer, LANE_EVENTS, LANE_SLOTS, LANES, Producer, RING_SLOTS, lanes, ring};
use eventengine_core::stats::CoreStats;

use crate::affinity::{self, Placement};
use crate::config::{Config, Identity};
use crate::direct::{Bell, Replies};
use crate::executors::{Body, Machine};
use crate::heap_profile::HeapProfiles;
use crate::kafka::publisher::{self, Member, Publisher};
use crate::kafka::source;
use crate::machine;
use crate::shared::{RingReport, Shared, lock};
use crate::snapshot::{Kept, Sampler};
use crate::window::Closed;
use crate::{Error, allocation, clock, executors, log, metrics, snapshot, tcp};

/// After-images that one cut has room for; the core waits for a commit when they are used up.
pub(crate) const CUT_RECORDS: usize = 8192;

/// What is made at construction and moves into the threads at the start.
struct Prepared {
    core: Body,
    workers: Vec<Body>,
    publish: Consumer,
    cut: CutReader,
    kafka: Option<(Allocator, [Producer; LANES])>,
    feeds: Feeds,
    direct: Option<Direct>,
    replies: Replies,
    heap_profiles: Option<HeapProfiles>,
}

/// What the thread of the TCP sources gets.
struct Direct {
    allocator: Allocator,
    lanes: [Producer; LANES],
    outcomes: Consumer,
    bell: Arc<Bell>,
}

/// One engine.
pub struct Engine {
    shared: Arc<Shared>,
    observer: Observer,
    prepared: Option<Prepared>,
    threads: Threads,
}

#[derive(Default)]
struct Threads {
    sources: Vec<JoinHandle<()>>,
    pipeline: Vec<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

/// Reads an engine's figures from any thread.
#[derive(Clone)]
pub struct Observer {
    sampler: Arc<Sampler>,
    kept: Arc<Kept>,
    closed: Arc<Mutex<Closed>>,
    placement: Arc<Placement>,
}

impl Engine {
    /// Checks configuration and identity, and allocates everything.
    pub fn new(config_json: &str, identity_json: &str) -> Result<Engine, Error> {
        let config = Config::parse(config_json)?;
        let identity = Identity::parse(identity_json)?;
        let heap_profiles = HeapProfiles::begin(&config.monitoring, &identity.pod)?;
        let placement = executors::place(&config, &identity)?;
        let has_kafka = config.kafka_source().is_some();
        let has_tcp = config.tcp_sources().next().is_some();
        let io_threads = (u32::from(has_kafka) + u32::from(has_tcp)).max(1);
        let (pool, mut allocators) =
            Pool::new(config.buffer_pool.chunk_bytes, config.buffer_pool.chunks, io_threads);
        let stats = Arc::new(CoreStats::new(PARTITIONS));
        stats.stalls.set_limit(config.monitoring.stall_alert_nanoseconds);
        stats.rollbacks.set_limit(config.monitoring.rollback_sla_nanoseconds);
        let mut rings = Vec::new();
        let mut inputs = Vec::new();
        let mut kafka = None;
        if has_kafka && let Some(allocator) = allocators.pop() {
            let (producers, consumers) = lanes();
            rings.push(RingReport {
                name: "ingest".to_owned(),
                lanes: producers.iter().map(Producer::gauge).collect(),
                bound: LANE_SLOTS[LANE_EVENTS],
            });
            inputs.push(consumers);
            kafka = Some((allocator, producers));
        }
        let mut direct = None;
        let mut replies = Replies::default();
        if has_tcp && let Some(allocator) = allocators.pop() {
            let (producers, consumers) = lanes();
            let name = if has_kafka { "ingest-direct" } else { "ingest" };
            rings.push(RingReport {
                name: name.to_owned(),
                lanes: producers.iter().map(Producer::gauge).collect(),
                bound: tcp::CREDIT as usize,
            });
            inputs.push(consumers);
            // One slot for each chunk that a direct event may hold.
            let (settled, outcomes) = ring((pool.chunks() as usize).next_power_of_two().min(RING_SLOTS));
            let bell = Bell::new().map_err(|error| Error::Engine(format!("no eventfd: {error}")))?;
            let bell = Arc::new(bell);
            replies = Replies::new(settled, Arc::clone(&bell));
            direct = Some(Direct { allocator, lanes: producers, outcomes, bell });
        }
        let (publish_producer, publish) = ring(RING_SLOTS);
        rings.push(RingReport {
            name: "publish".to_owned(),
            lanes: vec![publish_producer.gauge()],
            bound: RING_SLOTS,
        });
        let (cut_writer, cut) = exchange(PARTITIONS, CUT_RECORDS);
        let mut shared = Shared::new(config, identity, Arc::clone(&pool), Arc::clone(&stats), rings);
        if has_kafka {
            shared.rings[0].bound = source::credit(&shared) as usize;
        }
        let machine = machine::make(
            &shared.config,
            &placement,
            CoreParts {
                pool,
                inputs,
                publish: publish_producer,
                cut: cut_writer,
                cut_records: CUT_RECORDS,
                cut_requested: Arc::clone(&shared.cut_requested),
                stats,
            },
        )?;
        let Machine { core, workers, feeds, reports } = machine;
        shared.workers = reports;
        let shared = Arc::new(shared);
        shared.health.not_ready("engine", "it has not been started");
        let observer = Observer {
            sampler: Arc::new(Sampler::new(&shared, &placement)),
            kept: Arc::new(Mutex::new(VecDeque::new())),
            closed: Arc::default(),
            placement: Arc::new(placement),
        };
        let prepared =
            Some(Prepared { core, workers, publish, cut, kafka, feeds, direct, replies, heap_profiles });
        Ok(Engine { shared, observer, prepared, threads: Threads::default() })
    }

    /// Starts the threads. Once only.
    pub fn start(&mut self) -> Result<(), Error> {
        if self.prepared.is_none() {
            return Err(Error::Engine("an engine is started once; make a new one".to_owned()));
        }
        let listening = self
            .shared
            .config
            .tcp_sources()
            .map(|(index, _, tcp)| tcp::listen(index, tcp))
            .collect::<Result<Vec<_>, _>>()?;
        let Some(prepared) = self.prepared.take() else { return Ok(()) };
        let placement = Arc::clone(&self.observer.placement);
        if placement.core.is_some_and(|cpu| !placement.others.contains(&cpu)) {
            // All threads that are there make way, and those that they start inherit that.
            if !affinity::bind_process(&placement.others) {
                log::warning("engine", "the other threads could not be bound beside the core thread's CPU");
            }
        }
        if self.shared.config.kafka_source().is_some() {
            self.shared.health.not_ready("source", "looking for the topics");
        }
        if self.shared.config.kafka_source().is_some() || self.shared.config.kafka_sink().is_some() {
            let brokers = self.shared.config.output_brokers();
            self.shared.health.not_ready("publisher", format!("connecting to {brokers}"));
        }
        let member = Member::default();
        let shared = Arc::clone(&self.shared);
        let observer = self.observer.clone();
        self.threads.others.push(spawn("ee-sampler", move || {
            snapshot::run(&shared, &observer.sampler, &observer.kept, &observer.closed);
        })?);
        if let Some(profiles) = prepared.heap_profiles {
            let shared = Arc::clone(&self.shared);
            self.threads.others.push(spawn("ee-heap-profile", move || profiles.run(&shared))?);
        }
        let (shared, core_placement) = (Arc::clone(&self.shared), Arc::clone(&placement));
        self.threads.pipeline.push(spawn("ee-core", move || {
            (prepared.core)(&shared, &core_placement);
        })?);
        for body in prepared.workers {
            let (shared, placement) = (Arc::clone(&self.shared), Arc::clone(&placement));
            self.threads.pipeline.push(spawn("ee-worker", move || body(&shared, &placement))?);
        }
        let mut feeds = prepared.feeds;
        let parts = publisher::Parts {
            shared: Arc::clone(&self.shared),
            ring: prepared.publish,
            cut: prepared.cut,
            member: Arc::clone(&member),
            replies: prepared.replies,
        };
        self.threads.pipeline.push(spawn("ee-publisher", move || Publisher::new(parts).run())?);
        if let Some((allocator, lanes)) = prepared.kafka {
            let shared = Arc::clone(&self.shared);
            let parts = source::Parts { shared, allocator, lanes, feed: feeds.pop(), member };
            self.threads.sources.push(spawn("ee-source", move || source::run(parts))?);
        }
        if let Some(Direct { allocator, lanes, outcomes, bell }) = prepared.direct {
            let shared = Arc::clone(&self.shared);
            let parts = tcp::Parts { shared, allocator, lanes, feed: feeds.pop(), outcomes, bell, listening };
            self.threads.sources.push(spawn("ee-tcp", move || tcp::run(parts))?);
        }
        self.shared.health.ready("engine");
        Ok(())
    }

    /// Stops in order; true if everything applied was committed and all threads ended in time.
    pub fn stop(&mut self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        let shared = &self.shared;
        shared.health.not_ready("engine", "it is stopping");
        let uncommitted_before = uncommitted(shared);
        shared.stop_sources.store(true, Ordering::Release);
        let mut clean = join_until(&mut self.threads.sources, end);
        clean &= self.prepared.is_some() || wait_settled(shared, end);
        clean &= uncommitted(shared) == uncommitted_before;
        shared.stop_pipeline.store(true, Ordering::Release);
        shared.wake_for_events();
        shared.publisher_waker.wake();
        clean &= join_until(&mut self.threads.pipeline, end.max(Instant::now() + Duration::from_millis(200)));
        shared.stop_all.store(true, Ordering::Release);
        clean
    }

    /// A reader of the engine's figures.
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for stop in [&self.shared.stop_sources, &self.shared.stop_pipeline, &self.shared.stop_all] {
            stop.store(true, Ordering::Release);
        }
        self.shared.wake_for_events();
        self.shared.publisher_waker.wake();
    }
}

impl Observer {
    /// The sample closed at a second, or the latest.
    pub fn snapshot(&self, at_seconds: Option<i64>) -> Option<Vec<u8>> {
        let kept = lock(&self.kept);
        let found = match at_seconds {
            None => kept.back(),
            Some(wanted) => kept.iter().find(|(seconds, _)| *seconds == wanted),
        };
        found.map(|(_, json)| json.as_ref().clone())
    }

    /// Prometheus text of now.
    pub fn metrics(&self) -> String {
        let closed = lock(&self.closed).clone();
        metrics::render(&self.sampler.sample(clock::wall_seconds(), closed))
    }

    /// `{"ready", "live", "reasons"}`.
    pub fn readiness_json(&self) -> String {
        serde_json::to_string(&self.sampler.readiness()).unwrap_or_else(|_| "{}".to_owned())
    }
}

pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let counted = name.to_owned();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            allocation::count_as(&counted);
            body();
        })
        .map_err(|error| Error::Engine(format!("the thread {name} could not be started: {error}")))
}

fn uncommitted(shared: &Shared) -> u64 {
    shared.counters.errors().get("revoked_uncommitted").copied().unwrap_or(0)
}

/// Waits until nothing is left between the rings and a committed transaction.
fn wait_settled(shared: &Shared, end: Instant) -> bool {
    loop {
        let empty = shared.rings.iter().flat_map(|ring| &ring.lanes).all(|lane| lane.in_use() == 0);
        let applied = !shared.stats.uncut.load(Ordering::Acquire) || shared.config.kafka_source().is_some();
        if empty && applied && shared.publisher_settled.load(Ordering::Acquire) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn join_until(threads: &mut Vec<JoinHandle<()>>, end: Instant) -> bool {
    while threads.iter().any(|thread| !thread.is_finished()) {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    threads.drain(..).map(JoinHandle::join).fold(true, |clean, joined| clean & joined.is_ok())
}
