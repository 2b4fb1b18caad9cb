//! The work-stealing executor: workers parse ahead of the core, which applies in order.
//!
//! Owns the way of an event's payload to a worker and of the parsed event back. An I/O
//! thread offers each event to a worker's queue through its [`Feed`] and pushes the
//! descriptor into its lane as ever. Workers take from their own queues, else from each
//! other's. The parsed event lies in a table beside the slab, at its chunk's place.
//!
//! Rules of order and ownership:
//! - Who reads an event is settled by one compare-and-swap on its chunk's state: a worker,
//!   or the core, which takes what nobody has begun. So nothing waits in a queue while the
//!   core is idle, a stalled worker holds up no more than the event in its hands, and a
//!   full queue costs nothing but the help.
//! - The core takes a lane's events in order and leaves a lane whose first event is in a
//!   worker's hands. Other lanes go on.
//! - A state carries the chunk's generation: what a queue still holds of a chunk that was
//!   used again is recognised and forgotten.
//! - A worker touches a chunk only between taking and finishing its event, and the core
//!   claims the chunk only before or after.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::parsed::{Parsed, ParsedEvents};
use super::queue::{Filler, Taker, queue};
use super::{EventOf, Executor, Feed, Feeds};
use crate::parse::Refusal;
use crate::pool::{Chunk, Pool, RawChunk};
use crate::program::Schema;
use crate::ring::{Descriptor, Kind, Producer};
use crate::stats::Counter;
use crate::sync::AtomicU32;

/// Workers of one engine, at most.
pub const WORKERS_MAX: usize = 16;

/// Events that wait for one worker from one I/O thread, at most. More stay with the core.
const QUEUE_ITEMS: usize = if cfg!(loom) { 2 } else { 1024 };

// A chunk's generation leaves the two lowest bits free.
const STATE_MASK: u32 = 0b11;
/// Offered to the workers.
const RAW: u32 = 1;
/// In the hands of a worker, or of the core.
const TAKEN: u32 = 2;
/// In the table.
const PARSED: u32 = 3;

/// What is known of the event in each chunk.
struct States {
    states: Box<[AtomicU32]>,
    origins: Box<[AtomicU32]>,
}

/// The core's side.
pub struct WorkStealing<S: Schema> {
    schema: S,
    states: Arc<States>,
    events: Arc<ParsedEvents<S>>,
    /// Of an event that no worker took.
    claimed: Option<Parsed<S>>,
}

/// An I/O thread's side.
struct Queues {
    states: Arc<States>,
    queues: Box<[Filler]>,
    next: usize,
}

/// A worker's side. Belongs to one thread, which brings the waiting.
pub struct Worker<S: Schema> {
    schema: S,
    states: Arc<States>,
    events: Arc<ParsedEvents<S>>,
    /// Its own queues first, then those of the others.
    queues: Box<[Taker]>,
    parsed: Arc<Counter>,
}

/// An event in a worker's hands.
pub(super) struct Job(RawChunk);

/// An executor with its workers and the feeds of so many I/O threads.
///
/// # Panics
/// If there is no worker, or more than [`WORKERS_MAX`].
pub fn work_stealing<S: Schema>(
    schema: S,
    pool: &Arc<Pool>,
    workers: usize,
    io_threads: usize,
) -> (WorkStealing<S>, Vec<Worker<S>>, Feeds) {
    assert!((1..=WORKERS_MAX).contains(&workers));
    let chunks = 0..pool.chunks();
    let states = Arc::new(States {
        states: chunks.clone().map(|_| AtomicU32::new(0)).collect(),
        origins: chunks.map(|_| AtomicU32::new(0)).collect(),
    });
    let events = Arc::new(ParsedEvents::new(pool));
    let mut takers: Vec<Vec<Taker>> = vec![Vec::new(); workers];
    let mut feeds = Feeds::new();
    for _ in 0..io_threads {
        let queues = takers.iter_mut().map(|takers| {
            let (filler, taker) = queue(QUEUE_ITEMS);
            takers.push(taker);
            filler
        });
        feeds.push(Box::new(Queues { queues: queues.collect(), states: Arc::clone(&states), next: 0 }));
    }
    let crew = (0..workers).map(|first| Worker {
        schema: schema.clone(),
        states: Arc::clone(&states),
        events: Arc::clone(&events),
        queues: (0..workers).flat_map(|turn| takers[(first + turn) % workers].iter().cloned()).collect(),
        parsed: Arc::default(),
    });
    let crew = crew.collect();
    (WorkStealing { schema, states, events, claimed: None }, crew, feeds)
}

/// Length and source of a chunk's payload in one word: no chunk is as long as 16 MiB.
const SOURCE_SHIFT: u32 = 24;
const LENGTH_MASK: u32 = (1 << SOURCE_SHIFT) - 1;

