//! The arena: edge updates at a rate, rollbacks, shortest paths, memory per edge.
//!
//! ```text
//! arena --measure update --edges N --rate PER_SECOND --seconds N      open loop, through a core thread
//! arena --measure rollback --slots N --changed N --rounds N
//! arena --measure paths --vertices N --degree N --batches N --limit N
//! arena --measure memory --edges N
//! ```
//!
//! Prints one JSON document. Graphs are random from a fixed seed: the same in every run.

use std::hint::black_box;

use eventengine_benchmarks::arguments::Arguments;
use eventengine_benchmarks::threads::{now_nanoseconds, status_bytes};
use eventengine_benchmarks::{histogram, refuse, report};
use eventengine_core::arena::{Arena, ArenaSnapshot, Key, SLOT_BYTES, Settings};
use eventengine_core::graph::{self, EDGES_PER_SLOT, Graph, Path, Paths};
use eventengine_io::in_process::InProcess;
use serde_json::json;

/// Vertices of the article's arena.
const VERTICES: u32 = 256_000;

/// Packets of one batch.
const BATCH: usize = 128;

/// A small generator: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }
}

fn packet(random: &mut Random) -> [u8; 12] {
    let mut packet = [0; 12];
    let fields = [random.below(VERTICES), random.below(VERTICES), random.next() as u32];
    for (bytes, field) in packet.chunks_mut(4).zip(fields) {
        bytes.copy_from_slice(&field.to_le_bytes());
    }
    packet
}

/// Slots that so many edges need over all vertices, with room for uneven degrees.
fn slots_for(edges: u64, vertices: u32) -> u32 {
    (edges / EDGES_PER_SLOT as u64) as u32 + vertices
}

fn configuration(edges: u64) -> String {
    json!({
        "name": "arena",
        "program": {
            "name": "graph", "districts": 1, "puzzles_per_district": 1, "clues_per_puzzle": 1,
            "service_time_nanoseconds": 0, "graph": {"vertices": VERTICES, "path_vertices_max": 4096},
        },
        "sources": [], "sinks": [], "changelog": {"topic": ""},
        "dead_letter": {"topic": "", "max_payload_bytes": 1024},
        "transactions": {"commit_interval_milliseconds": 100, "timeout_milliseconds": 10_000},
        "buffer_pool": {"chunk_bytes": 2048, "chunks": 16_384},
        "executor": "pinned",
        "shedding": {"above": 1.0, "priority_at_least": 2},
        "payload": {
            "mode": "schema", "max_bytes": 2048, "max_depth": 32, "max_array_length": 1024, "max_string_bytes": 1024,
        },
        "arena": {"capacity": slots_for(edges * 2, VERTICES), "slot_size_bytes": SLOT_BYTES, "preallocate": true},
        "drain_timeout_milliseconds": 1000,
    })
    .to_string()
}

const IDENTITY: &str = r#"{"engine":"arena","namespace":"bench","pod":"arena-0","incarnation":"1",
    "cpu_limit_millicores":null,"memory_limit_bytes":null,"pinning":"Preferred"}"#;

/// One packet an event at a fixed rate; the time counts from the moment that the packet was to be sent.
fn update(arguments: &Arguments) {
    let edges: u64 = arguments.get("edges", 4_000_000);
    let rate: u64 = arguments.get("rate", 80_000);
    let seconds: u64 = arguments.get("seconds", 10);
    let mut engine = InProcess::start(&configuration(edges), IDENTITY)
        .unwrap_or_else(|error| refuse(&format!("the engine does not start: {error}")));
    let mut random = Random(1);
    load(&mut engine, &mut random, edges);
    let warm_up = rate;
    let (mut latency, mut applied_at) = (histogram::new(), 0_u64);
    let (mut done, mut refused, mut full) = (0_u64, 0_u64, 0_u64);
    let total = warm_up + rate * seconds;
    let began = now_nanoseconds() + 1_000_000;
    for number in 0..=total {
        let due = began + (number as f64 * 1e9 / rate as f64) as u64;
        loop {
            engine.take(now_nanoseconds(), usize::MAX, |outcome| {
                let now = now_nanoseconds();
                done += 1;
                refused += u64::from(!outcome.applied);
                if done > warm_up {
                    latency.saturating_record(now.saturating_sub(outcome.ingested_at_nanoseconds).max(1));
                    applied_at = now;
                }
            });
            if now_nanoseconds() >= due && (number < total || done == total) {
                break;
            }
        }
        if number < total {
            let packet = packet(&mut random);
            while !engine.offer(&packet, 0, due) {
                full += 1;
                engine.publish();
                engine.take(now_nanoseconds(), usize::MAX, |_| done += 1);
            }
            engine.publish();
        }
    }
    let span = applied_at.saturating_sub(began + 1_000_000_000).max(1);
    report(json!({
        "rate": rate,
        "sustained_share": (rate * seconds) as f64 * 1e9 / span as f64 / rate as f64,
        "refused": refused,
        "without_room": full,
        "edges_loaded": edges,
        "latency": histogram::document(&latency),
        "core_thread_cpu": engine.placement().core,
        "rss_bytes": status_bytes("VmRSS"),
    }));
}

