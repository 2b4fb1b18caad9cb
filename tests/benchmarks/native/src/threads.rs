//! What the programs ask of the kernel: CPUs, priority, precise sleep, memory figures.

use std::mem::{MaybeUninit, size_of};

/// CPUs that the calling thread may use, in rising order.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: a zeroed set is a valid set, and the kernel writes at most its size.
    unsafe {
        let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return Vec::new();
        }
        (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &set)).collect()
    }
}

/// Binds the calling thread to one CPU; says whether that worked.
pub fn bind(cpu: usize) -> bool {
    // SAFETY: a zeroed set is a valid set, and the CPU's number is below its size.
    unsafe {
        let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
    }
}

/// Gives the calling thread the lowest real-time priority; says whether it was allowed.
pub fn real_time() -> bool {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: a valid policy and a valid parameter.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) == 0 }
}

/// Lets the calling thread's sleeps end as precisely as the kernel can.
pub fn sleep_precisely() {
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64, 0_u64, 0_u64, 0_u64) };
}

/// Nanoseconds on the monotonic clock.
pub fn now_nanoseconds() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid clock and a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A figure of /proc/self/status in bytes, such as `VmRSS` or `VmHWM`; zero if the kernel doesn't tell.
pub fn status_bytes(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kibibytes| kibibytes * 1024)
}
