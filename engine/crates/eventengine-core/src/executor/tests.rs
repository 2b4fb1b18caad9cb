//! Both executors give every event its output once and in its producer's order, however workers stall.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::pinned::{Pinned, pinned};
use super::work_stealing::{Job, Worker, work_stealing};
use super::*;
use crate::arena::Arena;
use crate::core::{Core, DIRECT_BASE, PARTITIONS, Parts, Step};
use crate::cut::exchange;
use crate::parse::{Payload, Reason};
use crate::pool::{Allocator, Pool, Releaser};
use crate::program::{Origin, Output, Program, Routing};
use crate::ring::{Consumer, Kind, LANE_CONTROL, LANE_EVENTS, LANES, Producer, lanes, ring};
use crate::stats::CoreStats;

const IO_THREADS: usize = 2;
const WORKERS: usize = 3;
const KAFKA_PARTITIONS: u32 = 5;
const CONNECTIONS: u64 = 4;

thread_local! {
    /// Payloads that this thread has read.
    static READS: Cell<u64> = const { Cell::new(0) };
}

/// A schema whose events are the payloads themselves, borrowed.
#[derive(Clone)]
struct Text;

impl Schema for Text {
    type Event<'payload> = &'payload [u8];

    fn read<'payload>(&mut self, payload: Payload<'payload>) -> Result<&'payload [u8], Refusal> {
        READS.set(READS.get() + 1);
        let bytes = payload.bytes();
        if bytes.first() == Some(&b'!') { Err(Refusal::new(Reason::InvalidJson, 0)) } else { Ok(bytes) }
    }
}

/// A program that says what it got.
struct Echo;

impl Program<&[u8]> for Echo {
    const SLOTS_PER_EVENT_MAX: usize = 0;

    fn routing(&self, event: &&[u8]) -> Routing {
        Routing { district: event.len() as u32, team: 0 }
    }

    fn apply(
        &mut self,
        event: &&[u8],
        _: Origin,
        _: &mut Arena,
        output: &mut Output<'_>,
    ) -> Result<(), Reason> {
        output.text(std::str::from_utf8(event).map_err(|_| Reason::InvalidUtf8)?);
        Ok(())
    }
}

/// One I/O thread's things.
struct Io {
    allocator: Allocator,
    lanes: [Producer; LANES],
    feed: Box<dyn Feed>,
}

/// A core with everything around it; the test is all of its threads.
struct Rig<X: Executor> {
    core: Core<X, Echo>,
    pool: Arc<Pool>,
    io: Vec<Io>,
    published: Consumer,
    releaser: Releaser,
    sent: BTreeMap<(u32, u64, u8), Vec<String>>,
    received: BTreeMap<(u32, u64, u8), Vec<String>>,
}

fn pool() -> (Arc<Pool>, Vec<Allocator>) {
    Pool::new(64, 64, IO_THREADS as u32)
}

/// The pinned executor, whose I/O threads help while more than so many events wait.
fn pinned_rig(behind_events: u64) -> Rig<Pinned<Text>> {
    let (pool, allocators) = pool();
    let (executor, feeds) = pinned(Text, &pool, IO_THREADS, behind_events);
    Rig::new(executor, pool, allocators, feeds)
}

/// No I/O thread ever helps.
const NEVER: u64 = u64::MAX;

