//! The in-process source and sink: the caller's own thread is the I/O thread of an engine.
//!
//! Owns one pool, one set of lanes, the core thread and the executor's workers; there is no publisher and no
//! sampler. The caller offers events, makes them visible, and takes the outcomes, all on
//! one thread. Nothing here blocks: whoever finds no room comes back later. What comes nearest to it is a rest, which the
//! caller asks for when it has nothing to do, and which sometimes is a nap of some 50 microseconds.
//!
//! Events are direct ones: their state lives in memory only, their order holds per
//! priority, and every one that was taken has exactly one outcome.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use eventengine_core::core::{DIRECT_BASE, PARTITIONS, Parts};
use eventengine_core::cut::{CutReader, exchange};
use eventengine_core::executor::Feed;
use eventengine_core::pool::{Allocator, Pool};
use eventengine_core::ring::{
    Consumer, Descriptor, Kind, LANE_EVENTS, LANES, PRIORITIES, Producer, RING_SLOTS, lanes, ring,
};
use eventengine_core::stats::CoreStats;

use crate::affinity::{self, Placement};
use crate::clock::{monotonic_nanoseconds, sleep_precisely};
use crate::config::{Config, Identity};
use crate::engine::{CUT_RECORDS, spawn};
use crate::executors::{Body, Machine};
use crate::idling::{CALLER_NAP_INTERVAL_NANOSECONDS, NAP, Resting, Waiting};
use crate::shared::Shared;
use crate::{Error, executors, machine};

/// Events between the one that is offered and the one whose chunk is asked for: it takes that long to come from the core
/// thread's CPU.
const EVENTS_AHEAD: usize = 4;

/// The same of outcomes, with each of which much less is done.
const OUTCOMES_AHEAD: u64 = 12;

/// Places among the outcomes that don't belong to a chunk.
const OUTCOMES_BESIDE_CHUNKS: usize = 256;

/// The source that all events come from.
const FIRST_SOURCE: u8 = 0;

/// What became of one event.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The output record, or the payload of a refused event.
    pub bytes: &'a [u8],
    /// Whether the event was applied.
    pub applied: bool,
    /// The event's priority.
    pub priority: u8,
    /// The time that the event was offered with.
    pub ingested_at_nanoseconds: u64,
}

/// See the module.
pub struct InProcess {
    shared: Arc<Shared>,
    allocator: Allocator,
    lanes: [Producer; LANES],
    outcomes: Consumer,
    cut: CutReader,
    feed: Option<Box<dyn Feed>>,
    resting: Resting,
    threads: Vec<JoinHandle<()>>,
    placement: Placement,
}

impl InProcess {
    /// Checks configuration and identity, allocates everything and starts the core thread.
    ///
    /// Sources and sinks of the configuration are not looked at. Where pinning is asked for
    /// and there are CPUs enough, the calling thread makes way for the core thread. Its sleeps end as precisely as they can.
    pub fn start(config_json: &str, identity_json: &str) -> Result<InProcess, Error> {
        let config = Config::parse(config_json)?;
        let identity = Identity::parse(identity_json)?;
        let placement = executors::place(&config, &identity)?;
        let (pool, mut allocators) = Pool::new(config.buffer_pool.chunk_bytes, config.buffer_pool.chunks, 1);
        let Some(allocator) = allocators.pop() else {
            return Err(Error::Engine("the pool has no allocator".to_owned()));
        };
        let stats = Arc::new(CoreStats::new(PARTITIONS));
        let (producers, consumers) = lanes();
        // Each outcome holds its event's chunk. A ring with many more slots would be walked through for nothing.
        let slots = (pool.chunks() as usize + OUTCOMES_BESIDE_CHUNKS).next_power_of_two();
        let (publish, outcomes) = ring(slots.min(RING_SLOTS));
        let (cut_writer, cut) = exchange(PARTITIONS, CUT_RECORDS);
        let mut shared = Shared::new(config, identity, Arc::clone(&pool), Arc::clone(&stats), Vec::new());
        let machine = machine::make(
            &shared.config,
            &placement,
            Parts {
                pool: Arc::clone(&pool),
                inputs: vec![consumers],
                publish,
                cut: cut_writer,
                cut_records: CUT_RECORDS,
                cut_requested: Arc::clone(&shared.cut_requested),
                stats,
            },
        )?;
        let Machine { core, workers, mut feeds, reports } = machine;
        shared.workers = reports;
        let shared = Arc::new(shared);
        if placement.core.is_some_and(|cpu| !placement.others.contains(&cpu))
            && !affinity::bind(&placement.others)
        {
            return Err(Error::Engine(
                "the calling thread could not make way for the core thread".to_owned(),
            ));
        }
        sleep_precisely();
        let waiting =
            Waiting::new(placement.cores >= 2, CALLER_NAP_INTERVAL_NANOSECONDS, monotonic_nanoseconds());
        let run = |name: &str, body: Body| {
            let (shared, placement) = (Arc::clone(&shared), placement.clone());
            spawn(name, move || body(&shared, &placement))
        };
        let mut threads = vec![run("ee-core", core)?];
        for worker in workers {
            threads.push(run("ee-worker", worker)?);
        }
        Ok(InProcess {
            shared,
            allocator,
            lanes: producers,
            outcomes,
            cut,
            feed: feeds.pop(),
            resting: Resting::new(waiting),
            threads,
            placement,
        })
    }

