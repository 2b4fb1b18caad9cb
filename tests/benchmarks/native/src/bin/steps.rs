//! The core's work alone: one thread offers an event, steps the core and takes the outcome, so many times.
//!
//! For counting instructions: nothing here waits, spins or reads a clock.
//!
//! Arguments: `--file` payloads, `--count` events.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use eventengine_benchmarks::arguments::Arguments;
use eventengine_benchmarks::payloads::Payloads;
use eventengine_benchmarks::{refuse, report};
use eventengine_core::arena::Arena;
use eventengine_core::core::{Core, DIRECT_BASE, PARTITIONS, Parts, Step};
use eventengine_core::cut::{CutReader, exchange};
use eventengine_core::executor::pinned::{BEHIND_EVENTS, Pinned, pinned};
use eventengine_core::parse::Limits;
use eventengine_core::pool::{Allocator, Pool, Releaser};
use eventengine_core::program::treasure_hunt::{HuntSchema, Settings, TreasureHunt};
use eventengine_core::ring::{
    Consumer, Descriptor, Kind, LANE_EVENTS, LANES, Producer, RING_SLOTS, lanes, ring,
};
use eventengine_core::stats::CoreStats;
use serde_json::json;

const LIMITS: Limits = Limits { bytes: 1024, depth: 32, array_length: 1024, string_bytes: 16_384 };
const HUNT: Settings = Settings { districts: 12, puzzles_per_district: 40, clues_per_puzzle: 5 };
const ARENA_SLOTS: u32 = 16_384;
const ARENA_SEED: u64 = 11;
const CHUNKS: u32 = 256;
const CHUNK_BYTES: usize = 1024;
const CUT_RECORDS: usize = 8192;

/// Events offered before the core is stepped: as many as it takes between two flushes.
const BATCH: usize = 32;

struct Bench {
    core: Core<Pinned<HuntSchema>, TreasureHunt>,
    pool: Arc<Pool>,
    allocator: Allocator,
    lanes: [Producer; LANES],
    outcomes: Consumer,
    cut: CutReader,
    releaser: Releaser,
}

impl Bench {
    fn new() -> Bench {
        let (pool, mut allocators) = Pool::new(CHUNK_BYTES, CHUNKS, 1);
        let Some(allocator) = allocators.pop() else { refuse("the pool has no allocator") };
        let (producers, consumers) = lanes();
        let (publish, outcomes) = ring(RING_SLOTS);
        let (writer, cut) = exchange(PARTITIONS, CUT_RECORDS);
        let parts = Parts {
            pool: Arc::clone(&pool),
            inputs: vec![consumers],
            publish,
            cut: writer,
            cut_records: CUT_RECORDS,
            cut_requested: Arc::new(AtomicBool::new(false)),
            stats: Arc::new(CoreStats::new(PARTITIONS)),
        };
        let arena = Arena::new(ARENA_SLOTS, PARTITIONS as u32, ARENA_SEED);
        Bench {
            core: Core::new(
                pinned(HuntSchema::new(HUNT, LIMITS), &pool, 0, BEHIND_EVENTS).0,
                TreasureHunt::default(),
                arena,
                parts,
            ),
            releaser: Releaser::new(&pool),
            pool,
            allocator,
            lanes: producers,
            outcomes,
            cut,
        }
    }

    fn offer(&mut self, payload: &[u8]) {
        let Some(mut chunk) = self.allocator.allocate() else { refuse("the pool is exhausted") };
        self.pool.bytes_mut(&mut chunk)[..payload.len()].copy_from_slice(payload);
        let descriptor = Descriptor {
            partition: DIRECT_BASE,
            chunk: self.pool.send(chunk),
            length: payload.len() as u32,
            ..Descriptor::new(Kind::Event)
        };
        if self.lanes[LANE_EVENTS].push(descriptor).is_err() {
            refuse("the lane is full");
        }
    }

    /// Steps the core until it is idle; returns the events applied.
    fn step(&mut self) -> u64 {
        self.lanes[LANE_EVENTS].publish();
        while self.core.step() != Step::Idle {}
        self.core.flush();
        let mut applied = 0;
        while let Some(&descriptor) = self.outcomes.pop() {
            match descriptor.kind {
                Kind::Cut => self.cut.give_back(),
                kind => applied += u64::from(kind == Kind::Output),
            }
            if let Ok(chunk) = self.pool.claim(descriptor.chunk) {
                self.releaser.release(chunk);
            }
        }
        self.outcomes.release();
        self.releaser.flush();
        applied
    }
}

fn main() {
    let arguments = Arguments::read();
    let payloads = Payloads::read(&arguments.require::<String>("file"));
    let count: usize = arguments.require("count");
    let mut bench = Bench::new();
    let mut applied = 0;
    for number in 0..count {
        bench.offer(payloads.get(number % payloads.len()));
        if number % BATCH == BATCH - 1 {
            applied += bench.step();
        }
    }
    applied += bench.step();
    report(json!({"offered": count, "applied": applied}));
}
