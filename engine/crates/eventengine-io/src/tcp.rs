//! The TCP source: length-prefixed frames in, one reply for each event out.
//!
//! Owns listeners, connections and the protocol. One thread waits for all of them.
//!
//! ```text
//! frame         u8 priority | u24 length | payload of that length     (integers are big-endian)
//! priority      0 to 2, most urgent first; 0 for the hello
//! hello         the first frame of a connection to a source with a token: the token
//! event         every other frame: one JSON event
//! reply         u32 length = 5 | u32 number | u8 verdict
//! number        0 for the hello's reply; events count from 1 on each connection, modulo 2^32
//! verdict       0 accepted
//!               1 + n refused, n the number of the reason: invalid_json, too_deep, too_large, invalid_utf8,
//!                 missing_field, unknown_kind, out_of_range, arena_exhausted, tenant_exhausted, wrong_length,
//!                 truncated, duplicate_key, wrong_type
//!               253 shed: room is short, and the event's priority is one that may be refused
//!               254 wrong token; the connection is closed
//! ```
//!
//! An event is accepted once its output is committed, where there is a Kafka sink, else
//! once it is applied. Replies come in the order of the outcomes; the number says whose
//! they are. A connection that closes without a reply to an event leaves its outcome
//! open. While the engine has no room a connection isn't read: TCP holds the sender back.
//!
//! Events of one connection and one priority are applied in the order they were sent. A
//! more urgent event may overtake a less urgent one, of its own connection too: whoever
//! needs an order between two events gives them the same priority. When room gets short
//! the least urgent go first; see [`eventengine_core::shedding`]. An event of priority 0
//! is never shed, it waits.
//!
//! A header is checked before anything is stored: beyond the payload limit the frame is
//! skipped and refused, with an unknown priority the connection is closed.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use eventengine_core::core::DIRECT_BASE;
use eventengine_core::executor::Feed;
use eventengine_core::parse::Reason;
use eventengine_core::pool::{Allocator, Chunk, Releaser};
use eventengine_core::ring::{Consumer, Descriptor, Kind, LANE_EVENTS, LANES, PRIORITIES, Producer};
use eventengine_core::shedding::{Admission, Shedding};

use crate::Error;
use crate::clock::monotonic_nanoseconds;
use crate::config::TcpSource;
use crate::direct::Bell;
use crate::shared::Shared;

/// Events that wait between this thread and the core, at most.
pub const CREDIT: u64 = 1024;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Replies that a connection may leave unread before it isn't read any more.
const UNREAD_REPLIES_MAX: usize = 64 * 1024;

/// A frame that was begun, a hello and unread replies may take this long.
const STALL: Duration = Duration::from_secs(30);

const TOKEN_BYTES_MAX: usize = 4096;
const HEADER_BYTES: usize = 4;
/// The event was shed.
pub const VERDICT_SHED: u8 = 253;
const VERDICT_WRONG_TOKEN: u8 = 254;
const EVENTS_MAX: usize = 64;
const BELL: u64 = u64::MAX;
const LISTENERS: u64 = 1 << 63;

/// A source that listens.
pub struct Listening {
    listener: TcpListener,
    source: u8,
    token: Option<Vec<u8>>,
    connections_max: usize,
}

/// Opens a source's port and reads its token.
pub fn listen(source: usize, tcp: &TcpSource) -> Result<Listening, Error> {
    let path = |key: &str| format!("sources[{source}].tcp.{key}");
    let refused = |key: &str, message: String| Error::Configuration { path: path(key), message };
    let token = match &tcp.token_file {
        None if tcp.insecure => None,
        None => return Err(refused("tokenFile", "name a token file, or say insecure: true".to_owned())),
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| refused("tokenFile", format!("{file} can't be read: {error}")))?;
            let token = text.trim().as_bytes().to_vec();
            if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
                return Err(refused(
                    "tokenFile",
                    format!("{file} holds no token of 1 to {TOKEN_BYTES_MAX} bytes"),
                ));
            }
            Some(token)
        }
    };
    let address =
        if tcp.listen.starts_with(':') { format!("0.0.0.0{}", tcp.listen) } else { tcp.listen.clone() };
    let listener = TcpListener::bind(&address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| refused("listen", format!("{address} can't be listened on: {error}")))?;
    Ok(Listening { listener, source: source as u8, token, connections_max: tcp.max_connections })
}

