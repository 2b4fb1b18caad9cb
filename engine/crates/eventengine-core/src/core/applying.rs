//! One event: from its descriptor to its output or its refusal.
//!
//! Owns the choice of the next event and what a position means. A more urgent lane goes
//! first; the I/O threads take turns within a lane. The position of a partition only grows.

use std::sync::atomic::Ordering;

use super::{Core, DIRECT_BASE, DIRECT_PARTITIONS, OVERTAKING_MAX, Step};
use crate::executor::{EventOf, Executor};
use crate::parse::{Reason, Refusal};
use crate::pool::Chunk;
use crate::program::{Origin, Output, Program, Routing};
use crate::ring::{Descriptor, Kind, LANE_EVENTS, LANES};

/// Events between the next one and the one whose payload is asked for: it takes that long to come from the core that
/// wrote it.
const FETCHED_AHEAD: u64 = 4;

/// Events between the next one and the one that is read, so that it is known where to look for its slots.
const READ_AHEAD: u64 = 2;

/// Bytes of a chunk that an output usually takes.
const OUTPUT_BYTES_USUAL: usize = 360;

/// What came of an event: the output that lies in its chunk now.
struct Applied {
    origin: Origin,
    routing: Routing,
    length: u32,
}

/// The partition that an event belongs to. A direct one comes without: its key gives it.
#[inline(always)]
fn partition_of(descriptor: &Descriptor, routing: Routing) -> u32 {
    if descriptor.partition >= DIRECT_BASE {
        DIRECT_BASE + routing.district % DIRECT_PARTITIONS as u32
    } else {
        descriptor.partition
    }
}

impl<X: Executor, P: for<'payload> Program<EventOf<'payload, X>>> Core<X, P> {
    pub(super) fn next_event(&mut self) -> Step {
        let Some((lane, input)) = self.choose_next() else { return Step::Idle };
        let Some(&descriptor) = self.inputs[input][lane].pop() else { return Step::Idle };
        self.look_ahead(input, lane);
        self.overtaken[lane] = 0;
        for less_urgent in lane + 1..LANES {
            if self.inputs.iter_mut().any(|lanes| !lanes[less_urgent].is_empty()) {
                self.overtaken[less_urgent] += 1;
            }
        }
        self.since_flush += 1;
        self.event(&descriptor)
    }

    /// Lane and I/O thread of the next event: of a lane that was overtaken often enough, else of the most urgent one.
    fn choose_next(&mut self) -> Option<(usize, usize)> {
        let overdue = (LANE_EVENTS..LANES)
            .find(|lane| self.overtaken[*lane] >= OVERTAKING_MAX)
            .and_then(|lane| self.choose(lane));
        overdue.or_else(|| (LANE_EVENTS..LANES).find_map(|lane| self.choose(lane)))
    }

    /// The next event of a lane, the I/O threads in turn. One that is still being parsed holds up its lane only.
    fn choose(&mut self, lane: usize) -> Option<(usize, usize)> {
        let mut input = self.next_input;
        for _ in 0..self.inputs.len() {
            let next_input = if input + 1 == self.inputs.len() { 0 } else { input + 1 };
            let next = self.inputs[input][lane].peek();
            if next.is_some_and(|next| !next.kind.is_event() || self.executor.claim(next)) {
                self.next_input = next_input;
                return Some((lane, input));
            }
            input = next_input;
        }
        None
    }

    /// Asks for what the events behind the one that was taken are going to need, step by step, while it is applied: for a
    /// payload, then for where its slots are looked up, then for the slots.
    #[inline(always)]
    fn look_ahead(&mut self, input: usize, lane: usize) {
        let lane = &mut self.inputs[input][lane];
        lane.foresee(FETCHED_AHEAD, |later| {
            // Of one that its sender has read nothing is needed but the place of the output.
            let unread = if later.kind == Kind::ReadEvent { 0 } else { later.length as usize };
            self.pool.prefetch(later.chunk, unread.max(OUTPUT_BYTES_USUAL));
            self.executor.prefetch(later);
        });
        if let Some(later) = lane.peek_behind(READ_AHEAD).filter(|later| later.kind.is_event())
            // SAFETY: it waits in a lane of this core's, which is the only one to claim what comes through it.
            && let Some(event) = unsafe { self.executor.read_ahead(later, &self.pool) }
        {
            let partition = partition_of(later, self.program.routing(event));
            self.program.prefetch_place(event, partition, &self.arena);
            if let Some(identifiers) = &self.identifiers
                && let Some(fingerprint) = self.program.identifier(event)
            {
                identifiers.prefetch(fingerprint);
            }
        }
        if let Some(next) = lane.peek().filter(|next| next.kind.is_event())
            // SAFETY: as above.
            && let Some(event) = unsafe { self.executor.was_read(next) }
        {
            self.program.prefetch(event, partition_of(next, self.program.routing(event)), &self.arena);
        }
    }

