//! The buffer pool: one slab of fixed chunks that every event passes through.
//!
//! Owns the memory of all events in flight. Nothing is allocated after
//! [`Pool::new`]; an exhausted pool answers `None`, and its caller pauses.
//!
//! Rules of order and ownership:
//! - Each chunk has a home: the one [`Allocator`] that hands it out. An allocator
//!   belongs to one thread and keeps its free chunks on a stack of its own.
//! - Any thread gives chunks back through a [`Releaser`], which links them into a
//!   chain and returns a whole chain with one compare-and-swap. The allocator takes
//!   everything returned with one swap; nobody ever pops a single element from the
//!   shared list, which is why it has no ABA problem.
//! - A [`Chunk`] is the only right to its bytes. It crosses a ring as a
//!   [`RawChunk`]; [`Pool::claim`] accepts each raw form once. Releasing or claiming
//!   twice is refused by the chunk's generation, never undefined behaviour.
//! - The thread of an allocator may give chunks straight back to it: the one used last,
//!   which caches still hold, is then the next one to be used.
//! - A chunk's state lies in front of its bytes, in a cache line that whoever takes the
//!   chunk needs anyway, and not beside the states of chunks that others have.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::parse::{PADDING, Payload};
use crate::prefetch::{self, LINE_BYTES};
use crate::sync::{AtomicU32, AtomicU64};

/// No chunk: the end of a list.
const NONE: u32 = u32::MAX;

/// Chunks that a [`Releaser`] gathers before it gives them back by itself.
const RELEASE_BATCH: u32 = 64;

const STATE_MASK: u32 = 0b11;
const FREE: u32 = 0;
const HELD: u32 = 1;
const IN_TRANSIT: u32 = 2;
const GENERATION_STEP: u32 = 4;

/// Bytes in front of a chunk's own: its state, and room that keeps its bytes aligned.
const HEAD_BYTES: usize = 16;

/// The exclusive right to read and write one chunk. Give it back with [`Releaser::release`].
#[must_use = "a chunk that is dropped is lost to the pool; release it"]
#[derive(Debug)]
pub struct Chunk {
    index: u32,
    generation: u32,
}

/// A chunk on its way through a ring. Holds no right until [`Pool::claim`] accepts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawChunk {
    /// Position in the slab.
    pub index: u32,
    /// Generation at which it was sent.
    pub generation: u32,
}

impl Chunk {
    /// The chunk's number and generation, without the right to it.
    pub(crate) fn raw(&self) -> RawChunk {
        RawChunk { index: self.index, generation: self.generation }
    }
}

impl RawChunk {
    /// Stands for "no chunk" in a descriptor.
    pub const NONE: RawChunk = RawChunk { index: NONE, generation: 0 };

    /// Whether this stands for no chunk at all.
    pub fn is_none(self) -> bool {
        self.index == NONE
    }
}

/// The raw form was claimed before, was never sent, or names no chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleChunk(pub RawChunk);

#[repr(align(128))]
#[derive(Debug)]
struct Home {
    returned: AtomicU32,
    released: AtomicU64,
    allocated: AtomicU64,
    high_water: AtomicU64,
}

/// The slab. Shared by all threads; see the module's rules.
#[derive(Debug)]
pub struct Pool {
    bytes: NonNull<u8>,
    layout: Layout,
    chunk_bytes: usize,
    stride: usize,
    chunks: u32,
    chunks_per_home: u32,
    // The model checker's atomics can't lie in the slab.
    #[cfg(loom)]
    states: Box<[AtomicU32]>,
    links: Box<[AtomicU32]>,
    homes: Box<[Home]>,
}