/// Compares in a time that doesn't depend on where the two differ.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// What the next bytes of a connection belong to.
enum Reading {
    /// A frame's length, of which some bytes are there.
    Header { bytes: [u8; HEADER_BYTES], filled: usize },
    /// The token.
    Hello { bytes: Vec<u8>, length: usize },
    /// An event, of which some bytes are in the chunk.
    Event { chunk: Chunk, filled: usize, length: usize, priority: u8 },
    /// A frame that is too long.
    Skip { left: usize },
}

const NEW_FRAME: Reading = Reading::Header { bytes: [0; HEADER_BYTES], filled: 0 };

struct Connection {
    stream: TcpStream,
    listening: usize,
    greeted: bool,
    number: u32,
    reading: Reading,
    unparsed: Vec<u8>,
    replies: Vec<u8>,
    last_progress: Instant,
    writing: bool,
    closing: bool,
}

impl Connection {
    fn reply(&mut self, number: u32, verdict: u8) {
        self.replies.extend_from_slice(&5_u32.to_be_bytes());
        self.replies.extend_from_slice(&number.to_be_bytes());
        self.replies.push(verdict);
    }

    fn next_number(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    /// Writes replies that wait; false if the connection is broken.
    fn write(&mut self) -> bool {
        let mut written = 0;
        let intact = loop {
            match self.stream.write(&self.replies[written..]) {
                Ok(0) => break self.replies.len() == written,
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break error.kind() == ErrorKind::WouldBlock,
            }
        };
        if written > 0 {
            self.replies.drain(..written);
            self.last_progress = Instant::now();
        }
        intact
    }

    /// Whether the peer leaves something unfinished for too long.
    fn stalled(&self) -> bool {
        let unfinished = !self.greeted
            || !self.replies.is_empty()
            || !matches!(self.reading, Reading::Header { filled: 0, .. });
        unfinished && self.unparsed.is_empty() && self.last_progress.elapsed() > STALL
    }
}

/// What the thread works with.
pub struct Parts {
    /// Shared things.
    pub shared: Arc<Shared>,
    /// Chunks for payloads.
    pub allocator: Allocator,
    /// Lanes to the core.
    pub lanes: [Producer; LANES],
    /// The way to the workers, if there are any.
    pub feed: Option<Box<dyn Feed>>,
    /// Outcomes from the publisher.
    pub outcomes: Consumer,
    /// Rings when there are outcomes.
    pub bell: Arc<Bell>,
    /// The open ports.
    pub listening: Vec<Listening>,
}

struct Server {
    parts: Parts,
    poll: OwnedFd,
    connections: HashMap<u64, Connection>,
    next_id: u64,
    releaser: Releaser,
    buffer: Box<[u8]>,
    payload_bytes_max: usize,
    shedding: Shedding,
    in_flight: u64,
    resume: Vec<u64>,
}

/// Serves until the sources are stopped and every event that was taken has its reply.
pub fn run(parts: Parts) {
    let shared = Arc::clone(&parts.shared);
    match Server::new(parts) {
        Ok(mut server) => server.serve(),
        Err(error) => shared.health.dead(format!("no way to wait for TCP connections: {error}")),
    }
}

impl Server {
    fn new(parts: Parts) -> std::io::Result<Server> {
        // SAFETY: a system call without pointers; the descriptor is nobody else's.
        let poll = unsafe {
            let descriptor = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if descriptor < 0 {
                return Err(std::io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(descriptor)
        };
        let server = Server {
            releaser: Releaser::new(&parts.shared.pool),
            payload_bytes_max: parts.shared.config.payload.max_bytes,
            shedding: Shedding::new(
                parts.shared.config.shedding.above,
                parts.shared.config.shedding.priority_at_least,
                parts.allocator.capacity(),
                CREDIT,
            ),
            poll,
            connections: HashMap::new(),
            next_id: 0,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            in_flight: 0,
            resume: Vec::new(),
            parts,
        };
        server.watch(libc::EPOLL_CTL_ADD, server.parts.bell.descriptor(), BELL, libc::EPOLLIN);
        for (index, listening) in server.parts.listening.iter().enumerate() {
            let key = LISTENERS | index as u64;
            server.watch(libc::EPOLL_CTL_ADD, listening.listener.as_raw_fd(), key, libc::EPOLLIN);
        }
        Ok(server)
    }

    fn watch(&self, operation: libc::c_int, descriptor: RawFd, key: u64, events: libc::c_int) {
        let mut event = libc::epoll_event { events: events as u32, u64: key };
        // SAFETY: valid descriptors and a valid event.
        unsafe { libc::epoll_ctl(self.poll.as_raw_fd(), operation, descriptor, &raw mut event) };
    }

    fn serve(&mut self) {
        let shared = Arc::clone(&self.parts.shared);
        let mut drain_until = None;
        loop {
            let stopping = shared.stop_sources.load(Ordering::Relaxed);
            if stopping {
                let drain = Duration::from_millis(shared.config.drain_timeout_milliseconds / 2);
                let until = *drain_until.get_or_insert_with(|| Instant::now() + drain);
                let unread = self.connections.values().any(|connection| !connection.replies.is_empty());
                if (self.in_flight == 0 && !unread) || Instant::now() >= until {
                    return;
                }
            }
            let room = !stopping && self.has_room();
            self.wait(room);
            self.take_outcomes();
            if room && !self.resume.is_empty() {
                for id in std::mem::take(&mut self.resume) {
                    self.read(id, true);
                }
            }
            self.close_stalled();
        }
    }

    /// Waits for sockets and the bell. Without room only connections that have replies to write are looked at.
    fn wait(&mut self, room: bool) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        let timeout = if room && self.resume.is_empty() { 100 } else { 1 };
        // SAFETY: the array has room for as many events as are said.
        let count = unsafe {
            libc::epoll_wait(self.poll.as_raw_fd(), events.as_mut_ptr(), EVENTS_MAX as libc::c_int, timeout)
        };
        for event in &events[..usize::try_from(count).unwrap_or(0)] {
            let (flags, key) = (event.events as libc::c_int, event.u64);
            if key == BELL {
                self.parts.bell.silence();
            } else if key & LISTENERS != 0 {
                if room {
                    self.accept((key & !LISTENERS) as usize);
                }
            } else {
                if flags & libc::EPOLLOUT != 0 {
                    self.write(key);
                }
                if room && flags & !libc::EPOLLOUT != 0 {
                    self.read(key, false);
                }
            }
        }
        if !room && count > 0 {
            // Sockets that may not be read stay readable: sleep instead of asking again at once.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn has_room(&mut self) -> bool {
        self.admit(0) == Admission::Take
    }

    fn admit(&mut self, priority: u8) -> Admission {
        let waiting = self.parts.lanes[LANE_EVENTS..].iter_mut().map(Producer::in_use).sum();
        self.shedding.admit(priority, self.parts.allocator.in_use(), waiting)
    }

    fn accept(&mut self, index: usize) {
        while let Ok((stream, _)) = self.parts.listening[index].listener.accept() {
            let listening = &self.parts.listening[index];
            let open = self.connections.values().filter(|connection| connection.listening == index).count();
            if open >= listening.connections_max {
                self.parts.shared.counters.error("tcp_connections_refused");
                continue;
            }
            if stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_err() {
                continue;
            }
            self.next_id += 1;
            self.watch(libc::EPOLL_CTL_ADD, stream.as_raw_fd(), self.next_id, libc::EPOLLIN);
            let connection = Connection {
                stream,
                listening: index,
                greeted: listening.token.is_none(),
                number: 0,
                reading: NEW_FRAME,
                unparsed: Vec::new(),
                replies: Vec::new(),
                last_progress: Instant::now(),
                writing: false,
                closing: false,
            };
            self.connections.insert(self.next_id, connection);
        }
    }

    /// Reads once, or goes on with what was read and had no room.
    fn read(&mut self, id: u64, resumed: bool) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut intact = true;
        if resumed || !connection.unparsed.is_empty() {
            let bytes = std::mem::take(&mut connection.unparsed);
            self.parse(id, &mut connection, &bytes);
        } else if connection.replies.len() < UNREAD_REPLIES_MAX {
            intact = match connection.stream.read(&mut buffer) {
                Ok(0) => false,
                Ok(count) => {
                    connection.last_progress = Instant::now();
                    self.parse(id, &mut connection, &buffer[..count]);
                    true
                }
                Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
            };
        }
        self.buffer = buffer;
        let published = self.parts.lanes[LANE_EVENTS..].iter_mut().map(Producer::publish);
        if published.fold(false, |any, published| any | published) {
            self.parts.shared.wake_for_events();
        }
        intact &= connection.write() && !connection.closing;
        self.put_back(id, connection, intact);
    }

    fn write(&mut self, id: u64) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        let intact = connection.write();
        self.put_back(id, connection, intact);
    }

