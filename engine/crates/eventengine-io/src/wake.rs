//! Waiting without a lock: a thread that sleeps until another one has news, or a time is over.
//!
//! Owns the one order that makes this safe: the sleeper announces itself and then looks
//! once more; the waker makes its news visible and then looks for sleepers. Whoever comes
//! second sees the other.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::Thread;
use std::time::Duration;

/// The doorbell of one thread.
#[derive(Debug, Default)]
pub struct Waker {
    sleeping: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Waker {
    /// Makes the calling thread the one that is woken. Called once, by that thread.
    pub fn attach(&self) {
        let _ = self.thread.set(std::thread::current());
    }

    /// Sleeps for at most `timeout`, unless `has_news` or somebody calls [`Waker::wake`].
    pub fn sleep(&self, timeout: Duration, has_news: impl FnOnce() -> bool) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !has_news() {
            std::thread::park_timeout(timeout);
        }
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Wakes the thread if it sleeps. Costs a fence and a load if it doesn't.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed)
            && self.sleeping.swap(false, Ordering::Relaxed)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}
