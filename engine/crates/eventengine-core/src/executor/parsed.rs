//! Parsed events: one by itself, and a table of those on their way to the core, with a place for each chunk.
//!
//! Owns how a payload becomes an event that outlives the reading, and those that another thread than the core's has
//! read. Their table lies beside the slab. An event's place is written by whoever has its chunk's
//! payload to itself, and read by the core after that thread has handed the event over by some store that the core has
//! seen; this module makes no order of its own. A place knows its chunk's generation, so that what was read of an earlier
//! payload is never taken for a later one's. What an event borrows are its chunk's bytes, which live as long as the pool.

use std::sync::Arc;

use crate::parse::Refusal;
use crate::pool::{Pool, RawChunk};
use crate::prefetch;
use crate::program::Schema;
use crate::sync::UnsafeCell;

/// What came of a payload, and of which chunk it was.
pub(super) struct Parsed<S: Schema> {
    chunk: RawChunk,
    event: Result<S::Event<'static>, Refusal>,
}

impl<S: Schema> Parsed<S> {
    /// Reads the payload in a chunk on its way.
    ///
    /// # Safety
    /// Nobody else touches the chunk's bytes meanwhile.
    #[inline(always)]
    pub(super) unsafe fn read(
        schema: &mut S,
        pool: &Pool,
        chunk: RawChunk,
        length: u32,
        source: u8,
    ) -> Parsed<S> {
        // SAFETY: the caller has the bytes to itself.
        let payload = unsafe { pool.payload_in_transit(chunk.index, length as usize) };
        let event = schema.read(payload.from_source(source));
        // SAFETY: the same type but for the lifetime, which `event` shortens again; events are `Copy`.
        let event = unsafe { std::ptr::from_ref(&event).cast::<Result<S::Event<'static>, Refusal>>().read() };
        Parsed { chunk, event }
    }

    /// Whether it was read since the chunk was handed out.
    #[inline(always)]
    pub(super) fn is_of(&self, chunk: RawChunk) -> bool {
        self.chunk == chunk
    }

    /// What came of it, where it lies: what was just written in pieces would be copied only after everything before it
    /// was stored.
    ///
    /// # Safety
    /// The chunk's bytes, which the event borrows, live and are left alone for as long as it does.
    #[inline(always)]
    pub(super) unsafe fn event<'payload>(&self) -> Result<&S::Event<'payload>, Refusal> {
        let event = self.event.as_ref().map_err(|refusal| *refusal)?;
        // SAFETY: the same type but for the lifetime, which is the caller's duty.
        Ok(unsafe { &*std::ptr::from_ref(event).cast() })
    }
}

/// Places don't share cache lines: each goes from one CPU to another by itself.
#[repr(align(64))]
struct Place<S: Schema>(UnsafeCell<Option<Parsed<S>>>);

/// See the module.
pub(super) struct ParsedEvents<S: Schema> {
    pool: Arc<Pool>,
    places: Box<[Place<S>]>,
}

// SAFETY: places are reached by the unsafe methods alone, whose callers see to the order; a schema's events are `Send`.
unsafe impl<S: Schema> Sync for ParsedEvents<S> {}
// SAFETY: as above.
unsafe impl<S: Schema> Send for ParsedEvents<S> {}

impl<S: Schema> ParsedEvents<S> {
    /// A table for the chunks of a pool.
    pub(super) fn new(pool: &Arc<Pool>) -> ParsedEvents<S> {
        let place = |_| Place(UnsafeCell::new(None));
        ParsedEvents { pool: Arc::clone(pool), places: (0..pool.chunks()).map(place).collect() }
    }

    /// Reads the payload in a chunk on its way, and keeps what came of it.
    ///
    /// # Safety
    /// Nobody else touches the chunk's bytes or its place meanwhile.
    pub(super) unsafe fn read(&self, schema: &mut S, chunk: RawChunk, length: u32, source: u8) {
        // SAFETY: the caller has the bytes to itself.
        let parsed = unsafe { Parsed::read(schema, &self.pool, chunk, length, source) };
        // SAFETY: the caller has the place to itself.
        self.places[chunk.index as usize].0.with_mut(|place| unsafe { place.write(Some(parsed)) });
    }

    /// What came of the payload in a chunk; none if it was not read since the chunk was handed out.
    ///
    /// # Safety
    /// Nobody touches the chunk's place for as long as what it holds is borrowed.
    #[inline(always)]
    pub(super) unsafe fn get(&self, chunk: RawChunk) -> Option<&Parsed<S>> {
        let place = self.places.get(chunk.index as usize)?;
        // SAFETY: left alone meanwhile.
        let parsed = place.0.with(|place| unsafe { &*place }).as_ref();
        parsed.filter(|parsed| parsed.is_of(chunk))
    }

    /// Asks for the place of a chunk that is going to be read.
    #[inline(always)]
    pub(super) fn prefetch(&self, chunk: RawChunk) {
        if let Some(place) = self.places.get(chunk.index as usize) {
            prefetch::to_read(place);
        }
    }
}
