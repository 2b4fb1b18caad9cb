//! The snapshot: one sample of everything, closed on each whole second.
//!
//! Owns the sampling thread, the JSON form (version 1, defined by the contract) and the
//! ten samples that are kept. Figures that could not be refreshed are null.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eventengine_core::histogram::Counts;
use eventengine_core::parse::Reason;
use eventengine_core::watch::DurationWatch;
use serde::Serialize;

use crate::affinity::{self, Placement};
use crate::alerts::AlertPart;
use crate::config::PayloadForm;
use crate::growth::GrowthPart;
use crate::kafka::lag::FRESH;
use crate::shared::{PartitionPhase, Readiness, Shared, lock};
use crate::system::{self, PressurePart};
use crate::window::{Closed, LatencyPart, ThreadPart, Window};
use crate::{allocation, clock};

/// Samples that are kept, one a second; latencies are those of this window.
pub const SAMPLES_KEPT: usize = 10;

/// Bounds of the histograms of stalls and rollbacks.
pub const WATCH_BOUNDS_NANOSECONDS: [u64; 10] = [
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    50_000_000,
    200_000_000,
    1_000_000_000,
    10_000_000_000,
];

#[derive(Debug, Clone, Serialize)]
pub struct IdentityPart {
    engine: String,
    namespace: String,
    pod: String,
    incarnation: String,
    build: &'static str,
    started_at_seconds: i64,
}

