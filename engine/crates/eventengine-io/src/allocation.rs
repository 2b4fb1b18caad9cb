//! The allocator of the native half: jemalloc, with a count of what each named thread takes.
//!
//! Owns the global allocator, jemalloc's settings, the wish for huge pages, and the counters by thread. A counter is
//! a static that its thread adds to when it allocates; no thread ever reads another's thread-local memory, so a thread may end at any time.
//! Threads of one name share a counter. Counted is what Rust allocates: librdkafka and Python have allocators of
//! their own, which only the process' resident memory shows.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::c_char;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use eventengine_core::region::HUGE_PAGE_BYTES;
use tikv_jemallocator::Jemalloc;

use crate::shared::lock;

/// Names that have counters of their own; threads of further names count as [`OTHER`].
const NAMES_MAX: usize = 32;

/// Where threads count that have no name of ours, such as Python's.
const OTHER: &str = "other";

/// jemalloc's settings. Profiling is prepared, because that can't be done later, and off: what that costs is a few
/// instructions for each allocation. Read before anything of ours runs, hence the symbol.
// SAFETY: jemalloc looks for this very symbol and takes it for a pointer to a string that ends in a zero byte.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: Settings = Settings(c"prof:true,prof_active:false,lg_prof_sample:19".as_ptr());

/// A pointer to a constant string.
#[repr(transparent)]
#[derive(Debug)]
pub struct Settings(*const c_char);

// SAFETY: it points to a constant.
unsafe impl Sync for Settings {}

