//! Heap profiles: what holds the native half's memory, by call stack, as jemalloc samples it.
//!
//! Owns the directory, the names and the number of the files, and the switch that turns sampling on. Profiles are
//! written by a thread of its own, because a dump takes jemalloc's locks for milliseconds. Without
//! `monitoring.heapProfileDirectory` nothing of this runs and nothing is sampled.

use std::ffi::CString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::Monitoring;
use crate::shared::Shared;
use crate::{Error, clock, log};

/// Profiles of one pod that are kept; the oldest go first.
pub const PROFILES_KEPT: usize = 16;

const KEY: &str = "monitoring.heapProfileDirectory";

/// Writes profiles of this process into a directory.
#[derive(Debug)]
pub struct HeapProfiles {
    directory: PathBuf,
    prefix: String,
    interval: Duration,
}

impl HeapProfiles {
    /// Makes sure that profiles can be written, and begins to sample. None if no directory was given.
    pub fn begin(monitoring: &Monitoring, pod: &str) -> Result<Option<HeapProfiles>, Error> {
        let Some(directory) = &monitoring.heap_profile_directory else { return Ok(None) };
        let refused = |message: String| Error::Configuration { path: KEY.to_owned(), message };
        let profiles = HeapProfiles {
            directory: PathBuf::from(directory),
            prefix: format!("eventengine-heap-{pod}-"),
            interval: Duration::from_nanos(monitoring.heap_profile_interval_nanoseconds),
        };
        profiles.check_directory().map_err(refused)?;
        if tikv_jemalloc_ctl::profiling::prof::read() != Ok(true) {
            return Err(refused(
                "jemalloc's profiling is turned off by _RJEM_MALLOC_CONF or /etc/malloc.conf; leave out `prof`"
                    .to_owned(),
            ));
        }
        sample(true).map_err(|error| refused(format!("jemalloc can't sample: {error}")))?;
        Ok(Some(profiles))
    }

    /// Writes a profile each interval until the engine stops.
    pub fn run(&self, shared: &Shared) {
        while !shared.pause(self.interval, &shared.stop_all) {
            match self.write(clock::wall_seconds()) {
                Ok(_) => {
                    shared.counters.heap_profiles_written.fetch_add(1, Ordering::Relaxed);
                }
                Err(reason) => {
                    shared.counters.error("heap_profile");
                    log::warning("heap-profile", &reason);
                }
            }
        }
        let _ = sample(false);
    }

    /// Writes one profile and removes the oldest beyond the bound.
    fn write(&self, wall_seconds: i64) -> Result<PathBuf, String> {
        let path = self.directory.join(format!("{}{wall_seconds}.heap", self.prefix));
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| format!("{} contains a zero byte", path.display()))?;
        // SAFETY: `prof.dump` takes a pointer to a string that ends in a zero byte, valid for the call.
        let dumped = unsafe { tikv_jemalloc_ctl::raw::write(b"prof.dump\0", name.as_ptr()) };
        dumped.map_err(|error| format!("{} could not be written: {error}", path.display()))?;
        self.remove_old()?;
        Ok(path)
    }

    fn remove_old(&self) -> Result<(), String> {
        let told = |error: std::io::Error| format!("{}: {error}", self.directory.display());
        let mut own: Vec<(i64, PathBuf)> = std::fs::read_dir(&self.directory)
            .map_err(told)?
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let seconds = name.strip_prefix(&self.prefix)?.strip_suffix(".heap")?.parse().ok()?;
                Some((seconds, self.directory.join(name)))
            })
            .collect();
        own.sort_unstable();
        let surplus = own.len().saturating_sub(PROFILES_KEPT);
        own.iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_file(path)).map_err(told)
    }

    fn check_directory(&self) -> Result<(), String> {
        let directory = self.directory.display();
        if !Path::new(&self.directory).is_dir() {
            return Err(format!("{directory} is no directory; mount a writable volume there"));
        }
        let probe = self.directory.join(format!("{}probe", self.prefix));
        match std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
                Err(format!("{directory} is on a read-only file system; mount a writable volume there"))
            }
            Err(error) => Err(format!("{directory} can't be written: {error}")),
        }
    }
}

/// Turns sampling on or off, for the whole process.
fn sample(active: bool) -> Result<(), tikv_jemalloc_ctl::Error> {
    // SAFETY: `prof.active` takes a boolean.
    unsafe { tikv_jemalloc_ctl::raw::write(b"prof.active\0", active) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monitoring(directory: &Path) -> Monitoring {
        Monitoring {
            heap_profile_directory: Some(directory.to_string_lossy().into_owned()),
            ..Monitoring::default()
        }
    }

    fn refusal(directory: &Path) -> String {
        match HeapProfiles::begin(&monitoring(directory), "pod") {
            Err(Error::Configuration { path, message }) if path == KEY => message,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_directory_that_can_not_be_written_is_refused_with_a_remedy() {
        let missing = std::env::temp_dir().join("eventengine-no-such-directory");
        assert!(refusal(&missing).ends_with("is no directory; mount a writable volume there"));
        assert!(refusal(Path::new("/proc")).contains("can't be written"));
    }

    #[test]
    fn without_a_directory_there_are_no_profiles() {
        assert!(matches!(HeapProfiles::begin(&Monitoring::default(), "pod"), Ok(None)));
    }

    #[test]
    fn profiles_are_jemallocs_own_and_only_the_last_ones_are_kept() {
        let directory = std::env::temp_dir().join(format!("eventengine-heap-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the directory can be made");
        std::fs::write(directory.join("somebody-elses.heap"), "").expect("the file can be written");
        let profiles = HeapProfiles::begin(&monitoring(&directory), "pod")
            .expect("the directory can be written")
            .expect("a directory was given");
        let held: Vec<Vec<u8>> = (0..64).map(|_| vec![7; 1 << 20]).collect();
        for second in 0..PROFILES_KEPT as i64 + 3 {
            profiles.write(second).expect("a profile is written");
        }
        let newest = std::fs::read_to_string(directory.join("eventengine-heap-pod-18.heap"));
        let newest = newest.expect("the newest profile is there");
        assert!(newest.starts_with("heap_v2/"), "{}", &newest[..40]);
        assert!(newest.contains("MAPPED_LIBRARIES:"));
        let by_stack = newest.lines().skip_while(|line| !line.starts_with('@'));
        let largest = by_stack
            .filter_map(|line| line.trim().strip_prefix("t*: ")?.split(' ').nth(1)?.parse::<u64>().ok())
            .max();
        assert!(largest >= Some(32 << 20), "{largest:?} bytes were seen of the 64 MiB that one stack holds");
        drop(held);
        assert!(!directory.join("eventengine-heap-pod-2.heap").exists(), "the oldest are gone");
        assert!(directory.join("eventengine-heap-pod-3.heap").exists());
        assert!(directory.join("somebody-elses.heap").exists());
        sample(false).expect("sampling can be turned off");
        std::fs::remove_dir_all(&directory).expect("the directory can be removed");
    }
}
