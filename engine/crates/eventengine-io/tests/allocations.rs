//! The core thread allocates nothing once it runs: parsing, applying, refusing, cutting, restoring and moving
//! partitions, and events of every priority, in both executors; nor does a worker, an I/O thread's feed, or the
//! decision to shed. Counted by jemalloc on the very thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eventengine_core::arena::Arena;
use eventengine_core::changelog::{VALUE_BYTES_MAX, encode_key, encode_value};
use eventengine_core::core::{Core, DIRECT_BASE, PARTITIONS, Parts, Step};
use eventengine_core::cut::exchange;
use eventengine_core::executor::pinned::{BEHIND_EVENTS, pinned};
use eventengine_core::executor::work_stealing::{Worker, work_stealing};
use eventengine_core::executor::{Executor, Feed};
use eventengine_core::parse::Limits;
use eventengine_core::pool::{Allocator, Pool, RawChunk, Releaser};
use eventengine_core::program::treasure_hunt::{HuntSchema, KIND_TEAM, Settings, TreasureHunt};
use eventengine_core::ring::{Descriptor, Kind, LANE_CONTROL, LANE_EVENTS, Producer, lanes, ring};
use eventengine_core::shedding::Shedding;
use eventengine_core::stats::CoreStats;

// Names the crate whose global allocator is measured.
use eventengine_io as _;

const LIMITS: Limits = Limits { bytes: 65_536, depth: 32, array_length: 1024, string_bytes: 16_384 };
const SETTINGS: Settings = Settings { districts: 12, puzzles_per_district: 40, clues_per_puzzle: 5 };
const PARTITION: u32 = 7;

fn push(lane: &mut Producer, descriptor: Descriptor) {
    assert!(lane.push(descriptor).is_ok());
    lane.publish();
}

fn send(allocator: &mut Allocator, bytes: &[u8]) -> RawChunk {
    let mut chunk = allocator.allocate().expect("the pool is large enough");
    let pool = Arc::clone(allocator.pool());
    pool.bytes_mut(&mut chunk)[..bytes.len()].copy_from_slice(bytes);
    pool.send(chunk)
}

fn payload(number: u32) -> Vec<u8> {
    if number % 50 == 49 {
        return b"{\"kind\":".to_vec();
    }
    let kind = ["clue_discovered", "team_solved", "district_opened"][number as usize % 3];
    format!(
        r#"{{"kind":"{kind}","producer":1,"sequence":{number},"team":{},"district":{},"puzzle":{},"clue":{},"note":"{}"}}"#,
        number % 97,
        number % 12,
        number % 40,
        number % 5,
        "text ".repeat(100),
    )
    .into_bytes()
}

fn restored_slot(allocator: &mut Allocator, team: u32) -> Descriptor {
    let key = eventengine_core::arena::Key { partition: PARTITION, kind: KIND_TEAM, district: 1, team };
    let mut value = [0; VALUE_BYTES_MAX];
    let length = encode_value(3, &[1; eventengine_core::arena::PAYLOAD_BYTES], &mut value);
    let mut bytes = encode_key(&key).to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(&value[..length]);
    let chunk = send(allocator, &bytes);
    Descriptor { partition: PARTITION, chunk, length: bytes.len() as u32, ..Descriptor::new(Kind::Restore) }
}

#[test]
fn the_pinned_executor_allocates_nothing() {
    let (pool, allocators) = Pool::new(2048, 1024, 1);
    let (executor, mut feeds) = pinned(HuntSchema::new(SETTINGS, LIMITS), &pool, 1, BEHIND_EVENTS);
    measure(executor, Vec::new(), feeds.pop(), pool, allocators);
}

#[test]
fn the_work_stealing_executor_allocates_nothing() {
    let (pool, allocators) = Pool::new(2048, 1024, 1);
    let schema = HuntSchema::new(SETTINGS, LIMITS);
    let (executor, workers, mut feeds) = work_stealing(schema, &pool, 2, 1);
    measure(executor, workers, feeds.pop(), pool, allocators);
}