    /// Whether an event belongs to what its partition is now.
    fn is_current(&self, descriptor: &Descriptor) -> bool {
        self.partitions.get(descriptor.partition as usize).is_some_and(|partition| {
            partition.open && partition.epoch == descriptor.epoch && partition.position <= descriptor.offset
        })
    }

    pub(super) fn event(&mut self, descriptor: &Descriptor) -> Step {
        let direct = descriptor.partition >= DIRECT_BASE;
        if !direct && !self.is_current(descriptor) {
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
        // SAFETY: it came through a lane of this core's.
        let Ok(mut chunk) = (unsafe { self.pool.claim_as_receiver(descriptor.chunk) }) else {
            // An event without its chunk can't be applied; its position must not pass over it silently.
            self.refuse(descriptor, None, Refusal::new(Reason::InvalidJson, 0));
            return Step::Event { ingested_at_nanoseconds: descriptor.ingested_at_nanoseconds };
        };
        let applied = match descriptor.kind {
            kind if kind.is_event() => self.apply(descriptor, &mut chunk),
            _ => {
                let reason = Reason::from_number(descriptor.reason).unwrap_or(Reason::InvalidJson);
                Err(Refusal::new(reason, descriptor.refusal_position() as usize))
            }
        };
        match applied {
            Ok(Applied { origin, routing, length }) => {
                self.stats.applied.add(1);
                self.move_to(origin.partition, origin.offset + 1);
                self.emit(Descriptor {
                    kind: Kind::Output,
                    partition: origin.partition,
                    offset: origin.offset,
                    length,
                    routing,
                    chunk: self.pool.send(chunk),
                    ..*descriptor
                });
            }
            Err(refusal) => {
                self.refuse(descriptor, Some(chunk), refusal);
                if !direct {
                    self.move_to(descriptor.partition, descriptor.offset + 1);
                }
            }
        }
        Step::Event { ingested_at_nanoseconds: descriptor.ingested_at_nanoseconds }
    }

    /// Runs the program and leaves the output in the event's chunk.
    fn apply(&mut self, descriptor: &Descriptor, chunk: &mut Chunk) -> Result<Applied, Refusal> {
        let event = self.executor.read(descriptor, &self.pool, chunk)?;
        let routing = self.program.routing(event);
        let partition = partition_of(descriptor, routing);
        let origin = if descriptor.partition >= DIRECT_BASE {
            // A direct event comes without an offset: its arrival gives it.
            Origin { partition, offset: self.partitions[partition as usize].position }
        } else {
            Origin { partition, offset: descriptor.offset }
        };
        self.arena.act_for(descriptor.source);
        let mut output = Output::new(&mut self.scratch);
        self.program
            .apply(event, origin, &mut self.arena, &mut output)
            .map_err(|reason| Refusal::new(reason, 0))?;
        if let Some(identifiers) = &mut self.identifiers
            && let Some(fingerprint) = self.program.identifier(event)
        {
            identifiers.see(fingerprint, descriptor.ingested_at_nanoseconds, &self.stats.identifiers);
        }
        let length = output.len();
        self.pool.bytes_mut(chunk)[..length].copy_from_slice(&self.scratch[..length]);
        Ok(Applied { origin, routing, length: length as u32 })
    }

    fn refuse(&mut self, descriptor: &Descriptor, chunk: Option<Chunk>, refusal: Refusal) {
        self.stats.refused[refusal.reason as usize].add(1);
        let original_length = match descriptor.kind {
            Kind::Refused => descriptor.original_length,
            _ => descriptor.length,
        };
        self.emit(Descriptor {
            kind: Kind::DeadLetter,
            reason: refusal.reason as u8,
            routing: Descriptor::refused_at(refusal.position),
            chunk: chunk.map_or(crate::pool::RawChunk::NONE, |chunk| self.pool.send(chunk)),
            length: if descriptor.chunk.is_none() { 0 } else { descriptor.length },
            original_length,
            ..*descriptor
        });
    }

    /// Pushes to the publisher. There is room: it was looked for before the event was taken.
    #[inline(always)]
    pub(super) fn emit(&mut self, descriptor: Descriptor) {
        self.stats.uncut.store(true, Ordering::Relaxed);
        let pushed = self.publish.push(descriptor);
        assert!(pushed.is_ok(), "the publish ring had room before the event was taken");
    }

    pub(super) fn move_to(&mut self, partition: u32, position: i64) {
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
}
