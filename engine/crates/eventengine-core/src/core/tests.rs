//! The core against a model of the broker: faults at any point, every output exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::cut::{CutReader, exchange};
use crate::executor::pinned::{BEHIND_EVENTS, Pinned, pinned};
use crate::parse::{Limits, PADDING, Payload};
use crate::pool::Allocator;
use crate::program::Origin;
use crate::program::Output;
use crate::program::Schema;
use crate::program::treasure_hunt::{HuntSchema, Settings, TreasureHunt};
use crate::ring::{Descriptor, Kind, LANE_EVENTS, PRIORITIES, lanes, ring};

const LIMITS: Limits = Limits { bytes: 65_536, depth: 32, array_length: 1024, string_bytes: 16_384 };
const SETTINGS: Settings = Settings { districts: 4, puzzles_per_district: 40, clues_per_puzzle: 5 };
const PARTITION_COUNT: usize = 3;
const CUT_RECORDS: usize = 8;

/// What a broker would hold: source, committed outputs, offsets and changelog.
#[derive(Default)]
struct Broker {
    source: BTreeMap<u32, Vec<Vec<u8>>>,
    outputs: Vec<(u32, i64, Vec<u8>)>,
    offsets: BTreeMap<u32, i64>,
    changelog: BTreeMap<(u32, Vec<u8>), Vec<u8>>,
}

/// One incarnation of the engine, with a source and a publisher in place of the threads.
struct Rig {
    core: Core<Pinned<HuntSchema>, TreasureHunt>,
    pool: Arc<Pool>,
    allocator: Allocator,
    lanes: [Producer; LANES],
    ring: Consumer,
    cut: CutReader,
    cut_requested: Arc<AtomicBool>,
    releaser: Releaser,
    stats: Arc<CoreStats>,
    fetched: BTreeMap<u32, i64>,
    epochs: BTreeMap<u32, u32>,
    next_epoch: u32,
    transaction: Vec<(u32, i64, Vec<u8>)>,
    generation: u64,
    requested_generation: u64,
    tickets: u64,
}

impl Rig {
    fn new() -> Rig {
        Rig::with_chunks(64, 256)
    }

    fn with_chunks(chunks: u32, publish_slots: usize) -> Rig {
        let (pool, mut allocators) = Pool::new(1024, chunks, 1);
        let (producers, consumers) = lanes();
        let (publish, ring) = ring(publish_slots);
        let (writer, cut) = exchange(PARTITIONS, CUT_RECORDS);
        let cut_requested = Arc::new(AtomicBool::new(false));
        let stats = Arc::new(CoreStats::new(PARTITIONS));
        let parts = Parts {
            pool: Arc::clone(&pool),
            inputs: vec![consumers],
            publish,
            cut: writer,
            cut_records: CUT_RECORDS,
            cut_requested: Arc::clone(&cut_requested),
            stats: Arc::clone(&stats),
        };
        let arena = Arena::new(256, PARTITIONS as u32, 11);
        Rig {
            core: Core::new(
                pinned(HuntSchema::new(SETTINGS, LIMITS), &pool, 0, BEHIND_EVENTS).0,
                TreasureHunt::default(),
                arena,
                parts,
            ),
            releaser: Releaser::new(&pool),
            pool,
            allocator: allocators.pop().unwrap(),
            lanes: producers,
            ring,
            cut,
            cut_requested,
            stats,
            fetched: BTreeMap::new(),
            epochs: BTreeMap::new(),
            next_epoch: 0,
            transaction: Vec::new(),
            generation: 0,
            requested_generation: 0,
            tickets: 0,
        }
    }

    fn control(&mut self, descriptor: Descriptor) {
        assert!(self.lanes[LANE_CONTROL].push(descriptor).is_ok());
        self.lanes[LANE_CONTROL].publish();
    }

    fn chunk_with(&mut self, bytes: &[u8]) -> Option<crate::pool::RawChunk> {
        let mut chunk = self.allocator.allocate()?;
        self.pool.bytes_mut(&mut chunk)[..bytes.len()].copy_from_slice(bytes);
        Some(self.pool.send(chunk))
    }

