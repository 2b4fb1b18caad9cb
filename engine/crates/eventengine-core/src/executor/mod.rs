//! Executors: who reads an event's payload before the core applies it.
//!
//! Owns the traits between the core and whoever parses, and their two forms: [`pinned`] and
//! [`work_stealing`]. Whoever parses, the core takes the events of a lane in the order in
//! which they were pushed: order per (source, partition, producer) is the lanes', in
//! every executor. The executor is bound when the engine is compiled: the pinned one
//! costs nothing on an event's way.

mod parsed;
pub mod pinned;
mod queue;
#[cfg(test)]
mod tests;
pub mod work_stealing;

use crate::parse::Refusal;
use crate::pool::{Chunk, Pool, RawChunk};
use crate::program::Schema;
use crate::ring::{Descriptor, Kind, Producer};

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

    /// Asks for what [`Executor::read`] is going to need of an event that waits, beside its chunk.
    #[inline(always)]
    fn prefetch(&self, _descriptor: &Descriptor) {}

    /// Reads an event that waits, so that what it is about can be fetched while those before it are applied.
    /// Reading it later, once it was claimed, gives the same. An executor whose events are read elsewhere does nothing.
    ///
    /// # Safety
    /// The descriptor waits in a lane of the caller's: nobody else claims its chunk meanwhile.
    unsafe fn read_ahead<'a>(
        &'a mut self,
        descriptor: &Descriptor,
        pool: &'a Pool,
    ) -> Option<&'a EventOf<'a, Self>>;

    /// The event that waits, if it was read by now.
    ///
    /// # Safety
    /// As [`Executor::read_ahead`].
    unsafe fn was_read<'a>(&'a self, descriptor: &Descriptor) -> Option<&'a EventOf<'a, Self>>;

    /// The event in the chunk, which was claimed before. It stays where it was read to: what was just written in pieces
    /// would be copied only after everything before it was stored.
    fn read<'a>(
        &'a mut self,
        descriptor: &Descriptor,
        pool: &'a Pool,
        chunk: &'a mut Chunk,
    ) -> Result<&'a EventOf<'a, Self>, Refusal>;
}

/// The I/O threads' sides of an executor, one for each.
pub type Feeds = Vec<Box<dyn Feed>>;

/// An I/O thread's side of an executor. Belongs to that thread.
pub trait Feed: Send {
    /// Offers the event in a chunk to whoever may read it before the core does, and says as what it is to be pushed. To be
    /// called before it is pushed to its lane.
    fn offer(&mut self, chunk: RawChunk, length: u32, source: u8, lane: &mut Producer) -> Kind;
}
