//! The core thread's CPU belongs to it alone: every other thread of the process keeps away from it.
//!
//! A test program of its own, because it moves all threads of its process.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use eventengine_io::Engine;

const CONFIG: &str = r#"{"name":"placement",
    "program":{"name":"treasure-hunt","districts":4,"puzzles_per_district":4,"clues_per_puzzle":2,
        "service_time_nanoseconds":0,"graph":{"vertices":100,"path_vertices_max":50}},
    "sources":[],"sinks":[],"changelog":{"topic":"c"},
    "dead_letter":{"topic":"d","max_payload_bytes":1024},
    "transactions":{"commit_interval_milliseconds":10,"timeout_milliseconds":1000},
    "buffer_pool":{"chunk_bytes":2048,"chunks":64},
    "executor":"pinned","shedding":{"above":1.0,"priority_at_least":2},
    "payload":{"max_bytes":2048,"max_depth":8,"max_array_length":8,"max_string_bytes":256},
    "arena":{"capacity":64,"slot_size_bytes":256,"preallocate":true,"fragmentation_threshold":0.05,"tenants":[]},
    "drain_timeout_milliseconds":5000}"#;
const IDENTITY: &str =
    r#"{"engine":"placement","namespace":"test","pod":"test-0","incarnation":"1","pinning":"Preferred"}"#;

/// The CPUs that a thread may use.
fn allowed_cpus(task: &Path) -> Option<Vec<usize>> {
    let status = fs::read_to_string(task.join("status")).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

/// The CPUs of each thread of this process, by name and number.
fn threads() -> BTreeMap<String, Vec<usize>> {
    let tasks = fs::read_dir("/proc/self/task").expect("a process has threads").flatten();
    let read = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let number = task.file_name().to_string_lossy().into_owned();
        Some((format!("{} {number}", name.trim()), allowed_cpus(&task.path())?))
    };
    tasks.filter_map(read).collect()
}

#[test]
fn no_other_thread_stays_on_the_cpu_of_the_core_thread() {
    let given = allowed_cpus(Path::new("/proc/thread-self")).expect("this thread has a status");
    let cores = *given.last().expect("there is a CPU");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let bystander = std::thread::Builder::new()
        .name("bystander".to_owned())
        .spawn(move || {
            // Ends when the other end is dropped.
            let _ = stopped.recv();
        })
        .expect("a thread can be started");
    let mut engine = Engine::new(CONFIG, IDENTITY).expect("the configuration is good");
    engine.start().expect("the engine starts");

    let end = Instant::now() + Duration::from_secs(10);
    let threads = loop {
        let threads = threads();
        if threads.iter().any(|(name, cpus)| name.starts_with("ee-core") && cpus[..] == [cores]) {
            break threads;
        }
        assert!(Instant::now() < end, "the core thread is not bound to {cores}: {threads:?}");
        std::thread::yield_now();
    };
    for (name, cpus) in threads.iter().filter(|(name, _)| !name.starts_with("ee-core")) {
        // With one CPU there is nothing to keep apart: all share it.
        let apart = !cpus.contains(&cores);
        assert_eq!(apart, given.len() > 1, "{name} may run on {cpus:?}, the core thread owns {cores}");
    }
    assert!(engine.stop(Duration::from_secs(10)));
    drop(stop);
    bystander.join().expect("it ends");
}
