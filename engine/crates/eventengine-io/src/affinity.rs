//! CPUs: which ones the process may use, and which one the core thread is bound to.
//!
//! Owns the reading of the allowed set, the binding and its verification. A thread that
//! asked for a CPU and did not get it is reported as not pinned.

use std::mem::{MaybeUninit, size_of};

/// Threads of the process are looked at again until none has to be moved; new ones may come meanwhile.
const LOOKS_MAX: u32 = 8;

/// The calling thread, as the kernel's calls name it.
const THIS_THREAD: libc::pid_t = 0;

/// CPUs that the calling thread may use, in rising order.
pub fn allowed_cpus() -> Vec<usize> {
    allowed_cpus_of(THIS_THREAD)
}

fn allowed_cpus_of(thread: libc::pid_t) -> Vec<usize> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: a zeroed set is a valid set, and the kernel writes at most its size.
    let set = unsafe {
        if libc::sched_getaffinity(thread, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) != 0 {
            return Vec::new();
        }
        set.assume_init()
    };
    // SAFETY: the index stays below the set's size.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// Binds the calling thread to these CPUs and verifies it.
pub fn bind(cpus: &[usize]) -> bool {
    bind_thread(THIS_THREAD, cpus)
}

fn bind_thread(thread: libc::pid_t, cpus: &[usize]) -> bool {
    // SAFETY: a zeroed set is a valid set; indices come from the kernel's own set.
    let outcome = unsafe {
        let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init();
        for cpu in cpus {
            libc::CPU_SET(*cpu, &mut set);
        }
        libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    outcome == 0 && allowed_cpus_of(thread) == cpus
}

/// Binds every thread that the process has to these CPUs, and verifies it. Threads that they start inherit it.
///
/// The interpreter and the allocator have threads of their own, which were there before the engine.
pub fn bind_process(cpus: &[usize]) -> bool {
    for _ in 0..LOOKS_MAX {
        let mut moved = false;
        let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return false };
        for thread in threads.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            let allowed = allowed_cpus_of(thread);
            // Nothing is allowed to a thread that has ended.
            if !allowed.is_empty() && allowed != cpus {
                moved |= bind_thread(thread, cpus);
            }
        }
        if !moved {
            break;
        }
    }
    allowed_cpus() == cpus
}

/// A set in the kernel's list format, such as `0-3,8`.
pub fn list_format(cpus: &[usize]) -> String {
    let mut text = String::new();
    let mut index = 0;
    while index < cpus.len() {
        let first = cpus[index];
        let mut last = first;
        while index + 1 < cpus.len() && cpus[index + 1] == last + 1 {
            index += 1;
            last = cpus[index];
        }
        index += 1;
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&first.to_string());
        if last > first {
            text.push('-');
            text.push_str(&last.to_string());
        }
    }
    text
}

/// Cores that the process may keep busy at the same time: its CPUs, or less where it is limited to less.
pub fn cores(allowed: &[usize], limit_millicores: Option<u64>) -> usize {
    let limit = limit_millicores.map_or(usize::MAX, |limit| (limit / 1000).max(1) as usize);
    allowed.len().min(limit)
}

/// How the process' threads share its CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// All CPUs that the process was given.
    pub allowed: Vec<usize>,
    /// Cores that it may keep busy at the same time.
    pub cores: usize,
    /// The core thread's.
    pub core: Option<usize>,
    /// Threads that parse beside the core thread.
    pub workers: usize,
    /// Theirs, one each; none without pinning.
    pub worker_cpus: Vec<usize>,
    /// The others'.
    pub others: Vec<usize>,
}

/// The core thread gets the last CPU for itself; with one CPU, or without pinning, all share all.
pub fn place(allowed: &[usize], pinning: bool, cores: usize) -> Placement {
    let (core, others) = match allowed {
        [] => (None, Vec::new()),
        [only] => (pinning.then_some(*only), vec![*only]),
        [others @ .., last] if pinning => (Some(*last), others.to_vec()),
        all => (None, all.to_vec()),
    };
    Placement { allowed: allowed.to_vec(), cores, core, workers: 0, worker_cpus: Vec::new(), others }
}