    /// Takes a partition: state from the changelog, position from the offsets.
    fn assign(&mut self, broker: &mut Broker, partition: u32) {
        self.next_epoch += 1;
        let epoch = self.next_epoch;
        self.control(Descriptor { partition, ..Descriptor::new(Kind::Drop) });
        let range = (partition, vec![])..(partition + 1, vec![]);
        let records: Vec<(Vec<u8>, Vec<u8>)> =
            broker.changelog.range(range).map(|((_, key), value)| (key.clone(), value.clone())).collect();
        for (key, value) in records {
            let mut bytes = key;
            bytes.extend((value.len() as u16).to_le_bytes());
            bytes.extend(value);
            let chunk = loop {
                match self.chunk_with(&bytes) {
                    Some(chunk) => break chunk,
                    // Chunks come back from the publisher, which goes on meanwhile.
                    None => {
                        self.run(1000);
                        self.publish(broker, usize::MAX, false);
                    }
                }
            };
            let length = bytes.len() as u32;
            self.control(Descriptor { partition, chunk, length, ..Descriptor::new(Kind::Restore) });
            self.run(3);
        }
        let start = broker.offsets.get(&partition).copied();
        let ticket = u64::from(start.is_none());
        let offset = start.unwrap_or(0);
        self.control(Descriptor { partition, epoch, offset, ticket, ..Descriptor::new(Kind::Assign) });
        self.fetched.insert(partition, offset);
        self.epochs.insert(partition, epoch);
    }

    /// Fetches up to `count` events of a partition, and says where it ends once it is there.
    fn fetch(&mut self, broker: &Broker, partition: u32, count: usize) {
        let Some(&epoch) = self.epochs.get(&partition) else { return };
        for _ in 0..count {
            let offset = self.fetched[&partition];
            let base = Descriptor { partition, epoch, offset, ..Descriptor::new(Kind::Event) };
            let Some(payload) = broker.source[&partition].get(offset as usize) else {
                assert!(
                    self.lanes[LANE_EVENTS].push(Descriptor { kind: Kind::EndOfPartition, ..base }).is_ok()
                );
                break;
            };
            let Some(chunk) = self.chunk_with(payload) else { break };
            let length = payload.len() as u32;
            assert!(self.lanes[LANE_EVENTS].push(Descriptor { chunk, length, ..base }).is_ok());
            self.fetched.insert(partition, offset + 1);
        }
        self.lanes[LANE_EVENTS].publish();
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            if self.core.step() == Step::Idle {
                break;
            }
        }
        self.core.flush();
    }

    /// Takes what was published. `fail_commit` lets the next commit fail. Says which barrier was committed.
    fn publish(&mut self, broker: &mut Broker, count: usize, fail_commit: bool) -> u64 {
        let mut committed = 0;
        for _ in 0..count {
            let Some(&descriptor) = self.ring.pop() else { break };
            let behind = self.requested_generation > self.generation;
            match descriptor.kind {
                Kind::Reset => self.generation = descriptor.ticket,
                Kind::Output | Kind::DeadLetter => {
                    let chunk = self.pool.claim(descriptor.chunk).unwrap();
                    let bytes = self.pool.bytes(&chunk)[..descriptor.length as usize].to_vec();
                    self.releaser.release(chunk);
                    if !behind {
                        self.transaction.push((descriptor.partition, descriptor.offset, bytes));
                    }
                }
                Kind::Cut if behind => self.cut.give_back(),
                Kind::Cut if fail_commit => {
                    self.cut.give_back();
                    self.transaction.clear();
                    self.requested_generation = self.generation + 1;
                }
                Kind::Cut => committed = committed.max(self.commit(broker)),
                other => panic!("{other:?} in the publish ring"),
            }
        }
        self.ring.release();
        self.releaser.flush();
        committed
    }

    fn commit(&mut self, broker: &mut Broker) -> u64 {
        let cut = self.cut.buffer().unwrap();
        for record in cut.records() {
            let key = (record.partition, record.key.to_vec());
            match record.value {
                Some(value) => broker.changelog.insert(key, value.to_vec()),
                None => broker.changelog.remove(&key),
            };
        }
        for position in &cut.positions {
            let before = broker.offsets.insert(position.partition, position.offset);
            assert!(before.is_none_or(|before| before <= position.offset), "committed offsets never go back");
        }
        broker.outputs.append(&mut self.transaction);
        let ticket = cut.ticket;
        self.cut.give_back();
        ticket
    }

    /// The source notices that a reset was asked for.
    fn reset_if_asked(&mut self, broker: &mut Broker) {
        if self.requested_generation > self.generation {
            let ticket = self.requested_generation;
            self.control(Descriptor { ticket, ..Descriptor::new(Kind::Reset) });
            let owned: Vec<u32> = self.epochs.keys().copied().collect();
            while self.generation < ticket {
                self.run(1000);
                self.publish(&mut Broker::default(), usize::MAX, false);
            }
            owned.into_iter().for_each(|partition| self.assign(broker, partition));
        }
    }

    /// Gives a partition up, with everything applied committed first.
    fn revoke(&mut self, broker: &mut Broker, partition: u32) {
        if self.epochs.remove(&partition).is_none() {
            return;
        }
        self.tickets += 1;
        let ticket = self.tickets;
        self.control(Descriptor { partition, ..Descriptor::new(Kind::Close) });
        self.control(Descriptor { ticket, ..Descriptor::new(Kind::Barrier) });
        loop {
            self.run(1000);
            if self.publish(broker, usize::MAX, false) >= ticket {
                break;
            }
        }
        self.control(Descriptor { partition, ..Descriptor::new(Kind::Drop) });
        self.run(10);
    }

    fn ask_for_cut(&mut self) {
        self.cut_requested.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone)]
