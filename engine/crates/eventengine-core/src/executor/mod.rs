//! Executors: who reads an event's payload before the core applies it.
//!
//! Owns the trait between the core and the threads that parse, and the executor
//! [`Pinned`]. Whoever parses, the core takes the events of a lane in the order in which
//! they were pushed: order per (source, partition, producer) is the lanes', in every
//! executor.

use crate::parse::{Payload, Refusal};
use crate::program::Schema;
use crate::ring::Descriptor;

/// An event as an executor's schema reads it.
pub type EventOf<'payload, X> = <<X as Executor>::Schema as Schema>::Event<'payload>;

/// Who reads payloads. Belongs to the core thread.
pub trait Executor: Send {
    /// What payloads look like.
    type Schema: Schema;

    /// Whether the event that is first in its lane can be taken now. If not, its lane waits.
    fn is_ready(&mut self, descriptor: &Descriptor) -> bool;

    /// The event in `payload`, which was found ready before and is the caller's.
    fn read<'payload>(
        &mut self,
        descriptor: &Descriptor,
        payload: Payload<'payload>,
    ) -> Result<EventOf<'payload, Self>, Refusal>;
}

/// Everything on the core's own thread: an event is parsed and applied while it is in the cache.
#[derive(Debug)]
pub struct Pinned<S>(pub S);

impl<S: Schema> Executor for Pinned<S> {
    type Schema = S;

    fn is_ready(&mut self, _descriptor: &Descriptor) -> bool {
        true
    }

    fn read<'payload>(
        &mut self,
        _descriptor: &Descriptor,
        payload: Payload<'payload>,
    ) -> Result<S::Event<'payload>, Refusal> {
        self.0.read(payload)
    }
}
