//! One engine of the simulation: a core, and in place of its threads a source, senders and a publisher.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eventengine_core::arena::{Arena, Settings};
use eventengine_core::core::{Core, DIRECT_BASE, PARTITIONS, Parts, Step};
use eventengine_core::cut::{CutReader, exchange};
use eventengine_core::executor::Feed;
use eventengine_core::executor::pinned::{Pinned, pinned};
use eventengine_core::executor::work_stealing::{WorkStealing, Worker, work_stealing};
use eventengine_core::pool::{Allocator, Pool, RawChunk, Releaser};
use eventengine_core::ring::{
    Consumer, Descriptor, Kind, LANE_CONTROL, LANE_EVENTS, LANES, Producer, lanes, ring,
};
use eventengine_core::shedding::{Admission, Shedding};
use eventengine_core::stats::CoreStats;

use crate::Random;
use crate::broker::{Broker, Produced};
use crate::ledger::{self, EntrySchema, Ledger};

const CHUNK_BYTES: usize = 512;
const CHUNKS: u32 = 96;
const CUT_RECORDS: usize = 24;
const CREDIT: u64 = 40;
const WORKERS: usize = 2;
/// Events that may wait before their senders read some themselves.
const BEHIND_EVENTS: u64 = 8;
/// Rounds that may pass before what is waited for counts as never coming.
const PATIENCE: usize = 10_000;

/// Which executor the engines of a run have.
#[derive(Debug, Clone, Copy)]
pub enum Executors {
    Pinned,
    WorkStealing,
}

enum Machine {
    Pinned(Core<Pinned<EntrySchema>, Ledger>),
    WorkStealing(Core<WorkStealing<EntrySchema>, Ledger>, Vec<Worker<EntrySchema>>),
}

/// One I/O thread's things.
struct Io {
    allocator: Allocator,
    lanes: [Producer; LANES],
    feed: Option<Box<dyn Feed>>,
    read_by_senders: u64,
}

/// What an engine went through.
#[derive(Debug, Default, Clone, Copy)]
pub struct Figures {
    pub exhausted: u64,
    pub shed: u64,
    pub direct: u64,
    pub rolled_back: u64,
    pub parsed_by_workers: u64,
    pub read_by_senders: u64,
}

/// See the module.
pub struct Node {
    machine: Machine,
    pool: Arc<Pool>,
    kafka: Io,
    direct: Io,
    shedding: Shedding,
    published: Consumer,
    cut: CutReader,
    cut_requested: Arc<AtomicBool>,
    releaser: Releaser,
    stats: Arc<CoreStats>,
    fetched: BTreeMap<u32, i64>,
    epochs: BTreeMap<u32, u32>,
    next_epoch: u32,
    transaction: Vec<Produced>,
    generation: u64,
    requested_generation: u64,
    tickets: u64,
    stuck: bool,
    /// Direct events that were taken and have no outcome yet, by priority.
    awaited: [VecDeque<u32>; 3],
    numbers: u32,
    figures: Figures,
}

