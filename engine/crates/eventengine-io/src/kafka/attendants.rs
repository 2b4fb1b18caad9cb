//! What keeps a transactional producer from holding its owner up for ever: two threads beside it.
//!
//! librdkafka's call that sends a transaction's offsets may wait without end, whatever its timeout, when a broker that it
//! had asked is dropped meanwhile (decision 0033). So one thread makes that call, and the owner gives up waiting for it.
//! The other takes what the client reports by itself, which alone can bring it brokers again ([`super::bootstrap`]).
//!
//! Both hold the client, and go when their owner and the call have let go of it. A client whose call never returns stays
//! until the process ends, which is why its owner counts them; once the next one has its transactional id, brokers
//! refuse whatever it does.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use super::client::{Client, GroupMetadata, KafkaError, Partitions};
use crate::allocation;

/// How long the first thread may take to see that it is the last one to hold the client.
const WAIT: Duration = Duration::from_millis(100);

/// How much longer than its timeout the call may take.
const GRACE: Duration = Duration::from_secs(1);

/// Offsets on their way into a transaction, and the member that they are of.
pub type Offsets = Arc<(Partitions, GroupMetadata)>;

/// The owner's side.
pub struct Attendants {
    offsets: Caller<(Offsets, Duration), Result<(), KafkaError>>,
    is_stuck: Cell<bool>,
}

impl Attendants {
    /// Starts both for a producer.
    pub fn start(producer: &Arc<Client>) -> io::Result<Attendants> {
        let reporting = Arc::clone(producer);
        Builder::new().name("ee-producer".to_owned()).spawn(move || {
            allocation::count_as("ee-producer");
            while Arc::strong_count(&reporting) > 1 {
                reporting.take_reports(WAIT);
            }
        })?;
        let sending = Arc::clone(producer);
        let offsets = Caller::start("ee-offsets", move |(offsets, timeout): (Offsets, Duration)| {
            sending.send_offsets(&offsets.0, &offsets.1, timeout)
        })?;
        Ok(Attendants { offsets, is_stuck: Cell::new(false) })
    }

    /// Sends offsets into the current transaction. After a fatal error the producer must not be used again.
    pub fn send_offsets(&self, offsets: &Offsets, timeout: Duration) -> Result<(), KafkaError> {
        self.offsets.call((Arc::clone(offsets), timeout), timeout + GRACE).unwrap_or_else(|| {
            self.is_stuck.set(true);
            let message = "the client doesn't come back from it".to_owned();
            Err(KafkaError { fatal: true, ..KafkaError::other(message) })
        })
    }

    /// Whether a call didn't come back in time, so that the producer may stay until the process ends.
    pub fn is_stuck(&self) -> bool {
        self.is_stuck.get()
    }
}

/// A thread that makes calls of which one may never return. It ends once its owner is gone and its call has returned.
struct Caller<Request, Answer> {
    requests: SyncSender<Request>,
    answers: Receiver<Answer>,
}

impl<Request: Send + 'static, Answer: Send + 'static> Caller<Request, Answer> {
    fn start(
        name: &'static str,
        mut call: impl FnMut(Request) -> Answer + Send + 'static,
    ) -> io::Result<Caller<Request, Answer>> {
        let (requests, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        Builder::new().name(name.to_owned()).spawn(move || {
            allocation::count_as(name);
            while let Ok(request) = asked.recv() {
                if answer.send(call(request)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Caller { requests, answers })
    }

    /// What the call answers; `None` if it doesn't in that time, after which there must be no further call.
    fn call(&self, request: Request, wait: Duration) -> Option<Answer> {
        self.requests.send(request).ok()?;
        self.answers.recv_timeout(wait).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn calls_are_made_one_after_the_other_on_the_thread_of_that_name() {
        let caller = Caller::start("ee-test", |number: u32| {
            (std::thread::current().name().map(str::to_owned), number + 1)
        })
        .expect("a thread");
        for number in 0..3 {
            assert_eq!(caller.call(number, LONG), Some((Some("ee-test".to_owned()), number + 1)));
        }
    }

    #[test]
    fn a_call_that_does_not_return_holds_its_thread_up_and_not_its_caller() {
        let (begun, has_begun) = channel();
        let (release, released) = channel();
        let (gone, is_gone) = channel::<()>();
        let caller = Caller::start("ee-test", move |()| {
            let _lives_as_long_as_the_thread = &gone;
            begun.send(()).expect("the test listens");
            released.recv().expect("the test releases it")
        })
        .expect("a thread");
        assert_eq!(caller.call((), Duration::ZERO), None);
        has_begun.recv_timeout(LONG).expect("the call is under way");
        drop(caller);
        release.send(()).expect("the call waits");
        assert!(is_gone.recv_timeout(LONG).is_err_and(|error| error == RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_call_that_panics_is_one_that_does_not_return() {
        let caller = Caller::start("ee-test", |()| -> () { panic!("as meant") }).expect("a thread");
        assert_eq!(caller.call((), LONG), None);
        assert_eq!(caller.call((), LONG), None);
    }
}
