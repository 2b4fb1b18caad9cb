//! The pool's free lists in every order that memory allows: a chunk has one owner, and none is ever lost.

use std::sync::Arc;

use eventengine_core::pool::{Chunk, Pool, RawChunk, Releaser};
use eventengine_core::ring::{Descriptor, Kind, ring};
use loom::cell::UnsafeCell;
use loom::thread;

/// Stands for a chunk's bytes: loom fails the test if two threads are at one place without an order between them.
struct Places(Vec<UnsafeCell<u64>>);

// SAFETY: that they are never touched by two threads at once is what the tests find out, with loom's help.
unsafe impl Sync for Places {}
// SAFETY: as above.
unsafe impl Send for Places {}

impl Places {
    fn new(count: usize) -> Arc<Places> {
        Arc::new(Places((0..count).map(|_| UnsafeCell::new(0)).collect()))
    }

    fn write(&self, chunk: RawChunk, value: u64) {
        // SAFETY: loom checks the exclusiveness of each access.
        self.0[chunk.index as usize].with_mut(|place| unsafe { *place = value });
    }

    fn read(&self, chunk: RawChunk) -> u64 {
        // SAFETY: as above.
        self.0[chunk.index as usize].with(|place| unsafe { *place })
    }
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn chunks_are_used_again_only_after_their_reader_gave_them_back() {
    check(|| {
        let (pool, mut allocators) = Pool::new(64, 1, 1);
        let places = Places::new(1);
        let (mut producer, mut consumer) = ring(4);
        let mut allocator = allocators.remove(0);
        let writer = thread::spawn({
            let (pool, places) = (Arc::clone(&pool), Arc::clone(&places));
            move || {
                for number in 0..2 {
                    let chunk = loop {
                        if let Some(chunk) = allocator.allocate() {
                            break chunk;
                        }
                        thread::yield_now();
                    };
                    let chunk = pool.send(chunk);
                    places.write(chunk, number);
                    assert!(producer.push(Descriptor { chunk, ..Descriptor::new(Kind::Event) }).is_ok());
                    producer.publish();
                }
            }
        });
        let mut releaser = Releaser::new(&pool);
        for number in 0..2 {
            let descriptor = loop {
                if let Some(&descriptor) = consumer.pop() {
                    break descriptor;
                }
                thread::yield_now();
            };
            let chunk = pool.claim(descriptor.chunk).unwrap();
            assert_eq!(places.read(descriptor.chunk), number);
            releaser.release(chunk);
            releaser.flush();
        }
        writer.join().unwrap();
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn two_threads_give_back_to_one_home_while_it_hands_out() {
    check(|| {
        let (pool, mut allocators) = Pool::new(64, 3, 1);
        let mut allocator = allocators.remove(0);
        let held: Vec<Chunk> = (0..2).filter_map(|_| allocator.allocate()).collect();
        let givers: Vec<_> = held
            .into_iter()
            .map(|chunk| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || Releaser::new(&pool).release(chunk))
            })
            .collect();
        let mut taken: Vec<Chunk> = (0..2).filter_map(|_| allocator.allocate()).collect();
        givers.into_iter().for_each(|giver| giver.join().unwrap());
        taken.extend((0..3).map_while(|_| allocator.allocate()));
        assert_eq!(taken.len(), 3, "each chunk once, none lost and none twice");
        let mut indices: Vec<u32> = taken.into_iter().map(|chunk| pool.send(chunk).index).collect();
        indices.sort_unstable();
        assert_eq!(indices, [0, 1, 2]);
    });
}

#[test]
fn of_two_claims_one_wins() {
    check(|| {
        let (pool, mut allocators) = Pool::new(64, 1, 1);
        let raw = pool.send(allocators[0].allocate().unwrap());
        let rival = thread::spawn({
            let pool = Arc::clone(&pool);
            move || pool.claim(raw).is_ok()
        });
        let own = pool.claim(raw).is_ok();
        assert!(own ^ rival.join().unwrap());
    });
}