enum Act {
    Fetch(u32, usize),
    Run(usize),
    Publish(usize),
    FailCommit,
    Cut,
    Move(u32),
    Crash,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let partition = 0..PARTITION_COUNT as u32;
    let act = prop_oneof![
        6 => (partition.clone(), 1..12_usize).prop_map(|(partition, count)| Act::Fetch(partition, count)),
        6 => (1..20_usize).prop_map(Act::Run),
        6 => (1..20_usize).prop_map(Act::Publish),
        4 => Just(Act::Cut),
        1 => Just(Act::FailCommit),
        1 => partition.prop_map(Act::Move),
        1 => Just(Act::Crash),
    ];
    proptest::collection::vec(act, 0..120)
}

fn events(count: usize) -> BTreeMap<u32, Vec<Vec<u8>>> {
    (0..PARTITION_COUNT as u32)
        .map(|partition| {
            let payloads = (0..count).map(|number| {
                if number % 17 == 5 {
                    return b"{broken".to_vec();
                }
                let kind = ["clue_discovered", "team_solved", "district_opened"][number % 3];
                format!(
                    r#"{{"kind":"{kind}","producer":{partition},"sequence":{number},"team":{},"district":{},"puzzle":{},"clue":{}}}"#,
                    number * 7 % 5, number % 4, number % 40, number % 5
                )
                .into_bytes()
            });
            (partition, payloads.collect())
        })
        .collect()
}

/// Outputs as they would be without any fault.
fn expected(source: &BTreeMap<u32, Vec<Vec<u8>>>) -> BTreeSet<(u32, i64, Vec<u8>)> {
    let mut arena = Arena::new(256, PARTITIONS as u32, 5);
    let mut schema = HuntSchema::new(SETTINGS, LIMITS);
    let mut outputs = BTreeSet::new();
    for (partition, payloads) in source {
        for (offset, payload) in payloads.iter().enumerate() {
            let mut bytes = [0; 1024];
            let mut output = Output::new(&mut bytes);
            let origin = Origin { partition: *partition, offset: offset as i64 };
            let mut scratch = vec![0; payload.len() + PADDING];
            let applied = schema
                .read(Payload::copy(payload, &mut scratch).unwrap())
                .map_err(|refusal| refusal.reason)
                .and_then(|event| TreasureHunt::default().apply(&event, origin, &mut arena, &mut output));
            let bytes = match applied {
                Ok(_) => {
                    let length = output.len();
                    bytes[..length].to_vec()
                }
                Err(_) => payload.clone(),
            };
            outputs.insert((*partition, offset as i64, bytes));
        }
    }
    outputs
}

