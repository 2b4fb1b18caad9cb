//! Atomics and cells as the rings, the free lists and the executors use them: the standard library's, or loom's.
//!
//! Under `--cfg loom` the model checker sees every access; see `engine/loom`.

#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};

/// The standard library's cell with loom's interface.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> UnsafeCell<T> {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    /// Reads through the pointer; nobody may write meanwhile.
    #[inline(always)]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Writes through the pointer; nobody else may touch the value meanwhile.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Whether the tests run under a checker that makes them a hundred times slower: Miri, or memcheck.
#[cfg(test)]
pub(crate) fn is_checked_slowly() -> bool {
    cfg!(miri) || std::env::var_os("EVENTENGINE_MEMCHECK").is_some()
}
