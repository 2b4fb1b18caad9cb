//! The pinned executor: an event is parsed and applied on the core's own thread, while it is in the cache.
//!
//! Owns the reading of a few events ahead, so that what they are about is fetched while others are applied, and the
//! help of the I/O threads: while more events wait for the core than it can have missed, an I/O thread reads what it
//! sends itself, for it has the payload in its cache. So the parsing, which is much of an event's work, moves to where
//! there is time for it; no event waits for anybody, and one is read twice only if others overtook it in the meantime.
//!
//! Rules of order:
//! - An event that its I/O thread has read is pushed as such ([`Kind::ReadEvent`]): the ring's own order is what makes it
//!   visible. Its place in the table is the I/O thread's until then, and again once the chunk is handed out anew.

use std::sync::Arc;

use super::parsed::{Parsed, ParsedEvents};
use super::{EventOf, Executor, Feed, Feeds};
use crate::parse::Refusal;
use crate::pool::{Chunk, Pool, RawChunk};
use crate::program::Schema;
use crate::ring::{Descriptor, Kind, Producer};

/// Events that wait for the core before its I/O threads help: two batches. Of one that the core has done an I/O thread
/// may not know yet.
pub const BEHIND_EVENTS: u64 = 64;

/// Events that the core has read and not yet claimed, at most. An older one is read again.
const AHEAD_EVENTS_MAX: usize = 4;

/// The core's side.
pub struct Pinned<S: Schema> {
    schema: S,
    /// Of events that are not claimed yet, in turn.
    ahead: [Option<Parsed<S>>; AHEAD_EVENTS_MAX],
    next_ahead: usize,
    /// Of one that was claimed unread.
    claimed: Option<Parsed<S>>,
    helped: Arc<ParsedEvents<S>>,
}

/// An I/O thread's side.
struct Helper<S: Schema> {
    schema: S,
    helped: Arc<ParsedEvents<S>>,
    behind_events: u64,
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
    (
        Pinned { schema, ahead: [const { None }; AHEAD_EVENTS_MAX], next_ahead: 0, claimed: None, helped },
        feeds,
    )
}

impl<S: Schema> Feed for Helper<S> {
    #[inline]
    fn offer(&mut self, chunk: RawChunk, length: u32, source: u8, lane: &mut Producer) -> Kind {
        if !lane.has_waiting(self.behind_events) {
            return Kind::Event;
        }
        // SAFETY: its descriptor was not pushed yet: the chunk, and with that its place, is this thread's.
        unsafe { self.helped.read(&mut self.schema, chunk, length, source) };
        Kind::ReadEvent
    }
}

impl<S: Schema> Pinned<S> {
    #[inline(always)]
    fn place_ahead(&self, chunk: RawChunk) -> Option<usize> {
        self.ahead.iter().position(|ahead| ahead.as_ref().is_some_and(|ahead| ahead.is_of(chunk)))
    }

    /// What came of an event that was pushed, if it was read by now.
    ///
    /// # Safety
    /// Its chunk is not handed out anew for as long as the result is borrowed.
    #[inline(always)]
    unsafe fn parsed(&self, kind: Kind, chunk: RawChunk) -> Option<&Parsed<S>> {
        if kind == Kind::ReadEvent {
            // SAFETY: its sender is done with the place since the event was pushed, until the chunk is handed out anew.
            return unsafe { self.helped.get(chunk) };
        }
        self.ahead[self.place_ahead(chunk)?].as_ref()
    }
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
    ) -> Option<&'a EventOf<'a, Self>> {
        let Descriptor { kind, chunk, length, source, .. } = *descriptor;
        if kind == Kind::ReadEvent {
            // SAFETY: only the caller is going to claim the chunk, and leaves it alone while it has the event.
            return unsafe { self.parsed(kind, chunk)?.event() }.ok();
        }
        if !pool.is_in_transit(chunk) {
            return None;
        }
        let place = self.place_ahead(chunk).unwrap_or_else(|| {
            let place = self.next_ahead;
            self.next_ahead = (place + 1) % AHEAD_EVENTS_MAX;
            // SAFETY: nobody holds the chunk's right, and only the caller is going to claim it. It is handed out again
            // under another generation only, and by that it is known that what was read is over.
            self.ahead[place] = Some(unsafe { Parsed::read(&mut self.schema, pool, chunk, length, source) });
            place
        });
        // SAFETY: the caller leaves the chunk alone while it has the event.
        unsafe { self.ahead[place].as_ref()?.event() }.ok()
    }

    #[inline(always)]
    unsafe fn was_read<'a>(&'a self, descriptor: &Descriptor) -> Option<&'a EventOf<'a, Self>> {
        // SAFETY: as in `read_ahead`.
        unsafe { self.parsed(descriptor.kind, descriptor.chunk)?.event() }.ok()
    }

    #[inline(always)]
    fn read<'a>(
        &'a mut self,
        descriptor: &Descriptor,
        pool: &'a Pool,
        held: &'a mut Chunk,
    ) -> Result<&'a EventOf<'a, Self>, Refusal> {
        let Descriptor { kind, length, source, .. } = *descriptor;
        let chunk = held.raw();
        // SAFETY: the chunk is borrowed, and with it what the event borrows.
        unsafe {
            match self.parsed(kind, chunk) {
                // The compiler doesn't see that this borrow ends where nothing was read.
                Some(parsed) => Ok(&*std::ptr::from_ref(parsed.event()?)),
                None => {
                    self.claimed.insert(Parsed::read(&mut self.schema, pool, chunk, length, source)).event()
                }
            }
        }
    }
}
