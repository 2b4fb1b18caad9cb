//! The pinned executor: an event is parsed and applied on the core's own thread, while it is in the cache.
//!
//! Owns the reading of one event ahead, so that what it is about is fetched while the one before it is applied, and the
//! help of the I/O threads: while more events wait for the core than it can have missed, an I/O thread reads what it
//! sends itself, for it has the payload in its cache. So the parsing, which is much of an event's work, moves to where
//! there is time for it; no event waits for anybody, and none is read twice.
//!
//! Rules of order:
//! - An event that its I/O thread has read is pushed as such ([`Kind::ReadEvent`]): the ring's own order is what makes it
//!   visible. Its place in the table is the I/O thread's until then, and again once the chunk is handed out anew.

use std::sync::Arc;

use super::parsed::ParsedEvents;
use super::{EventOf, Executor, Feed, Feeds};
use crate::parse::Refusal;
use crate::pool::{Chunk, Pool, RawChunk};
use crate::program::Schema;
use crate::ring::{Descriptor, Kind, Producer};

/// Events that wait for the core before its I/O threads help: two batches. Of one that the core has done an I/O thread
/// may not know yet.
pub const BEHIND_EVENTS: u64 = 64;

/// The core's side.
pub struct Pinned<S: Schema> {
    schema: S,
    ahead: Option<Ahead<S>>,
    helped: Arc<ParsedEvents<S>>,
}

/// An I/O thread's side.
struct Helper<S: Schema> {
    schema: S,
    helped: Arc<ParsedEvents<S>>,
    behind_events: u64,
}

/// An event that was read before it was claimed. Its chunk's generation says whether it is still what waits there.
struct Ahead<S: Schema> {
    chunk: RawChunk,
    event: Result<S::Event<'static>, Refusal>,
}

/// An executor that reads by a schema, with the feeds of so many I/O threads, which help while more than so many events
/// wait: [`BEHIND_EVENTS`] but in tests.
pub fn pinned<S: Schema + 'static>(
    schema: S,
    pool: &Arc<Pool>,
    io_threads: usize,
    behind_events: u64,
) -> (Pinned<S>, Feeds) {
    let helped = Arc::new(ParsedEvents::new(pool));
    let helper = || -> Box<dyn Feed> {
        Box::new(Helper { schema: schema.clone(), helped: Arc::clone(&helped), behind_events })
    };
    let feeds = std::iter::repeat_with(helper).take(io_threads).collect();
    (Pinned { schema, ahead: None, helped }, feeds)
}

impl<S: Schema> Feed for Helper<S> {
    #[inline]
    fn offer(&mut self, descriptor: &mut Descriptor, lane: &mut Producer) {
        if descriptor.kind != Kind::Event
            || descriptor.chunk.is_none()
            || !lane.has_waiting(self.behind_events)
        {
            return;
        }
        // SAFETY: the descriptor was not pushed yet: its chunk, and with that its place, is this thread's.
        unsafe {
            let Descriptor { chunk, length, source, .. } = *descriptor;
            self.helped.read(&mut self.schema, chunk, length as usize, source);
        }
        descriptor.kind = Kind::ReadEvent;
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
    fn prefetch(&self, descriptor: &Descriptor) {
        if descriptor.kind == Kind::ReadEvent {
            self.helped.prefetch(descriptor.chunk);
        }
    }

    #[inline(always)]
    unsafe fn read_ahead<'a>(
        &'a mut self,
        descriptor: &Descriptor,
        pool: &'a Pool,
    ) -> Option<EventOf<'a, Self>> {
        if descriptor.kind == Kind::ReadEvent {
            // SAFETY: its sender is done with it since it was pushed, and only the caller is going to claim it.
            return unsafe { self.helped.get(descriptor.chunk) }?.ok();
        }
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
    ) -> Result<EventOf<'payload, Self>, Refusal> {
        if descriptor.kind == Kind::ReadEvent
            // SAFETY: as above; what it borrows are the chunk's bytes, which nobody touches while the chunk is borrowed.
            && let Some(event) = unsafe { self.helped.get(descriptor.chunk) }
        {
            return event;
        }
        if let Some(ahead) = self.ahead.take_if(|ahead| ahead.chunk == descriptor.chunk) {
            // SAFETY: what it borrows are the chunk's bytes, which nobody touches while the chunk is borrowed.
            return ahead.event.map(|event| unsafe { with_lifetime::<S>(&event) });
        }
        self.schema.read(pool.payload(chunk, descriptor.length as usize).from_source(descriptor.source))
    }
}