    /// Keeps a connection, watching for what it waits for, or ends it.
    fn put_back(&mut self, id: u64, mut connection: Connection, intact: bool) {
        if !intact {
            if let Reading::Event { chunk, .. } = std::mem::replace(&mut connection.reading, NEW_FRAME) {
                self.releaser.release(chunk);
                self.releaser.flush();
            }
            return;
        }
        let writing = !connection.replies.is_empty();
        if writing != connection.writing {
            connection.writing = writing;
            let events = if writing { libc::EPOLLIN | libc::EPOLLOUT } else { libc::EPOLLIN };
            self.watch(libc::EPOLL_CTL_MOD, connection.stream.as_raw_fd(), id, events);
        }
        if !connection.unparsed.is_empty() {
            self.resume.push(id);
        }
        self.connections.insert(id, connection);
    }

    /// Takes frames out of bytes. What finds no room stays with the connection.
    fn parse(&mut self, id: u64, connection: &mut Connection, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && !connection.closing {
            match std::mem::replace(&mut connection.reading, NEW_FRAME) {
                Reading::Header { bytes: mut header, filled } => {
                    let count = rest.len().min(HEADER_BYTES - filled);
                    header[filled..filled + count].copy_from_slice(&rest[..count]);
                    if filled + count < HEADER_BYTES {
                        connection.reading = Reading::Header { bytes: header, filled: filled + count };
                        return;
                    }
                    let [priority, length @ ..] = header;
                    let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
                    let Some(reading) = self.begin_frame(connection, priority, length) else {
                        // No room: the header is read again when there is some.
                        connection.reading = Reading::Header { bytes: header, filled };
                        connection.unparsed = rest.to_vec();
                        return;
                    };
                    rest = &rest[count..];
                    connection.reading = reading;
                    self.end_empty_frame(id, connection);
                }
                Reading::Hello { bytes: mut token, length } => {
                    let count = rest.len().min(length - token.len());
                    token.extend_from_slice(&rest[..count]);
                    rest = &rest[count..];
                    connection.reading = Reading::Hello { bytes: token, length };
                    self.end_hello(connection);
                }
                Reading::Event { mut chunk, filled, length, priority } => {
                    let count = rest.len().min(length - filled);
                    let pool = self.parts.allocator.pool();
                    pool.bytes_mut(&mut chunk)[filled..filled + count].copy_from_slice(&rest[..count]);
                    rest = &rest[count..];
                    if filled + count < length {
                        connection.reading =
                            Reading::Event { chunk, filled: filled + count, length, priority };
                    } else {
                        self.push(id, connection, chunk, length, priority);
                    }
                }
                Reading::Skip { left } => {
                    let count = rest.len().min(left);
                    rest = &rest[count..];
                    if count < left {
                        connection.reading = Reading::Skip { left: left - count };
                    }
                }
            }
        }
    }

