//! A thin, safe layer over librdkafka's C interface.
//!
//! Owns handles and their lifetimes. It is written on the C interface because the
//! engine needs what wrappers hide: batches from a queue of the partitions' own, the
//! offset of an end-of-partition event, and offsets asked with a chosen isolation level.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::time::Duration;

use rdkafka_sys as rd;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::bootstrap;

const TEXT_BYTES: usize = 512;

/// OpenSSL's words of a failure, and librdkafka's of when it was; of a closed connection OpenSSL says nothing.
const OF_A_HANDSHAKE: [&str; 2] = ["SSL routines", "in state SSL_HANDSHAKE"];

/// An error of the client or a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaError {
    /// librdkafka's code.
    pub code: Code,
    /// What it says.
    pub message: String,
    /// The client can't be used any more.
    pub fatal: bool,
    /// The call may be repeated.
    pub retriable: bool,
    /// The current transaction has to be aborted.
    pub abortable: bool,
}

impl std::fmt::Display for KafkaError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl KafkaError {
    /// An error from a bare code.
    pub fn from_code(code: Code) -> KafkaError {
        // SAFETY: returns a static string for any code.
        let message = unsafe { text(rd::rd_kafka_err2str(code)) };
        KafkaError {
            code,
            message,
            fatal: code == Code::RD_KAFKA_RESP_ERR__FATAL,
            retriable: false,
            abortable: false,
        }
    }

    /// What the client reported by itself. A handshake that fails is reported as a broken connection where the
    /// broker's answer is there before the handshake's first call returns; it is told by OpenSSL's words then.
    fn reported(code: Code, message: String) -> KafkaError {
        let failed_at_once = code == Code::RD_KAFKA_RESP_ERR__TRANSPORT
            && OF_A_HANDSHAKE.iter().all(|words| message.contains(words));
        let code = if failed_at_once { Code::RD_KAFKA_RESP_ERR__SSL } else { code };
        KafkaError { message, ..KafkaError::from_code(code) }
    }

    /// An error in words of our own.
    pub fn other(message: String) -> KafkaError {
        KafkaError {
            code: Code::RD_KAFKA_RESP_ERR__FAIL,
            message,
            fatal: false,
            retriable: false,
            abortable: false,
        }
    }

    /// Takes over an error object. A null pointer stands for success.
    ///
    /// # Safety
    /// The pointer is null or an error object that nobody else destroys.
    unsafe fn check(error: *mut rd::rd_kafka_error_t) -> Result<(), KafkaError> {
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: not null, and valid until it is destroyed below.
        unsafe {
            let taken = KafkaError {
                code: rd::rd_kafka_error_code(error),
                message: text(rd::rd_kafka_error_string(error)),
                fatal: rd::rd_kafka_error_is_fatal(error) != 0,
                retriable: rd::rd_kafka_error_is_retriable(error) != 0,
                abortable: rd::rd_kafka_error_txn_requires_abort(error) != 0,
            };
            rd::rd_kafka_error_destroy(error);
            Err(taken)
        }
    }

    /// Says no more than that there was no answer; why not is in the client's own reports.
    fn is_unanswered(&self) -> bool {
        matches!(
            self.code,
            Code::RD_KAFKA_RESP_ERR__TRANSPORT
                | Code::RD_KAFKA_RESP_ERR__TIMED_OUT
                | Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
        )
    }

    fn check_code(code: Code) -> Result<(), KafkaError> {
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(KafkaError::from_code(code)) }
    }
}

/// Copies a C string; a null pointer gives an empty one.
///
/// # Safety
/// Null, or a string that ends in a zero byte.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

fn c_string(string: &str) -> Result<CString, KafkaError> {
    CString::new(string).map_err(|_| KafkaError::other(format!("{string:?} contains a zero byte")))
}

fn milliseconds(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX)
}

/// What happens when partitions come and go. Called by the thread that polls the consumer.
pub trait Rebalance: Send {
    /// Partitions were assigned; they are to be taken with [`Client::incremental_assign`].
    fn assigned(&mut self, client: &Client, partitions: &Partitions);
    /// Partitions are to be given up; `lost` if others may own them already.
    fn revoked(&mut self, client: &Client, partitions: &Partitions, lost: bool);
}

/// What the client's callbacks know. Boxed, so that its address stays.
#[derive(Default)]
struct Context {
    bootstrap_servers: CString,
    last_error: Mutex<Option<KafkaError>>,
    rebalance: Mutex<Option<Box<dyn Rebalance>>>,
}