/// Sends random edges in full batches, as fast as they are taken.
fn load(engine: &mut InProcess, random: &mut Random, edges: u64) {
    let batches = edges.div_ceil(BATCH as u64);
    let (mut sent, mut taken) = (0, 0);
    while taken < batches {
        if sent < batches && sent - taken < 1024 {
            let payload: Vec<u8> = (0..BATCH).flat_map(|_| packet(random)).collect();
            sent += u64::from(engine.offer(&payload, 0, now_nanoseconds()));
            engine.publish();
        }
        taken += engine.take(now_nanoseconds(), usize::MAX, |outcome| {
            if !outcome.applied {
                refuse("the arena of the benchmark is too small for its edges");
            }
        }) as u64;
    }
}

fn key(number: u32) -> Key {
    Key { partition: 0, kind: 1, district: number, team: 0 }
}

/// Content as it can be compared: what is where, not under which version.
fn content(snapshot: &ArenaSnapshot) -> Vec<(Key, [u8; 224])> {
    let mut content: Vec<(Key, [u8; 224])> = snapshot.content().map(|(key, bytes)| (key, *bytes)).collect();
    content.sort_unstable();
    content
}

/// Rolls back so many changed slots of a full arena, and restores the whole from a snapshot.
fn rollback(arguments: &Arguments) {
    let slots: u32 = arguments.get("slots", VERTICES);
    let changed: u32 = arguments.get("changed", slots);
    let rounds: u32 = arguments.get("rounds", 20);
    let settings = Settings {
        capacity: slots,
        partitions: 1,
        undo_images: changed,
        checkpoints: 1,
        ..Settings::default()
    };
    let Ok(mut arena) = Arena::with_settings(&settings) else { refuse("no tenants, no excess") };
    arena.touch();
    let mut random = Random(2);
    for number in 0..slots {
        let Ok(slot) = arena.acquire(key(number)) else { refuse("the arena has a slot for each") };
        arena.payload_mut(slot).fill(number as u8);
    }
    let (mut before, mut after) = (ArenaSnapshot::new(&arena), ArenaSnapshot::new(&arena));
    let (mut rollbacks, mut restores, mut exact) = (Vec::new(), Vec::new(), true);
    for round in 0..rounds {
        arena.clear_dirty();
        arena.snapshot(&mut before);
        let version = arena.checkpoint();
        change(&mut arena, &mut random, slots, changed);
        let started = now_nanoseconds();
        let rolled_back = arena.rollback(version);
        rollbacks.push(now_nanoseconds() - started);
        arena.snapshot(&mut after);
        exact &= rolled_back == Ok(changed) && arena.dirty_count() == changed as usize;
        // Comparing takes far longer than what is compared, so only the first and the last round are.
        exact &= (round > 0 && round + 1 < rounds) || content(&before) == content(&after);
        arena.snapshot(&mut before);
        change(&mut arena, &mut random, slots, changed);
        let started = now_nanoseconds();
        let restored = arena.restore(&before);
        restores.push(now_nanoseconds() - started);
        exact &= restored == Ok(changed);
    }
    report(json!({
        "slots": slots, "changed": changed, "exact": exact,
        "rollback_nanoseconds": rollbacks, "restore_nanoseconds": restores,
    }));
}

