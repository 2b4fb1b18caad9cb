//! The core: one state machine between the rings of the I/O threads and the ring of the publisher.
//!
//! Owns the arena, the program and the position of every partition. [`Core::step`] does
//! one thing and returns; the caller brings the clock and decides how to wait. Nothing
//! here allocates, locks or makes a system call.
//!
//! Rules of order:
//! - Control descriptors are handled before the next event. An event counts only if its
//!   partition is open under the event's epoch and its offset was not applied before;
//!   others are dropped as stale, and that is what makes a repeated delivery harmless.
//! - An event's output goes into the event's own chunk and follows the event's order.
//! - A cut is made between two events. It holds exactly what the outputs before it did.
//! - Direct partitions (from [`DIRECT_BASE`]) live in memory only: no changelog, no offsets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::arena::{Arena, Key};
use crate::changelog::{KEY_BYTES, VALUE_BYTES_MAX, decode_key, decode_value, encode_key, encode_value};
use crate::cut::{CutWriter, Position};
use crate::parse::Reason;
use crate::pool::{Chunk, Pool, Releaser};
use crate::program::{Origin, Output, Program};
use crate::ring::{Consumer, Descriptor, Kind, LANE_CONTROL, Producer};
use crate::stats::{CoreStats, NO_POSITION};

/// Kafka partitions that the core can hold.
pub const KAFKA_PARTITIONS_MAX: usize = 1024;

/// Partitions of directly ingested events.
pub const DIRECT_PARTITIONS: usize = 64;

/// The first direct partition.
pub const DIRECT_BASE: u32 = KAFKA_PARTITIONS_MAX as u32;

/// All partitions.
pub const PARTITIONS: usize = KAFKA_PARTITIONS_MAX + DIRECT_PARTITIONS;

/// Slots that one event may change.
const SLOTS_PER_EVENT: usize = 2;

/// Places in the publish ring that events leave to control descriptors.
const PUBLISH_RESERVE: u64 = 64;

/// Events between two times that rings are released and published without being asked.
const BATCH: u32 = 32;

/// Bytes of a restored record's header: partition-less key, then the value's length.
pub const RESTORE_HEADER_BYTES: usize = KEY_BYTES + 2;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An event was applied or refused; it came in at this time.
    Event {
        /// When the event came in.
        ingested_at_nanoseconds: u64,
    },
    /// A control descriptor, a stale event or a cut was dealt with.
    Control,
    /// There is nothing to do.
    Idle,
    /// There are events, but the publisher has to catch up first.
    Blocked,
}

#[derive(Debug, Clone, Copy)]
struct PartitionState {
    epoch: u32,
    open: bool,
    moved: bool,
    failed: bool,
    position: i64,
}

const UNASSIGNED: PartitionState =
    PartitionState { epoch: 0, open: false, moved: false, failed: false, position: NO_POSITION };

/// The state machine's surroundings, made once by whoever starts the threads.
pub struct Parts {
    /// The slab.
    pub pool: Arc<Pool>,
    /// Lanes of each I/O thread.
    pub inputs: Vec<[Consumer; 3]>,
    /// The way to the publisher.
    pub publish: Producer,
    /// The core's side of the cuts.
    pub cut: CutWriter,
    /// Records that a cut has room for.
    pub cut_records: usize,
    /// Set by the publisher to ask for a cut.
    pub cut_requested: Arc<AtomicBool>,
    /// The page that the core writes.
    pub stats: Arc<CoreStats>,
}

/// See the module.
pub struct Core<P> {
    program: P,
    arena: Arena,
    pool: Arc<Pool>,
    releaser: Releaser,
    inputs: Vec<[Consumer; 3]>,
    next_input: usize,
    publish: Producer,
    cut: CutWriter,
    cut_records: usize,
    cut_requested: Arc<AtomicBool>,
    cut_ticket: u64,
    moved: Vec<u32>,
    partitions: Box<[PartitionState]>,
    scratch: Box<[u8]>,
    stats: Arc<CoreStats>,
    since_flush: u32,
}

