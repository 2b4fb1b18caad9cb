//! CPUs: which ones the process may use, and which one the core thread is bound to.
//!
//! Owns the reading of the allowed set, the binding and its verification. A thread that
//! asked for a CPU and did not get it is reported as not pinned.

use std::mem::{MaybeUninit, size_of};

/// CPUs that the calling thread may use, in rising order.
pub fn allowed_cpus() -> Vec<usize> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: a zeroed set is a valid set, and the kernel writes at most its size.
    let set = unsafe {
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) != 0 {
            return Vec::new();
        }
        set.assume_init()
    };
    // SAFETY: the index stays below the set's size.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// Binds the calling thread to these CPUs and verifies it.
pub fn bind(cpus: &[usize]) -> bool {
    // SAFETY: a zeroed set is a valid set; indices come from the kernel's own set.
    let outcome = unsafe {
        let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init();
        for cpu in cpus {
            libc::CPU_SET(*cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    outcome == 0 && allowed_cpus() == cpus
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

/// How the process' threads share its CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// All CPUs that the process was given.
    pub allowed: Vec<usize>,
    /// The core thread's.
    pub core: Option<usize>,
    /// The others'.
    pub others: Vec<usize>,
}

/// The core thread gets the last CPU for itself; with one CPU, or without pinning, all share all.
pub fn place(allowed: &[usize], pinning: bool) -> Placement {
    let (core, others) = match allowed {
        [] => (None, Vec::new()),
        [only] => (pinning.then_some(*only), vec![*only]),
        [others @ .., last] if pinning => (Some(*last), others.to_vec()),
        all => (None, all.to_vec()),
    };
    Placement { allowed: allowed.to_vec(), core, others }
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
        assert_eq!(place(&[2, 3, 5], true).core, Some(5));
        assert_eq!(place(&[2, 3, 5], true).others, [2, 3]);
        assert_eq!(place(&[2, 3], false).core, None);
        assert_eq!(place(&[2, 3], false).others, [2, 3]);
        assert_eq!(place(&[7], true), Placement { allowed: vec![7], core: Some(7), others: vec![7] });
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