/// What one thread, or all threads of one name, allocated.
#[derive(Debug)]
struct Counts {
    allocations: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    const fn new() -> Counts {
        Counts { allocations: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    fn add(&self, bytes: usize) {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

static COUNTS: [Counts; NAMES_MAX] = [const { Counts::new() }; NAMES_MAX];
static OTHER_COUNTS: Counts = Counts::new();

thread_local! {
    // Constant at the start and without a destructor: reading it never allocates.
    static OWN: Cell<&'static Counts> = const { Cell::new(&OTHER_COUNTS) };
}

fn names() -> &'static Mutex<Vec<String>> {
    static NAMES: OnceLock<Mutex<Vec<String>>> = OnceLock::new();
    NAMES.get_or_init(|| Mutex::new(Vec::with_capacity(NAMES_MAX)))
}

/// From now on what the calling thread allocates counts under this name.
pub fn count_as(name: &str) {
    let index = {
        let mut names = lock(names());
        match names.iter().position(|known| known == name) {
            Some(index) => index,
            None if names.len() < NAMES_MAX => {
                names.push(name.to_owned());
                names.len() - 1
            }
            None => return,
        }
    };
    OWN.set(&COUNTS[index]);
}

/// Totals of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadTotals {
    /// Name of the thread.
    pub name: String,
    /// Allocations since the process started; growing in place counts as one.
    pub allocations: u64,
    /// Bytes asked for since the process started.
    pub bytes: u64,
}

/// Totals of all names, in the order in which they came up; last what no name stands for.
pub fn totals() -> Vec<ThreadTotals> {
    let names = lock(names()).clone();
    let totals_of = |name: String, counts: &Counts| ThreadTotals {
        name,
        allocations: counts.allocations.load(Ordering::Relaxed),
        bytes: counts.bytes.load(Ordering::Relaxed),
    };
    let named = names.into_iter().zip(&COUNTS).map(|(name, counts)| totals_of(name, counts));
    named.chain([totals_of(OTHER.to_owned(), &OTHER_COUNTS)]).collect()
}

/// Asks the kernel for huge pages behind memory that begins at one, as only the core's regions do.
///
/// Only whole ones are asked for: a region takes no more memory with them, but takes it in larger pieces. A kernel that
/// has none to give leaves the memory as it is.
fn with_huge_pages(start: *mut u8, layout: Layout) -> *mut u8 {
    if layout.align() >= HUGE_PAGE_BYTES && !start.is_null() {
        let whole_bytes = layout.size() / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        // SAFETY: memory that was allocated just now; the advice doesn't change what is in it.
        unsafe { libc::madvise(start.cast(), whole_bytes, libc::MADV_HUGEPAGE) };
    }
    start
}

/// jemalloc, counting.
pub struct CountingAllocator;

// SAFETY: every call goes to jemalloc unchanged; what is added neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        OWN.get().add(layout.size());
        // SAFETY: promised by the caller.
        with_huge_pages(unsafe { Jemalloc.alloc(layout) }, layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        OWN.get().add(layout.size());
        // SAFETY: promised by the caller.
        with_huge_pages(unsafe { Jemalloc.alloc_zeroed(layout) }, layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: promised by the caller.
        unsafe { Jemalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        OWN.get().add(new_size);
        // SAFETY: promised by the caller.
        unsafe { Jemalloc.realloc(pointer, layout, new_size) }
    }
}

/// jemalloc's own figures, in bytes. None where a figure can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocatorFigures {
    /// In use by the native half.
    pub allocated: Option<u64>,
    /// In pages that hold something in use.
    pub active: Option<u64>,
    /// In memory.
    pub resident: Option<u64>,
    /// Kept as address space without memory behind it.
    pub retained: Option<u64>,
}

/// jemalloc's figures of now. They are as old as the last epoch, which is advanced here and nowhere else.
pub fn figures() -> AllocatorFigures {
    use tikv_jemalloc_ctl::{epoch, stats};
    let fresh = epoch::advance().is_ok();
    let read = |figure: Result<usize, tikv_jemalloc_ctl::Error>| {
        figure.ok().filter(|_| fresh).map(|bytes| bytes as u64)
    };
    AllocatorFigures {
        allocated: read(stats::allocated::read()),
        active: read(stats::active::read()),
        resident: read(stats::resident::read()),
        retained: read(stats::retained::read()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> ThreadTotals {
        totals().into_iter().find(|thread| thread.name == name).expect("the name has a counter")
    }

    fn allocate(bytes: usize) {
        std::hint::black_box(Vec::<u8>::with_capacity(std::hint::black_box(bytes)));
    }

    #[test]
    fn what_a_named_thread_allocates_is_told_after_it_has_ended() {
        let allocated = std::thread::spawn(|| {
            count_as("test-named");
            let jemalloc = tikv_jemalloc_ctl::thread::allocatedp::read().expect("jemalloc keeps statistics");
            let (before, own) = (jemalloc.get(), of("test-named"));
            for _ in 0..10 {
                allocate(4096);
            }
            let after = of("test-named");
            (jemalloc.get() - before, after.bytes - own.bytes)
        });
        let (by_jemalloc, by_us) = allocated.join().expect("it does not panic");
        assert!(by_us >= 10 * 4096);
        // Reading the totals allocates, too, and both count that; jemalloc rounds up to its size classes.
        assert!(by_jemalloc >= by_us && by_jemalloc < by_us * 2, "{by_jemalloc} and {by_us}");
        let after = of("test-named");
        assert!(after.allocations >= 10 && after.bytes >= by_us);
        allocate(1 << 20);
        assert_eq!(of("test-named"), after, "another thread's memory is not this one's");
    }

    #[test]
    fn threads_of_one_name_share_a_counter() {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    count_as("test-shared");
                    (0..1000).for_each(|_| allocate(64));
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
        let shared: Vec<_> = totals().into_iter().filter(|thread| thread.name == "test-shared").collect();
        assert_eq!(shared.len(), 1);
        assert!(shared[0].allocations >= 4000 && shared[0].bytes >= 4000 * 64);
    }

    #[test]
    fn a_thread_without_a_name_of_ours_counts_as_other() {
        let before = of(OTHER);
        std::thread::spawn(|| allocate(1 << 16)).join().expect("it does not panic");
        assert!(of(OTHER).bytes >= before.bytes + (1 << 16));
        assert_eq!(totals().last().map(|thread| thread.name.clone()), Some(OTHER.to_owned()));
    }

    /// Whether the kernel was asked for huge pages at an address: the flag `hg` of its mapping.
    fn huge_pages_are_wanted(address: usize) -> bool {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("the kernel tells its mappings");
        let mut inside = false;
        for line in maps.lines() {
            let bounds = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let bounds = bounds.and_then(|(from, to)| {
                Some(usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?)
            });
            inside = bounds.map_or(inside, |bounds| bounds.contains(&address));
            if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
                return flags.split_ascii_whitespace().any(|flag| flag == "hg");
            }
        }
        panic!("no mapping has the address {address:x}");
    }

    #[test]
    fn memory_that_begins_at_a_huge_page_gets_huge_pages_where_the_kernel_has_them() {
        let kernel_has_them = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
        let layout =
            Layout::from_size_align(HUGE_PAGE_BYTES * 2 + 4096, HUGE_PAGE_BYTES).expect("a valid layout");
        // SAFETY: the layout is not empty, and what is allocated is given back with it.
        unsafe {
            let start = CountingAllocator.alloc_zeroed(layout);
            assert_eq!(huge_pages_are_wanted(start as usize), kernel_has_them);
            assert_eq!(start.add(HUGE_PAGE_BYTES * 2).read(), 0);
            CountingAllocator.dealloc(start, layout);
        }
    }

    #[test]
    fn jemalloc_tells_its_figures_and_profiling_is_prepared_but_off() {
        let figures = figures();
        assert!(figures.allocated.is_some_and(|bytes| bytes > 0));
        assert!(figures.resident >= figures.active && figures.active >= figures.allocated);
        assert_eq!(tikv_jemalloc_ctl::profiling::prof::read(), Ok(true));
    }
}