proptest! {
    /// Two engines share the partitions. Commits fail, partitions move, engines crash at any point: in the
    /// end every event has exactly the output that it has without a fault, once.
    #[test]
    fn every_output_is_committed_exactly_once(acts in acts()) {
        let mut broker = Broker { source: events(40), ..Broker::default() };
        let mut rigs = [Rig::new(), Rig::new()];
        let mut owner = [0_usize; PARTITION_COUNT];
        for partition in 0..PARTITION_COUNT as u32 {
            rigs[0].assign(&mut broker, partition);
        }
        for act in acts {
            for rig in &mut rigs {
                rig.reset_if_asked(&mut broker);
            }
            match act {
                Act::Fetch(partition, count) => rigs[owner[partition as usize]].fetch(&broker, partition, count),
                Act::Run(steps) => rigs.iter_mut().for_each(|rig| rig.run(steps)),
                Act::Publish(count) => rigs.iter_mut().for_each(|rig| {
                    rig.publish(&mut broker, count, false);
                }),
                Act::FailCommit => {
                    rigs[0].publish(&mut broker, usize::MAX, true);
                }
                Act::Cut => rigs.iter_mut().for_each(Rig::ask_for_cut),
                Act::Move(partition) => {
                    let from = owner[partition as usize];
                    rigs[from].revoke(&mut broker, partition);
                    rigs[1 - from].assign(&mut broker, partition);
                    owner[partition as usize] = 1 - from;
                }
                Act::Crash => {
                    rigs[1] = Rig::new();
                    for partition in (0..PARTITION_COUNT as u32).filter(|partition| owner[*partition as usize] == 1) {
                        rigs[1].assign(&mut broker, partition);
                    }
                }
            }
        }
        for _ in 0..200 {
            for (index, rig) in rigs.iter_mut().enumerate() {
                rig.reset_if_asked(&mut broker);
                for partition in (0..PARTITION_COUNT as u32).filter(|partition| owner[*partition as usize] == index) {
                    rig.fetch(&broker, partition, 8);
                }
                rig.run(1000);
                rig.ask_for_cut();
                rig.run(1000);
                rig.publish(&mut broker, usize::MAX, false);
            }
        }
        let wanted = expected(&broker.source);
        prop_assert_eq!(broker.outputs.len(), wanted.len());
        let got: BTreeSet<(u32, i64, Vec<u8>)> = broker.outputs.iter().cloned().collect();
        prop_assert_eq!(got, wanted);
        for partition in 0..PARTITION_COUNT as u32 {
            prop_assert_eq!(broker.offsets[&partition], 40);
        }
        for rig in &rigs {
            prop_assert_eq!(rig.pool.in_use(), 0, "every chunk came back");
        }
    }
}

#[test]
fn the_end_of_a_partition_moves_its_position_over_control_markers() {
    let mut broker = Broker { source: events(2), ..Broker::default() };
    let mut rig = Rig::new();
    rig.assign(&mut broker, 0);
    rig.fetch(&broker, 0, 2);
    let epoch = rig.epochs[&0];
    let end = Descriptor { partition: 0, epoch, offset: 7, ..Descriptor::new(Kind::EndOfPartition) };
    assert!(rig.lanes[LANE_EVENTS].push(end).is_ok());
    rig.lanes[LANE_EVENTS].publish();
    rig.run(3);
    assert_eq!(rig.stats.position(0), Some(1), "the end waits for the events before it");
    rig.run(10);
    assert_eq!(rig.stats.position(0), Some(7));
}