impl<P: Program> Core<P> {
    /// A core with an empty state in which the direct partitions are open.
    pub fn new(program: P, arena: Arena, parts: Parts) -> Core<P> {
        let mut partitions = vec![UNASSIGNED; PARTITIONS].into_boxed_slice();
        for partition in &mut partitions[DIRECT_BASE as usize..] {
            *partition = PartitionState { open: true, position: 0, ..UNASSIGNED };
        }
        Core {
            program,
            arena,
            releaser: Releaser::new(&parts.pool),
            scratch: vec![0; parts.pool.chunk_bytes()].into_boxed_slice(),
            pool: parts.pool,
            inputs: parts.inputs,
            next_input: 0,
            publish: parts.publish,
            cut: parts.cut,
            cut_records: parts.cut_records,
            cut_requested: parts.cut_requested,
            cut_ticket: 0,
            moved: Vec::with_capacity(PARTITIONS),
            partitions,
            stats: parts.stats,
            since_flush: 0,
        }
    }

    /// The state.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Does the next thing: a control descriptor, a cut that is due, or one event.
    pub fn step(&mut self) -> Step {
        for input in 0..self.inputs.len() {
            if let Some(descriptor) = self.inputs[input][LANE_CONTROL].pop() {
                self.control(&descriptor);
                self.inputs[input][LANE_CONTROL].release();
                return Step::Control;
            }
        }
        if (self.cut_ticket != 0 || self.cut_requested.load(Ordering::Relaxed)) && self.try_cut() {
            return Step::Control;
        }
        if self.publish.free(PUBLISH_RESERVE + 1) <= PUBLISH_RESERVE || !self.has_room_for_changes() {
            return if self.has_events() { Step::Blocked } else { Step::Idle };
        }
        self.next_event()
    }

    /// Makes everything done so far visible to the other threads. Says whether the publisher has something new.
    pub fn flush(&mut self) -> bool {
        self.since_flush = 0;
        for lanes in &mut self.inputs {
            lanes.iter_mut().for_each(Consumer::release);
        }
        self.releaser.flush();
        self.stats.arena_in_use.set(u64::from(self.arena.in_use()));
        let millionths = (self.arena.fragmentation() * 1e6) as u64;
        self.stats.arena_fragmentation_millionths.set(millionths);
        self.publish.publish()
    }

    /// Whether enough was done since the last flush that others should see it.
    pub fn wants_flush(&self) -> bool {
        self.since_flush >= BATCH
    }

    /// Whether nothing waits in any lane.
    pub fn is_idle(&mut self) -> bool {
        self.inputs.iter_mut().flatten().all(Consumer::is_empty)
            && !(self.cut_requested.load(Ordering::Acquire) && self.cut.buffer().is_some())
    }

    fn has_events(&mut self) -> bool {
        self.inputs.iter_mut().any(|lanes| lanes[1..].iter_mut().any(|lane| !lane.is_empty()))
    }

    /// Whether the after-images of one more event surely fit into the next cut. If not, a cut is due.
    fn has_room_for_changes(&mut self) -> bool {
        let fits = self.arena.dirty_count() + SLOTS_PER_EVENT <= self.cut_records;
        if !fits {
            self.cut_requested.store(true, Ordering::Relaxed);
        }
        fits
    }

    fn next_event(&mut self) -> Step {
        let inputs = self.inputs.len();
        for lane in 1..3 {
            for turn in 0..inputs {
                let input = (self.next_input + turn) % inputs;
                if let Some(descriptor) = self.inputs[input][lane].pop() {
                    self.next_input = (input + 1) % inputs;
                    self.since_flush += 1;
                    return self.event(descriptor);
                }
            }
        }
        Step::Idle
    }