fn measure<X: Executor<Schema = HuntSchema>>(
    executor: X,
    mut workers: Vec<Worker<HuntSchema>>,
    mut feed: Option<Box<dyn Feed>>,
    pool: Arc<Pool>,
    mut allocators: Vec<Allocator>,
) {
    let mut allocator = allocators.pop().expect("one allocator was asked for");
    let (mut lanes, inputs) = lanes();
    let (publish, mut published) = ring(4096);
    let (writer, mut reader) = exchange(PARTITIONS, 4096);
    let cut_requested = Arc::new(AtomicBool::new(false));
    let parts = Parts {
        pool: Arc::clone(&pool),
        inputs: vec![inputs],
        publish,
        cut: writer,
        cut_records: 4096,
        cut_requested: Arc::clone(&cut_requested),
        stats: Arc::new(CoreStats::new(PARTITIONS)),
    };
    let mut core =
        Core::new(executor, TreasureHunt::default(), Arena::new(4096, PARTITIONS as u32, 1), parts);
    let mut releaser = Releaser::new(&pool);
    let shedding = Shedding::new(0.3, 1, allocator.capacity(), 400);
    let allocated = tikv_jemalloc_ctl::thread::allocatedp::read().expect("jemalloc keeps statistics");
    let mut steps = 0;
    let mut offset = 0;
    for epoch in 1..=20 {
        for team in 0..20 {
            push(&mut lanes[LANE_CONTROL], restored_slot(&mut allocator, team));
        }
        let assign = Descriptor { partition: PARTITION, epoch, offset, ..Descriptor::new(Kind::Assign) };
        push(&mut lanes[LANE_CONTROL], assign);
        for number in 0..500 {
            let bytes = payload(number);
            let chunk = send(&mut allocator, &bytes);
            let event =
                Descriptor { partition: PARTITION, epoch, offset, chunk, ..Descriptor::new(Kind::Event) };
            let mut event = Descriptor { length: bytes.len() as u32, ..event };
            let before = allocated.get();
            if let Some(feed) = &mut feed {
                event.kind = feed.offer(chunk, event.length, event.source, &mut lanes[LANE_EVENTS]);
            }
            let priority = (number % 3) as u8;
            let admission = shedding.admit(priority, allocator.in_use(), u64::from(number));
            push(&mut lanes[LANE_EVENTS], event);
            assert_eq!(allocated.get() - before, 0, "bytes allocated for an event that is to {admission:?}");
            offset += 1;
        }
        for priority in 0..3_u8 {
            for number in 0..50 {
                let bytes = payload(number);
                let chunk = send(&mut allocator, &bytes);
                let length = bytes.len() as u32;
                let event = Descriptor {
                    partition: DIRECT_BASE,
                    priority,
                    chunk,
                    length,
                    ..Descriptor::new(Kind::Event)
                };
                push(&mut lanes[LANE_EVENTS + usize::from(priority)], event);
            }
        }
        cut_requested.store(true, Ordering::Relaxed);
        let before = allocated.get();
        for (number, worker) in workers.iter_mut().enumerate() {
            // The second worker steals from the first; what both leave the core parses.
            for _ in 0..100 * (number + 1) {
                worker.step();
            }
        }
        while core.step() != Step::Idle {
            steps += 1;
        }
        core.flush();
        assert_eq!(allocated.get() - before, 0, "bytes allocated by workers and core in round {epoch}");
        while let Some(&descriptor) = published.pop() {
            if descriptor.kind == Kind::Cut {
                reader.give_back();
            } else if let Ok(chunk) = pool.claim(descriptor.chunk) {
                releaser.release(chunk);
            }
        }
        published.release();
        releaser.flush();
        push(&mut lanes[LANE_CONTROL], Descriptor { partition: PARTITION, ..Descriptor::new(Kind::Drop) });
    }
    assert!(steps >= 20 * 520, "{steps} steps were measured");
    assert_eq!(pool.in_use(), 0);
}
