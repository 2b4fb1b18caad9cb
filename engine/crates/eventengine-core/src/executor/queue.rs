//! A bounded queue with one thread that fills it and many that take from it.
//!
//! Owns numbers on their way from an I/O thread to the workers. Whoever has nothing of
//! its own to do takes from the queues of others: that is the stealing. Never waits and
//! never allocates after it was made; a full queue says so.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sync::AtomicU64;

#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
    items: Box<[AtomicU64]>,
    head: Padded<AtomicU64>,
    tail: Padded<AtomicU64>,
}

/// The filling end. Belongs to one thread.
pub(crate) struct Filler {
    shared: Arc<Shared>,
    tail: u64,
    head_seen: u64,
}

/// The taking end. Any number of threads may have a clone of it.
#[derive(Clone)]
pub(crate) struct Taker(Arc<Shared>);

/// A queue of `capacity` numbers, a power of two.
pub(crate) fn queue(capacity: usize) -> (Filler, Taker) {
    assert!(capacity.is_power_of_two());
    let shared = Arc::new(Shared {
        items: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
        head: Padded(AtomicU64::new(0)),
        tail: Padded(AtomicU64::new(0)),
    });
    (Filler { shared: Arc::clone(&shared), tail: 0, head_seen: 0 }, Taker(shared))
}

impl Shared {
    fn item(&self, position: u64) -> &AtomicU64 {
        &self.items[(position & (self.items.len() as u64 - 1)) as usize]
    }
}

impl Filler {
    /// Adds a number; false if the queue is full.
    pub(crate) fn push(&mut self, item: u64) -> bool {
        let capacity = self.shared.items.len() as u64;
        if self.tail - self.head_seen == capacity {
            // Acquire: whoever moved the head has read the place that is written next.
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
            if self.tail - self.head_seen == capacity {
                return false;
            }
        }
        self.shared.item(self.tail).store(item, Ordering::Relaxed);
        self.tail += 1;
        self.shared.tail.0.store(self.tail, Ordering::Release);
        true
    }
}

impl Taker {
    /// Takes the oldest number.
    pub(crate) fn pop(&self) -> Option<u64> {
        loop {
            let head = self.0.head.0.load(Ordering::Acquire);
            let tail = self.0.tail.0.load(Ordering::Acquire);
            if head >= tail {
                return None;
            }
            let item = self.0.item(head).load(Ordering::Relaxed);
            // A place is filled anew only after the head has passed it: then this fails, and `item` is forgotten.
            let taken =
                self.0.head.0.compare_exchange_weak(head, head + 1, Ordering::AcqRel, Ordering::Relaxed);
            if taken.is_ok() {
                return Some(item);
            }
        }
    }

    /// Whether there is nothing to take.
    pub(crate) fn is_empty(&self) -> bool {
        let head = self.0.head.0.load(Ordering::Acquire);
        head >= self.0.tail.0.load(Ordering::Acquire)
    }
}