    /// Whether an event belongs to what its partition is now.
    fn is_current(&self, descriptor: &Descriptor) -> bool {
        self.partitions.get(descriptor.partition as usize).is_some_and(|partition| {
            partition.open && partition.epoch == descriptor.epoch && partition.position <= descriptor.offset
        })
    }

    fn event(&mut self, descriptor: Descriptor) -> Step {
        let direct = descriptor.partition >= DIRECT_BASE;
        if !direct && !self.is_current(&descriptor) {
            self.stats.stale.add(1);
            if let Ok(chunk) = self.pool.claim(descriptor.chunk) {
                self.releaser.release(chunk);
            }
            return Step::Control;
        }
        if descriptor.kind == Kind::EndOfPartition {
            self.move_to(descriptor.partition, descriptor.offset);
            return Step::Control;
        }
        let Ok(mut chunk) = self.pool.claim(descriptor.chunk) else {
            // An event without its chunk can't be applied; its position must not pass over it silently.
            self.refuse(descriptor, None, Reason::InvalidJson);
            return Step::Event { ingested_at_nanoseconds: descriptor.ingested_at_nanoseconds };
        };
        let applied = match descriptor.kind {
            Kind::Event => self.apply(&descriptor, &mut chunk),
            _ => Err(Reason::from_number(descriptor.reason).unwrap_or(Reason::InvalidJson)),
        };
        match applied {
            Ok(output) => {
                self.stats.applied.add(1);
                self.move_to(output.partition, output.offset + 1);
                self.emit(Descriptor { chunk: self.pool.send(chunk), ..output });
            }
            Err(reason) => {
                self.refuse(descriptor, Some(chunk), reason);
                if !direct {
                    self.move_to(descriptor.partition, descriptor.offset + 1);
                }
            }
        }
        Step::Event { ingested_at_nanoseconds: descriptor.ingested_at_nanoseconds }
    }

    /// Runs the program and leaves the output in the event's chunk.
    fn apply(&mut self, descriptor: &Descriptor, chunk: &mut Chunk) -> Result<Descriptor, Reason> {
        let payload = &self.pool.bytes(chunk)[..descriptor.length as usize];
        let event = self.program.read(payload)?;
        let routing = self.program.routing(&event);
        let origin = if descriptor.partition >= DIRECT_BASE {
            // A direct event comes without partition and offset: its key gives the one, its arrival the other.
            let partition = DIRECT_BASE + routing.district % DIRECT_PARTITIONS as u32;
            Origin { partition, offset: self.partitions[partition as usize].position }
        } else {
            Origin { partition: descriptor.partition, offset: descriptor.offset }
        };
        let mut output = Output::new(&mut self.scratch);
        self.program.apply(&event, origin, &mut self.arena, &mut output)?;
        let length = output.len();
        self.pool.bytes_mut(chunk)[..length].copy_from_slice(&self.scratch[..length]);
        Ok(Descriptor {
            kind: Kind::Output,
            partition: origin.partition,
            offset: origin.offset,
            length: length as u32,
            routing,
            ..*descriptor
        })
    }

    fn refuse(&mut self, descriptor: Descriptor, chunk: Option<Chunk>, reason: Reason) {
        self.stats.refused[reason as usize].add(1);
        let original_length = match descriptor.kind {
            Kind::Refused => descriptor.original_length,
            _ => descriptor.length,
        };
        self.emit(Descriptor {
            kind: Kind::DeadLetter,
            reason: reason as u8,
            chunk: chunk.map_or(crate::pool::RawChunk::NONE, |chunk| self.pool.send(chunk)),
            length: if descriptor.chunk.is_none() { 0 } else { descriptor.length },
            original_length,
            ..descriptor
        });
    }

