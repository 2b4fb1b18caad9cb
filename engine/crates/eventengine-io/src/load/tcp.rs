//! Sending to an engine's TCP source: frames out, one reply for each event back.
//!
//! Owns the connections, one reader thread each. A producer stays on its connection, so
//! that its order holds. The protocol is described where the engine's source implements
//! it ([`crate::tcp`]). An event is acknowledged by its acceptance; one that is broken on
//! purpose by being refused for the very reason it was broken for. While too many events
//! wait for their reply, or the engine holds the connection back, sending waits.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eventengine_core::parse::Reason;

use super::events::Written;
use super::plan::TcpTarget;
use super::report::Counts;
use crate::Error;
use crate::tcp::VERDICT_SHED;

/// How long connecting and the reply to the hello may take.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// A write that can't go on looks this often whether it should.
const WRITE_LOOK: Duration = Duration::from_millis(50);
/// Pause while too many events wait for their reply, and between looks at the end.
const PAUSE: Duration = Duration::from_micros(500);
/// Length, number and verdict.
const REPLY_BYTES: usize = 9;
const REPLY_LENGTH: u32 = 5;
const ACCEPTED: u8 = 0;

/// An event that waits for its reply.
struct Waiting {
    intended: u64,
    malformed: Option<&'static str>,
}

type Pending = Arc<Mutex<HashMap<u32, Waiting>>>;

/// The writing side of a connection.
struct Connection {
    stream: TcpStream,
    pending: Pending,
    number: u32,
    frame: Vec<u8>,
    reader: Option<JoinHandle<()>>,
}

/// A connected sender.
pub struct TcpSender {
    connections: Vec<Mutex<Connection>>,
    counts: Arc<Counts>,
    queue_events_max: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(what: impl std::fmt::Display, error: &std::io::Error) -> Error {
    Error::Engine(format!("{what}: {error}"))
}

impl TcpSender {
    /// Opens all connections and shows the token on each.
    pub fn connect(
        target: &TcpTarget,
        queue_events_max: usize,
        counts: Arc<Counts>,
    ) -> Result<TcpSender, Error> {
        let connections = (0..target.connections.max(1))
            .map(|_| Connection::open(target, &counts).map(Mutex::new))
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(TcpSender { connections, counts, queue_events_max: queue_events_max as u64 })
    }

    /// Writes one event, waiting while it can't be. False if `give_up` said so first.
    pub fn send(
        &self,
        written: Written,
        payload: &[u8],
        intended: u64,
        give_up: impl Fn() -> bool,
    ) -> Result<bool, Error> {
        while self.counts.in_flight() >= self.queue_events_max {
            if give_up() {
                return Ok(false);
            }
            std::thread::sleep(PAUSE);
        }
        let (producer, malformed) = match written {
            Written::Valid { producer } => (producer, None),
            Written::Malformed { reason } => (0, Some(reason)),
        };
        let connection = &self.connections[producer % self.connections.len()];
        locked(connection).send(payload, Waiting { intended, malformed }, give_up)
    }

    /// Waits until every event has its reply, at most so long.
    pub fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while self.counts.in_flight() > 0 && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
    }
}