#[derive(Debug, Clone, Serialize)]
pub struct PoolPart {
    pub chunks: u64,
    pub chunk_bytes: u64,
    pub in_use: u64,
    pub high_water: u64,
    pub utilisation: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct RingPart {
    pub name: String,
    pub slots: u64,
    pub bound: u64,
    pub in_use: u64,
    pub high_water: u64,
    pub utilisation: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct ArenaPart {
    pub slots: u64,
    pub slot_bytes: u64,
    pub in_use: u64,
    pub utilisation: f64,
    pub fragmentation: f64,
    pub fragmentation_crossings: u64,
    pub moved_slots: u64,
    pub tenants: Vec<TenantPart>,
}

#[derive(Debug, Clone, Serialize)]
pub struct IdentifiersPart {
    pub capacity: u64,
    pub in_use: u64,
    pub hits: u64,
    pub misses: u64,
    pub expired: u64,
    pub evicted: u64,
    pub lookup_p50_nanoseconds: u64,
    pub lookup_p99_nanoseconds: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct TenantPart {
    pub source: String,
    pub reserved: u64,
    pub in_use: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct PartitionPart {
    pub partition: i32,
    pub state: &'static str,
    pub assigned_at_seconds: i64,
    pub position: Option<i64>,
    pub last_stable_offset: Option<i64>,
    pub lag_events: Option<i64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct SourcePart {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub topic: Option<String>,
    pub group: Option<String>,
    pub partitions_total: usize,
    pub connected: bool,
    pub partitions: Vec<PartitionPart>,
}

#[derive(Debug, Clone, Serialize)]
pub struct AllocatorPart {
    pub allocated_bytes: Option<u64>,
    pub active_bytes: Option<u64>,
    pub resident_bytes: Option<u64>,
    pub retained_bytes: Option<u64>,
    pub core_thread_allocated_bytes: Option<u64>,
    pub threads: Vec<ThreadPart>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ProcessPart {
    pub rss_bytes: Option<u64>,
    pub rss_growth: Option<GrowthPart>,
    pub memory_limit_bytes: Option<u64>,
    pub cpu_set: String,
    pub cpu_limit_millicores: Option<u64>,
    pub pinning: String,
    pub pinned: bool,
    pub exclusive: bool,
    pub core_thread_cpu: Option<u32>,
}

#[derive(Debug, Clone, Serialize)]
pub struct WorkersPart {
    pub threads: usize,
    pub pinned: usize,
    pub parsed_events: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct CountersPart {
    pub events_in: u64,
    pub events_applied: u64,
    pub outputs_committed: u64,
    pub transactions_committed: u64,
    pub transactions_aborted: u64,
    pub heap_profiles_written: u64,
    pub dead_letters: BTreeMap<&'static str, u64>,
    /// By source.
    pub parser_fallbacks: BTreeMap<String, u64>,
    /// By class.
    pub shed: BTreeMap<String, u64>,
    /// By source and class.
    pub shed_by_source: BTreeMap<String, BTreeMap<String, u64>>,
    pub errors: BTreeMap<&'static str, u64>,
}

/// A kind of duration that has a limit.
#[derive(Debug, Clone, Serialize)]
pub struct WatchPart {
    pub limit_nanoseconds: u64,
    pub count: u64,
    pub over_limit: u64,
    pub total_nanoseconds: u64,
    pub longest_nanoseconds: u64,
    /// How many did not exceed each of [`WATCH_BOUNDS_NANOSECONDS`].
    #[serde(skip)]
    pub within: [u64; WATCH_BOUNDS_NANOSECONDS.len()],
}

impl WatchPart {
    fn of(watch: &DurationWatch) -> WatchPart {
        let (count, within) = watch.cumulative(&WATCH_BOUNDS_NANOSECONDS);
        WatchPart {
            limit_nanoseconds: watch.limit(),
            count,
            over_limit: watch.over_limit(),
            total_nanoseconds: watch.total(),
            longest_nanoseconds: watch.longest(),
            within,
        }
    }
}

/// One sample.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    version: u32,
    sampled_at: String,
    sampled_at_seconds: i64,
    pub identity: IdentityPart,
    pub readiness: Readiness,
    pub buffer_pool: PoolPart,
    pub rings: Vec<RingPart>,
    pub arena: ArenaPart,
    pub identifiers: IdentifiersPart,
    pub sources: Vec<SourcePart>,
    pub allocator: AllocatorPart,
    pub process: ProcessPart,
    pub workers: WorkersPart,
    pub pressure: PressurePart,
    pub stalls: WatchPart,
    pub rollbacks: WatchPart,
    pub alerts: BTreeMap<&'static str, AlertPart>,
    pub counters: CountersPart,
    pub latency: LatencyPart,
}

impl Sample {
    /// Engine and pod, the labels of every metric.
    pub fn identity_labels(&self) -> (String, String) {
        (self.identity.engine.clone(), self.identity.pod.clone())
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Makes samples.
pub struct Sampler {
    shared: Arc<Shared>,
    placement: Placement,
    online_cpus: Option<usize>,
}

impl Sampler {
    /// A sampler of one engine.
    pub fn new(shared: &Arc<Shared>, placement: &Placement) -> Sampler {
        Sampler {
            shared: Arc::clone(shared),
            placement: placement.clone(),
            online_cpus: system::online_cpus(),
        }
    }

    /// A sample of now, labelled with a second. What takes more than one reading comes from the one who keeps the window.
    pub fn sample(&self, seconds: i64, closed: Closed) -> Sample {
        let shared = &self.shared;
        let identity = &shared.identity;
        Sample {
            version: 1,
            sampled_at: clock::rfc3339(seconds),
            sampled_at_seconds: seconds,
            identity: IdentityPart {
                engine: identity.engine.clone(),
                namespace: identity.namespace.clone(),
                pod: identity.pod.clone(),
                incarnation: identity.incarnation.clone(),
                build: crate::VERSION,
                started_at_seconds: shared.started_at_seconds,
            },
            readiness: self.readiness(),
            buffer_pool: self.pool(),
            rings: self.rings(),
            arena: self.arena(),
            identifiers: self.identifiers(),
            sources: self.sources(),
            allocator: self.allocator(closed.threads),
            process: self.process(closed.growth),
            workers: self.workers(),
            pressure: system::pressure(),
            stalls: WatchPart::of(&shared.stats.stalls),
            rollbacks: WatchPart::of(&shared.stats.rollbacks),
            alerts: shared.alerts.parts(),
            counters: self.counters(),
            latency: closed.latency,
        }
    }

    /// Health, with what only this side knows: whether the core is pinned as it must be.
    pub fn readiness(&self) -> Readiness {
        let mut readiness = self.shared.health.readiness();
        let process = self.process(None);
        if process.pinning == "Required" && !process.exclusive {
            let limit = process.cpu_limit_millicores.map_or("none".to_owned(), |limit| format!("{limit}m"));
            readiness.ready = false;
            readiness.reasons.push(format!(
                "pinning: Required, but no exclusive core: CPUs {} with a CPU limit of {limit}; \
                 it needs a Guaranteed pod with an integer CPU limit and the static CPU manager",
                process.cpu_set
            ));
        } else if process.pinning == "Required" && !process.pinned {
            readiness.ready = false;
            readiness
                .reasons
                .push("pinning: the core thread or a worker could not be bound to its CPU".to_owned());
        }
        readiness
    }

    fn pool(&self) -> PoolPart {
        let pool = &self.shared.pool;
        let (chunks, in_use) = (u64::from(pool.chunks()), pool.in_use());
        PoolPart {
            chunks,
            chunk_bytes: pool.chunk_bytes() as u64,
            in_use,
            high_water: pool.high_water(),
            utilisation: ratio(in_use, chunks).min(1.0),
        }
    }

    fn rings(&self) -> Vec<RingPart> {
        let rings = self.shared.rings.iter().map(|ring| {
            let in_use: u64 = ring.lanes.iter().map(|lane| lane.in_use()).sum();
            let bound = ring.bound as u64;
            RingPart {
                name: ring.name.clone(),
                slots: ring.lanes.iter().map(|lane| lane.slots() as u64).sum(),
                bound,
                in_use,
                high_water: ring.lanes.iter().map(|lane| lane.high_water()).sum(),
                utilisation: ratio(in_use, bound).min(1.0),
            }
        });
        rings.collect()
    }

    fn arena(&self) -> ArenaPart {
        let slots = u64::from(self.shared.config.arena.capacity);
        let in_use = self.shared.stats.arena_in_use.get();
        ArenaPart {
            slots,
            slot_bytes: eventengine_core::arena::SLOT_BYTES as u64,
            in_use,
            utilisation: ratio(in_use, slots).min(1.0),
            fragmentation: self.shared.stats.arena_fragmentation_millionths.get() as f64 / 1e6,
            fragmentation_crossings: self.shared.stats.arena_fragmented.get(),
            moved_slots: self.shared.stats.arena_moved.get(),
            tenants: self.tenants(),
        }
    }

    /// Whom events came from lately; look-up times are those since the start.
    fn identifiers(&self) -> IdentifiersPart {
        let stats = &self.shared.stats.identifiers;
        let mut lookup = Counts::default();
        stats.lookup.read(&mut lookup);
        IdentifiersPart {
            capacity: stats.capacity.get(),
            in_use: stats.in_use.get(),
            hits: stats.hits.get(),
            misses: stats.misses.get(),
            expired: stats.expired.get(),
            evicted: stats.evicted.get(),
            lookup_p50_nanoseconds: lookup.quantile(0.5),
            lookup_p99_nanoseconds: lookup.quantile(0.99),
        }
    }

    /// What each source holds of the arena; empty where the sources share it without bounds.
    fn tenants(&self) -> Vec<TenantPart> {
        let quotas = self.shared.config.quotas();
        let tenants = self.shared.config.sources.iter().zip(&quotas).zip(&self.shared.stats.arena_in_use_by);
        let tenants = tenants.map(|((source, quota), in_use)| TenantPart {
            source: source.name.clone(),
            reserved: u64::from(quota.reserved),
            in_use: in_use.get(),
        });
        tenants.collect()
    }

    fn sources(&self) -> Vec<SourcePart> {
        let shared = &self.shared;
        let sources = shared.config.sources.iter().map(|source| match &source.kafka {
            Some(kafka) => SourcePart {
                name: source.name.clone(),
                kind: source.kind.clone(),
                topic: Some(kafka.topic.clone()),
                group: Some(kafka.group_id.clone()),
                partitions_total: shared.kafka.partitions_total.load(Ordering::Relaxed),
                connected: shared.kafka.connected(),
                partitions: self.partitions(),
            },
            None => SourcePart {
                name: source.name.clone(),
                kind: source.kind.clone(),
                topic: None,
                group: None,
                partitions_total: 0,
                connected: true,
                partitions: Vec::new(),
            },
        });
        sources.collect()
    }

    fn partitions(&self) -> Vec<PartitionPart> {
        let owned = lock(&self.shared.kafka.owned).clone();
        let stable = lock(&self.shared.kafka.stable).clone();
        let partitions = owned.into_iter().map(|(partition, report)| {
            let fresh = stable.get(&partition).filter(|stable| stable.at.elapsed() < FRESH);
            let last_stable_offset = fresh.map(|stable| stable.offset);
            // Position and end are of one moment; without an end the position of now is told.
            let now = || self.shared.stats.position(partition as usize).or(report.start);
            let position = fresh.and_then(|stable| stable.position).or_else(now);
            let lag = last_stable_offset.zip(position).map(|(end, position)| (end - position).max(0));
            PartitionPart {
                partition,
                state: match report.phase {
                    PartitionPhase::Restoring => "restoring",
                    PartitionPhase::Running => "running",
                },
                assigned_at_seconds: report.assigned_at_seconds,
                position,
                last_stable_offset,
                lag_events: lag,
            }
        });
        partitions.collect()
    }

    fn allocator(&self, threads: Vec<ThreadPart>) -> AllocatorPart {
        let figures = allocation::figures();
        AllocatorPart {
            allocated_bytes: figures.allocated,
            active_bytes: figures.active,
            resident_bytes: figures.resident,
            retained_bytes: figures.retained,
            core_thread_allocated_bytes: self.shared.stats.thread_allocated_bytes(),
            threads,
        }
    }

    fn workers(&self) -> WorkersPart {
        let workers = &self.shared.workers;
        WorkersPart {
            threads: workers.len(),
            pinned: workers.iter().filter(|worker| worker.cpu_plus_one.load(Ordering::Relaxed) > 0).count(),
            parsed_events: workers.iter().map(|worker| worker.parsed.get()).sum(),
        }
    }

    fn process(&self, growth: Option<GrowthPart>) -> ProcessPart {
        let identity = &self.shared.identity;
        let cpu = self.shared.stats.cpu_plus_one.load(Ordering::Relaxed).checked_sub(1);
        // An unbound process may be moved by its container manager; a bound one keeps what it began with.
        let cpus = match self.placement.core {
            Some(_) => self.placement.allowed.clone(),
            None => affinity::allowed_cpus(),
        };
        let allowed = cpus.len();
        let workers = self.workers();
        let pinned = cpu.is_some() && workers.pinned == workers.threads;
        ProcessPart {
            rss_bytes: system::rss_bytes(),
            rss_growth: growth,
            memory_limit_bytes: identity.memory_limit_bytes,
            cpu_set: affinity::list_format(&cpus),
            cpu_limit_millicores: identity.cpu_limit_millicores,
            pinning: identity.pinning.clone(),
            pinned,
            exclusive: pinned
                && system::exclusive(
                    &identity.pinning,
                    allowed,
                    identity.cpu_limit_millicores,
                    self.online_cpus,
                ),
            core_thread_cpu: cpu,
        }
    }

    /// Sheddable classes of every direct source, zeros included: they were measured.
    fn shed_by_source(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let shared = &self.shared;
        let first = usize::from(shared.config.shedding.priority_at_least);
        let classes = |index: usize| {
            let counts = shared.counters.shed[index].iter().enumerate().skip(first);
            counts.map(|(class, count)| (class.to_string(), count.load(Ordering::Relaxed))).collect()
        };
        let direct = shared.config.tcp_sources();
        direct.map(|(index, source, _)| (source.name.clone(), classes(index))).collect()
    }

    fn counters(&self) -> CountersPart {
        let shared = &self.shared;
        let stats = &shared.stats;
        let dead_letters = Reason::ALL
            .into_iter()
            .map(|reason| (reason.as_str(), stats.refused[reason as usize].get()))
            .filter(|(_, count)| *count > 0)
            .collect();
        let mut errors = shared.counters.errors();
        for (name, count) in
            [("stale_events", stats.stale.get()), ("restore_records", stats.restore_failures.get())]
        {
            if count > 0 {
                errors.insert(name, count);
            }
        }
        let shed_by_source = self.shed_by_source();
        let fallbacks = shared.config.sources.iter().enumerate();
        CountersPart {
            events_in: shared.counters.events_in.load(Ordering::Relaxed),
            events_applied: stats.applied.get(),
            outputs_committed: shared.counters.outputs_committed.load(Ordering::Relaxed),
            transactions_committed: shared.counters.transactions_committed.load(Ordering::Relaxed),
            transactions_aborted: shared.counters.transactions_aborted.load(Ordering::Relaxed),
            heap_profiles_written: shared.counters.heap_profiles_written.load(Ordering::Relaxed),
            dead_letters,
            parser_fallbacks: fallbacks
                .filter(|(_, source)| source.payload == PayloadForm::Auto)
                .map(|(index, source)| (source.name.clone(), stats.parser_fallbacks.of(index)))
                .collect(),
            shed: sum_by_class(&shed_by_source),
            shed_by_source,
            errors,
        }
    }
}

/// Totals of the classes over the sources.
fn sum_by_class(by_source: &BTreeMap<String, BTreeMap<String, u64>>) -> BTreeMap<String, u64> {
    let mut total = BTreeMap::new();
    for (class, count) in by_source.values().flatten() {
        *total.entry(class.clone()).or_default() += count;
    }
    total
}

/// The last samples, as JSON, by second.
pub type Kept = Mutex<VecDeque<(i64, Arc<Vec<u8>>)>>;

/// Closes a sample on each whole second until the engine stops.
pub fn run(shared: &Arc<Shared>, sampler: &Sampler, kept: &Kept, latest: &Mutex<Closed>) {
    let mut window = Window::new(shared, Instant::now());
    while !shared.stop_all.load(Ordering::Relaxed) {
        let now = clock::wall_nanoseconds();
        let into_second = (now % 1_000_000_000) as u64;
        std::thread::sleep(Duration::from_nanos(1_000_000_000 - into_second));
        let seconds = clock::wall_seconds();
        let closed = window.close(shared, seconds, Instant::now());
        *lock(latest) = closed.clone();
        let Ok(json) = serde_json::to_vec(&sampler.sample(seconds, closed)) else { continue };
        let mut kept = lock(kept);
        if kept.back().is_some_and(|(last, _)| *last == seconds) {
            // The clock was set back, or the sleep ended early: a second has one sample.
            kept.pop_back();
        }
        kept.push_back((seconds, Arc::new(json)));
        if kept.len() > SAMPLES_KEPT {
            kept.pop_front();
        }
    }
}