    /// Copies an event into the pool and queues it; false if there is no room for it now.
    ///
    /// A payload longer than a chunk never has room. Invisible to the core until [`InProcess::publish`]. The bounds are the
    /// lane's and the pool's: a lower one, at which the sender waited, made the highest sustained rates lower.
    pub fn offer(&mut self, payload: &[u8], priority: u8, ingested_at_nanoseconds: u64) -> bool {
        let lane = LANE_EVENTS + usize::from(priority).min(PRIORITIES - 1);
        let pool = &self.shared.pool;
        if payload.len() > pool.chunk_bytes() || self.lanes[lane].free(1) == 0 {
            return false;
        }
        self.allocator.prefetch(EVENTS_AHEAD, payload.len());
        let Some(mut chunk) = self.allocator.allocate() else { return false };
        pool.bytes_mut(&mut chunk)[..payload.len()].copy_from_slice(payload);
        let (chunk, length) = (pool.send(chunk), payload.len() as u32);
        let lane = &mut self.lanes[lane];
        let kind =
            self.feed.as_mut().map_or(Kind::Event, |feed| feed.offer(chunk, length, FIRST_SOURCE, lane));
        let pushed = lane.push(Descriptor {
            partition: DIRECT_BASE,
            source: FIRST_SOURCE,
            priority,
            chunk,
            length,
            ingested_at_nanoseconds,
            ..Descriptor::new(kind)
        });
        assert!(pushed.is_ok(), "the lane had room before the chunk was taken");
        true
    }

    /// Makes everything offered visible to the core.
    pub fn publish(&mut self) {
        let mut news = false;
        for lane in &mut self.lanes {
            news |= lane.publish();
        }
        if news {
            self.shared.wake_for_events();
        }
    }