/// Changes so many different slots, all over the arena.
fn change(arena: &mut Arena, random: &mut Random, slots: u32, changed: u32) {
    let offset = random.below(slots);
    let stride = slots / changed.max(1);
    for step in 0..changed {
        let number = (offset + step * stride) % slots;
        let Some(slot) = arena.find(&key(number)) else { refuse("every key has a slot") };
        arena.payload_mut(slot)[..8].copy_from_slice(&random.next().to_le_bytes());
    }
}

/// Batches of 128 random searches over a random graph.
fn paths(arguments: &Arguments) {
    let vertices: u32 = arguments.get("vertices", 100_000);
    let degree: u32 = arguments.get("degree", 8);
    let batches: u32 = arguments.get("batches", 20);
    let limit: u32 = arguments.get("limit", 4096);
    let mut random = Random(3);
    let mut arena = Arena::new(slots_for(u64::from(vertices * degree), vertices), 1, 1);
    for source in 0..vertices {
        for _ in 0..degree {
            let target = random.below(vertices);
            if graph::set(&mut arena, 0, source, target, random.next() as u8).is_err() {
                refuse("the arena of the benchmark is too small for its edges");
            }
        }
    }
    let graph = Graph { arena: &arena, partition: 0 };
    let mut paths = Paths::new(vertices);
    let (mut found, mut settled, mut times) = (0_u32, 0_u64, Vec::new());
    for _ in 0..batches {
        let pairs: Vec<(u32, u32)> =
            (0..BATCH).map(|_| (random.below(vertices), random.below(vertices))).collect();
        let started = now_nanoseconds();
        for (source, target) in pairs {
            let mut budget = limit;
            let path = black_box(paths.shortest(&graph, source, target, &mut budget));
            settled += u64::from(limit - budget);
            found += u32::from(matches!(path, Path::Distance(_)));
        }
        times.push(now_nanoseconds() - started);
    }
    report(json!({
        "vertices": vertices, "degree": degree, "limit": limit, "searches": batches * BATCH as u32,
        "found": found, "settled": settled, "batch_nanoseconds": times,
    }));
}

/// A graph of so many edges over uneven degrees: what it takes, all in.
fn memory(arguments: &Arguments) {
    let edges: u64 = arguments.get("edges", 47_000_000);
    let mean = edges as f64 / f64::from(VERTICES);
    let resident_before = status_bytes("VmRSS");
    let capacity = slots_for(edges, VERTICES);
    let mut arena = Arena::new(capacity, 1, 1);
    let mut random = Random(4);
    let mut made = 0_u64;
    let started = now_nanoseconds();
    for source in 0..VERTICES {
        // Any degree from none to twice the mean is as likely; the last vertices bring it to the exact number.
        let left = (edges - made) as f64 / f64::from(VERTICES - source);
        let share = f64::from(random.below(2001)) / 1000.0;
        let wanted = if source + 1 == VERTICES { left } else { (mean * share).min(left * 2.0) };
        let mut held = 0;
        while held < wanted.round() as u64 {
            match graph::set(&mut arena, 0, source, random.below(VERTICES), random.next() as u8) {
                Ok(known) => held += u64::from(!known),
                Err(_) => refuse("the arena of the benchmark is too small for its edges"),
            }
        }
        made += held;
    }
    let seconds = (now_nanoseconds() - started) as f64 / 1e9;
    let resident = status_bytes("VmRSS") - resident_before;
    report(json!({
        "edges": made, "vertices": VERTICES, "slots": arena.in_use(), "capacity": capacity,
        "edges_per_slot": made as f64 / f64::from(arena.in_use()),
        "resident_bytes": resident, "bytes_per_edge": resident as f64 / made as f64,
        "rss_bytes": status_bytes("VmRSS"), "seconds": seconds,
    }));
}

fn main() {
    let arguments = Arguments::read();
    match arguments.require::<String>("measure").as_str() {
        "update" => update(&arguments),
        "rollback" => rollback(&arguments),
        "paths" => paths(&arguments),
        "memory" => memory(&arguments),
        other => refuse(&format!("--measure {other}: there are update, rollback, paths and memory")),
    }
}
