//! From the socket to the verdict and the figures: the graph's binary packets, sources with bounds, active players.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use eventengine_core::parse::Reason;
use eventengine_io::Engine;

const ACCEPTED: u8 = 0;
const IDENTITY: &str =
    r#"{"engine":"arena","namespace":"test","pod":"test-0","incarnation":"1","pinning":"Off"}"#;

fn refused(reason: Reason) -> u8 {
    1 + reason as u8
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("there is a port")
        .port()
}

fn source(name: &str, port: u16) -> String {
    format!(
        r#"{{"name":"{name}","type":"tcp","kafka":null,
            "tcp":{{"listen":"127.0.0.1:{port}","token_file":null,"insecure":true,"max_connections":16}}}}"#
    )
}

fn start(program: &str, sources: &[String], tenants: &str) -> Engine {
    let config = format!(
        r#"{{"name":"arena",
        "program":{{"name":"{program}","districts":64,"puzzles_per_district":40,"clues_per_puzzle":5,
            "service_time_nanoseconds":0,"graph":{{"vertices":100,"path_vertices_max":50}}}},
        "sources":[{}],"sinks":[],"changelog":{{"topic":"c"}},
        "dead_letter":{{"topic":"d","max_payload_bytes":1024}},
        "transactions":{{"commit_interval_milliseconds":10,"timeout_milliseconds":1000}},
        "buffer_pool":{{"chunk_bytes":2048,"chunks":1024}},
        "executor":"pinned","shedding":{{"above":1.0,"priority_at_least":2}},
        "payload":{{"max_bytes":2048,"max_depth":8,"max_array_length":8,"max_string_bytes":256}},
        "arena":{{"capacity":256,"slot_size_bytes":256,"preallocate":true,"fragmentation_threshold":0.05,
            "tenants":[{tenants}]}},
        "drain_timeout_milliseconds":5000}}"#,
        sources.join(",")
    );
    let mut engine = Engine::new(&config, IDENTITY).expect("the configuration is good");
    engine.start().expect("the port is free");
    engine
}

/// Sends payloads one after the other and gives the verdict on each.
fn verdicts<Payload: AsRef<[u8]>>(port: u16, payloads: &[Payload]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the engine listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
    let verdict = |payload: &Payload| {
        let payload = payload.as_ref();
        let length = (payload.len() as u32).to_be_bytes();
        stream.write_all(&[&length, payload].concat()).expect("the engine reads");
        let mut reply = [0; 9];
        stream.read_exact(&mut reply).expect("every event has a reply");
        reply[8]
    };
    payloads.iter().map(verdict).collect()
}

fn packet(source: u32, target: u32, mask: u32) -> Vec<u8> {
    [source, target, mask].into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Waits for a line of the metrics, which the core brings up to date when it comes to rest.
fn wait_for_metric(engine: &Engine, wanted: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let metrics = engine.observer().metrics();
        if metrics.lines().any(|line| line == wanted) {
            return;
        }
        assert!(Instant::now() < end, "no line {wanted} in\n{metrics}");
        std::thread::yield_now();
    }
}

#[test]
fn binary_packets_over_tcp_change_the_graph_and_bad_ones_are_refused_by_name() {
    let port = free_port();
    let mut engine = start("graph", &[source("edges", port)], "");
    let path = [b"p".as_slice(), &1_u32.to_le_bytes(), &3_u32.to_le_bytes()].concat();
    let told = verdicts(
        port,
        &[
            packet(1, 2, 7),
            [packet(2, 3, 7), packet(3, 4, 7)].concat(),
            path.clone(),
            packet(1, 2, 7)[..10].to_vec(),
            packet(1, 100, 7),
            [b"?".as_slice(), &path[1..]].concat(),
            br#"{"kind": "clue_discovered"}"#.to_vec(),
        ],
    );
    let refusals = [Reason::WrongLength, Reason::OutOfRange, Reason::UnknownKind, Reason::UnknownKind];
    assert_eq!(told, [&[ACCEPTED; 3][..], &refusals.map(refused)].concat());
    wait_for_metric(
        &engine,
        r#"eventengine_arena_utilisation_ratio{engine="arena",pod="test-0"} 0.01171875"#,
    );
    assert!(engine.stop(Duration::from_secs(10)));
}

#[test]
fn a_source_that_used_up_its_slots_is_refused_by_name_while_another_goes_on() {
    let (public, staff) = (free_port(), free_port());
    let tenants = r#"{"source":"public","reserved":10,"burst":5},{"source":"staff","reserved":40,"burst":0}"#;
    let mut engine = start("treasure-hunt", &[source("public", public), source("staff", staff)], tenants);
    let event = |district: u32, team: u32| {
        format!(
            r#"{{"kind":"clue_discovered","producer":1,"sequence":1,"team":{team},"district":{district},"puzzle":1,"clue":1}}"#
        )
    };
    let spike: Vec<String> = (0..30).map(|team| event(1, team)).collect();
    let told = verdicts(public, &spike);
    let accepted = told.iter().filter(|verdict| **verdict == ACCEPTED).count();
    assert_eq!(accepted, 14, "15 slots: one for the district, 14 for teams");
    assert!(told[accepted..].iter().all(|verdict| *verdict == refused(Reason::TenantExhausted)), "{told:?}");
    let others: Vec<String> = (0..39).map(|team| event(2, team)).collect();
    assert_eq!(verdicts(staff, &others), [ACCEPTED; 39]);
    assert_eq!(verdicts(public, &spike[..1]), [ACCEPTED], "teams that are there play on");
    for (source, slots) in [("public", 15), ("staff", 40)] {
        let line = format!(
            r#"eventengine_arena_tenant_slots{{engine="arena",pod="test-0",source="{source}"}} {slots}"#
        );
        wait_for_metric(&engine, &line);
    }
    assert!(engine.stop(Duration::from_secs(10)));
}

#[test]
fn active_players_are_counted_by_text_or_number_and_new_districts_need_no_restart() {
    let port = free_port();
    let mut engine = start("treasure-hunt", &[source("players", port)], "");
    let event = |district: u32, player: &str| {
        format!(
            r#"{{"kind":"district_opened","producer":1,"sequence":1,"team":1,"district":{district},{player}}}"#
        )
    };
    let texts: Vec<String> =
        (0..30).map(|place| event(place, &format!(r#""player_id":"ünï-{}""#, place % 5))).collect();
    let numbers: Vec<String> =
        (30..63).map(|place| event(place, &format!(r#""player":{}"#, place % 3))).collect();
    assert_eq!(
        verdicts(port, &[texts, numbers].concat()),
        [ACCEPTED; 63],
        "each event opens a district of its own"
    );
    assert_eq!(
        verdicts(port, &[event(64, r#""player":1"#)]),
        [refused(Reason::OutOfRange)],
        "64 are configured"
    );
    for line in [
        r#"eventengine_identifiers{engine="arena",pod="test-0"} 8"#,
        r#"eventengine_identifier_lookups_total{engine="arena",pod="test-0",outcome="hit"} 55"#,
        r#"eventengine_identifier_lookups_total{engine="arena",pod="test-0",outcome="miss"} 8"#,
        r#"eventengine_identifiers_removed_total{engine="arena",pod="test-0",reason="evicted"} 0"#,
    ] {
        wait_for_metric(&engine, line);
    }
    assert!(engine.stop(Duration::from_secs(10)));
}
