//! The graph: edges that change tens of thousands of times a second, and shortest paths over them.
//!
//! Owns the binary form of its events and outputs. An event's bytes are read where they
//! lie; nothing is parsed. Integers are little-endian.
//!
//! ```text
//! edges    1 to 128 packets of 12 bytes: u32 source | u32 target | u32 mask
//! others   u8 command | 1 to 128 requests of 8 bytes: u32 source | u32 target
//!          command    'p' length of the shortest path from source to target
//!                     'x' remove the edge
//! output   u8 1 | u8 'e', 'p' or 'x' | u16 requests | u32 partition | u64 offset
//!          'e', 'x'   u32 edges that were there before
//!          'p'        for each request u32 length; 2^32 - 1 unreachable, 2^32 - 2 beyond the limit
//!                    that the searches of one event share
//! ```
//!
//! Packets have an even length and commands an odd one, so that the two can't be taken
//! for each other. An edge's weight is folded from its mask ([`graph::weight`]).
//!
//! A batch is applied as a whole or not at all: when the arena has no room for one of its
//! edges, those before it are rolled back. State is per source partition, therefore each
//! partition has a graph of its own; events that come without a partition share one.

use super::{Origin, Output, Program, Routing, Schema};
use crate::arena::Arena;
use crate::graph::{self, Graph, Path, Paths};
use crate::parse::{Payload, Reason, Refusal};

/// Requests of one event at most.
pub const REQUESTS_MAX: usize = 128;

/// Before-images that a batch needs, so that it can be rolled back.
pub const UNDO_IMAGES: u32 = 2 * REQUESTS_MAX as u32;

/// Bytes of an edge packet.
const PACKET_BYTES: usize = 12;

/// Bytes of another request.
const PAIR_BYTES: usize = 8;

const FORMAT_VERSION: u8 = 1;
const UNREACHABLE: u32 = u32::MAX;
const BEYOND_LIMIT: u32 = u32::MAX - 1;

/// Size of the graph.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Vertices are numbered below this.
    pub vertices: u32,
    /// Vertices whose edges the searches of one event look at together, at most.
    pub path_vertices_max: u32,
}

/// An event, in the payload that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'payload> {
    /// Edges to set.
    Edges(&'payload [[u8; PACKET_BYTES]]),
    /// Edges to remove.
    Removals(&'payload [[u8; PAIR_BYTES]]),
    /// Paths to measure.
    Paths(&'payload [[u8; PAIR_BYTES]]),
}

impl Request<'_> {
    fn letter(&self) -> u8 {
        match self {
            Request::Edges(_) => b'e',
            Request::Removals(_) => b'x',
            Request::Paths(_) => b'p',
        }
    }

    fn len(&self) -> usize {
        match self {
            Request::Edges(packets) => packets.len(),
            Request::Removals(pairs) | Request::Paths(pairs) => pairs.len(),
        }
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// Reads the binary form.
#[derive(Debug, Clone)]
pub struct GraphSchema {
    vertices: u32,
}

impl GraphSchema {
    /// A reader that refuses vertices outside of the graph.
    pub fn new(settings: Settings) -> GraphSchema {
        GraphSchema { vertices: settings.vertices }
    }

    /// Cuts what begins at `start` of a payload into requests, each of which begins with two vertices.
    fn requests<'payload, const BYTES: usize>(
        &self,
        payload: Payload<'payload>,
        start: usize,
    ) -> Result<&'payload [[u8; BYTES]], Refusal> {
        let (requests, rest) = payload.bytes()[start..].as_chunks::<BYTES>();
        if !rest.is_empty() || requests.is_empty() {
            return Err(Refusal::new(Reason::WrongLength, payload.len()));
        }
        let refuse = |reason, request: usize| Err(Refusal::new(reason, start + request * BYTES));
        if requests.len() > REQUESTS_MAX {
            return refuse(Reason::TooLarge, REQUESTS_MAX);
        }
        let unknown = |request: &[u8; BYTES]| number(request, 0).max(number(request, 4)) >= self.vertices;
        match requests.iter().position(unknown) {
            Some(request) => refuse(Reason::OutOfRange, request),
            None => Ok(requests),
        }
    }
}

impl Schema for GraphSchema {
    type Event<'payload> = Request<'payload>;

    fn read<'payload>(&mut self, payload: Payload<'payload>) -> Result<Request<'payload>, Refusal> {
        match payload.bytes() {
            [command, pairs @ ..] if pairs.len() % 2 == 0 => match command {
                b'p' => self.requests(payload, 1).map(Request::Paths),
                b'x' => self.requests(payload, 1).map(Request::Removals),
                _ => Err(Refusal::new(Reason::UnknownKind, 0)),
            },
            _ => self.requests(payload, 0).map(Request::Edges),
        }
    }
}