    /// Decides about a frame by its header alone. None if there is no room for it now.
    fn begin_frame(&mut self, connection: &mut Connection, priority: u8, length: usize) -> Option<Reading> {
        if usize::from(priority) >= PRIORITIES {
            self.parts.shared.counters.error("tcp_unknown_priority");
            connection.closing = true;
            return Some(NEW_FRAME);
        }
        if !connection.greeted && length > TOKEN_BYTES_MAX {
            self.parts.shared.counters.error("tcp_frame_too_long");
            connection.closing = true;
            return Some(NEW_FRAME);
        }
        if !connection.greeted {
            return Some(Reading::Hello { bytes: Vec::with_capacity(length), length });
        }
        if length > self.payload_bytes_max.min(self.parts.allocator.pool().chunk_bytes()) {
            let number = connection.next_number();
            connection.reply(number, 1 + Reason::TooLarge as u8);
            self.parts.shared.counters.error("tcp_event_too_large");
            return Some(Reading::Skip { left: length });
        }
        match self.admit(priority) {
            Admission::Take => {
                let chunk = self.parts.allocator.allocate()?;
                Some(Reading::Event { chunk, filled: 0, length, priority })
            }
            Admission::Wait => None,
            Admission::Shed => {
                let number = connection.next_number();
                connection.reply(number, VERDICT_SHED);
                let source = usize::from(self.parts.listening[connection.listening].source);
                self.parts.shared.counters.shed[source][usize::from(priority)]
                    .fetch_add(1, Ordering::Relaxed);
                Some(if length == 0 { NEW_FRAME } else { Reading::Skip { left: length } })
            }
        }
    }

