//! An I/O thread that helps and the core at the same events in every order that memory allows: each event is read once,
//! by one of them, and chunks that are used again bring their own events.

use std::sync::Arc;

use eventengine_core::executor::Executor;
use eventengine_core::executor::pinned::pinned;
use eventengine_core::parse::{Payload, Refusal};
use eventengine_core::pool::{Pool, Releaser};
use eventengine_core::program::Schema;
use eventengine_core::ring::{Descriptor, ring};
use loom::thread;

const EVENTS: u8 = 3;
const CHUNKS: u32 = 2;

/// Events are the first bytes of their payloads.
#[derive(Clone)]
struct FirstByte;

impl Schema for FirstByte {
    type Event<'payload> = u8;

    fn read(&mut self, payload: Payload<'_>) -> Result<u8, Refusal> {
        Ok(payload.bytes()[0])
    }
}

#[test]
fn what_its_sender_has_read_is_what_the_core_gets() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let (pool, mut allocators) = Pool::new(64, CHUNKS, 1);
        // Every event is read by its sender that is pushed while another one waits.
        let (mut executor, mut feeds) = pinned(FirstByte, &pool, 1, 0);
        let (mut producer, mut consumer) = ring(4);
        let sender = thread::spawn({
            let pool = Arc::clone(&pool);
            let (mut allocator, mut feed) = (allocators.remove(0), feeds.remove(0));
            move || {
                for event in 0..EVENTS {
                    let mut chunk = loop {
                        if let Some(chunk) = allocator.allocate() {
                            break chunk;
                        }
                        thread::yield_now();
                    };
                    pool.bytes_mut(&mut chunk)[0] = event;
                    let chunk = pool.send(chunk);
                    let kind = feed.offer(chunk, 1, 0, &mut producer);
                    assert!(producer.push(Descriptor { chunk, length: 1, ..Descriptor::new(kind) }).is_ok());
                    producer.publish();
                }
            }
        });
        let mut releaser = Releaser::new(&pool);
        for event in 0..EVENTS {
            let descriptor = loop {
                if let Some(&descriptor) = consumer.pop() {
                    break descriptor;
                }
                thread::yield_now();
            };
            // SAFETY: this is the ring's only receiver.
            let mut chunk = unsafe { pool.claim_as_receiver(descriptor.chunk) }.unwrap();
            assert_eq!(executor.read(&descriptor, &pool, &mut chunk).ok(), Some(&event));
            pool.bytes_mut(&mut chunk)[0] = u8::MAX;
            consumer.release();
            releaser.release(chunk);
            releaser.flush();
        }
        sender.join().unwrap();
    });
}