// SAFETY: the slab's bytes are only reached through a `Chunk`, which is unique per
// chunk and generation (whoever wants one in transit takes it by compare-and-swap; only
// its holder changes the state otherwise); all else is atomic.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// Allocates `chunks` chunks of `chunk_bytes` and splits them evenly among `allocators` threads.
    ///
    /// # Panics
    /// If a size is zero, or there are fewer chunks than allocators: the configuration was checked before.
    pub fn new(chunk_bytes: usize, chunks: u32, allocators: u32) -> (Arc<Pool>, Vec<Allocator>) {
        assert!(chunk_bytes > 0 && allocators > 0 && chunks >= allocators && chunks < NONE);
        let chunks_per_home = chunks / allocators;
        let chunks = chunks_per_home * allocators;
        // Chunks begin at cache lines.
        let stride = (HEAD_BYTES + chunk_bytes + PADDING).next_multiple_of(LINE_BYTES);
        let layout = Layout::from_size_align(stride * chunks as usize, 4096)
            .expect("a pool of at most 4 GiB has a valid layout");
        // SAFETY: the layout's size is not zero (asserted above).
        let raw = unsafe { alloc_zeroed(layout) };
        let Some(bytes) = NonNull::new(raw) else { handle_alloc_error(layout) };
        let homes: Box<[Home]> = (0..allocators)
            .map(|_| Home {
                returned: AtomicU32::new(NONE),
                released: AtomicU64::new(0),
                allocated: AtomicU64::new(0),
                high_water: AtomicU64::new(0),
            })
            .collect();
        let pool = Arc::new(Pool {
            bytes,
            layout,
            chunk_bytes,
            stride,
            chunks,
            chunks_per_home,
            #[cfg(loom)]
            states: (0..chunks).map(|_| AtomicU32::new(FREE)).collect(),
            links: (0..chunks).map(|_| AtomicU32::new(NONE)).collect(),
            homes,
        });
        let handles = (0..allocators)
            .map(|home| Allocator {
                pool: Arc::clone(&pool),
                home,
                free: (home * chunks_per_home..(home + 1) * chunks_per_home).rev().collect(),
                released_seen: 0,
                allocated: 0,
                high_water: 0,
            })
            .collect();
        (pool, handles)
    }

    /// Bytes in one chunk.
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Chunks in the slab.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Chunks that are handed out now, over all allocators.
    pub fn in_use(&self) -> u64 {
        self.homes
            .iter()
            .map(|home| {
                let released = home.released.load(Ordering::Acquire);
                home.allocated.load(Ordering::Acquire).saturating_sub(released)
            })
            .sum()
    }

    /// The most chunks that were ever handed out at once, summed over the allocators.
    pub fn high_water(&self) -> u64 {
        self.homes.iter().map(|home| home.high_water.load(Ordering::Relaxed)).sum()
    }

    /// The bytes of a chunk.
    pub fn bytes(&self, chunk: &Chunk) -> &[u8] {
        // SAFETY: a `Chunk` is unique and was made by this module with an index in range.
        unsafe { std::slice::from_raw_parts(self.start(chunk.index), self.chunk_bytes) }
    }

    /// The bytes of a chunk, to write.
    pub fn bytes_mut<'a>(&'a self, chunk: &'a mut Chunk) -> &'a mut [u8] {
        // SAFETY: a `Chunk` is unique, and borrowed mutably for as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.start(chunk.index), self.chunk_bytes) }
    }

    /// The first bytes of a chunk as a payload. Every chunk has room for the sentinels behind its last byte; what
    /// lay behind the payload before is lost.
    ///
    /// # Panics
    /// If the payload is longer than a chunk.
    pub fn payload<'a>(&'a self, chunk: &'a mut Chunk, length: usize) -> Payload<'a> {
        assert!(length <= self.chunk_bytes);
        // SAFETY: a `Chunk` is unique, and borrowed mutably for as long as the slice lives; the slab has so many bytes
        // per chunk.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(self.start(chunk.index), self.chunk_bytes + PADDING) };
        Payload::seal(bytes, length).expect("there is room behind a chunk's last byte")
    }

    /// The payload in a chunk that is on its way; as [`Pool::payload`].
    ///
    /// # Safety
    /// Nobody else may touch the chunk's bytes for as long as the payload, or what is borrowed from it, lives.
    pub(crate) unsafe fn payload_in_transit(&self, index: u32, length: usize) -> Payload<'_> {
        assert!(index < self.chunks && length <= self.chunk_bytes);
        // SAFETY: in range (asserted above); that nobody else is there is the caller's duty.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.start(index), self.chunk_bytes + PADDING) };
        Payload::seal(bytes, length).expect("there is room behind a chunk's last byte")
    }

    /// Gives up the right to a chunk so that it can travel through a ring.
    pub fn send(&self, chunk: Chunk) -> RawChunk {
        self.state(chunk.index).store(chunk.generation | IN_TRANSIT, Ordering::Release);
        chunk.raw()
    }

    /// Takes the right to a chunk that was sent. Each sending can be claimed once.
    pub fn claim(&self, raw: RawChunk) -> Result<Chunk, StaleChunk> {
        if raw.index >= self.chunks {
            return Err(StaleChunk(raw));
        }
        let expected = raw.generation | IN_TRANSIT;
        self.state(raw.index)
            .compare_exchange(expected, raw.generation | HELD, Ordering::Acquire, Ordering::Relaxed)
            .map(|_| Chunk { index: raw.index, generation: raw.generation })
            .map_err(|_| StaleChunk(raw))
    }

    /// Takes the right to a chunk as [`Pool::claim`] does, without an instruction that waits until everything that was
    /// stored before has reached the other CPUs.
    ///
    /// # Safety
    /// Nobody else claims the chunk meanwhile: it came through a ring whose only receiver the caller is.
    #[inline]
    pub unsafe fn claim_as_receiver(&self, raw: RawChunk) -> Result<Chunk, StaleChunk> {
        if !self.is_in_transit(raw) {
            return Err(StaleChunk(raw));
        }
        self.state(raw.index).store(raw.generation | HELD, Ordering::Relaxed);
        Ok(Chunk { index: raw.index, generation: raw.generation })
    }

    /// Whether a chunk that was sent was not claimed yet.
    #[inline]
    pub(crate) fn is_in_transit(&self, raw: RawChunk) -> bool {
        raw.index < self.chunks
            && self.state(raw.index).load(Ordering::Acquire) == raw.generation | IN_TRANSIT
    }

    /// Fetches a chunk on its way, and so many of its bytes, for whoever is going to claim it and write to it.
    #[inline]
    pub fn prefetch(&self, raw: RawChunk, bytes: usize) {
        if raw.index < self.chunks {
            self.prefetch_index(raw.index, bytes);
        }
    }

    #[inline(always)]
    fn prefetch_index(&self, index: u32, bytes: usize) {
        let head = self.head(index);
        for line in 0..(HEAD_BYTES + bytes.min(self.chunk_bytes)).div_ceil(LINE_BYTES) {
            prefetch::to_write(head.wrapping_add(line * LINE_BYTES));
        }
    }

    #[inline(always)]
    fn head(&self, index: u32) -> *mut u8 {
        debug_assert!(index < self.chunks);
        // SAFETY: the index is below `chunks`, so the offset stays inside the slab.
        unsafe { self.bytes.as_ptr().add(index as usize * self.stride) }
    }

    #[inline(always)]
    fn start(&self, index: u32) -> *mut u8 {
        // SAFETY: a chunk's bytes follow its head, inside the slab.
        unsafe { self.head(index).add(HEAD_BYTES) }
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn state(&self, index: u32) -> &AtomicU32 {
        // SAFETY: heads are aligned, zeroed at first, live as long as the pool, and nobody reaches them otherwise.
        unsafe { AtomicU32::from_ptr(self.head(index).cast()) }
    }

    #[cfg(loom)]
    fn state(&self, index: u32) -> &AtomicU32 {
        &self.states[index as usize]
    }

    /// Ends the right to a chunk. A `Chunk` is unique, so that nobody else changes its state meanwhile.
    #[inline(always)]
    fn free(&self, chunk: Chunk) -> u32 {
        let Chunk { index, generation } = chunk;
        let state = self.state(index);
        // This can only fail if the pool itself is broken.
        assert!(state.load(Ordering::Relaxed) == generation | HELD, "chunk {index} was released twice");
        state.store(generation | FREE, Ordering::Release);
        index
    }

    /// Returns a chain of `count` chunks, linked from `first` to `last`, to their home.
    fn give_back(&self, home: u32, first: u32, last: u32, count: u32) {
        let home = &self.homes[home as usize];
        let mut head = home.returned.load(Ordering::Relaxed);
        loop {
            self.links[last as usize].store(head, Ordering::Relaxed);
            match home.returned.compare_exchange_weak(head, first, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        home.released.fetch_add(u64::from(count), Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout.
        unsafe { dealloc(self.bytes.as_ptr(), self.layout) }
    }
}

/// Hands out the chunks of one home. Belongs to one thread.
#[derive(Debug)]
pub struct Allocator {
    pool: Arc<Pool>,
    home: u32,
    free: Vec<u32>,
    released_seen: u64,
    allocated: u64,
    high_water: u64,
}

impl Allocator {
    /// Takes a free chunk, or `None` while all are in use. Never allocates memory.
    pub fn allocate(&mut self) -> Option<Chunk> {
        if self.free.is_empty() {
            self.take_returned();
        }
        let index = self.free.pop()?;
        let state = self.pool.state(index);
        let previous = state.load(Ordering::Relaxed);
        debug_assert_eq!(previous & STATE_MASK, FREE);
        let generation = (previous & !STATE_MASK).wrapping_add(GENERATION_STEP);
        state.store(generation | HELD, Ordering::Relaxed);
        self.allocated += 1;
        let home = &self.pool.homes[self.home as usize];
        home.allocated.store(self.allocated, Ordering::Release);
        self.released_seen = self.released_seen.max(home.released.load(Ordering::Relaxed));
        let in_use = self.allocated.saturating_sub(self.released_seen);
        if in_use > self.high_water {
            self.high_water = in_use;
            home.high_water.store(in_use, Ordering::Relaxed);
        }
        Some(Chunk { index, generation })
    }

    /// Frees a chunk that this very allocator handed out. It is the next one that is handed out.
    ///
    /// # Panics
    /// If the chunk is of another home.
    pub fn take_back(&mut self, chunk: Chunk) {
        let home = &self.pool.homes[self.home as usize];
        assert!(chunk.index / self.pool.chunks_per_home == self.home, "the chunk is another allocator's");
        // The stack was allocated with room for every chunk of this home.
        self.free.push(self.pool.free(chunk));
        self.allocated -= 1;
        home.allocated.store(self.allocated, Ordering::Release);
    }

    /// Fetches the chunk that is going to be handed out after so many others, and so many of its bytes.
    #[inline]
    pub fn prefetch(&self, ahead: usize, bytes: usize) {
        if let Some(place) = self.free.len().checked_sub(ahead + 1) {
            self.pool.prefetch_index(self.free[place], bytes);
        }
    }

    /// Chunks of this home that are in use now.
    pub fn in_use(&self) -> u64 {
        let home = &self.pool.homes[self.home as usize];
        self.allocated.saturating_sub(home.released.load(Ordering::Acquire))
    }

    /// Chunks that this home has in all.
    pub fn capacity(&self) -> u64 {
        u64::from(self.pool.chunks_per_home)
    }

    /// The pool that the chunks belong to.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    fn take_returned(&mut self) {
        let home = &self.pool.homes[self.home as usize];
        let mut index = home.returned.swap(NONE, Ordering::Acquire);
        while index != NONE {
            // The stack was allocated with room for every chunk of this home.
            self.free.push(index);
            index = self.pool.links[index as usize].load(Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Chain {
    first: u32,
    last: u32,
    count: u32,
}

const EMPTY_CHAIN: Chain = Chain { first: NONE, last: NONE, count: 0 };

/// Gives chunks back in batches. Belongs to one thread; call [`Releaser::flush`] before that thread waits.
#[derive(Debug)]
pub struct Releaser {
    pool: Arc<Pool>,
    chains: Box<[Chain]>,
}

impl Releaser {
    /// A releaser for all homes of the pool.
    pub fn new(pool: &Arc<Pool>) -> Releaser {
        Releaser { pool: Arc::clone(pool), chains: vec![EMPTY_CHAIN; pool.homes.len()].into_boxed_slice() }
    }

    /// Frees a chunk. It becomes available to its allocator with the next flush or full batch.
    pub fn release(&mut self, chunk: Chunk) {
        let index = self.pool.free(chunk);
        let home = index / self.pool.chunks_per_home;
        let chain = &mut self.chains[home as usize];
        self.pool.links[index as usize].store(chain.first, Ordering::Relaxed);
        chain.first = index;
        if chain.count == 0 {
            chain.last = index;
        }
        chain.count += 1;
        if chain.count >= RELEASE_BATCH {
            self.flush();
        }
    }

    /// Gives everything gathered back now.
    pub fn flush(&mut self) {
        for (home, chain) in self.chains.iter_mut().enumerate() {
            if chain.count > 0 {
                self.pool.give_back(home as u32, chain.first, chain.last, chain.count);
                *chain = EMPTY_CHAIN;
            }
        }
    }
}

impl Drop for Releaser {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exhausted_pool_answers_none_and_recovers_after_a_release() {
        let (pool, mut allocators) = Pool::new(64, 4, 1);
        let allocator = &mut allocators[0];
        let mut releaser = Releaser::new(&pool);
        let mut held: Vec<Chunk> = (0..4).map(|_| allocator.allocate().unwrap()).collect();
        assert!(allocator.allocate().is_none());
        assert_eq!((pool.in_use(), pool.high_water()), (4, 4));
        releaser.release(held.pop().unwrap());
        assert!(allocator.allocate().is_none(), "a batch is not visible before it is flushed");
        releaser.flush();
        let again = allocator.allocate().unwrap();
        assert_eq!(pool.in_use(), 4);
        releaser.release(again);
        for chunk in held {
            releaser.release(chunk);
        }
        releaser.flush();
        assert_eq!((pool.in_use(), pool.high_water()), (0, 4));
    }

    #[test]
    fn a_raw_chunk_is_claimed_once_and_never_after_its_release() {
        let (pool, mut allocators) = Pool::new(64, 2, 1);
        let mut releaser = Releaser::new(&pool);
        let raw = pool.send(allocators[0].allocate().unwrap());
        let chunk = pool.claim(raw).unwrap();
        assert_eq!(pool.claim(raw).unwrap_err(), StaleChunk(raw));
        releaser.release(chunk);
        releaser.flush();
        assert_eq!(pool.claim(raw).unwrap_err(), StaleChunk(raw));
        let stranger = RawChunk { index: 99, generation: 4 };
        assert_eq!(pool.claim(stranger).unwrap_err(), StaleChunk(stranger));
        assert_eq!(pool.claim(RawChunk::NONE).unwrap_err(), StaleChunk(RawChunk::NONE));
    }

    #[test]
    fn a_reused_chunk_has_a_new_generation() {
        let (pool, mut allocators) = Pool::new(64, 1, 1);
        let mut releaser = Releaser::new(&pool);
        let first = pool.send(allocators[0].allocate().unwrap());
        releaser.release(pool.claim(first).unwrap());
        releaser.flush();
        let second = pool.send(allocators[0].allocate().unwrap());
        assert_eq!(first.index, second.index);
        assert_ne!(first.generation, second.generation);
        assert!(pool.claim(first).is_err());
        releaser.release(pool.claim(second).unwrap());
    }

    #[test]
    fn a_chunk_that_its_allocator_takes_back_is_the_next_one_to_be_handed_out() {
        let (pool, mut allocators) = Pool::new(64, 4, 2);
        let stranger = allocators.pop().unwrap().allocate().unwrap();
        let allocator = &mut allocators[0];
        let (first, second) = (allocator.allocate().unwrap(), allocator.allocate().unwrap());
        assert!(allocator.allocate().is_none());
        let raw = pool.send(first);
        allocator.take_back(pool.claim(raw).unwrap());
        assert_eq!((pool.in_use(), allocator.in_use(), pool.high_water()), (2, 1, 3));
        assert!(pool.claim(raw).is_err(), "it is nobody's any more");
        let again = pool.send(allocator.allocate().unwrap());
        assert_eq!(again.index, raw.index);
        assert_ne!(again.generation, raw.generation);
        allocator.take_back(second);
        let refused =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| allocator.take_back(stranger)));
        assert!(refused.is_err(), "a chunk goes back to its own home only");
    }

    #[test]
    fn chunks_of_any_size_lie_apart_and_keep_what_was_written_to_all_of_them() {
        for chunk_bytes in [1, 63, 64, 100, 1024] {
            let (pool, mut allocators) = Pool::new(chunk_bytes, 5, 1);
            let mut chunks: Vec<Chunk> = std::iter::from_fn(|| allocators[0].allocate()).collect();
            for (number, chunk) in (1..).zip(&mut chunks) {
                pool.bytes_mut(chunk).fill(number);
            }
            for (number, chunk) in (1..).zip(&chunks) {
                assert_eq!(pool.bytes(chunk), vec![number; chunk_bytes]);
            }
            let mut releaser = Releaser::new(&pool);
            chunks.into_iter().for_each(|chunk| releaser.release(pool.claim(pool.send(chunk)).unwrap()));
        }
    }

    #[test]
    fn each_allocator_gets_its_own_chunks_back() {
        let (pool, mut allocators) = Pool::new(64, 8, 2);
        let mut releaser = Releaser::new(&pool);
        let mut taken = Vec::new();
        for allocator in &mut allocators {
            while let Some(chunk) = allocator.allocate() {
                taken.push(chunk);
            }
        }
        assert_eq!(taken.len(), 8);
        for chunk in taken.drain(..) {
            releaser.release(chunk);
        }
        releaser.flush();
        for allocator in &mut allocators {
            let again: Vec<Chunk> = std::iter::from_fn(|| allocator.allocate()).collect();
            assert_eq!(again.len(), 4);
            for chunk in again {
                releaser.release(chunk);
            }
        }
    }

    #[test]
    fn chunks_keep_their_content_between_two_threads_that_exchange_a_million() {
        let (pool, mut allocators) = Pool::new(64, 128, 1);
        let mut allocator = allocators.pop().unwrap();
        let (sender, receiver) = std::sync::mpsc::sync_channel::<RawChunk>(64);
        let consumer_pool = Arc::clone(&pool);
        let rounds: u64 = if crate::sync::is_checked_slowly() { 1_000 } else { 1_000_000 };
        let consumer = std::thread::spawn(move || {
            let mut releaser = Releaser::new(&consumer_pool);
            let mut expected = 0_u64;
            while let Ok(raw) = receiver.recv() {
                let chunk = consumer_pool.claim(raw).unwrap();
                let (number, _) = consumer_pool.bytes(&chunk).split_first_chunk::<8>().unwrap();
                assert_eq!(u64::from_le_bytes(*number), expected);
                expected += 1;
                releaser.release(chunk);
            }
            expected
        });
        for number in 0..rounds {
            let mut chunk = loop {
                if let Some(chunk) = allocator.allocate() {
                    break chunk;
                }
                std::thread::yield_now();
            };
            pool.bytes_mut(&mut chunk)[..8].copy_from_slice(&number.to_le_bytes());
            sender.send(pool.send(chunk)).unwrap();
        }
        drop(sender);
        assert_eq!(consumer.join().unwrap(), rounds);
        assert_eq!(pool.in_use(), 0);
    }
}
