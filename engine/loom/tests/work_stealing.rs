//! Workers and core at the same events in every order that memory allows: each event is parsed once, by one of them.

use std::sync::Arc;

use eventengine_core::executor::Executor;
use eventengine_core::executor::work_stealing::work_stealing;
use eventengine_core::parse::{Payload, Refusal};
use eventengine_core::pool::Pool;
use eventengine_core::program::Schema;
use eventengine_core::ring::{Descriptor, ring};
use loom::cell::UnsafeCell;
use loom::thread;

const EVENTS: usize = 2;

/// Stands for the bytes that a parser reads and the core writes: loom fails the test if it is touched by two at once.
struct Places([UnsafeCell<u32>; EVENTS]);

// SAFETY: that they are never touched by two threads at once is what the test finds out, with loom's help.
unsafe impl Sync for Places {}
// SAFETY: as above.
unsafe impl Send for Places {}

impl Places {
    fn touch(&self, event: u8) -> u32 {
        // SAFETY: loom checks the exclusiveness of each access.
        self.0[usize::from(event)].with_mut(|times| unsafe {
            *times += 1;
            *times
        })
    }
}

#[derive(Clone)]
struct Counting(Arc<Places>);

impl Schema for Counting {
    type Event<'payload> = (u8, u32);

    fn read(&mut self, payload: Payload<'_>) -> Result<(u8, u32), Refusal> {
        let event = payload.bytes()[0];
        Ok((event, self.0.touch(event)))
    }
}

/// One I/O thread offers, so many workers parse and steal, the core applies.
fn run(workers: usize, preemptions: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let places = Arc::new(Places(std::array::from_fn(|_| UnsafeCell::new(0))));
        let (pool, mut allocators) = Pool::new(64, EVENTS as u32, 1);
        let (mut executor, crew, mut feeds) = work_stealing(Counting(Arc::clone(&places)), &pool, workers, 1);
        let crew: Vec<_> = crew
            .into_iter()
            .map(|mut worker| {
                thread::spawn(move || {
                    for _ in 0..EVENTS {
                        worker.step();
                    }
                })
            })
            .collect();
        let (mut lane, _) = ring(EVENTS);
        let descriptors: Vec<Descriptor> = (0..EVENTS as u8)
            .map(|event| {
                let mut chunk = allocators[0].allocate().unwrap();
                pool.bytes_mut(&mut chunk)[0] = event;
                let chunk = pool.send(chunk);
                let kind = feeds[0].offer(chunk, 1, 0, &mut lane);
                Descriptor { chunk, length: 1, ..Descriptor::new(kind) }
            })
            .collect();
        for (event, descriptor) in (0..).zip(&descriptors) {
            while !executor.claim(descriptor) {
                thread::yield_now();
            }
            let mut chunk = pool.claim(descriptor.chunk).unwrap();
            let read = executor.read(descriptor, &pool, &mut chunk);
            assert_eq!(read.ok(), Some(&(event, 1)), "parsed once");
            assert_eq!(places.touch(event), 2, "the chunk is the core's");
        }
        crew.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn a_worker_and_the_core_parse_each_event_once() {
    run(1, 3);
}

#[test]
fn two_workers_that_steal_and_the_core_parse_each_event_once() {
    run(2, 2);
}