    /// A frame without a payload is complete with its header.
    fn end_empty_frame(&mut self, id: u64, connection: &mut Connection) {
        match std::mem::replace(&mut connection.reading, NEW_FRAME) {
            Reading::Event { chunk, length: 0, priority, .. } => {
                self.push(id, connection, chunk, 0, priority);
            }
            reading => connection.reading = reading,
        }
        self.end_hello(connection);
    }

    fn end_hello(&self, connection: &mut Connection) {
        let Reading::Hello { bytes, length } = &connection.reading else { return };
        if bytes.len() < *length {
            return;
        }
        let token = self.parts.listening[connection.listening].token.as_deref().unwrap_or_default();
        connection.greeted = same(bytes, token);
        connection.reading = NEW_FRAME;
        if connection.greeted {
            connection.reply(0, 0);
        } else {
            self.parts.shared.counters.error("tcp_wrong_token");
            connection.reply(0, VERDICT_WRONG_TOKEN);
            connection.closing = true;
        }
    }

    /// Hands a complete event to the core.
    fn push(&mut self, id: u64, connection: &mut Connection, chunk: Chunk, length: usize, priority: u8) {
        let source = self.parts.listening[connection.listening].source;
        let (chunk, length) = (self.parts.allocator.pool().send(chunk), length as u32);
        let lane = &mut self.parts.lanes[LANE_EVENTS + usize::from(priority)];
        let feed = self.parts.feed.as_mut();
        let kind = feed.map_or(Kind::Event, |feed| feed.offer(chunk, length, source, lane));
        let pushed = lane.push(Descriptor {
            source,
            priority,
            partition: DIRECT_BASE,
            chunk,
            length,
            ingested_at_nanoseconds: monotonic_nanoseconds(),
            ticket: id,
            number: connection.next_number(),
            ..Descriptor::new(kind)
        });
        if pushed.is_err() {
            self.parts.shared.health.dead("the ring had no slot for an event that was taken");
            return;
        }
        self.in_flight += 1;
        self.parts.shared.counters.events_in.fetch_add(1, Ordering::Relaxed);
    }

    /// Turns outcomes into replies.
    fn take_outcomes(&mut self) {
        let mut touched = Vec::new();
        while let Some(&outcome) = self.parts.outcomes.pop() {
            self.in_flight = self.in_flight.saturating_sub(1);
            let verdict = if outcome.kind == Kind::Output { 0 } else { 1 + outcome.reason };
            if let Some(connection) = self.connections.get_mut(&outcome.ticket) {
                connection.reply(outcome.number, verdict);
                if touched.last() != Some(&outcome.ticket) {
                    touched.push(outcome.ticket);
                }
            }
        }
        self.parts.outcomes.release();
        for id in touched {
            self.write(id);
        }
    }

    fn close_stalled(&mut self) {
        let stalled: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.stalled())
            .map(|(id, _)| *id)
            .collect();
        for id in stalled {
            self.parts.shared.counters.error("tcp_stalled");
            if let Some(connection) = self.connections.remove(&id) {
                self.put_back(id, connection, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn tokens_are_the_same_only_if_every_byte_is() {
        assert!(same(b"secret", b"secret"));
        assert!(!same(b"secret", b"secreT"));
        assert!(!same(b"secret", b"secret1"));
        assert!(!same(b"", b"a"));
    }
}