impl Connection {
    fn open(target: &TcpTarget, counts: &Arc<Counts>) -> Result<Connection, Error> {
        let address = &target.address;
        let mut addresses = address.to_socket_addrs().map_err(|error| failed(address, &error))?;
        let first = addresses.next().ok_or_else(|| Error::Engine(format!("{address} has no address")))?;
        let mut stream = TcpStream::connect_timeout(&first, FIRST_ANSWER)
            .map_err(|error| failed(format!("no engine listens at {address}"), &error))?;
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(FIRST_ANSWER)))
            .and_then(|()| stream.set_write_timeout(Some(WRITE_LOOK)));
        prepared.map_err(|error| failed(address, &error))?;
        if let Some(token) = &target.token {
            greet(&mut stream, token.as_bytes()).map_err(|error| failed(address, &error))?;
        }
        let pending = Pending::default();
        let reading = stream
            .set_read_timeout(None)
            .and_then(|()| stream.try_clone())
            .map_err(|error| failed(address, &error))?;
        let (waiting, counts) = (Arc::clone(&pending), Arc::clone(counts));
        let reader = std::thread::Builder::new()
            .name("load-replies".to_owned())
            .spawn(move || read_replies(reading, &waiting, &counts))
            .map_err(|error| failed("no thread for the replies", &error))?;
        Ok(Connection { stream, pending, number: 0, frame: Vec::new(), reader: Some(reader) })
    }

    fn send(&mut self, payload: &[u8], waiting: Waiting, give_up: impl Fn() -> bool) -> Result<bool, Error> {
        self.frame.clear();
        self.frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        self.frame.extend_from_slice(payload);
        self.number = self.number.wrapping_add(1);
        // Known before it is sent: the reply may be here before the write returns.
        locked(&self.pending).insert(self.number, waiting);
        let mut sent = 0;
        while sent < self.frame.len() {
            match self.stream.write(&self.frame[sent..]) {
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if give_up() {
                        return self.withdraw(sent);
                    }
                }
                Err(error) => {
                    locked(&self.pending).remove(&self.number);
                    return Err(failed("the engine closed the connection", &error));
                }
            }
        }
        Ok(true)
    }

    /// Gives an event up that the engine holds back. Half a frame leaves a connection of no use.
    fn withdraw(&mut self, sent: usize) -> Result<bool, Error> {
        locked(&self.pending).remove(&self.number);
        if sent == 0 {
            self.number = self.number.wrapping_sub(1);
            return Ok(false);
        }
        // Its reader notices and fails what still waits.
        let _ = self.stream.shutdown(Shutdown::Both);
        Err(Error::Engine("the engine held the connection back in the middle of an event".to_owned()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The reader ends with the connection, which may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Shows the token and waits for the verdict on it.
fn greet(stream: &mut TcpStream, token: &[u8]) -> std::io::Result<()> {
    stream.write_all(&(token.len() as u32).to_be_bytes())?;
    stream.write_all(token)?;
    match read_reply(stream)? {
        (0, ACCEPTED) => Ok(()),
        _ => Err(std::io::Error::other("the engine doesn't accept the token")),
    }
}

/// Number and verdict of the next reply.
fn read_reply(stream: &mut impl Read) -> std::io::Result<(u32, u8)> {
    let mut reply = [0; REPLY_BYTES];
    stream.read_exact(&mut reply)?;
    let word = |at: usize| u32::from_be_bytes([reply[at], reply[at + 1], reply[at + 2], reply[at + 3]]);
    if word(0) != REPLY_LENGTH {
        return Err(std::io::Error::other("this is no reply of an engine"));
    }
    Ok((word(4), reply[8]))
}

/// Reads replies until the connection is closed, then fails what has none.
fn read_replies(stream: TcpStream, pending: &Pending, counts: &Counts) {
    let mut stream = std::io::BufReader::new(stream);
    let ended = loop {
        let (number, verdict) = match read_reply(&mut stream) {
            Ok(reply) => reply,
            Err(error) => break error,
        };
        match locked(pending).remove(&number) {
            Some(waiting) => settle(&waiting, verdict, counts),
            None => counts.note_trouble(&format!("a reply to event {number}, which waits for none")),
        }
    };
    for _ in std::mem::take(&mut *locked(pending)) {
        counts.fail(&format!("the connection ended before the reply: {ended}"));
    }
}

fn settle(waiting: &Waiting, verdict: u8, counts: &Counts) {
    let refusal = verdict.checked_sub(1).map(|number| match (Reason::from_number(number), verdict) {
        (Some(reason), _) => reason.as_str().to_owned(),
        (None, VERDICT_SHED) => "shed".to_owned(),
        (None, _) => format!("verdict {verdict}"),
    });
    if refusal.as_deref() == waiting.malformed {
        counts.acknowledge(waiting.intended);
        return;
    }
    counts.fail(&match (refusal, waiting.malformed) {
        (Some(reason), None) => format!("a valid event was refused: {reason}"),
        (Some(reason), Some(expected)) => format!("an event that is {expected} was refused as {reason}"),
        (None, expected) => format!("an event that is {} was accepted", expected.unwrap_or("valid")),
    });
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A source that gives each frame the verdict that the frame itself asks for, by its first byte.
    fn obedient_source(token: Option<&'static [u8]>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut number = u32::from(token.is_none());
            loop {
                let mut length = [0; 4];
                if stream.read_exact(&mut length).is_err() {
                    return;
                }
                let mut frame = vec![0; u32::from_be_bytes(length) as usize];
                stream.read_exact(&mut frame).unwrap();
                let verdict = match token {
                    Some(token) if number == 0 && frame == token => ACCEPTED,
                    Some(_) if number == 0 => 254,
                    _ => frame[0],
                };
                let mut reply = REPLY_LENGTH.to_be_bytes().to_vec();
                reply.extend(number.to_be_bytes());
                reply.push(verdict);
                number += 1;
                // A frame that starts with 'x' ends the connection instead of getting a reply.
                if frame[0] == b'x' || stream.write_all(&reply).is_err() {
                    return;
                }
            }
        });
        address
    }

    fn connect(address: String, token: Option<&str>) -> Result<(TcpSender, Arc<Counts>), Error> {
        let counts = Arc::new(Counts::default());
        counts.begin();
        let target = TcpTarget { address, connections: 1, token: token.map(str::to_owned) };
        Ok((TcpSender::connect(&target, 100, Arc::clone(&counts))?, counts))
    }

    fn send(sender: &TcpSender, counts: &Counts, payload: &[u8], written: Written) {
        assert_eq!(sender.send(written, payload, 0, || false), Ok(true));
        counts.send(0);
    }

    const VALID: Written = Written::Valid { producer: 0 };

    #[test]
    fn accepted_events_and_expected_refusals_are_acknowledged() {
        let (sender, counts) = connect(obedient_source(Some(b"open")), Some("open")).unwrap();
        let too_deep = 1 + Reason::TooDeep as u8;
        send(&sender, &counts, &[ACCEPTED], VALID);
        send(&sender, &counts, &[too_deep], Written::Malformed { reason: "too_deep" });
        sender.flush(Duration::from_secs(10));
        let progress = counts.progress();
        assert_eq!((progress["acknowledged"].as_u64(), progress["errors"].as_u64()), (Some(2), Some(0)));
    }

    #[test]
    fn a_valid_event_refused_and_a_broken_one_accepted_are_errors() {
        let (sender, counts) = connect(obedient_source(None), None).unwrap();
        send(&sender, &counts, &[1 + Reason::ArenaExhausted as u8], VALID);
        send(&sender, &counts, &[ACCEPTED], Written::Malformed { reason: "too_deep" });
        send(&sender, &counts, &[1], Written::Malformed { reason: "too_deep" });
        sender.flush(Duration::from_secs(10));
        let progress = counts.progress();
        assert_eq!((progress["acknowledged"].as_u64(), progress["errors"].as_u64()), (Some(0), Some(3)));
    }

    #[test]
    fn events_without_a_reply_fail_when_the_connection_ends() {
        let (sender, counts) = connect(obedient_source(None), None).unwrap();
        send(&sender, &counts, &[ACCEPTED], VALID);
        send(&sender, &counts, b"x", VALID);
        sender.flush(Duration::from_secs(10));
        let progress = counts.progress();
        assert_eq!((progress["acknowledged"].as_u64(), progress["errors"].as_u64()), (Some(1), Some(1)));
    }

    #[test]
    fn a_wrong_token_is_said_before_anything_is_sent() {
        let error = connect(obedient_source(Some(b"open")), Some("sesame")).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("doesn't accept the token"), "{error}");
    }
}
