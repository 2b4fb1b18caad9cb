//! Sending to Kafka: an idempotent producer with a bounded queue.
//!
//! Owns the client and its delivery reports. Keys are placed by murmur2, as Java
//! clients place them, so that a key's events keep their order in one partition. A
//! full queue makes the sender wait; nothing is dropped.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;

use super::plan::KafkaTarget;
use super::report::Counts;
use crate::Error;
use crate::kafka::bootstrap;

/// How long a broker may take to answer the first questions.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// How often the client tells its state.
const STATISTICS_INTERVAL_MILLISECONDS: &str = "100";
/// Pause while the queue is full.
const FULL_PAUSE: Duration = Duration::from_micros(500);

/// The client, for its own callbacks.
struct Handle(*mut rdkafka_sys::rd_kafka_t);

// SAFETY: librdkafka's clients belong to no thread.
unsafe impl Send for Handle {}
// SAFETY: nor need calls to them be one at a time.
unsafe impl Sync for Handle {}

/// Hands delivery reports to the counts.
struct Reports {
    counts: Arc<Counts>,
    bootstrap_servers: CString,
    client: OnceLock<Handle>,
    /// Whether the broker has given the producer its id, without which nothing is sent.
    identified: AtomicBool,
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        self.counts.note_trouble(&format!("{error}: {reason}"));
    }

    fn stats_raw(&self, statistics: &[u8]) {
        if let Some(client) = self.client.get() {
            // SAFETY: callbacks run while the producer lives.
            if unsafe { bootstrap::add_if_needed(client.0, statistics, &self.bootstrap_servers) } {
                self.counts.note_trouble(bootstrap::ADDED);
            }
        }
        if !self.identified.load(Ordering::Relaxed) {
            let told = serde_json::from_slice::<Statistics>(statistics);
            let assigned = |told: Statistics| told.eos.is_some_and(|state| state.idemp_state == "Assigned");
            self.identified.store(told.is_ok_and(assigned), Ordering::Relaxed);
        }
    }
}

impl ProducerContext for Reports {
    /// The intended time of the event, in nanoseconds since the begin.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, intended: usize) {
        match result {
            Ok(_) => self.counts.acknowledge(intended as u64),
            Err((error, _)) => self.counts.fail(&error.to_string()),
        }
    }
}

/// A connected sender.
pub struct KafkaSender {
    producer: ThreadedProducer<Reports>,
    topic: String,
}

impl KafkaSender {
    /// Connects, and makes the topic if the target asks for it.
    pub fn connect(
        target: &KafkaTarget,
        queue_events_max: usize,
        message_timeout: Duration,
        counts: Arc<Counts>,
    ) -> Result<KafkaSender, Error> {
        let bootstrap = target.bootstrap_servers.join(",");
        let mut configuration = ClientConfig::new();
        configuration
            .set("client.id", "eventengine-load")
            .set("linger.ms", "2")
            .set("reconnect.backoff.max.ms", "1000")
            .set("compression.type", "none");
        for (name, value) in &target.properties {
            configuration.set(name, value);
        }
        configuration.set("bootstrap.servers", &bootstrap);
        ensure_topic(&configuration, target)?;
        configuration
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("statistics.interval.ms", STATISTICS_INTERVAL_MILLISECONDS)
            .set("queue.buffering.max.messages", queue_events_max.to_string())
            .set("message.timeout.ms", message_timeout.as_millis().max(1000).to_string());
        let wrong = |message: String| Error::Configuration { path: "properties".to_owned(), message };
        let reports = Reports {
            counts,
            bootstrap_servers: CString::new(bootstrap.clone()).map_err(|error| wrong(error.to_string()))?,
            client: OnceLock::new(),
            identified: AtomicBool::new(false),
        };
        let producer: ThreadedProducer<Reports> =
            configuration.create_with_context(reports).map_err(|error| wrong(error.to_string()))?;
        let reports = producer.client().context();
        reports.client.get_or_init(|| Handle(producer.client().native_ptr()));
        // The schedule begins with a client that can send: getting there is not the target's latency.
        let deadline = Instant::now() + FIRST_ANSWER;
        while !reports.identified.load(Ordering::Relaxed) {
            if Instant::now() >= deadline {
                return Err(Error::Engine(format!("the broker at {bootstrap} gives the producer no id")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(KafkaSender { producer, topic: target.topic.clone() })
    }

    /// Queues one event, waiting while the queue is full. False if `give_up` said so first.
    pub fn send(
        &self,
        payload: &[u8],
        key: &[u8],
        intended: u64,
        give_up: impl Fn() -> bool,
    ) -> Result<bool, Error> {
        let mut record = BaseRecord::with_opaque_to(&self.topic, intended as usize).payload(payload).key(key);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(true),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    if give_up() {
                        return Ok(false);
                    }
                    record = refused;
                    std::thread::sleep(FULL_PAUSE);
                }
                Err((error, _)) => return Err(Error::Engine(error.to_string())),
            }
        }
    }

    /// Waits until every event is acknowledged or failed, at most so long.
    pub fn flush(&self, timeout: Duration) {
        // What is still under way afterwards is counted as not acknowledged.
        let _ = self.producer.flush(timeout);
    }
}

/// Checks that the topic is there; makes it where the target names its partitions.
fn ensure_topic(configuration: &ClientConfig, target: &KafkaTarget) -> Result<(), Error> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Error::Engine(format!("{what}: {error}"));
    let admin: AdminClient<DefaultClientContext> = configuration.create().map_err(|error| {
        Error::Configuration { path: "properties".to_owned(), message: error.to_string() }
    })?;
    let known = |name: &str| -> Result<bool, Error> {
        // Asking for all topics never makes one, as asking for one may.
        let metadata = admin.inner().fetch_metadata(None, FIRST_ANSWER).map_err(|error| {
            failed(&format!("no broker answers at {}", target.bootstrap_servers.join(",")), &error)
        })?;
        Ok(metadata.topics().iter().any(|topic| topic.name() == name && !topic.partitions().is_empty()))
    };
    if known(&target.topic)? {
        return Ok(());
    }
    let Some(partitions) = target.partitions else {
        return Err(Error::Engine(format!(
            "the topic {} doesn't exist; make it, or say with how many --partitions to make it",
            target.topic
        )));
    };
    let topic = NewTopic::new(&target.topic, partitions as i32, TopicReplication::Fixed(-1));
    let options = AdminOptions::new().request_timeout(Some(FIRST_ANSWER));
    let outcomes = block_on(admin.create_topics([&topic], &options))
        .map_err(|error| failed(&format!("the topic {} can't be made", target.topic), &error))?;
    for outcome in outcomes {
        match outcome {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(failed(&format!("the topic {topic} can't be made"), &code)),
        }
    }
    let deadline = Instant::now() + FIRST_ANSWER;
    while !known(&target.topic)? {
        if Instant::now() >= deadline {
            return Err(Error::Engine(format!("the topic {} was made but doesn't appear", target.topic)));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Waits for a future on this thread; the admin client has a thread of its own that completes it.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
