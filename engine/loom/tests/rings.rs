//! A ring between two threads, in every order that memory allows: nothing is lost, torn, repeated or out of order.

use eventengine_core::ring::{Descriptor, Kind, ring};
use loom::thread;

fn numbered(offset: i64) -> Descriptor {
    Descriptor { offset, ticket: !offset as u64, ..Descriptor::new(Kind::Event) }
}

/// Bounded, so that the check ends in seconds: bugs of two threads show within three preemptions.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn a_full_ring_hands_over_every_descriptor_once_and_in_order() {
    check(|| {
        let (mut producer, mut consumer) = ring(2);
        let writer = thread::spawn(move || {
            for offset in 0..4 {
                while producer.push(numbered(offset)).is_err() {
                    producer.publish();
                    thread::yield_now();
                }
                if offset % 2 == 1 {
                    producer.publish();
                }
            }
            producer.publish();
        });
        let mut expected = 0;
        while expected < 4 {
            match consumer.pop() {
                Some(&descriptor) => {
                    assert_eq!((descriptor.offset, descriptor.ticket), (expected, !expected as u64));
                    expected += 1;
                    consumer.release();
                }
                None => thread::yield_now(),
            }
        }
        assert!(consumer.pop().is_none());
        writer.join().unwrap();
    });
}

#[test]
fn figures_read_by_a_third_thread_never_exceed_the_ring() {
    check(|| {
        let (mut producer, mut consumer) = ring(2);
        let gauge = producer.gauge();
        let writer = thread::spawn(move || {
            for offset in 0..2 {
                assert!(producer.push(numbered(offset)).is_ok());
                producer.publish();
            }
        });
        let observer = thread::spawn(move || assert!(gauge.in_use() <= 2 && gauge.high_water() <= 2));
        if consumer.pop().is_some() {
            consumer.release();
        }
        writer.join().unwrap();
        observer.join().unwrap();
    });
}