    /// Hands out the outcomes that are there, at most `most`, in the order in which the core had them.
    ///
    /// The time is the caller's, on the monotonic clock.
    pub fn take(&mut self, now_nanoseconds: u64, most: usize, mut each: impl FnMut(&Outcome<'_>)) -> usize {
        self.resting.goes_on(now_nanoseconds);
        let mut taken = 0;
        while taken < most
            && let Some(&descriptor) = self.outcomes.pop()
        {
            self.outcomes.foresee(OUTCOMES_AHEAD, |later| self.shared.pool.prefetch(later.chunk, 0));
            match descriptor.kind {
                Kind::Output | Kind::DeadLetter => {
                    taken += 1;
                    self.settle(&descriptor, &mut each);
                }
                // State of direct events is in memory only: there is nothing to write.
                Kind::Cut => {
                    self.cut.give_back();
                    self.shared.core_waker.wake();
                }
                _ => {}
            }
        }
        self.outcomes.release();
        taken
    }

    /// For a caller that spins, at a moment without anything to offer and with no outcome taken.
    ///
    /// Now and then, after another thread had its CPU for long, this is a nap in which others may have it again; nearly
    /// always it returns at once. Where the core thread has no other CPU it is always a nap.
    pub fn rest(&mut self) {
        if self.resting.rests() {
            std::thread::sleep(NAP);
        }
    }

    fn settle(&mut self, descriptor: &Descriptor, each: &mut impl FnMut(&Outcome<'_>)) {
        // SAFETY: it came through the ring of this thread's outcomes.
        let Ok(chunk) = (unsafe { self.shared.pool.claim_as_receiver(descriptor.chunk) }) else { return };
        each(&Outcome {
            bytes: &self.shared.pool.bytes(&chunk)[..descriptor.length as usize],
            applied: descriptor.kind == Kind::Output,
            priority: descriptor.priority,
            ingested_at_nanoseconds: descriptor.ingested_at_nanoseconds,
        });
        self.allocator.take_back(chunk);
    }

    /// What the core says of itself.
    pub fn stats(&self) -> &CoreStats {
        &self.shared.stats
    }

    /// The most chunks that were ever in use at once.
    pub fn pool_high_water(&self) -> u64 {
        self.shared.pool.high_water()
    }

    /// How the threads share the CPUs.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.shared.stop_pipeline.store(true, Ordering::Release);
        self.shared.wake_for_events();
        for thread in self.threads.drain(..) {
            // A panic was printed where it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const IDENTITY: &str = r#"{"engine":"test","namespace":"default","pod":"test-0","incarnation":"1",
        "cpu_limit_millicores":null,"memory_limit_bytes":null,"pinning":"Off"}"#;

    fn config(chunks: u32) -> String {
        config_of("pinned", chunks)
    }

    fn config_of(executor: &str, chunks: u32) -> String {
        format!(
            r#"{{"name":"test","program":{{"name":"treasure-hunt","districts":12,"puzzles_per_district":40,
            "clues_per_puzzle":5,"service_time_nanoseconds":0}},"sources":[],"sinks":[],
            "changelog":{{"topic":""}},"dead_letter":{{"topic":"","max_payload_bytes":1024}},
            "transactions":{{"commit_interval_milliseconds":100,"timeout_milliseconds":10000}},
            "buffer_pool":{{"chunk_bytes":1024,"chunks":{chunks}}},
            "payload":{{"max_bytes":1024,"max_depth":32,"max_array_length":1024,"max_string_bytes":1024}},
            "executor":"{executor}","shedding":{{"above":0.8,"priority_at_least":1}},
            "arena":{{"capacity":1024,"slot_size_bytes":256,"preallocate":false,"fragmentation_threshold":0.05,"tenants":[]}},
            "drain_timeout_milliseconds":1000}}"#
        )
    }

    fn event(team: u32) -> String {
        format!(
            r#"{{"kind":"clue_discovered","producer":1,"sequence":1,"team":{team},"district":3,"puzzle":1,"clue":1}}"#
        )
    }

    /// Takes outcomes until there were so many; panics after ten seconds.
    fn take(engine: &mut InProcess, wanted: usize) -> Vec<(bool, u8, u64)> {
        let end = Instant::now() + Duration::from_secs(10);
        let mut outcomes = Vec::new();
        while outcomes.len() < wanted {
            assert!(Instant::now() < end, "{} of {wanted} outcomes came", outcomes.len());
            let taken = engine.take(monotonic_nanoseconds(), usize::MAX, |outcome| {
                outcomes.push((outcome.applied, outcome.priority, outcome.ingested_at_nanoseconds));
            });
            if taken == 0 {
                engine.rest();
            }
        }
        outcomes
    }

    #[test]
    fn every_event_taken_has_one_outcome_with_the_time_it_was_offered_with() {
        let mut engine = InProcess::start(&config(64), IDENTITY).unwrap();
        for number in 0..20 {
            let payload = if number == 7 { "{".to_owned() } else { event(number) };
            assert!(engine.offer(payload.as_bytes(), 0, u64::from(number)));
        }
        engine.publish();
        let outcomes = take(&mut engine, 20);
        assert!(
            outcomes
                .iter()
                .enumerate()
                .all(|(number, (applied, _, at))| { *applied == (number != 7) && *at == number as u64 })
        );
        assert_eq!(engine.stats().applied.get(), 19);
    }

    #[test]
    fn an_exhausted_pool_takes_no_more_until_outcomes_were_taken() {
        let mut engine = InProcess::start(&config(64), IDENTITY).unwrap();
        let payload = event(1);
        let taken = (0..1000).take_while(|_| engine.offer(payload.as_bytes(), 0, 0)).count();
        assert_eq!(taken, 64);
        engine.publish();
        take(&mut engine, taken);
        assert!(engine.offer(payload.as_bytes(), 0, 0));
        assert_eq!(engine.pool_high_water(), 64);
    }

    #[test]
    fn more_changes_than_a_cut_holds_do_not_stop_the_core() {
        let mut engine = InProcess::start(&config(1024), IDENTITY).unwrap();
        for round in 0..40 {
            for number in 0..500 {
                assert!(engine.offer(event(number % 900).as_bytes(), (number % 3) as u8, 0), "round {round}");
            }
            engine.publish();
            take(&mut engine, 500);
        }
        assert_eq!(engine.stats().applied.get(), 20_000);
    }

    #[test]
    fn workers_beside_the_core_change_no_outcome_and_no_order() {
        if affinity::allowed_cpus().len() < 2 {
            let refused = InProcess::start(&config_of("work-stealing", 64), IDENTITY).err();
            assert!(refused.is_some_and(|error| error.to_string().contains("executor: pinned")));
            return;
        }
        let mut engine = InProcess::start(&config_of("work-stealing", 1024), IDENTITY).unwrap();
        for round in 0..40_u32 {
            for number in 0..500_u32 {
                let payload = if number % 50 == 49 { "{".to_owned() } else { event(number % 100) };
                assert!(engine.offer(payload.as_bytes(), 0, u64::from(round * 500 + number)));
            }
            engine.publish();
            for (number, (applied, _, at)) in take(&mut engine, 500).into_iter().enumerate() {
                assert_eq!((applied, at), (number % 50 != 49, u64::from(round) * 500 + number as u64));
            }
        }
    }

    #[test]
    fn one_core_refuses_workers_and_says_what_to_do() {
        let identity = IDENTITY.replace("\"cpu_limit_millicores\":null", "\"cpu_limit_millicores\":1500");
        let refused = InProcess::start(&config_of("work-stealing", 64), &identity).err().unwrap();
        let Error::Configuration { path, message } = refused else { panic!("{refused}") };
        assert_eq!(path, "executor");
        assert!(message.contains("CPU limit 1500m") && message.contains("`executor: pinned`"), "{message}");
    }

    #[test]
    fn a_payload_longer_than_a_chunk_has_no_room() {
        let mut engine = InProcess::start(&config(64), IDENTITY).unwrap();
        assert!(!engine.offer(&[b' '; 1025], 0, 0));
    }
}