    /// Pushes to the publisher. There is room: it was looked for before the event was taken.
    fn emit(&mut self, descriptor: Descriptor) {
        self.stats.uncut.store(true, Ordering::Relaxed);
        let pushed = self.publish.push(descriptor);
        assert!(pushed.is_ok(), "the publish ring had room before the event was taken");
    }

    fn move_to(&mut self, partition: u32, position: i64) {
        let state = &mut self.partitions[partition as usize];
        if position <= state.position {
            return;
        }
        state.position = position;
        self.stats.positions[partition as usize].store(position, Ordering::Relaxed);
        if !state.moved && partition < DIRECT_BASE {
            state.moved = true;
            self.moved.push(partition);
            self.stats.uncut.store(true, Ordering::Relaxed);
        }
    }

    fn control(&mut self, descriptor: &Descriptor) {
        match descriptor.kind {
            Kind::Restore => self.restore(descriptor),
            Kind::Barrier => self.cut_ticket = self.cut_ticket.max(descriptor.ticket),
            Kind::Reset => self.reset(descriptor),
            Kind::Assign => self.assign(descriptor),
            Kind::Close => {
                if let Some(partition) = self.partitions.get_mut(descriptor.partition as usize) {
                    partition.open = false;
                }
            }
            Kind::Drop => self.drop_partition(descriptor.partition),
            Kind::Event
            | Kind::Refused
            | Kind::EndOfPartition
            | Kind::Output
            | Kind::DeadLetter
            | Kind::Cut => {
                debug_assert!(false, "{:?} does not belong into the control lane", descriptor.kind);
            }
        }
    }

    /// Opens a partition whose state was put back before. `ticket` 1 says that its position is not committed yet.
    fn assign(&mut self, descriptor: &Descriptor) {
        let Some(partition) = self.partitions.get_mut(descriptor.partition as usize) else { return };
        if partition.failed {
            return;
        }
        *partition = PartitionState {
            epoch: descriptor.epoch,
            open: true,
            moved: false,
            failed: false,
            position: descriptor.offset,
        };
        self.moved.retain(|moved| *moved != descriptor.partition);
        if descriptor.ticket == 1 {
            partition.moved = true;
            self.moved.push(descriptor.partition);
            self.stats.uncut.store(true, Ordering::Relaxed);
        }
        self.stats.positions[descriptor.partition as usize].store(descriptor.offset, Ordering::Relaxed);
    }

    /// Puts the records of a chunk into the arena. A partition with a record that can't be held never opens.
    fn restore(&mut self, descriptor: &Descriptor) {
        let Ok(chunk) = self.pool.claim(descriptor.chunk) else { return };
        let bytes = &self.pool.bytes(&chunk)[..descriptor.length as usize];
        let mut rest = bytes;
        let mut restored = 0;
        let mut complete = true;
        while let Some((header, more)) = rest.split_first_chunk::<RESTORE_HEADER_BYTES>() {
            let length = usize::from(u16::from_le_bytes([header[KEY_BYTES], header[KEY_BYTES + 1]]));
            let (value, more) = more.split_at(length.min(more.len()));
            rest = more;
            let read = decode_key(descriptor.partition, &header[..KEY_BYTES])
                .and_then(|key| decode_value(value).map(|image| (key, image)));
            let slot = match read {
                Ok((key, image)) => Core::<P>::slot_for(&mut self.arena, key).map(|slot| (slot, image)),
                Err(_) => None,
            };
            match slot {
                Some((slot, image)) => {
                    self.arena.restore(slot, image.slot_version, image.payload);
                    restored += 1;
                }
                None => complete = false,
            }
        }
        self.releaser.release(chunk);
        self.stats.restored.add(restored);
        if !complete {
            self.stats.restore_failures.add(1);
            if let Some(partition) = self.partitions.get_mut(descriptor.partition as usize) {
                partition.failed = true;
            }
        }
    }

    fn slot_for(arena: &mut Arena, key: Key) -> Option<crate::arena::SlotId> {
        arena.find(&key).or_else(|| arena.acquire(key))
    }

