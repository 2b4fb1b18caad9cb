//! Executors: who reads an event's payload before the core applies it.
//!
//! Owns the trait between the core and whoever parses, and its two forms: [`Pinned`] and
//! [`work_stealing`]. Whoever parses, the core takes the events of a lane in the order in
//! which they were pushed: order per (source, partition, producer) is the lanes', in
//! every executor. The executor is bound when the engine is compiled: the pinned one
//! costs nothing on an event's way.

mod queue;
#[cfg(test)]
mod tests;
pub mod work_stealing;

use crate::parse::Refusal;
use crate::pool::{Chunk, Pool};
use crate::program::Schema;
use crate::ring::Descriptor;

/// An event as an executor's schema reads it.
pub type EventOf<'payload, X> = <<X as Executor>::Schema as Schema>::Event<'payload>;

/// Who reads payloads. Belongs to the core thread.
pub trait Executor: Send {
    /// What payloads look like.
    type Schema: Schema;

    /// Whether nobody else is reading the event just now.
    fn is_ready(&self, descriptor: &Descriptor) -> bool;

    /// Takes the event for the core. False while somebody else is reading it: its lane waits.
    fn claim(&mut self, descriptor: &Descriptor) -> bool;

    /// The event in the chunk, which was claimed before.
    fn read<'payload>(
        &mut self,
        descriptor: &Descriptor,
        pool: &'payload Pool,
        chunk: &'payload mut Chunk,
    ) -> Result<EventOf<'payload, Self>, Refusal>;
}

/// Everything on the core's own thread: an event is parsed and applied while it is in the cache.
#[derive(Debug)]
pub struct Pinned<S>(pub S);

impl<S: Schema> Executor for Pinned<S> {
    type Schema = S;

    #[inline(always)]
    fn is_ready(&self, _descriptor: &Descriptor) -> bool {
        true
    }

    #[inline(always)]
    fn claim(&mut self, _descriptor: &Descriptor) -> bool {
        true
    }

    #[inline(always)]
    fn read<'payload>(
        &mut self,
        descriptor: &Descriptor,
        pool: &'payload Pool,
        chunk: &'payload mut Chunk,
    ) -> Result<S::Event<'payload>, Refusal> {
        self.0.read(pool.payload(chunk, descriptor.length as usize).from_source(descriptor.source))
    }
}
