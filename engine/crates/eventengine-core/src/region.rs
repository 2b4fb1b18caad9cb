//! Regions: tables that are large, reached at random, written to as a whole at the start, and there for as long as
//! their owner.
//!
//! Owns the rule for where such memory begins. The CPU knows the places of a few thousand pages at once; what lies on
//! any other one waits until its place was looked up, in a virtual machine twice over. A region as large as a huge page
//! begins at one, so that the kernel can put huge pages behind it. That the process asks the kernel for them is its
//! allocator's part: this module makes no system call.
//!
//! Not for memory of which little may ever be used, such as the pool's: huge pages come whole, and late.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes of a huge page, and where regions begin that are as large as one. Nothing else is aligned so.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Where other regions begin.
const PAGE_BYTES: usize = 4096;

/// So many values in a row, fixed in number.
pub(crate) struct Region<T> {
    start: NonNull<T>,
    length: usize,
}

// SAFETY: it owns its values as a boxed slice does.
unsafe impl<T: Send> Send for Region<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Region<T> {}

impl<T: Copy> Region<T> {
    /// Zeroed values. Their pages are not in memory before they are written to.
    ///
    /// # Safety
    /// Zeroes are a value of this type.
    ///
    /// # Panics
    /// If there are more than an address space has room for.
    pub(crate) unsafe fn zeroed(length: usize) -> Region<T> {
        // SAFETY: only called with a layout that isn't empty.
        Region { start: allocated(Self::layout(length), |layout| unsafe { alloc_zeroed(layout) }), length }
    }

    /// The same value everywhere.
    ///
    /// # Panics
    /// As [`Region::zeroed`].
    pub(crate) fn filled(length: usize, value: T) -> Region<T> {
        // SAFETY: as above.
        let start = allocated::<T>(Self::layout(length), |layout| unsafe { alloc(layout) });
        for index in 0..length {
            // SAFETY: inside what was allocated just now.
            unsafe { start.add(index).write(value) };
        }
        Region { start, length }
    }
}

impl<T> Region<T> {
    fn layout(length: usize) -> Layout {
        let layout = Layout::array::<T>(length).expect("a region fits into the address space");
        let align = if layout.size() >= HUGE_PAGE_BYTES { HUGE_PAGE_BYTES } else { PAGE_BYTES };
        layout.align_to(align).expect("a region fits into the address space")
    }
}

fn allocated<T>(layout: Layout, allocate: impl FnOnce(Layout) -> *mut u8) -> NonNull<T> {
    if layout.size() == 0 {
        return NonNull::dangling();
    }
    NonNull::new(allocate(layout).cast()).unwrap_or_else(|| handle_alloc_error(layout))
}

impl<T> Deref for Region<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: allocated for so many values, all of which were written, and borrowed for as long as the slice.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for Region<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl<T> Drop for Region<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.length);
        if layout.size() > 0 {
            // SAFETY: allocated with this very layout. The values are `Copy`: there is nothing else to end.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_as_large_as_a_huge_page_begins_at_one() {
        for bytes in [HUGE_PAGE_BYTES, HUGE_PAGE_BYTES * 3 + 5] {
            let region = Region::filled(bytes, 7_u8);
            assert_eq!(region.as_ptr() as usize % HUGE_PAGE_BYTES, 0);
            assert!(region.len() == bytes && region.iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn a_smaller_one_takes_no_more_than_its_pages() {
        assert_eq!(Region::<u64>::layout(HUGE_PAGE_BYTES / 8 - 1).align(), PAGE_BYTES);
    }

    #[test]
    fn values_are_zero_or_what_was_asked_for_and_can_be_changed() {
        // SAFETY: a zero is a number.
        let mut region = unsafe { Region::<u32>::zeroed(100) };
        assert_eq!(*region, [0; 100]);
        region[99] = 5;
        assert_eq!((region[98], region[99]), (0, 5));
        assert_eq!(*Region::filled(3, 9_u16), [9; 3]);
    }

    #[test]
    fn a_region_of_nothing_is_one() {
        assert!(Region::filled(0, 1_u64).is_empty());
    }
}
