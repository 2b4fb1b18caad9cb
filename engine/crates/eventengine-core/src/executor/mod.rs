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
use crate::pool::{Chunk, Pool, RawChunk};
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

    /// Reads an event that waits, so that what it is about can be fetched while the one before it is applied.
    /// Reading it later, once it was claimed, gives the same. An executor whose events are read elsewhere does nothing.
    ///
    /// # Safety
    /// The descriptor waits in a lane of the caller's: nobody else claims its chunk meanwhile.
    unsafe fn read_ahead<'a>(
        &'a mut self,
        descriptor: &Descriptor,
        pool: &'a Pool,
    ) -> Option<EventOf<'a, Self>>;

    /// The event in the chunk, which was claimed before.
    fn read<'payload>(
        &mut self,
        descriptor: &Descriptor,
        pool: &'payload Pool,
        chunk: &'payload mut Chunk,
    ) -> Result<EventOf<'payload, Self>, Refusal>;
}

/// Everything on the core's own thread: an event is parsed and applied while it is in the cache.
pub struct Pinned<S: Schema> {
    schema: S,
    ahead: Option<Ahead<S>>,
}

/// An event that was read before it was claimed. Its chunk's generation says whether it is still what waits there.
struct Ahead<S: Schema> {
    chunk: RawChunk,
    event: Result<S::Event<'static>, Refusal>,
}

impl<S: Schema> Pinned<S> {
    /// An executor that reads by a schema.
    pub fn new(schema: S) -> Pinned<S> {
        Pinned { schema, ahead: None }
    }
}

/// An event under another lifetime, which doesn't change its layout.
///
/// # Safety
/// What the event borrows lives, and is left alone, for as long as the new lifetime.
unsafe fn with_lifetime<'from, 'to, S: Schema>(event: &S::Event<'from>) -> S::Event<'to> {
    // SAFETY: the same type but for the lifetime, which is the caller's duty; events are `Copy`.
    unsafe { std::ptr::from_ref(event).cast::<S::Event<'to>>().read() }
}

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
    unsafe fn read_ahead<'a>(
        &'a mut self,
        descriptor: &Descriptor,
        pool: &'a Pool,
    ) -> Option<EventOf<'a, Self>> {
        // One that was read and still waits, in another lane, is not read twice.
        if self.ahead.as_ref().is_some_and(|ahead| pool.is_in_transit(ahead.chunk))
            || !pool.is_in_transit(descriptor.chunk)
        {
            return None;
        }
        // SAFETY: nobody holds the chunk's right, and only the caller is going to claim it.
        let payload = unsafe { pool.payload_in_transit(descriptor.chunk.index, descriptor.length as usize) };
        let event = self.schema.read(payload.from_source(descriptor.source));
        // SAFETY: what it borrows lies in the slab, and is left alone until the chunk's generation is over: it is handed
        // out again under that generation only.
        let event = event.map(|event| unsafe { with_lifetime::<S>(&event) });
        let ahead = self.ahead.insert(Ahead { chunk: descriptor.chunk, event });
        // SAFETY: the caller leaves the chunk alone while it has the event.
        ahead.event.as_ref().ok().map(|event| unsafe { with_lifetime::<S>(event) })
    }

    #[inline(always)]
    fn read<'payload>(
        &mut self,
        descriptor: &Descriptor,
        pool: &'payload Pool,
        chunk: &'payload mut Chunk,
    ) -> Result<S::Event<'payload>, Refusal> {
        if let Some(ahead) = self.ahead.take_if(|ahead| ahead.chunk == descriptor.chunk) {
            // SAFETY: what it borrows are the chunk's bytes, which nobody touches while the chunk is borrowed.
            return ahead.event.map(|event| unsafe { with_lifetime::<S>(&event) });
        }
        self.schema.read(pool.payload(chunk, descriptor.length as usize).from_source(descriptor.source))
    }
}