unsafe extern "C" fn on_error(
    _client: *mut rd::rd_kafka_t,
    code: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: the opaque is the context, which lives as long as the client.
    let context = unsafe { &*opaque.cast::<Context>() };
    // SAFETY: librdkafka gives a valid string.
    let message = unsafe { text(reason) };
    let code = Code::try_from(code).unwrap_or(Code::RD_KAFKA_RESP_ERR__FAIL);
    if let Ok(mut last) = context.last_error.lock() {
        // That all brokers are down follows from what was said of each of them.
        if code != Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || last.is_none() {
            *last = Some(KafkaError::reported(code, message));
        }
    }
}

unsafe extern "C" fn on_statistics(
    client: *mut rd::rd_kafka_t,
    json: *mut c_char,
    json_bytes: usize,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: the opaque is the context, which lives as long as the client; the text is librdkafka's, of that size,
    // and it frees it after the zero returned here.
    unsafe {
        let context = &*opaque.cast::<Context>();
        let statistics = std::slice::from_raw_parts(json.cast::<u8>(), json_bytes);
        if bootstrap::add_if_needed(client, statistics, &context.bootstrap_servers) {
            crate::log::warning("kafka", bootstrap::ADDED);
        }
    }
    0
}

unsafe extern "C" fn on_log(
    _client: *const rd::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    message: *const c_char,
) {
    // Everything below "error" repeats what errors and readiness say.
    if level <= 3 {
        // SAFETY: librdkafka gives valid strings.
        let (facility, message) = unsafe { (text(facility), text(message)) };
        crate::log::error("librdkafka", &format!("{facility}: {message}"));
    }
}

unsafe extern "C" fn on_rebalance(
    client: *mut rd::rd_kafka_t,
    code: Code,
    partitions: *mut rd::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    // SAFETY: the opaque is the context, which lives as long as the client.
    let context = unsafe { &*opaque.cast::<Context>() };
    let (Some(client), Some(list)) = (NonNull::new(client), NonNull::new(partitions)) else { return };
    // Borrowed for the duration of the callback; neither is destroyed here.
    let client = std::mem::ManuallyDrop::new(Client { handle: client, context: None });
    let partitions = std::mem::ManuallyDrop::new(Partitions { list });
    let Ok(mut handler) = context.rebalance.lock() else { return };
    let Some(handler) = handler.as_mut() else { return };
    match code {
        Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => handler.assigned(&client, &partitions),
        _ => {
            // SAFETY: a valid client.
            let lost = unsafe { rd::rd_kafka_assignment_lost(client.handle.as_ptr()) } == 1;
            handler.revoked(&client, &partitions, lost);
            let _ = client.incremental_unassign(&partitions);
        }
    }
}

/// A list of partitions with offsets.
pub struct Partitions {
    list: NonNull<rd::rd_kafka_topic_partition_list_t>,
}

// SAFETY: a plain list that librdkafka ties to no thread.
unsafe impl Send for Partitions {}
// SAFETY: who shares it only reads it.
unsafe impl Sync for Partitions {}

impl Default for Partitions {
    fn default() -> Partitions {
        // SAFETY: never null: librdkafka aborts if memory runs out.
        let list = unsafe { rd::rd_kafka_topic_partition_list_new(16) };
        Partitions { list: NonNull::new(list).expect("librdkafka allocates or aborts") }
    }
}

/// One entry of [`Partitions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Number of the partition.
    pub partition: i32,
    /// Offset, or one of librdkafka's negative marks.
    pub offset: i64,
    /// Error of this partition alone.
    pub error: Code,
}

impl Partitions {
    /// Adds a partition with an offset.
    pub fn add(&mut self, topic: &CStr, partition: i32, offset: i64) {
        // SAFETY: a valid list and string; the new entry is valid until the list changes.
        unsafe {
            let entry = rd::rd_kafka_topic_partition_list_add(self.list.as_ptr(), topic.as_ptr(), partition);
            (*entry).offset = offset;
        }
    }

    /// The entries.
    pub fn entries(&self) -> Vec<Entry> {
        // SAFETY: librdkafka keeps `cnt` valid elements.
        let elements = unsafe {
            let list = self.list.as_ref();
            if list.cnt == 0 { &[] } else { std::slice::from_raw_parts(list.elems, list.cnt as usize) }
        };
        elements
            .iter()
            .map(|entry| Entry { partition: entry.partition, offset: entry.offset, error: entry.err })
            .collect()
    }
}

impl Drop for Partitions {
    fn drop(&mut self) {
        // SAFETY: owned by this value.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.list.as_ptr()) }
    }
}