impl Node {
    pub fn new(executors: Executors) -> Node {
        let (pool, mut allocators) = Pool::new(CHUNK_BYTES, CHUNKS, 2);
        let (publish, published) = ring(128);
        let (writer, cut) = exchange(PARTITIONS, CUT_RECORDS);
        let cut_requested = Arc::new(AtomicBool::new(false));
        let stats = Arc::new(CoreStats::new(PARTITIONS));
        let (kafka, direct) = (lanes(), lanes());
        let parts = Parts {
            pool: Arc::clone(&pool),
            inputs: vec![kafka.1, direct.1],
            publish,
            cut: writer,
            cut_records: CUT_RECORDS,
            cut_requested: Arc::clone(&cut_requested),
            stats: Arc::clone(&stats),
        };
        let arena = Arena::with_settings(&Settings {
            capacity: 4096,
            partitions: PARTITIONS as u32,
            seed: 1,
            undo_images: ledger::UNDO_IMAGES,
            checkpoints: 1,
            fragmentation_threshold: 0.2,
            ..Settings::default()
        })
        .expect("no tenant has a reserve");
        let (machine, mut feeds) = match executors {
            Executors::Pinned => {
                let (executor, feeds) = pinned(EntrySchema, &pool, 2, BEHIND_EVENTS);
                (Machine::Pinned(Core::new(executor, Ledger, arena, parts)), feeds)
            }
            Executors::WorkStealing => {
                let (executor, crew, feeds) = work_stealing(EntrySchema, &pool, WORKERS, 2);
                (Machine::WorkStealing(Core::new(executor, Ledger, arena, parts), crew), feeds)
            }
        };
        let mut io = |lanes: [Producer; LANES]| Io {
            allocator: allocators.pop().expect("one for each I/O thread"),
            lanes,
            feed: feeds.pop(),
            read_by_senders: 0,
        };
        let (kafka, direct) = (io(kafka.0), io(direct.0));
        Node {
            machine,
            shedding: Shedding::new(0.5, 1, direct.allocator.capacity(), CREDIT),
            kafka,
            direct,
            releaser: Releaser::new(&pool),
            pool,
            published,
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
            stuck: false,
            awaited: Default::default(),
            numbers: 0,
            figures: Figures::default(),
        }
    }

    pub fn figures(&self) -> Figures {
        let rolled_back = eventengine_core::parse::Reason::OutOfRange as usize;
        let parsed_by_workers = match &self.machine {
            Machine::Pinned(_) => 0,
            Machine::WorkStealing(_, crew) => crew.iter().map(|worker| worker.parsed().get()).sum(),
        };
        let rolled_back = self.stats.refused[rolled_back].get();
        let read_by_senders = self.kafka.read_by_senders + self.direct.read_by_senders;
        Figures { rolled_back, parsed_by_workers, read_by_senders, ..self.figures }
    }

    fn control(&mut self, descriptor: Descriptor) {
        assert!(self.kafka.lanes[LANE_CONTROL].push(descriptor).is_ok());
        self.kafka.lanes[LANE_CONTROL].publish();
    }

    /// Takes a partition: state from the changelog, position from the offsets.
    pub fn assign(&mut self, broker: &mut Broker, partition: u32) {
        self.reset_if_asked(broker);
        self.next_epoch += 1;
        let epoch = self.next_epoch;
        self.control(Descriptor { partition, ..Descriptor::new(Kind::Drop) });
        for (key, value) in broker.records(partition) {
            let mut bytes = key;
            bytes.extend((value.len() as u16).to_le_bytes());
            bytes.extend(value);
            let chunk = self.chunk_for_state(broker, &bytes);
            let length = bytes.len() as u32;
            self.control(Descriptor { partition, chunk, length, ..Descriptor::new(Kind::Restore) });
        }
        let start = broker.committed(partition);
        let offset = start.unwrap_or(0);
        let ticket = u64::from(start.is_none());
        self.control(Descriptor { partition, epoch, offset, ticket, ..Descriptor::new(Kind::Assign) });
        self.fetched.insert(partition, offset);
        self.epochs.insert(partition, epoch);
    }

    /// A chunk for restored state; the core and the publisher go on until there is one.
    fn chunk_for_state(&mut self, broker: &mut Broker, bytes: &[u8]) -> RawChunk {
        for _ in 0..PATIENCE {
            if let Some(mut chunk) = self.kafka.allocator.allocate() {
                self.pool.bytes_mut(&mut chunk)[..bytes.len()].copy_from_slice(bytes);
                return self.pool.send(chunk);
            }
            self.figures.exhausted += 1;
            self.stuck = false;
            self.run(100);
            self.publish(broker, usize::MAX, false);
        }
        panic!("the pool never had a chunk for restored state");
    }