impl<X: Executor<Schema = Text>> Rig<X> {
    fn new(executor: X, pool: Arc<Pool>, allocators: Vec<Allocator>, feeds: Feeds) -> Rig<X> {
        let (publish, published) = ring(256);
        let (cut, _) = exchange(PARTITIONS, 1);
        let (producers, consumers): (Vec<_>, Vec<_>) = (0..IO_THREADS).map(|_| lanes()).unzip();
        let parts = Parts {
            pool: Arc::clone(&pool),
            inputs: consumers,
            publish,
            cut,
            cut_records: 1,
            cut_requested: Arc::new(AtomicBool::new(false)),
            stats: Arc::new(CoreStats::new(PARTITIONS)),
        };
        let io = allocators.into_iter().zip(producers).zip(feeds);
        let mut rig = Rig {
            core: Core::new(executor, Echo, Arena::new(64, PARTITIONS as u32, 1), parts),
            releaser: Releaser::new(&pool),
            pool,
            io: io.map(|((allocator, lanes), feed)| Io { allocator, lanes, feed }).collect(),
            published,
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
        };
        for partition in 0..KAFKA_PARTITIONS {
            let assign = Descriptor { partition, epoch: 1, ..Descriptor::new(Kind::Assign) };
            assert!(rig.io[0].lanes[LANE_CONTROL].push(assign).is_ok());
        }
        rig.io[0].lanes[LANE_CONTROL].publish();
        rig.run(KAFKA_PARTITIONS as usize);
        rig
    }

    /// Sends one event of a stream; nothing happens while the pool is empty.
    fn send(&mut self, io: usize, partition: u32, producer: u64, priority: u8, broken: bool) {
        let sent = self.sent.entry((partition, producer, priority)).or_default();
        let Some(mut chunk) = self.io[io].allocator.allocate() else { return };
        let number = sent.len();
        let text = format!("{}{partition}/{producer}/{priority}/{number}", if broken { "!" } else { "" });
        self.pool.bytes_mut(&mut chunk)[..text.len()].copy_from_slice(text.as_bytes());
        let mut descriptor = Descriptor {
            partition,
            epoch: 1,
            offset: number as i64,
            ticket: producer,
            priority,
            length: text.len() as u32,
            chunk: self.pool.send(chunk),
            ..Descriptor::new(Kind::Event)
        };
        let io = &mut self.io[io];
        let lane = &mut io.lanes[LANE_EVENTS + usize::from(priority)];
        descriptor.kind = io.feed.offer(descriptor.chunk, descriptor.length, descriptor.source, lane);
        assert!(lane.push(descriptor).is_ok());
        lane.publish();
        sent.push(text);
    }

    /// Lets the core do up to so many steps and takes what it published.
    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            if self.core.step() == Step::Idle {
                break;
            }
        }
        self.core.flush();
        while let Some(&descriptor) = self.published.pop() {
            let chunk = self.pool.claim(descriptor.chunk).unwrap();
            let bytes = &self.pool.bytes(&chunk)[..descriptor.length as usize];
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(descriptor.kind == Kind::DeadLetter, text.starts_with('!'));
            // Outputs of direct events carry the partition that the core gave them: the text names the sender's.
            let partition = text.trim_start_matches('!').split('/').next().unwrap().parse().unwrap();
            self.received.entry((partition, descriptor.ticket, descriptor.priority)).or_default().push(text);
            self.releaser.release(chunk);
        }
        self.published.release();
        self.releaser.flush();
    }

    fn assert_order(&self) {
        for (stream, received) in &self.received {
            assert_eq!(received[..], self.sent[stream][..received.len()], "in the order of {stream:?}");
        }
    }

    fn assert_complete(&self) {
        self.assert_order();
        let count = |texts: &BTreeMap<_, Vec<String>>| texts.values().map(Vec::len).sum::<usize>();
        assert_eq!(count(&self.received), count(&self.sent), "every event has one outcome");
        assert_eq!(self.pool.in_use(), 0, "every chunk came back");
    }
}