/// A message, or an event of a partition, taken from a queue.
pub struct Message {
    message: NonNull<rd::rd_kafka_message_t>,
}

impl Message {
    fn raw(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: owned by this value and not destroyed yet.
        unsafe { self.message.as_ref() }
    }

    /// The error that this stands for, or none for a message.
    pub fn error(&self) -> Option<Code> {
        (self.raw().err != Code::RD_KAFKA_RESP_ERR_NO_ERROR).then_some(self.raw().err)
    }

    /// Number of the partition.
    pub fn partition(&self) -> i32 {
        self.raw().partition
    }

    /// Offset of the message, or of the partition's end.
    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Value; `None` for a tombstone.
    pub fn payload(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: librdkafka keeps `len` bytes valid as long as the message.
        (!raw.payload.is_null())
            .then(|| unsafe { std::slice::from_raw_parts(raw.payload.cast::<u8>(), raw.len) })
    }

    /// Key.
    pub fn key(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: as for the payload.
        (!raw.key.is_null()).then(|| unsafe { std::slice::from_raw_parts(raw.key.cast::<u8>(), raw.key_len) })
    }

    /// Text of the error.
    pub fn error_text(&self) -> String {
        // SAFETY: a valid message.
        unsafe { text(rd::rd_kafka_message_errstr(self.message.as_ptr())) }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: owned by this value.
        unsafe { rd::rd_kafka_message_destroy(self.message.as_ptr()) }
    }
}

/// A queue that messages or answers arrive in. It must not outlive its client.
pub struct Queue {
    queue: NonNull<rd::rd_kafka_queue_t>,
}

// SAFETY: librdkafka's queues are thread-safe.
unsafe impl Send for Queue {}

impl Queue {
    /// Takes up to `most` messages, waiting for the first at most `timeout`. Callbacks of the queue run in here.
    ///
    /// One call a message: `rd_kafka_consume_batch_queue` (librdkafka 2.12) takes the offset of an
    /// end-of-partition event for that of a message and skips the event's offset when the partition is
    /// paused, as each rebalance does. That loses the next message.
    pub fn take(&self, timeout: Duration, most: usize, into: &mut Vec<Message>) {
        let mut wait = milliseconds(timeout);
        for _ in 0..most.max(1) {
            // SAFETY: a valid queue; the message is taken over.
            let message = unsafe { rd::rd_kafka_consume_queue(self.queue.as_ptr(), wait) };
            let Some(message) = NonNull::new(message) else { return };
            into.push(Message { message });
            wait = 0;
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: owned by this value.
        unsafe { rd::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// A topic to produce to. It must not outlive its client.
pub struct Topic {
    topic: NonNull<rd::rd_kafka_topic_t>,
}

// SAFETY: librdkafka's topic handles are thread-safe.
unsafe impl Send for Topic {}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: owned by this value.
        unsafe { rd::rd_kafka_topic_destroy(self.topic.as_ptr()) }
    }
}

/// The consumer group's generation and member, for a transaction.
pub struct GroupMetadata {
    metadata: NonNull<rd::rd_kafka_consumer_group_metadata_t>,
}

// SAFETY: a plain value that librdkafka ties to no thread.
unsafe impl Send for GroupMetadata {}
// SAFETY: it never changes.
unsafe impl Sync for GroupMetadata {}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: owned by this value.
        unsafe { rd::rd_kafka_consumer_group_metadata_destroy(self.metadata.as_ptr()) }
    }
}

/// Settings of a client by librdkafka's names.
pub type Properties = BTreeMap<String, String>;

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first that is kept.
    Earliest,
    /// The end, open transactions included.
    HighWatermark,
    /// The end of what is committed: where a read_committed reader has to stop.
    LastStable,
}

/// A consumer or producer.
pub struct Client {
    handle: NonNull<rd::rd_kafka_t>,
    context: Option<Box<Context>>,
}