    /// Fetches up to `count` events of a partition, and says where it ends once it is there.
    pub fn fetch(&mut self, broker: &Broker, partition: u32, count: usize) {
        let Some(&epoch) = self.epochs.get(&partition) else { return };
        for _ in 0..count {
            let offset = self.fetched[&partition];
            let base = Descriptor { partition, epoch, offset, ..Descriptor::new(Kind::Event) };
            let Some(payload) = broker.event(partition, offset) else {
                let end = Descriptor { kind: Kind::EndOfPartition, ..base };
                assert!(self.kafka.lanes[LANE_EVENTS].push(end).is_ok());
                break;
            };
            let Some(mut chunk) = self.kafka.allocator.allocate() else {
                self.figures.exhausted += 1;
                break;
            };
            self.pool.bytes_mut(&mut chunk)[..payload.len()].copy_from_slice(&payload);
            let chunk = self.pool.send(chunk);
            self.kafka.push(0, Descriptor { chunk, length: payload.len() as u32, ..base });
            self.fetched.insert(partition, offset + 1);
        }
        self.kafka.lanes[LANE_EVENTS].publish();
    }

    /// Senders try to send so many direct events.
    pub fn send(&mut self, random: &mut Random, count: usize) {
        for _ in 0..count {
            let payload = random.entry().payload();
            let priority = random.below(3) as u8;
            let waiting = self.direct.lanes[LANE_EVENTS..].iter_mut().map(Producer::in_use).sum();
            match self.shedding.admit(priority, self.direct.allocator.in_use(), waiting) {
                Admission::Shed => {
                    assert_ne!(priority, 0, "priority 0 is never shed");
                    self.figures.shed += 1;
                    continue;
                }
                Admission::Wait => continue,
                Admission::Take => {}
            }
            let mut chunk = self.direct.allocator.allocate().expect("there is room below the bound");
            self.pool.bytes_mut(&mut chunk)[..payload.len()].copy_from_slice(&payload);
            self.numbers += 1;
            let event = Descriptor {
                partition: DIRECT_BASE,
                priority,
                number: self.numbers,
                chunk: self.pool.send(chunk),
                length: payload.len() as u32,
                ..Descriptor::new(Kind::Event)
            };
            self.awaited[usize::from(priority)].push_back(self.numbers);
            self.figures.direct += 1;
            self.direct.push(usize::from(priority), event);
        }
        self.direct.lanes.iter_mut().for_each(|lane| {
            lane.publish();
        });
    }

    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let step = match &mut self.machine {
                Machine::Pinned(core) => core.step(),
                Machine::WorkStealing(core, _) => core.step(),
            };
            if step == Step::Idle {
                break;
            }
        }
        match &mut self.machine {
            Machine::Pinned(core) => core.flush(),
            Machine::WorkStealing(core, _) => core.flush(),
        };
    }

    /// Lets the workers, if there are any, parse so many events; in between they stall.
    pub fn work(&mut self, count: usize) {
        if let Machine::WorkStealing(_, crew) = &mut self.machine {
            for turn in 0..count {
                crew[turn % WORKERS].step();
            }
        }
    }

    pub fn ask_for_cut(&self) {
        self.cut_requested.store(true, Ordering::Relaxed);
    }

    /// The publisher gets stuck before its next commit.
    pub fn stick(&mut self) {
        self.stuck = true;
    }

    /// Takes what was published. `fail_commit` lets the next commit fail. Says which barrier was committed.
    pub fn publish(&mut self, broker: &mut Broker, count: usize, fail_commit: bool) -> u64 {
        let mut committed = 0;
        for _ in 0..count {
            if self.stuck && self.published.peek().is_some_and(|next| next.kind == Kind::Cut) {
                break;
            }
            let Some(&descriptor) = self.published.pop() else { break };
            let behind = self.requested_generation > self.generation;
            match descriptor.kind {
                Kind::Reset => self.generation = descriptor.ticket,
                Kind::Output | Kind::DeadLetter => self.take_outcome(&descriptor, behind),
                Kind::Cut if behind => self.cut.give_back(),
                Kind::Cut if fail_commit => {
                    self.cut.give_back();
                    self.abort();
                }
                Kind::Cut => {
                    let cut = self.cut.buffer().expect("a cut comes with its buffer");
                    broker.commit(cut, &mut self.transaction);
                    committed = committed.max(cut.ticket);
                    self.cut.give_back();
                }
                other => panic!("{other:?} in the publish ring"),
            }
        }
        self.published.release();
        self.releaser.flush();
        committed
    }

    fn take_outcome(&mut self, descriptor: &Descriptor, behind: bool) {
        let chunk = self.pool.claim(descriptor.chunk).expect("an outcome has its chunk");
        let bytes = self.pool.bytes(&chunk)[..descriptor.length as usize].to_vec();
        self.releaser.release(chunk);
        if descriptor.partition >= DIRECT_BASE {
            let first = self.awaited[usize::from(descriptor.priority)].pop_front();
            assert_eq!(first, Some(descriptor.number), "one outcome each, in the order of the priority");
        } else if !behind {
            self.transaction.push((descriptor.partition, descriptor.offset, bytes));
        }
    }

    fn abort(&mut self) {
        self.transaction.clear();
        self.requested_generation = self.generation + 1;
    }

    /// The source notices that a reset was asked for.
    pub fn reset_if_asked(&mut self, broker: &mut Broker) {
        if self.requested_generation <= self.generation {
            return;
        }
        let ticket = self.requested_generation;
        self.control(Descriptor { ticket, ..Descriptor::new(Kind::Reset) });
        self.stuck = false;
        for _ in 0..PATIENCE {
            if self.generation >= ticket {
                break;
            }
            self.run(100);
            self.publish(broker, usize::MAX, false);
        }
        assert!(self.generation >= ticket, "the core answers a reset");
        let owned: Vec<u32> = self.epochs.keys().copied().collect();
        owned.into_iter().for_each(|partition| self.assign(broker, partition));
    }

    /// Gives a partition up, with everything applied committed first.
    pub fn revoke(&mut self, broker: &mut Broker, partition: u32) {
        self.epochs.remove(&partition);
        self.tickets += 1;
        let ticket = self.tickets;
        self.control(Descriptor { partition, ..Descriptor::new(Kind::Close) });
        self.control(Descriptor { ticket, ..Descriptor::new(Kind::Barrier) });
        self.stuck = false;
        for _ in 0..PATIENCE {
            self.run(100);
            if self.publish(broker, usize::MAX, false) >= ticket {
                self.control(Descriptor { partition, ..Descriptor::new(Kind::Drop) });
                return;
            }
        }
        panic!("the barrier of a revocation was never committed");
    }

    /// A partition is gone before what was applied could be committed: everything begins anew.
    pub fn lose(&mut self, broker: &mut Broker, partition: u32) {
        self.epochs.remove(&partition);
        self.control(Descriptor { partition, ..Descriptor::new(Kind::Close) });
        self.abort();
        self.reset_if_asked(broker);
    }

    /// One round of everything, with nothing in the way.
    pub fn come_to_rest(&mut self, broker: &mut Broker) {
        self.stuck = false;
        self.work(1_000);
        self.run(1_000);
        self.ask_for_cut();
        self.run(1_000);
        self.publish(broker, usize::MAX, false);
    }

    /// Whether nothing is on its way.
    pub fn is_settled(&self) -> bool {
        self.awaited.iter().all(VecDeque::is_empty) && self.pool.in_use() == 0
    }

    pub fn assert_at_rest(&self) {
        assert!(self.awaited.iter().all(VecDeque::is_empty), "every direct event has its outcome");
        assert_eq!(self.pool.in_use(), 0, "every chunk came back");
    }
}

impl Io {
    fn push(&mut self, priority: usize, mut descriptor: Descriptor) {
        let lane = &mut self.lanes[LANE_EVENTS + priority];
        if let (Kind::Event, Some(feed)) = (descriptor.kind, &mut self.feed) {
            descriptor.kind = feed.offer(descriptor.chunk, descriptor.length, descriptor.source, lane);
        }
        self.read_by_senders += u64::from(descriptor.kind == Kind::ReadEvent);
        assert!(lane.push(descriptor).is_ok());
    }
}
