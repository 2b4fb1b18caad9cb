//! Directly ingested events: how their senders get their answers.
//!
//! Owns the way from the publisher back to the thread that holds the connections, and
//! the bell that wakes that thread out of its wait for sockets.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use eventengine_core::ring::{Descriptor, Producer};

/// A bell that can be waited for together with sockets.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A silent bell.
    pub fn new() -> std::io::Result<Bell> {
        // SAFETY: a system call without pointers.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and is nobody else's.
        Ok(Bell(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Rings.
    pub fn ring(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: writes eight bytes of a valid buffer. A full counter means that it rings already.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes it silent again.
    pub fn silence(&self) {
        let mut count = [0_u8; 8];
        // SAFETY: reads at most eight bytes into a valid buffer.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// For waiting.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The publisher's end. Without direct sources there is nobody to answer.
#[derive(Default)]
pub struct Replies {
    way: Option<(Producer, Arc<Bell>)>,
}

impl Replies {
    /// Replies that go into a ring, at whose other end a bell rings.
    pub fn new(ring: Producer, bell: Arc<Bell>) -> Replies {
        Replies { way: Some((ring, bell)) }
    }

    /// The event's outcome is final: an output was committed, or the event was refused.
    ///
    /// The ring has a slot for every chunk that direct events may hold, unless the reader has ended.
    pub fn settle(&mut self, descriptor: &Descriptor) {
        const TRIES_MAX: u32 = 1_000;
        let Some((ring, bell)) = &mut self.way else { return };
        for _ in 0..TRIES_MAX {
            if ring.push(*descriptor).is_ok() {
                return;
            }
            ring.publish();
            bell.ring();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Makes everything settled visible.
    pub fn flush(&mut self) {
        if let Some((ring, bell)) = &mut self.way
            && ring.publish()
        {
            bell.ring();
        }
    }
}