// SAFETY: librdkafka's handles are thread-safe, and so is the context.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// A consumer. With `rebalance` it may subscribe as a member of its group.
    pub fn consumer(
        properties: &Properties,
        rebalance: Option<Box<dyn Rebalance>>,
    ) -> Result<Client, KafkaError> {
        Client::new(rd::rd_kafka_type_t::RD_KAFKA_CONSUMER, properties, rebalance)
    }

    /// A producer.
    pub fn producer(properties: &Properties) -> Result<Client, KafkaError> {
        Client::new(rd::rd_kafka_type_t::RD_KAFKA_PRODUCER, properties, None)
    }

    fn new(
        kind: rd::rd_kafka_type_t,
        properties: &Properties,
        rebalance: Option<Box<dyn Rebalance>>,
    ) -> Result<Client, KafkaError> {
        crate::log::hide(properties);
        let member = rebalance.is_some();
        let bootstrap_servers = properties.get("bootstrap.servers").map_or("", String::as_str);
        let context = Box::new(Context {
            bootstrap_servers: c_string(bootstrap_servers)?,
            rebalance: Mutex::new(rebalance),
            ..Context::default()
        });
        let mut message = [0 as c_char; TEXT_BYTES];
        // SAFETY: the configuration is destroyed on failure and taken over by the client on success; the
        // callbacks' opaque is the boxed context, which is dropped after the client.
        unsafe {
            let configuration = rd::rd_kafka_conf_new();
            for (name, value) in properties {
                let (name_c, value_c) = match (c_string(name), c_string(value)) {
                    (Ok(name), Ok(value)) => (name, value),
                    _ => {
                        rd::rd_kafka_conf_destroy(configuration);
                        return Err(KafkaError::other(format!("property {name:?} contains a zero byte")));
                    }
                };
                let set = rd::rd_kafka_conf_set(
                    configuration,
                    name_c.as_ptr(),
                    value_c.as_ptr(),
                    message.as_mut_ptr(),
                    TEXT_BYTES,
                );
                if set != rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                    rd::rd_kafka_conf_destroy(configuration);
                    return Err(KafkaError::other(format!("property {name}: {}", text(message.as_ptr()))));
                }
            }
            rd::rd_kafka_conf_set_opaque(configuration, (&raw const *context).cast_mut().cast());
            rd::rd_kafka_conf_set_error_cb(configuration, Some(on_error));
            rd::rd_kafka_conf_set_log_cb(configuration, Some(on_log));
            rd::rd_kafka_conf_set_stats_cb(configuration, Some(on_statistics));
            if member {
                rd::rd_kafka_conf_set_rebalance_cb(configuration, Some(on_rebalance));
            }
            let handle = rd::rd_kafka_new(kind, configuration, message.as_mut_ptr(), TEXT_BYTES);
            match NonNull::new(handle) {
                Some(handle) => Ok(Client { handle, context: Some(context) }),
                None => {
                    rd::rd_kafka_conf_destroy(configuration);
                    Err(KafkaError::other(text(message.as_ptr())))
                }
            }
        }
    }

    fn raw(&self) -> *mut rd::rd_kafka_t {
        self.handle.as_ptr()
    }

    /// The latest error that the client reported by itself, such as a broken connection. Taken once.
    pub fn take_last_error(&self) -> Option<KafkaError> {
        self.context.as_ref()?.last_error.lock().ok()?.take()
    }

    /// The client's own report in place of an error that says no more than that nobody answered. Runs callbacks;
    /// not for a member of a group, whose callbacks are the consumer queue's.
    pub fn explain(&self, error: KafkaError) -> KafkaError {
        if !error.is_unanswered() {
            return error;
        }
        self.take_reports(Duration::ZERO);
        let reported = self.context.as_ref().and_then(|context| context.last_error.lock().ok()?.clone());
        reported.unwrap_or(error)
    }

    /// Runs callbacks that are in the main queue or come to it in that time.
    pub fn take_reports(&self, wait: Duration) {
        // SAFETY: a valid client.
        unsafe { rd::rd_kafka_poll(self.raw(), milliseconds(wait)) };
    }

    /// The error that made the client unusable, if there is one.
    pub fn fatal_error(&self) -> Option<KafkaError> {
        let mut message = [0 as c_char; TEXT_BYTES];
        // SAFETY: the buffer has the given size.
        let code = unsafe { rd::rd_kafka_fatal_error(self.raw(), message.as_mut_ptr(), TEXT_BYTES) };
        (code != Code::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| {
            // SAFETY: librdkafka wrote a string.
            let message = unsafe { text(message.as_ptr()) };
            KafkaError { code, message, fatal: true, retriable: false, abortable: false }
        })
    }

    // --- queues ---

    /// Sends the main queue's events to the consumer queue, as a group member must.
    pub fn forward_main_to_consumer(&self) -> Result<(), KafkaError> {
        // SAFETY: a valid client.
        KafkaError::check_code(unsafe { rd::rd_kafka_poll_set_consumer(self.raw()) })
    }

    /// The queue of rebalances and errors.
    pub fn consumer_queue(&self) -> Result<Queue, KafkaError> {
        // SAFETY: a valid client.
        let queue = unsafe { rd::rd_kafka_queue_get_consumer(self.raw()) };
        NonNull::new(queue)
            .map(|queue| Queue { queue })
            .ok_or_else(|| KafkaError::other("the client is no consumer".to_owned()))
    }

    /// A new queue.
    pub fn new_queue(&self) -> Queue {
        // SAFETY: a valid client.
        let queue = unsafe { rd::rd_kafka_queue_new(self.raw()) };
        Queue { queue: NonNull::new(queue).expect("librdkafka allocates or aborts") }
    }

    /// Sends a partition's messages to `queue` instead of the consumer queue. Lasts until the partition is unassigned.
    pub fn forward_partition(&self, topic: &CStr, partition: i32, queue: &Queue) {
        // SAFETY: valid client, string and queue; the reference got here is given back.
        unsafe {
            let source = rd::rd_kafka_queue_get_partition(self.raw(), topic.as_ptr(), partition);
            if !source.is_null() {
                rd::rd_kafka_queue_forward(source, queue.queue.as_ptr());
                rd::rd_kafka_queue_destroy(source);
            }
        }
    }

    // --- consuming ---

    /// Joins the group for a topic.
    pub fn subscribe(&self, topic: &CStr) -> Result<(), KafkaError> {
        let mut partitions = Partitions::default();
        partitions.add(topic, -1, 0);
        // SAFETY: valid client and list.
        KafkaError::check_code(unsafe { rd::rd_kafka_subscribe(self.raw(), partitions.list.as_ptr()) })
    }

    /// Leaves the group; rebalance callbacks run in here.
    pub fn close(&self) -> Result<(), KafkaError> {
        // SAFETY: a valid consumer.
        KafkaError::check_code(unsafe { rd::rd_kafka_consumer_close(self.raw()) })
    }

    /// Consumes exactly these partitions from the given offsets, without a group.
    pub fn assign(&self, partitions: &Partitions) -> Result<(), KafkaError> {
        // SAFETY: valid client and list.
        KafkaError::check_code(unsafe { rd::rd_kafka_assign(self.raw(), partitions.list.as_ptr()) })
    }

    /// Takes partitions that the group assigned.
    pub fn incremental_assign(&self, partitions: &Partitions) -> Result<(), KafkaError> {
        // SAFETY: valid client and list; the error object is taken over.
        unsafe { KafkaError::check(rd::rd_kafka_incremental_assign(self.raw(), partitions.list.as_ptr())) }
    }

    fn incremental_unassign(&self, partitions: &Partitions) -> Result<(), KafkaError> {
        // SAFETY: valid client and list; the error object is taken over.
        unsafe { KafkaError::check(rd::rd_kafka_incremental_unassign(self.raw(), partitions.list.as_ptr())) }
    }

    /// Stops fetching; what was fetched and not taken is thrown away.
    pub fn pause(&self, partitions: &Partitions) -> Result<(), KafkaError> {
        // SAFETY: valid client and list.
        KafkaError::check_code(unsafe { rd::rd_kafka_pause_partitions(self.raw(), partitions.list.as_ptr()) })
    }

    /// Goes on fetching.
    pub fn resume(&self, partitions: &Partitions) -> Result<(), KafkaError> {
        // SAFETY: valid client and list.
        KafkaError::check_code(unsafe {
            rd::rd_kafka_resume_partitions(self.raw(), partitions.list.as_ptr())
        })
    }

    /// Moves partitions to their offsets in the list. Each entry has an error of its own afterwards.
    pub fn seek(&self, partitions: &Partitions, timeout: Duration) -> Result<(), KafkaError> {
        // SAFETY: valid client and list; the error object is taken over.
        unsafe {
            let list = partitions.list.as_ptr();
            KafkaError::check(rd::rd_kafka_seek_partitions(self.raw(), list, milliseconds(timeout)))
        }
    }

    /// Asks for the group's committed offsets. Offsets in an open transaction are an error: ask again.
    pub fn committed(&self, partitions: &Partitions, timeout: Duration) -> Result<(), KafkaError> {
        // SAFETY: valid client and list.
        KafkaError::check_code(unsafe {
            rd::rd_kafka_committed(self.raw(), partitions.list.as_ptr(), milliseconds(timeout))
        })
    }

    /// The group's generation and member as of now.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        // SAFETY: a valid consumer.
        let metadata = unsafe { rd::rd_kafka_consumer_group_metadata(self.raw()) };
        NonNull::new(metadata).map(|metadata| GroupMetadata { metadata })
    }

    // --- producing ---

    /// A handle for producing to a topic.
    pub fn topic(&self, name: &str) -> Result<Topic, KafkaError> {
        let name = c_string(name)?;
        // SAFETY: valid client and string.
        let topic = unsafe { rd::rd_kafka_topic_new(self.raw(), name.as_ptr(), ptr::null_mut()) };
        NonNull::new(topic)
            .map(|topic| Topic { topic })
            // SAFETY: no argument.
            .ok_or_else(|| KafkaError::from_code(unsafe { rd::rd_kafka_last_error() }))
    }

    /// Queues a record; its bytes are copied. Partition −1 leaves the choice to the partitioner.
    ///
    /// Without a payload it is a tombstone: compaction removes the key.
    pub fn produce(
        &self,
        topic: &Topic,
        partition: i32,
        key: &[u8],
        payload: Option<&[u8]>,
    ) -> Result<(), KafkaError> {
        let (start, length) = payload.map_or((ptr::null(), 0), |payload| (payload.as_ptr(), payload.len()));
        // SAFETY: valid topic; the bytes are copied before the call returns; a null payload has length 0.
        let outcome = unsafe {
            rd::rd_kafka_produce(
                topic.topic.as_ptr(),
                partition,
                rd::RD_KAFKA_MSG_F_COPY,
                start.cast_mut().cast(),
                length,
                key.as_ptr().cast(),
                key.len(),
                ptr::null_mut(),
            )
        };
        if outcome == 0 {
            return Ok(());
        }
        // SAFETY: no argument.
        Err(KafkaError::from_code(unsafe { rd::rd_kafka_last_error() }))
    }

    /// Queues a record with headers; everything is copied.
    pub fn produce_with_headers(
        &self,
        topic: &Topic,
        partition: i32,
        headers: &[(&CStr, &[u8])],
        payload: &[u8],
    ) -> Result<(), KafkaError> {
        use rd::rd_kafka_vtype_t as Part;
        // SAFETY: all pointers are valid for the call and copied in it; the headers are taken over on success.
        unsafe {
            let list = rd::rd_kafka_headers_new(headers.len());
            for (name, value) in headers {
                rd::rd_kafka_header_add(list, name.as_ptr(), -1, value.as_ptr().cast(), value.len() as isize);
            }
            let code = rd::rd_kafka_producev(
                self.raw(),
                Part::RD_KAFKA_VTYPE_RKT,
                topic.topic.as_ptr(),
                Part::RD_KAFKA_VTYPE_PARTITION,
                partition,
                Part::RD_KAFKA_VTYPE_MSGFLAGS,
                rd::RD_KAFKA_MSG_F_COPY,
                Part::RD_KAFKA_VTYPE_VALUE,
                payload.as_ptr(),
                payload.len(),
                Part::RD_KAFKA_VTYPE_HEADERS,
                list,
                Part::RD_KAFKA_VTYPE_END,
            );
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                rd::rd_kafka_headers_destroy(list);
            }
            KafkaError::check_code(code)
        }
    }

    /// Makes the producer ready for transactions, fencing off its predecessors.
    pub fn init_transactions(&self, timeout: Duration) -> Result<(), KafkaError> {
        // SAFETY: valid client; the error object is taken over.
        unsafe { KafkaError::check(rd::rd_kafka_init_transactions(self.raw(), milliseconds(timeout))) }
    }

    /// Begins a transaction.
    pub fn begin_transaction(&self) -> Result<(), KafkaError> {
        // SAFETY: valid client; the error object is taken over.
        unsafe { KafkaError::check(rd::rd_kafka_begin_transaction(self.raw())) }
    }

    /// Adds consumed offsets to the transaction, as the given member of the group. It may never return (see
    /// `attendants`).
    pub fn send_offsets(
        &self,
        offsets: &Partitions,
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        // SAFETY: valid client, list and metadata; the error object is taken over.
        unsafe {
            KafkaError::check(rd::rd_kafka_send_offsets_to_transaction(
                self.raw(),
                offsets.list.as_ptr(),
                group.metadata.as_ptr(),
                milliseconds(timeout),
            ))
        }
    }

    /// Commits the transaction; a retriable error means: call again.
    pub fn commit_transaction(&self, timeout: Duration) -> Result<(), KafkaError> {
        // SAFETY: valid client; the error object is taken over.
        unsafe { KafkaError::check(rd::rd_kafka_commit_transaction(self.raw(), milliseconds(timeout))) }
    }

    /// Aborts the transaction; a retriable error means: call again.
    pub fn abort_transaction(&self, timeout: Duration) -> Result<(), KafkaError> {
        // SAFETY: valid client; the error object is taken over.
        unsafe { KafkaError::check(rd::rd_kafka_abort_transaction(self.raw(), milliseconds(timeout))) }
    }

    // --- asking ---

    /// Number of partitions of a topic; `None` if it doesn't exist.
    pub fn partition_count(&self, topic: &Topic, timeout: Duration) -> Result<Option<usize>, KafkaError> {
        let mut metadata = ptr::null();
        // SAFETY: valid client and topic; the metadata is destroyed below.
        unsafe {
            KafkaError::check_code(rd::rd_kafka_metadata(
                self.raw(),
                0,
                topic.topic.as_ptr(),
                &raw mut metadata,
                milliseconds(timeout),
            ))?;
            let found = &*metadata;
            let topics = if found.topic_cnt > 0 { std::slice::from_raw_parts(found.topics, 1) } else { &[] };
            let answer = match topics.first() {
                None => Ok(None),
                Some(topic) => match topic.err {
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(Some(topic.partition_cnt as usize)),
                    Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                    | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
                    | Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE => Ok(None),
                    other => Err(KafkaError::from_code(other)),
                },
            };
            rd::rd_kafka_metadata_destroy(metadata);
            answer
        }
    }

    /// Creates a topic with the brokers' replication factor. That it exists already is no error.
    pub fn create_topic(
        &self,
        topic: &str,
        partitions: usize,
        settings: &[(&CStr, &CStr)],
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let name = c_string(topic)?;
        let mut message = [0 as c_char; TEXT_BYTES];
        // SAFETY: every object made here is destroyed here; the results borrow from the event.
        unsafe {
            let new_topic = rd::rd_kafka_NewTopic_new(
                name.as_ptr(),
                partitions as c_int,
                -1,
                message.as_mut_ptr(),
                TEXT_BYTES,
            );
            if new_topic.is_null() {
                return Err(KafkaError::other(text(message.as_ptr())));
            }
            for (key, value) in settings {
                rd::rd_kafka_NewTopic_set_config(new_topic, key.as_ptr(), value.as_ptr());
            }
            let options =
                self.admin_options(rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout);
            let queue = self.new_queue();
            let mut topics = [new_topic];
            rd::rd_kafka_CreateTopics(self.raw(), topics.as_mut_ptr(), 1, options, queue.queue.as_ptr());
            rd::rd_kafka_NewTopic_destroy(new_topic);
            rd::rd_kafka_AdminOptions_destroy(options);
            let event = wait_for_answer(&queue, timeout)?;
            let mut count = 0;
            let result = rd::rd_kafka_event_CreateTopics_result(event.0);
            let results = rd::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
            let outcome = if count == 1 {
                match rd::rd_kafka_topic_result_error(*results) {
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR | Code::RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS => Ok(()),
                    code => Err(KafkaError {
                        message: text(rd::rd_kafka_topic_result_error_string(*results)),
                        ..KafkaError::from_code(code)
                    }),
                }
            } else {
                Err(KafkaError::other("the broker did not answer for the topic".to_owned()))
            };
            drop(event);
            outcome
        }
    }

    /// Asks the brokers for offsets of partitions. Entries that failed carry their error.
    pub fn list_offsets(
        &self,
        topic: &CStr,
        partitions: &[i32],
        spec: OffsetSpec,
        timeout: Duration,
    ) -> Result<Vec<Entry>, KafkaError> {
        let entries = self.ask_offsets(topic, partitions, spec, timeout)?;
        if !entries.iter().any(|entry| is_stale_leader(entry.error)) {
            return Ok(entries);
        }
        // A leader that restarted or moved is asked by what is cached of it until the next refresh, unless
        // the topic is looked up anew.
        let name = topic.to_str().map_err(|error| KafkaError::other(error.to_string()))?;
        self.partition_count(&self.topic(name)?, timeout)?;
        self.ask_offsets(topic, partitions, spec, timeout)
    }

    fn ask_offsets(
        &self,
        topic: &CStr,
        partitions: &[i32],
        spec: OffsetSpec,
        timeout: Duration,
    ) -> Result<Vec<Entry>, KafkaError> {
        use rd::rd_kafka_IsolationLevel_t as Isolation;
        use rd::rd_kafka_OffsetSpec_t as Spec;
        let asked = match spec {
            OffsetSpec::Earliest => Spec::RD_KAFKA_OFFSET_SPEC_EARLIEST,
            OffsetSpec::HighWatermark | OffsetSpec::LastStable => Spec::RD_KAFKA_OFFSET_SPEC_LATEST,
        };
        let isolation = match spec {
            OffsetSpec::LastStable => Isolation::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
            _ => Isolation::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
        };
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = Partitions::default();
        for partition in partitions {
            list.add(topic, *partition, asked as i64);
        }
        // SAFETY: every object made here is destroyed here; the results borrow from the event.
        unsafe {
            let options = self.admin_options(rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout);
            let refused = rd::rd_kafka_AdminOptions_set_isolation_level(options, isolation);
            if let Err(error) = KafkaError::check(refused) {
                rd::rd_kafka_AdminOptions_destroy(options);
                return Err(error);
            }
            let queue = self.new_queue();
            rd::rd_kafka_ListOffsets(self.raw(), list.list.as_ptr(), options, queue.queue.as_ptr());
            rd::rd_kafka_AdminOptions_destroy(options);
            let event = wait_for_answer(&queue, timeout)?;
            let mut count = 0;
            let result = rd::rd_kafka_event_ListOffsets_result(event.0);
            let results = rd::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            let entries = (0..count)
                .map(|index| {
                    let entry = &*rd::rd_kafka_ListOffsetsResultInfo_topic_partition(*results.add(index));
                    Entry { partition: entry.partition, offset: entry.offset, error: entry.err }
                })
                .collect();
            drop(event);
            Ok(entries)
        }
    }

    fn admin_options(
        &self,
        operation: rd::rd_kafka_admin_op_t,
        timeout: Duration,
    ) -> *mut rd::rd_kafka_AdminOptions_t {
        // SAFETY: a valid client; a timeout that is out of range leaves the default in force.
        unsafe {
            let options = rd::rd_kafka_AdminOptions_new(self.raw(), operation);
            rd::rd_kafka_AdminOptions_set_request_timeout(options, milliseconds(timeout), ptr::null_mut(), 0);
            options
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: owned by this value; a borrowed client is never dropped (see `on_rebalance`).
        unsafe { rd::rd_kafka_destroy(self.raw()) }
    }
}