fn origin(length: u32, source: u8) -> u32 {
    debug_assert!(length <= LENGTH_MASK);
    length | u32::from(source) << SOURCE_SHIFT
}

fn pack(chunk: RawChunk) -> u64 {
    u64::from(chunk.generation) << 32 | u64::from(chunk.index)
}

fn unpack(item: u64) -> RawChunk {
    RawChunk { index: item as u32, generation: (item >> 32) as u32 }
}

impl States {
    /// Takes an event that nobody has begun.
    fn take(&self, chunk: RawChunk) -> Result<(), u32> {
        let state = &self.states[chunk.index as usize];
        let (raw, taken) = (chunk.generation | RAW, chunk.generation | TAKEN);
        state.compare_exchange(raw, taken, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }

    fn of(&self, chunk: RawChunk) -> u32 {
        let state = self.states[chunk.index as usize].load(Ordering::Acquire);
        if state & !STATE_MASK == chunk.generation { state & STATE_MASK } else { 0 }
    }
}

impl Feed for Queues {
    fn offer(&mut self, chunk: RawChunk, length: u32, source: u8, _: &mut Producer) -> Kind {
        let state = &self.states.states[chunk.index as usize];
        self.states.origins[chunk.index as usize].store(origin(length, source), Ordering::Relaxed);
        state.store(chunk.generation | RAW, Ordering::Release);
        for _ in 0..self.queues.len() {
            self.next = (self.next + 1) % self.queues.len();
            if self.queues[self.next].push(pack(chunk)) {
                break;
            }
        }
        Kind::Event
    }
}

impl<S: Schema> Worker<S> {
    /// Takes and parses one event. False if there was none.
    pub fn step(&mut self) -> bool {
        let Some(item) = self.queues.iter().find_map(Taker::pop) else { return false };
        if let Some(job) = self.begin(item) {
            self.finish(job);
        }
        true
    }

    /// Whether no event waits.
    pub fn is_idle(&self) -> bool {
        self.queues.iter().all(Taker::is_empty)
    }

    /// Events that this worker has parsed.
    pub fn parsed(&self) -> Arc<Counter> {
        Arc::clone(&self.parsed)
    }

    /// Takes the event of a queue's item, unless the core has taken it.
    pub(super) fn begin(&mut self, item: u64) -> Option<Job> {
        let chunk = unpack(item);
        self.states.take(chunk).ok().map(|()| Job(chunk))
    }

    /// The next item of the queues.
    #[cfg(test)]
    pub(super) fn next(&mut self) -> Option<u64> {
        self.queues.iter().find_map(Taker::pop)
    }

    pub(super) fn finish(&mut self, job: Job) {
        let Job(chunk) = job;
        let index = chunk.index as usize;
        let origin = self.states.origins[index].load(Ordering::Relaxed);
        let (length, source) = (origin & LENGTH_MASK, (origin >> SOURCE_SHIFT) as u8);
        // SAFETY: the core touches a chunk and its place only when its event is in nobody else's hands, and it is in ours.
        unsafe { self.events.read(&mut self.schema, chunk, length, source) };
        self.states.states[index].store(chunk.generation | PARSED, Ordering::Release);
        self.parsed.add(1);
    }
}

impl<S: Schema> Executor for WorkStealing<S> {
    type Schema = S;

    fn is_ready(&self, descriptor: &Descriptor) -> bool {
        descriptor.chunk.is_none() || self.states.of(descriptor.chunk) != TAKEN
    }

    fn claim(&mut self, descriptor: &Descriptor) -> bool {
        if descriptor.chunk.is_none() || self.states.take(descriptor.chunk).is_ok() {
            return true;
        }
        self.states.of(descriptor.chunk) != TAKEN
    }

    unsafe fn read_ahead<'a>(
        &'a mut self,
        _descriptor: &Descriptor,
        _pool: &'a Pool,
    ) -> Option<&'a EventOf<'a, Self>> {
        None
    }

    unsafe fn was_read<'a>(&'a self, _descriptor: &Descriptor) -> Option<&'a EventOf<'a, Self>> {
        None
    }

    fn read<'a>(
        &'a mut self,
        descriptor: &Descriptor,
        pool: &'a Pool,
        held: &'a mut Chunk,
    ) -> Result<&'a EventOf<'a, Self>, Refusal> {
        let Descriptor { length, source, .. } = *descriptor;
        let chunk = held.raw();
        // SAFETY: the chunk is borrowed, and with it what the event borrows. If the state says that a worker is done with
        // it, nobody writes there until the chunk is used again.
        unsafe {
            if self.states.of(chunk) == PARSED
                && let Some(parsed) = self.events.get(chunk)
            {
                return parsed.event();
            }
            self.claimed.insert(Parsed::read(&mut self.schema, pool, chunk, length, source)).event()
        }
    }
}
