//! Hints to the CPU: which cache lines are needed soon.
//!
//! A thread that takes what another one wrote waits for each line to come from the other
//! core, unless it asked for it before. Hints have no effect on memory; any address will
//! do, and where there is no such instruction they are nothing.

/// Bytes of a cache line.
pub(crate) const LINE_BYTES: usize = 64;

/// Asks for a line that is going to be read.
#[inline(always)]
pub(crate) fn to_read<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    // SAFETY: a hint; every x86-64 has the instruction.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(loom, miri)))))]
    let _ = address;
}

/// Asks for a line that is going to be written: other cores' copies are given up, too.
#[inline(always)]
pub(crate) fn to_write<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    // SAFETY: a hint, without an effect on registers or memory. Written out, because the compiler asks for a line to
    // be read instead unless it is told that the CPU has this one; those without it take it for nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(loom, miri)))))]
    let _ = address;
}
