//! What the kernel says of this process: memory, pressure, CPUs.
//!
//! Owns the reading of /proc and /sys. A file that can't be read gives `None`, never zero.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// Resident memory of this process.
pub fn rss_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: no argument but a constant.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

/// Time that tasks waited for a resource (PSI), in percent of the last ten seconds and in all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pressure {
    /// Share in which some task waited.
    pub some_avg10: f64,
    /// Time in which some task waited.
    pub some_total_microseconds: u64,
    /// Share in which all tasks waited; none where the kernel doesn't tell.
    pub full_avg10: Option<f64>,
    /// Time in which all tasks waited; none where the kernel doesn't tell.
    pub full_total_microseconds: Option<u64>,
}

/// Pressure on each resource; none where the kernel doesn't tell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pressures {
    /// Waiting to run.
    pub cpu: Option<Pressure>,
    /// Waiting for memory.
    pub memory: Option<Pressure>,
    /// Waiting for input or output.
    pub io: Option<Pressure>,
}

/// Pressure within this process' own control group, and on the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PressurePart {
    /// The control group's, which is the container's.
    pub cgroup: Pressures,
    /// The machine's.
    pub machine: Pressures,
}

/// Pressure of now.
pub fn pressure() -> PressurePart {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own_cgroup(&groups).map(|path| Path::new("/sys/fs/cgroup").join(path));
    let machine = Path::new("/proc/pressure");
    PressurePart {
        cgroup: pressures(|resource| Some(own.as_ref()?.join(format!("{resource}.pressure")))),
        machine: pressures(|resource| Some(machine.join(resource))),
    }
}

fn pressures(file: impl Fn(&str) -> Option<PathBuf>) -> Pressures {
    let read = |resource| parse_pressure(&std::fs::read_to_string(file(resource)?).ok()?);
    Pressures { cpu: read("cpu"), memory: read("memory"), io: read("io") }
}

/// Where the unified hierarchy has this process, relative to its mount; none without one, or outside of what is mounted.
fn own_cgroup(groups: &str) -> Option<&str> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    (!path.split('/').any(|part| part == "..")).then_some(path)
}

fn parse_pressure(text: &str) -> Option<Pressure> {
    let (some_avg10, some_total_microseconds) = parse_line(text, "some ")?;
    let full = parse_line(text, "full ");
    Some(Pressure {
        some_avg10,
        some_total_microseconds,
        full_avg10: full.map(|(share, _)| share),
        full_total_microseconds: full.map(|(_, total)| total),
    })
}

fn parse_line(text: &str, kind: &str) -> Option<(f64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
    let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name));
    Some((field("avg10=")?.parse().ok()?, field("total=")?.parse().ok()?))
}

/// CPUs that are online on this machine.
pub fn online_cpus() -> Option<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    parse_cpu_list(text.trim()).map(|cpus| cpus.len())
}

/// Reads the kernel's list format.
pub fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last > 65_536 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Whether the process has CPUs that no other container's share, as far as can be told from inside.
///
/// A static CPU manager gives a container with an integer limit exactly that many CPUs.
/// The set therefore has as many CPUs as the limit says, and fewer than the machine;
/// on a machine with exactly as many, they can't be exclusive, because the system's own
/// tasks need one. A CFS quota says nothing against it: cgroup v1 and v2 keep the quota
/// beside an exclusive set.
pub fn exclusive(
    pinning: &str,
    allowed: usize,
    limit_millicores: Option<u64>,
    online: Option<usize>,
) -> bool {
    let Some(limit) = limit_millicores.filter(|limit| *limit >= 1000 && limit % 1000 == 0) else {
        return false;
    };
    pinning != "Off" && allowed as u64 == limit / 1000 && online.is_some_and(|online| allowed < online)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_from_the_lines_of_some_and_full() {
        let text =
            "some avg10=1.25 avg60=0.00 avg300=0.00 total=12345\nfull avg10=9.00 avg60=0 avg300=0 total=9\n";
        let whole = Pressure {
            some_avg10: 1.25,
            some_total_microseconds: 12345,
            full_avg10: Some(9.0),
            full_total_microseconds: Some(9),
        };
        assert_eq!(parse_pressure(text), Some(whole));
        let without_full = Pressure { full_avg10: None, full_total_microseconds: None, ..whole };
        assert_eq!(parse_pressure(text.lines().next().unwrap_or_default()), Some(without_full));
        assert_eq!(parse_pressure("full avg10=1 total=2"), None);
        assert_eq!(parse_pressure(""), None);
    }

    #[test]
    fn a_kernel_without_pressure_gives_none_and_not_zero() {
        let nowhere = pressures(|resource| Some(Path::new("/proc/no-pressure-here").join(resource)));
        assert_eq!(nowhere, Pressures { cpu: None, memory: None, io: None });
        assert_eq!(pressures(|_| None), nowhere);
    }

    #[test]
    fn the_own_control_group_is_that_of_the_unified_hierarchy() {
        assert_eq!(own_cgroup("0::/\n"), Some(""));
        assert_eq!(own_cgroup("1:cpu:/a\n0::/kubepods/pod1/c2\n"), Some("kubepods/pod1/c2"));
        assert_eq!(own_cgroup("0::/../outside\n"), None);
        assert_eq!(own_cgroup("4:memory:/only/version-1\n"), None);
    }

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_cpu_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_cpu_list("3"), Some(vec![3]));
        assert_eq!(parse_cpu_list("3-1"), None);
        assert_eq!(parse_cpu_list("a"), None);
    }

    #[test]
    fn cpus_are_exclusive_only_if_the_set_is_as_small_as_an_integer_limit() {
        assert!(exclusive("Required", 1, Some(1000), Some(2)));
        assert!(exclusive("Preferred", 2, Some(2000), Some(8)));
        assert!(!exclusive("Off", 1, Some(1000), Some(2)));
        assert!(!exclusive("Required", 2, Some(1000), Some(2)), "the shared pool is larger than the limit");
        assert!(!exclusive("Required", 2, Some(2000), Some(2)), "nobody else would have a CPU");
        assert!(!exclusive("Required", 1, Some(500), Some(2)), "a share of a CPU is never exclusive");
        assert!(!exclusive("Required", 1, None, Some(2)));
        assert!(!exclusive("Required", 1, Some(1000), None));
    }

    #[test]
    fn this_process_has_resident_memory() {
        assert!(rss_bytes().unwrap() > 100_000);
    }
}
