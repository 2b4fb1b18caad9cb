//! Directly ingested events: how their senders get their answers.
//!
//! Owns the way from the publisher back to the thread that holds the connections.

use std::sync::Arc;
use std::time::Duration;

use eventengine_core::ring::{Descriptor, Producer};

use crate::wake::Waker;

/// The publisher's end. Without direct sources there is nobody to answer.
#[derive(Default)]
pub struct Replies {
    way: Option<(Producer, Arc<Waker>)>,
}

impl Replies {
    /// Replies that go into a ring, whose reader is woken.
    pub fn new(ring: Producer, waker: Arc<Waker>) -> Replies {
        Replies { way: Some((ring, waker)) }
    }

    /// The event's outcome is final: an output was committed, or the event was refused.
    pub fn settle(&mut self, descriptor: &Descriptor) {
        let Some((ring, waker)) = &mut self.way else { return };
        let mut descriptor = *descriptor;
        while let Err(back) = ring.push(descriptor) {
            descriptor = back;
            ring.publish();
            waker.wake();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Makes everything settled visible.
    pub fn flush(&mut self) {
        if let Some((ring, waker)) = &mut self.way
            && ring.publish()
        {
            waker.wake();
        }
    }
}