/// The program.
#[derive(Debug)]
pub struct GraphProgram {
    paths: Paths,
    path_vertices_max: u32,
}

impl GraphProgram {
    /// A graph of the given size; what its searches need is allocated here.
    pub fn new(settings: Settings) -> GraphProgram {
        GraphProgram { paths: Paths::new(settings.vertices), path_vertices_max: settings.path_vertices_max }
    }
}

/// Sets all edges or none, and says how many were there before.
fn set_edges(arena: &mut Arena, partition: u32, packets: &[[u8; PACKET_BYTES]]) -> Result<u32, Reason> {
    let before = arena.checkpoint();
    let mut known = 0;
    for packet in packets {
        let (source, target) = (number(packet, 0), number(packet, 4));
        match graph::set(arena, partition, source, target, graph::weight(number(packet, 8))) {
            Ok(was_there) => known += u32::from(was_there),
            Err(exhausted) => {
                // The log has room for a whole batch, so the checkpoint is there.
                let rolled_back = arena.rollback(before);
                debug_assert!(rolled_back.is_ok());
                return Err(exhausted.into());
            }
        }
    }
    Ok(known)
}

impl Program<Request<'_>> for GraphProgram {
    /// A removal changes the slot of its edge and releases the last one of its vertex.
    const SLOTS_PER_EVENT_MAX: usize = 3 * REQUESTS_MAX;

    fn routing(&self, _event: &Request<'_>) -> Routing {
        Routing { district: 0, team: 0 }
    }

    fn apply(
        &mut self,
        event: &Request<'_>,
        origin: Origin,
        arena: &mut Arena,
        output: &mut Output<'_>,
    ) -> Result<(), Reason> {
        let partition = origin.partition;
        output.bytes(&[FORMAT_VERSION, event.letter()]);
        output.bytes(&(event.len() as u16).to_le_bytes());
        output.bytes(&partition.to_le_bytes());
        output.bytes(&origin.offset.to_le_bytes());
        match event {
            Request::Edges(packets) => {
                output.bytes(&set_edges(arena, partition, packets)?.to_le_bytes());
            }
            Request::Removals(pairs) => {
                let removed = pairs
                    .iter()
                    .filter(|pair| graph::remove(arena, partition, number(*pair, 0), number(*pair, 4)));
                output.bytes(&(removed.count() as u32).to_le_bytes());
            }
            Request::Paths(pairs) => {
                let graph = Graph { arena, partition };
                let mut budget = self.path_vertices_max;
                for pair in *pairs {
                    let (source, target) = (number(pair, 0), number(pair, 4));
                    let length = match self.paths.shortest(&graph, source, target, &mut budget) {
                        Path::Distance(length) => length,
                        Path::Unreachable => UNREACHABLE,
                        Path::BeyondLimit => BEYOND_LIMIT,
                    };
                    output.bytes(&length.to_le_bytes());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena;

    const SETTINGS: Settings = Settings { vertices: 100, path_vertices_max: 50 };

    struct Bench {
        schema: GraphSchema,
        program: GraphProgram,
        arena: Arena,
    }

    impl Bench {
        fn new(slots: u32) -> Bench {
            let settings = arena::Settings {
                capacity: slots,
                partitions: 4,
                undo_images: UNDO_IMAGES,
                checkpoints: 1,
                ..arena::Settings::default()
            };
            Bench {
                schema: GraphSchema::new(SETTINGS),
                program: GraphProgram::new(SETTINGS),
                arena: Arena::with_settings(&settings).unwrap(),
            }
        }

        /// Applies a payload and gives what follows the output's head.
        fn apply(&mut self, payload: &[u8]) -> Result<Vec<u32>, Reason> {
            let mut bytes = [0; 1024];
            let mut output = Output::new(&mut bytes);
            let mut scratch = [0; 2048];
            let payload = Payload::copy(payload, &mut scratch).unwrap();
            let event = self.schema.read(payload).map_err(|refusal| refusal.reason)?;
            let origin = Origin { partition: 2, offset: 0x0102 };
            self.program.apply(&event, origin, &mut self.arena, &mut output)?;
            let length = output.len();
            let (head, rest) = bytes[..length].split_at(16);
            let requests = event.len() as u8;
            assert_eq!(head, [1, event.letter(), requests, 0, 2, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
            Ok(rest.chunks(4).map(|bytes| number(bytes, 0)).collect())
        }
    }

    fn packets(edges: &[(u32, u32, u32)]) -> Vec<u8> {
        edges
            .iter()
            .flat_map(|(source, target, mask)| [*source, *target, *mask])
            .flat_map(u32::to_le_bytes)
            .collect()
    }

    fn command(letter: u8, pairs: &[(u32, u32)]) -> Vec<u8> {
        let numbers = pairs.iter().flat_map(|(source, target)| [*source, *target]).flat_map(u32::to_le_bytes);
        [letter].into_iter().chain(numbers).collect()
    }

    #[test]
    fn packets_set_edges_and_paths_follow_them() {
        let mut bench = Bench::new(64);
        assert_eq!(bench.apply(&packets(&[(1, 2, 10), (2, 3, 0x0100), (1, 3, 0x00ff)])), Ok(vec![0]));
        assert_eq!(bench.apply(&command(b'p', &[(1, 3), (3, 1), (1, 1)])), Ok(vec![11, UNREACHABLE, 0]));
        assert_eq!(bench.apply(&packets(&[(1, 3, 4)])), Ok(vec![1]), "the edge was there before");
        assert_eq!(bench.apply(&command(b'p', &[(1, 3)])), Ok(vec![4]));
        assert_eq!(bench.apply(&command(b'x', &[(1, 3), (1, 9)])), Ok(vec![1]));
        assert_eq!(bench.apply(&command(b'p', &[(1, 3)])), Ok(vec![11]));
    }

    #[test]
    fn paths_of_more_vertices_than_an_event_may_look_at_are_beyond_its_limit() {
        let mut bench = Bench::new(128);
        let chain: Vec<(u32, u32, u32)> = (0..99).map(|vertex| (vertex, vertex + 1, 1)).collect();
        bench.apply(&packets(&chain)).unwrap();
        assert_eq!(bench.apply(&command(b'p', &[(0, 50)])), Ok(vec![50]));
        assert_eq!(bench.apply(&command(b'p', &[(0, 51)])), Ok(vec![BEYOND_LIMIT]));
        assert_eq!(
            bench.apply(&command(b'p', &[(0, 20), (0, 31), (0, 1)])),
            Ok(vec![20, BEYOND_LIMIT, BEYOND_LIMIT])
        );
    }

    #[test]
    fn a_bad_packet_has_a_named_reason_and_changes_nothing() {
        let mut bench = Bench::new(64);
        let good = packets(&[(1, 2, 3)]);
        for (payload, reason) in [
            (Vec::new(), Reason::WrongLength),
            (good[..10].to_vec(), Reason::WrongLength),
            (good[..11].to_vec(), Reason::UnknownKind),
            ([good.clone(), vec![0; 2]].concat(), Reason::WrongLength),
            (packets(&[(1, 2, 3), (1, 100, 3)]), Reason::OutOfRange),
            (packets(&[(u32::MAX, 2, 3)]), Reason::OutOfRange),
            (packets(&[(1, 2, 3); REQUESTS_MAX + 1]), Reason::TooLarge),
            (command(b'p', &[]), Reason::WrongLength),
            (command(b'p', &[(0, 100)]), Reason::OutOfRange),
            (command(b'p', &[(0, 1); REQUESTS_MAX + 1]), Reason::TooLarge),
            (command(b'q', &[(0, 1)]), Reason::UnknownKind),
        ] {
            assert_eq!(bench.apply(&payload), Err(reason), "{payload:?}");
        }
        assert_eq!(bench.arena.in_use(), 0);
        assert_eq!(bench.apply(&packets(&[(1, 2, 3); REQUESTS_MAX])), Ok(vec![REQUESTS_MAX as u32 - 1]));
    }

    #[test]
    fn a_refusal_names_the_request_that_it_is_about() {
        let mut schema = GraphSchema::new(SETTINGS);
        let mut position = |bytes: &[u8]| {
            let mut scratch = [0; 2048];
            schema.read(Payload::copy(bytes, &mut scratch).unwrap()).unwrap_err().position
        };
        assert_eq!(position(&packets(&[(1, 2, 3), (1, 100, 3)])), 12);
        assert_eq!(position(&command(b'p', &[(0, 1), (1, 2), (100, 1)])), 17);
        assert_eq!(position(&packets(&[(1, 2, 3); REQUESTS_MAX + 1])), 128 * 12);
        assert_eq!(position(&[0; 14]), 14);
    }

    #[test]
    fn a_batch_that_the_arena_has_no_room_for_leaves_no_part_of_itself() {
        let mut bench = Bench::new(3);
        bench.apply(&packets(&[(1, 2, 3), (2, 2, 3)])).unwrap();
        let batch = packets(&[(1, 2, 50), (1, 3, 50), (3, 1, 50), (4, 1, 50)]);
        assert_eq!(bench.apply(&batch), Err(Reason::ArenaExhausted));
        assert_eq!(bench.arena.in_use(), 2);
        let weights =
            [(1, 2), (1, 3), (3, 1)].map(|(source, target)| graph::get(&bench.arena, 2, source, target));
        assert_eq!(weights, [Some(3), None, None]);
        assert_eq!(bench.apply(&packets(&[(1, 3, 50), (3, 1, 50)])), Ok(vec![0]));
    }
}