#[derive(Debug, Clone)]
enum Act {
    Kafka(u32, bool),
    Direct(u64, u8, bool),
    /// A worker takes an event, and stalls.
    Begin(usize),
    /// A stalled worker goes on.
    Finish(usize),
    Run(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let broken = prop::bool::weighted(0.1);
    let act = prop_oneof![
        4 => (0..KAFKA_PARTITIONS, broken).prop_map(|(partition, broken)| Act::Kafka(partition, broken)),
        4 => (0..CONNECTIONS, 0..3_u8, broken).prop_map(|(producer, priority, broken)| Act::Direct(producer, priority, broken)),
        4 => (0..WORKERS).prop_map(Act::Begin),
        3 => (0..WORKERS).prop_map(Act::Finish),
        3 => (1..8_usize).prop_map(Act::Run),
    ];
    proptest::collection::vec(act, 0..300)
}

fn play<X: Executor<Schema = Text>>(rig: &mut Rig<X>, workers: &mut [Worker<Text>], acts: Vec<Act>) {
    let mut stalled: Vec<Option<Job>> = workers.iter().map(|_| None).collect();
    for act in acts {
        match act {
            Act::Kafka(partition, broken) => rig.send(0, partition, 0, 0, broken),
            Act::Direct(producer, priority, broken) => rig.send(1, DIRECT_BASE, producer, priority, broken),
            Act::Begin(worker) if worker < workers.len() && stalled[worker].is_none() => {
                stalled[worker] = workers[worker].next().and_then(|item| workers[worker].begin(item));
            }
            Act::Finish(worker) if worker < workers.len() => {
                if let Some(job) = stalled[worker].take() {
                    workers[worker].finish(job);
                }
            }
            Act::Begin(_) | Act::Finish(_) => {}
            Act::Run(steps) => rig.run(steps),
        }
        rig.assert_order();
    }
    for (worker, job) in workers.iter_mut().zip(stalled) {
        job.into_iter().for_each(|job| worker.finish(job));
    }
    rig.run(usize::MAX);
    rig.assert_complete();
}

proptest! {
    #[test]
    fn the_pinned_executor_keeps_every_producers_order(acts in acts(), behind_events in 0..6_u64) {
        play(&mut pinned_rig(behind_events), &mut [], acts);
    }

    #[test]
    fn the_work_stealing_executor_keeps_every_producers_order(acts in acts()) {
        let (pool, allocators) = pool();
        let (executor, mut workers, feeds) = work_stealing(Text, &pool, WORKERS, IO_THREADS);
        let mut rig = Rig::new(executor, pool, allocators, feeds);
        play(&mut rig, &mut workers, acts);
    }
}

#[test]
fn the_pinned_executor_reads_ahead_and_yet_every_payload_once_whatever_overtakes_it() {
    let mut rig = pinned_rig(NEVER);
    for number in 0..3 {
        rig.send(0, DIRECT_BASE, 1, 2, number == 1);
    }
    READS.set(0);
    rig.run(1);
    assert_eq!(READS.get(), 2, "the first one, and the one behind it");
    // More urgent ones come first; what was read of the other lane waits.
    for number in 0..3 {
        rig.send(1, DIRECT_BASE, 2, 0, number == 0);
    }
    rig.run(100);
    assert_eq!(READS.get(), 6);
    rig.assert_complete();
}

#[test]
fn an_io_thread_reads_what_it_sends_while_the_core_is_behind_and_no_payload_is_read_twice() {
    let mut rig = pinned_rig(4);
    READS.set(0);
    for number in 0..20 {
        rig.send(0, DIRECT_BASE, 1, 1, number % 5 == 4);
    }
    assert_eq!(READS.get(), 15, "all but the five that were sent while no more than four waited");
    rig.send(0, DIRECT_BASE, 1, 0, false);
    assert_eq!(READS.get(), 15, "nothing waits in the other lane");
    rig.run(100);
    assert_eq!(READS.get(), 21);
    rig.send(0, DIRECT_BASE, 1, 1, false);
    assert_eq!(READS.get(), 21, "the core has caught up");
    rig.run(100);
    rig.assert_complete();
}

#[test]
fn an_event_that_was_read_ahead_of_the_end_of_its_partition_is_never_taken_for_a_later_one() {
    let mut rig = pinned_rig(NEVER);
    rig.send(0, 0, 0, 0, false);
    rig.send(0, 0, 0, 0, false);
    rig.run(1);
    let close = Descriptor { partition: 0, ..Descriptor::new(Kind::Close) };
    assert!(rig.io[0].lanes[LANE_CONTROL].push(close).is_ok());
    rig.io[0].lanes[LANE_CONTROL].publish();
    rig.run(100);
    assert_eq!(rig.received.values().map(Vec::len).sum::<usize>(), 1, "the second one came too late");
    // The chunk that was read ahead is used again, by another event.
    for _ in 0..40 {
        rig.send(0, 1, 0, 0, false);
    }
    rig.run(200);
    assert_eq!(rig.received[&(1, 0, 0)], rig.sent[&(1, 0, 0)]);
}

#[test]
fn a_stalled_worker_holds_up_its_events_lane_and_no_other() {
    let (pool, allocators) = pool();
    let (executor, mut workers, feeds) = work_stealing(Text, &pool, WORKERS, IO_THREADS);
    let mut rig = Rig::new(executor, pool, allocators, feeds);
    rig.send(0, 0, 0, 0, false);
    let item = workers[0].next().unwrap();
    let job = workers[0].begin(item).unwrap();
    rig.send(0, 1, 0, 0, false);
    rig.send(1, DIRECT_BASE, 7, 0, false);
    rig.send(1, DIRECT_BASE, 7, 2, false);
    rig.run(10);
    assert_eq!(rig.received.len(), 2, "the direct events of both priorities went on");
    assert!(rig.core.is_idle(), "there is nothing to spin for");
    workers[0].finish(job);
    assert!(!rig.core.is_idle());
    rig.run(10);
    rig.assert_complete();
}

#[test]
fn what_no_worker_has_begun_the_core_parses_itself() {
    let (pool, allocators) = pool();
    let (executor, mut workers, feeds) = work_stealing(Text, &pool, 1, IO_THREADS);
    let mut rig = Rig::new(executor, pool, allocators, feeds);
    for _ in 0..20 {
        rig.send(0, 0, 0, 0, false);
    }
    rig.run(100);
    rig.assert_complete();
    rig.send(0, 0, 0, 0, false);
    while workers[0].step() {}
    assert_eq!(workers[0].parsed().get(), 1, "what the core did before is forgotten, what is new is parsed");
    rig.run(100);
    rig.assert_complete();
}

/// Threads as in an engine: I/O, workers and the core, on as many CPUs as there are.
#[test]
fn workers_on_their_own_threads_lose_nothing_and_keep_the_order() {
    const ROUNDS_MAX: u32 = 50_000_000;
    let rounds = if crate::sync::is_checked_slowly() { 50 } else { 20_000 };
    let (pool, allocators) = pool();
    let (executor, workers, feeds) = work_stealing(Text, &pool, WORKERS, IO_THREADS);
    let mut rig = Rig::new(executor, pool, allocators, feeds);
    let stop = AtomicBool::new(false);
    let parsed: Vec<_> = workers.iter().map(Worker::parsed).collect();
    std::thread::scope(|scope| {
        for mut worker in workers {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    if !worker.step() {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let helped = || parsed.iter().any(|parsed| parsed.get() > 0);
        for round in 0..ROUNDS_MAX {
            if round >= rounds && helped() {
                break;
            }
            rig.send(0, round % KAFKA_PARTITIONS, 0, 0, round % 17 == 0);
            rig.send(1, DIRECT_BASE, u64::from(round) % CONNECTIONS, (round % 3) as u8, false);
            if round % 5 == 0 {
                rig.run(8);
            }
            if round % 97 == 0 {
                std::thread::yield_now();
            }
        }
        while rig.pool.in_use() > 0 {
            rig.run(64);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    rig.assert_complete();
    assert!(parsed.iter().any(|parsed| parsed.get() > 0), "the workers helped");
}