impl Placement {
    /// Gives half of the cores to workers, never the last one that I/O has.
    ///
    /// With two CPUs the worker shares the core thread's: I/O stays apart from both.
    pub fn with_workers(mut self, most: usize) -> Placement {
        self.workers = (self.cores / 2).min(self.cores.saturating_sub(2)).clamp(1, most);
        if self.core.is_some() {
            let from = self.others.len() - self.workers.min(self.others.len() - 1);
            self.worker_cpus = self.others.split_off(from);
            if self.worker_cpus.is_empty() {
                self.worker_cpus = self.core.into_iter().collect();
            }
        }
        self
    }

    /// Whether the core thread has a CPU that no other thread is on, and may keep it busy by looking for work.
    pub fn core_is_alone(&self) -> bool {
        let alone = |cpu| !self.others.contains(&cpu) && !self.worker_cpus.contains(&cpu);
        self.cores >= 2 && self.core.is_some_and(alone)
    }

    /// The same of a worker.
    pub fn worker_is_alone(&self, worker: usize) -> bool {
        let cpu = self.worker_cpus.get(worker).copied();
        self.cores >= 2 && cpu.is_some() && cpu != self.core
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_the_kernel_writes_them() {
        assert_eq!(list_format(&[]), "");
        assert_eq!(list_format(&[1]), "1");
        assert_eq!(list_format(&[0, 1, 2, 3, 8, 10, 11]), "0-3,8,10-11");
    }

    #[test]
    fn the_core_thread_gets_the_last_cpu_and_the_others_the_rest() {
        let of_three = place(&[2, 3, 5], true, 3);
        assert_eq!((of_three.core, &of_three.others[..]), (Some(5), &[2, 3][..]));
        assert!(of_three.core_is_alone());
        let unpinned = place(&[2, 3], false, 2);
        assert_eq!((unpinned.core, &unpinned.others[..]), (None, &[2, 3][..]));
        let of_one = place(&[7], true, 1);
        assert_eq!((of_one.core, &of_one.others[..]), (Some(7), &[7][..]));
        assert!(!of_one.core_is_alone());
    }

    #[test]
    fn a_process_limited_to_one_core_does_not_spin_on_any_of_its_cpus() {
        assert_eq!(cores(&[0, 1, 2, 3], Some(1500)), 1);
        assert_eq!(cores(&[0, 1, 2, 3], Some(2000)), 2);
        assert_eq!(cores(&[0, 1], None), 2);
        assert!(!place(&[0, 1, 2, 3], true, 1).core_is_alone());
    }

    #[test]
    fn workers_are_never_on_the_cpus_of_io() {
        for count in 2..40_usize {
            let allowed: Vec<usize> = (0..count).collect();
            let placement = place(&allowed, true, count).with_workers(16);
            assert_eq!(placement.worker_cpus.len(), placement.workers);
            assert!((1..=16).contains(&placement.workers), "{placement:?}");
            assert!(!placement.others.is_empty());
            assert!(placement.others.iter().all(|cpu| !placement.worker_cpus.contains(cpu)));
            assert!(!placement.others.contains(&(count - 1)));
            assert_eq!(placement.core_is_alone(), count > 2, "with two CPUs core and worker share one");
        }
        let limited = place(&[0, 1, 2, 3, 4, 5, 6, 7], true, 2).with_workers(16);
        assert_eq!((limited.workers, &limited.worker_cpus[..]), (1, &[6][..]));
        let unpinned = place(&[0, 1, 2, 3], false, 4).with_workers(16);
        assert_eq!((unpinned.workers, &unpinned.worker_cpus[..]), (2, &[][..]));
    }

    #[test]
    fn binding_is_verified_on_the_thread_itself() {
        let allowed = allowed_cpus();
        assert!(!allowed.is_empty());
        std::thread::spawn(move || {
            let last = *allowed.last().unwrap();
            assert!(bind(&[last]));
            assert_eq!(allowed_cpus(), [last]);
            assert!(
                !bind(&[libc::CPU_SETSIZE as usize - 1])
                    || allowed.contains(&(libc::CPU_SETSIZE as usize - 1))
            );
        })
        .join()
        .unwrap();
    }
}