/// An answer of an administrative call.
struct Answer(*mut rd::rd_kafka_event_t);

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: owned by this value, not null.
        unsafe { rd::rd_kafka_event_destroy(self.0) }
    }
}

/// Errors that say that what is known of a partition's leader is out of date.
fn is_stale_leader(error: Code) -> bool {
    matches!(
        error,
        Code::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH
            | Code::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH
            | Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION
            | Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
    )
}

/// Waits for an answer. librdkafka gives one within the request's timeout; the wait is longer to hear it say so.
fn wait_for_answer(queue: &Queue, timeout: Duration) -> Result<Answer, KafkaError> {
    let wait = milliseconds(timeout + Duration::from_secs(1));
    // SAFETY: a valid queue; a null event is handled.
    unsafe {
        let event = rd::rd_kafka_queue_poll(queue.queue.as_ptr(), wait);
        if event.is_null() {
            return Err(KafkaError::from_code(Code::RD_KAFKA_RESP_ERR__TIMED_OUT));
        }
        let answer = Answer(event);
        match rd::rd_kafka_event_error(event) {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(answer),
            code => Err(KafkaError {
                message: text(rd::rd_kafka_event_error_string(event)),
                ..KafkaError::from_code(code)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(code: Code, message: &str) -> Code {
        KafkaError::reported(code, format!("ssl://127.0.0.1:9094/bootstrap: {message}")).code
    }

    #[test]
    fn a_handshake_that_fails_at_once_is_no_broken_connection() {
        let refused =
            "error:0A000086:SSL routines::certificate verify failed (after 4ms in state SSL_HANDSHAKE)";
        assert_eq!(reported(Code::RD_KAFKA_RESP_ERR__TRANSPORT, refused), Code::RD_KAFKA_RESP_ERR__SSL);
        assert_eq!(reported(Code::RD_KAFKA_RESP_ERR__SSL, refused), Code::RD_KAFKA_RESP_ERR__SSL);
        for broken in [
            "Disconnected: connection reset by peer (after 4ms in state SSL_HANDSHAKE)",
            "error:0A000119:SSL routines::bad record mac (after 60000ms in state UP)",
        ] {
            let code = Code::RD_KAFKA_RESP_ERR__TRANSPORT;
            assert_eq!(reported(code, broken), code, "{broken}");
        }
    }
}