    fn drop_partition(&mut self, partition: u32) {
        let Some(state) = self.partitions.get_mut(partition as usize) else { return };
        *state = PartitionState { epoch: state.epoch, ..UNASSIGNED };
        self.moved.retain(|moved| *moved != partition);
        self.arena.release_partition(partition);
        self.stats.positions[partition as usize].store(NO_POSITION, Ordering::Relaxed);
    }

    /// Drops the state of all Kafka partitions and tells the publisher where the new generation begins.
    fn reset(&mut self, descriptor: &Descriptor) {
        for partition in 0..DIRECT_BASE {
            if self.partitions[partition as usize].position != NO_POSITION
                || self.arena.slots_of(partition).next().is_some()
            {
                self.drop_partition(partition);
            }
        }
        self.cut_ticket = 0;
        self.emit(Descriptor { kind: Kind::Reset, ..*descriptor });
    }

    /// Hands positions and after-images to the publisher, if it has given the buffer back.
    fn try_cut(&mut self) -> bool {
        let Some(cut) = self.cut.buffer() else { return false };
        if self.publish.free(1) == 0 {
            return false;
        }
        cut.clear();
        let mut value = [0; VALUE_BYTES_MAX];
        for slot in self.arena.dirty() {
            let key = self.arena.key(slot);
            if key.partition < DIRECT_BASE {
                let length = encode_value(self.arena.version(slot), self.arena.payload(slot), &mut value);
                cut.push(key.partition, &encode_key(&key), &value[..length]);
            }
        }
        for partition in self.moved.drain(..) {
            let state = &mut self.partitions[partition as usize];
            state.moved = false;
            cut.positions.push(Position { partition, offset: state.position });
        }
        cut.ticket = std::mem::take(&mut self.cut_ticket);
        self.arena.clear_dirty();
        self.stats.uncut.store(false, Ordering::Relaxed);
        self.stats.cuts.add(1);
        self.cut_requested.store(false, Ordering::Relaxed);
        self.cut.hand_over();
        let pushed = self.publish.push(Descriptor::new(Kind::Cut));
        assert!(pushed.is_ok(), "the publish ring had room");
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::cut::{CutReader, exchange};
    use crate::parse::Limits;
    use crate::pool::Allocator;
    use crate::program::treasure_hunt::{Settings, TreasureHunt};
    use crate::ring::{LANE_EVENTS, lanes, ring};

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
        core: Core<TreasureHunt>,
        pool: Arc<Pool>,
        allocator: Allocator,
        lanes: [Producer; 3],
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
            let (pool, mut allocators) = Pool::new(1024, 64, 1);
            let (producers, consumers) = lanes();
            let (publish, ring) = ring(256);
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
                core: Core::new(TreasureHunt::new(SETTINGS, LIMITS), arena, parts),
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
                        self.lanes[LANE_EVENTS]
                            .push(Descriptor { kind: Kind::EndOfPartition, ..base })
                            .is_ok()
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
                let Some(descriptor) = self.ring.pop() else { break };
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
                broker.changelog.insert((record.partition, record.key.to_vec()), record.value.to_vec());
            }
            for position in &cut.positions {
                let before = broker.offsets.insert(position.partition, position.offset);
                assert!(
                    before.is_none_or(|before| before <= position.offset),
                    "committed offsets never go back"
                );
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
        let mut hunt = TreasureHunt::new(SETTINGS, LIMITS);
        let mut outputs = BTreeSet::new();
        for (partition, payloads) in source {
            for (offset, payload) in payloads.iter().enumerate() {
                let mut bytes = [0; 1024];
                let mut output = Output::new(&mut bytes);
                let origin = Origin { partition: *partition, offset: offset as i64 };
                let applied =
                    hunt.read(payload).and_then(|event| hunt.apply(&event, origin, &mut arena, &mut output));
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
}
