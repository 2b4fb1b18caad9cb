//! Shedding, from the socket to the reply and the figures: less urgent events are refused and told so, urgent ones never.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use eventengine_io::Engine;

const ACCEPTED: u8 = 0;
const SHED: u8 = 253;
const IDENTITY: &str =
    r#"{"engine":"shedding","namespace":"test","pod":"test-0","incarnation":"1","pinning":"Off"}"#;

fn engine(port: u16, executor: &str) -> Engine {
    let config = format!(
        r#"{{"name":"shedding",
        "program":{{"name":"treasure-hunt","districts":12,"puzzles_per_district":40,"clues_per_puzzle":5,
            "service_time_nanoseconds":500000}},
        "sources":[{{"name":"players","type":"tcp","kafka":null,
            "tcp":{{"listen":"127.0.0.1:{port}","token_file":null,"insecure":true,"max_connections":16}}}}],
        "sinks":[],"changelog":{{"topic":"c"}},"dead_letter":{{"topic":"d","max_payload_bytes":1024}},
        "transactions":{{"commit_interval_milliseconds":10,"timeout_milliseconds":1000}},
        "buffer_pool":{{"chunk_bytes":1024,"chunks":4096}},
        "executor":"{executor}","shedding":{{"above":0.1,"priority_at_least":1}},
        "payload":{{"max_bytes":1024,"max_depth":8,"max_array_length":8,"max_string_bytes":256}},
        "arena":{{"capacity":1024,"slot_size_bytes":256,"preallocate":true,"fragmentation_threshold":0.05,"tenants":[]}},
        "drain_timeout_milliseconds":5000}}"#
    );
    let mut engine = Engine::new(&config, IDENTITY).expect("the configuration is good");
    engine.start().expect("the port is free");
    engine
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("there is a port")
        .port()
}

fn frame(priority: u8, district: u32, number: u32) -> Vec<u8> {
    let payload = format!(
        r#"{{"kind":"district_opened","producer":1,"sequence":{number},"team":1,"district":{district}}}"#
    );
    let mut frame = (payload.len() as u32).to_be_bytes().to_vec();
    frame[0] = priority;
    frame.extend(payload.into_bytes());
    frame
}

/// Verdicts on the next `count` events of a connection, by event number.
fn verdicts(stream: &mut TcpStream, count: usize) -> BTreeMap<u32, u8> {
    let mut verdicts = BTreeMap::new();
    for _ in 0..count {
        let mut reply = [0; 9];
        stream.read_exact(&mut reply).expect("every event has a reply");
        let word = |at: usize| u32::from_be_bytes([reply[at], reply[at + 1], reply[at + 2], reply[at + 3]]);
        assert_eq!(word(0), 5);
        assert_eq!(verdicts.insert(word(4), reply[8]), None, "one reply for each event");
    }
    verdicts
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the engine listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
    stream
}

#[test]
fn a_burst_is_shed_by_class_and_urgent_events_of_others_are_all_accepted() {
    let port = free_port();
    let mut engine = engine(port, "pinned");
    let mut burst = connect(port);
    let mut urgent = connect(port);
    let frames: Vec<u8> = (0..8_000).flat_map(|number| frame(1 + (number % 2) as u8, 0, number)).collect();
    let mut reader = burst.try_clone().expect("a socket can be cloned");
    let replies = std::thread::spawn(move || verdicts(&mut reader, 8_000));
    burst.write_all(&frames).expect("the engine reads");
    let others: Vec<u8> = (0..200).flat_map(|number| frame(0, 1 + number % 11, number)).collect();
    urgent.write_all(&others).expect("the engine reads");
    let urgent_verdicts = verdicts(&mut urgent, 200);
    assert!(urgent_verdicts.values().all(|verdict| *verdict == ACCEPTED), "{urgent_verdicts:?}");
    let burst_verdicts = replies.join().expect("the reader ends");
    let shed = |class: u32| {
        burst_verdicts
            .iter()
            .filter(|(number, verdict)| *number % 2 == class % 2 && **verdict == SHED)
            .count()
    };
    // Event numbers count from 1: odd ones are of priority 1.
    let (first, second) = (shed(1), shed(2));
    assert!(
        second > 0 && second >= first,
        "the least urgent go first: {first} of class 1, {second} of class 2"
    );
    assert!(burst_verdicts.values().all(|verdict| [ACCEPTED, SHED].contains(verdict)));
    let metrics = engine.observer().metrics();
    for (class, count) in [(1, first), (2, second)] {
        let line = metrics
            .lines()
            .find(|line| {
                line.starts_with("eventengine_shed_events_total{")
                    && line.contains(&format!("class=\"{class}\""))
            })
            .expect("each class has its figure");
        assert!(
            line.contains("source=\"players\"") && line.ends_with(&format!(" {count}")),
            "{line} is not {count}"
        );
    }
    assert!(engine.stop(Duration::from_secs(10)));
}

#[test]
fn urgent_events_beyond_all_room_wait_and_none_is_lost() {
    send_more_than_there_is_room_for("pinned");
}

#[test]
fn with_workers_urgent_events_beyond_all_room_wait_and_none_is_lost() {
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1) {
        send_more_than_there_is_room_for("work-stealing");
    }
}

fn send_more_than_there_is_room_for(executor: &str) {
    let port = free_port();
    let mut engine = engine(port, executor);
    let mut stream = connect(port);
    let frames: Vec<u8> = (0..3_000).flat_map(|number| frame(0, number % 12, number)).collect();
    let mut reader = stream.try_clone().expect("a socket can be cloned");
    let started = Instant::now();
    let replies = std::thread::spawn(move || verdicts(&mut reader, 3_000));
    stream.write_all(&frames).expect("the engine reads as it has room");
    let verdicts = replies.join().expect("the reader ends");
    assert!(verdicts.values().all(|verdict| *verdict == ACCEPTED));
    assert!(started.elapsed() >= Duration::from_micros(500 * 3_000), "the program's time was declared");
    assert!(engine.stop(Duration::from_secs(10)));
}

#[test]
fn a_frame_of_an_unknown_priority_costs_its_connection() {
    let port = free_port();
    let mut engine = engine(port, "pinned");
    let mut stream = connect(port);
    stream.write_all(&frame(3, 0, 0)).expect("the engine reads");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the connection is closed");
    assert_eq!(rest, b"");
    assert!(engine.stop(Duration::from_secs(10)));
}