#[test]
fn events_of_a_former_assignment_are_stale() {
    let mut broker = Broker { source: events(10), ..Broker::default() };
    let mut rig = Rig::new();
    rig.assign(&mut broker, 0);
    rig.run(10);
    rig.fetch(&broker, 0, 5);
    rig.revoke(&mut broker, 0);
    rig.assign(&mut broker, 0);
    rig.run(100);
    assert_eq!((rig.stats.applied.get(), rig.stats.stale.get()), (0, 5));
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn more_changes_than_a_cut_holds_wait_for_a_commit() {
    let mut broker = Broker { source: events(40), ..Broker::default() };
    let mut rig = Rig::new();
    rig.assign(&mut broker, 0);
    rig.fetch(&broker, 0, 40);
    rig.run(1000);
    let held = rig.stats.applied.get();
    assert!(held < 30, "{held} events changed more slots than a cut holds");
    assert_eq!(rig.stats.cuts.get(), 1, "the core cuts by itself");
    for _ in 0..40 {
        rig.publish(&mut broker, usize::MAX, false);
        rig.run(1000);
    }
    assert_eq!(rig.stats.position(0), Some(40));
}

#[test]
fn a_partition_whose_state_can_not_be_read_never_opens() {
    let mut broker = Broker { source: events(5), ..Broker::default() };
    broker.changelog.insert((0, vec![9; KEY_BYTES]), vec![1, 2, 3]);
    let mut rig = Rig::new();
    rig.assign(&mut broker, 0);
    rig.fetch(&broker, 0, 5);
    rig.run(100);
    assert_eq!((rig.stats.applied.get(), rig.stats.restore_failures.get()), (0, 1));
    assert_eq!(rig.stats.position(0), None);
}

#[test]
fn direct_events_are_numbered_by_the_core_and_leave_no_changelog() {
    let mut rig = Rig::new();
    let mut broker = Broker::default();
    let payload = events(1)[&0][0].clone();
    for _ in 0..3 {
        let chunk = rig.chunk_with(&payload).unwrap();
        let length = payload.len() as u32;
        let event = Descriptor { partition: DIRECT_BASE, chunk, length, ..Descriptor::new(Kind::Event) };
        assert!(rig.lanes[LANE_EVENTS].push(event).is_ok());
    }
    rig.lanes[LANE_EVENTS].publish();
    rig.run(100);
    rig.ask_for_cut();
    rig.run(10);
    rig.publish(&mut broker, usize::MAX, false);
    let offsets: Vec<i64> = broker.outputs.iter().map(|(_, offset, _)| *offset).collect();
    assert_eq!(offsets, [0, 1, 2]);
    assert!(broker.changelog.is_empty() && broker.offsets.is_empty());
}

/// Pushes direct events, all of them visible at once.
fn push_direct(rig: &mut Rig, events: impl IntoIterator<Item = (u8, Vec<u8>)>) {
    for (priority, payload) in events {
        let chunk = rig.chunk_with(&payload).unwrap();
        let length = payload.len() as u32;
        let base = Descriptor { partition: DIRECT_BASE, chunk, length, ..Descriptor::new(Kind::Event) };
        let lane = LANE_EVENTS + usize::from(priority);
        assert!(rig.lanes[lane].push(Descriptor { priority, ..base }).is_ok());
    }
    rig.lanes.iter_mut().for_each(|lane| {
        lane.publish();
    });
}

fn opened(district: u32, number: u32) -> Vec<u8> {
    format!(r#"{{"kind":"district_opened","producer":1,"sequence":{number},"team":1,"district":{district}}}"#)
        .into_bytes()
}

/// The article's head-of-line case: 8,000 players open one district, and all others have to wait. Not here.
#[test]
fn a_burst_of_less_urgent_events_does_not_block_urgent_ones() {
    let mut rig = Rig::with_chunks(8_200, 16_384);
    let burst = (0..8_000).map(|number| (1 + (number % 2) as u8, opened(0, number)));
    push_direct(&mut rig, burst.collect::<Vec<_>>());
    let urgent = (0..128).map(|number| (0, opened(1 + number % 2, number)));
    push_direct(&mut rig, urgent.collect::<Vec<_>>());
    let mut applied = [0; PRIORITIES];
    let mut steps = 0;
    while applied[0] < 128 {
        steps += 1;
        assert!(matches!(rig.core.step(), Step::Event { .. }));
        rig.core.flush();
        let output = *rig.ring.pop().unwrap();
        applied[usize::from(output.priority)] += 1;
    }
    assert!(steps <= 128 + 2 * (128 / OVERTAKING_MAX + 1), "{steps} steps for 128 urgent events");
}

#[test]
fn less_urgent_events_get_their_turn_while_urgent_ones_never_end() {
    let mut rig = Rig::with_chunks(2_048, 4_096);
    let all = (0..1_000).map(|number| (0, opened(0, number))).chain([(1, opened(1, 0)), (2, opened(2, 0))]);
    push_direct(&mut rig, all.collect::<Vec<_>>());
    rig.run(2 * (OVERTAKING_MAX as usize + 1));
    let early: Vec<u8> =
        std::iter::from_fn(|| rig.ring.pop().copied()).map(|output| output.priority).collect();
    assert!(early.contains(&1) && early.contains(&2), "each class was overtaken a bounded number of times");
}
