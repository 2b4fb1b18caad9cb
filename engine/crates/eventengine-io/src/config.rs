//! The normalised configuration and the identity, as the Python face hands them over.
//!
//! Owns their JSON form and the checks that only the native half can make. Defaults
//! and user-facing checks live in the contract; unknown sections are ignored here
//! because the contract has refused unknown keys before.

use eventengine_core::arena::Quota;
use eventengine_core::program::treasure_hunt::{CLUES_MAX, PUZZLES_MAX};
use serde::Deserialize;

use crate::Error;

/// Sources of one engine.
pub use eventengine_core::parse::SOURCES_MAX;

/// Everything that the engine is told.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Name of the engine.
    pub name: String,
    /// What is computed.
    pub program: Program,
    /// Where events come from.
    pub sources: Vec<Source>,
    /// Where outputs go.
    pub sinks: Vec<Sink>,
    /// Where state is kept.
    pub changelog: Changelog,
    /// Where refused events go.
    pub dead_letter: DeadLetter,
    /// How commits are made.
    pub transactions: Transactions,
    /// The slab of chunks.
    pub buffer_pool: BufferPool,
    /// Who parses.
    pub executor: Executor,
    /// When direct events may be refused.
    pub shedding: Shedding,
    /// Limits of one event.
    pub payload: Payload,
    /// The slots of state.
    pub arena: Arena,
    /// Limits whose crossing is reported; the contract always names them, programs that embed the core may leave them out.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// How many identifiers are told apart, and for how long.
    #[serde(default)]
    pub identifiers: Identifiers,
    /// How long a stop may take.
    pub drain_timeout_milliseconds: u64,
}

/// The built-in programs' settings.
#[derive(Debug, Clone, Deserialize)]
pub struct Program {
    /// `treasure-hunt` or `graph`.
    pub name: String,
    /// Districts of the hunt.
    pub districts: u32,
    /// Puzzles in each.
    pub puzzles_per_district: u32,
    /// Clues of each puzzle.
    pub clues_per_puzzle: u32,
    /// Declared cost of one event; zero for none.
    pub service_time_nanoseconds: u64,
    /// Size of the graph.
    pub graph: Option<Graph>,
}

/// The graph's settings.
#[derive(Debug, Clone, Deserialize)]
pub struct Graph {
    /// Vertices are numbered below this.
    pub vertices: u32,
    /// Vertices whose edges the searches of one event look at together, at most.
    pub path_vertices_max: u32,
}

/// One source.
#[derive(Debug, Clone, Deserialize)]
pub struct Source {
    /// Name in metrics.
    pub name: String,
    /// `kafka` or `tcp`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For type kafka.
    pub kafka: Option<KafkaSource>,
    /// For type tcp.
    pub tcp: Option<TcpSource>,
    /// How its payloads are read.
    #[serde(default)]
    pub payload: PayloadForm,
}

/// How a source's payloads are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadForm {
    /// By the program's schema.
    #[default]
    Schema,
    /// By way of a tree.
    Tree,
    /// By the schema where it does.
    Auto,
}

/// A topic and the group that consumes it.
#[derive(Debug, Clone, Deserialize)]
pub struct KafkaSource {
    /// Brokers to ask first.
    pub bootstrap_servers: Vec<String>,
    /// The topic.
    pub topic: String,
    /// The group.
    pub group_id: String,
    /// `earliest` or `latest`.
    pub start_from: String,
    /// Further properties of the client.
    #[serde(default)]
    pub properties: std::collections::BTreeMap<String, String>,
}

/// A listener for frames.
#[derive(Debug, Clone, Deserialize)]
pub struct TcpSource {
    /// Address and port.
    pub listen: String,
    /// File with the token that a connection must show.
    pub token_file: Option<String>,
    /// Take frames without a token.
    pub insecure: bool,
    /// Connections at the same time.
    pub max_connections: usize,
}

/// One sink.
#[derive(Debug, Clone, Deserialize)]
pub struct Sink {
    /// Name in metrics.
    pub name: String,
    /// `kafka`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For type kafka.
    pub kafka: Option<KafkaSink>,
}

/// A topic to write.
#[derive(Debug, Clone, Deserialize)]
pub struct KafkaSink {
    /// Brokers to ask first.
    pub bootstrap_servers: Vec<String>,
    /// The topic.
    pub topic: String,
    /// Further properties of the client.
    #[serde(default)]
    pub properties: std::collections::BTreeMap<String, String>,
}

/// The changelog's topic.
#[derive(Debug, Clone, Deserialize)]
pub struct Changelog {
    /// Compacted, with as many partitions as the source.
    pub topic: String,
}

/// The dead letters' topic and bound.
#[derive(Debug, Clone, Deserialize)]
pub struct DeadLetter {
    /// The topic.
    pub topic: String,
    /// Longer payloads are cut to this, and to the size of a chunk.
    pub max_payload_bytes: usize,
}

/// Commits.
#[derive(Debug, Clone, Deserialize)]
pub struct Transactions {
    /// Time between commits.
    pub commit_interval_milliseconds: u64,
    /// After this the broker ends a transaction by itself.
    pub timeout_milliseconds: u64,
}

/// The slab.
#[derive(Debug, Clone, Deserialize)]
pub struct BufferPool {
    /// Size of a chunk.
    pub chunk_bytes: usize,
    /// Number of chunks.
    pub chunks: u32,
}

/// Who parses events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Executor {
    /// The core thread alone.
    Pinned,
    /// Workers beside it.
    WorkStealing,
}

/// When direct events may be refused.
#[derive(Debug, Clone, Deserialize)]
pub struct Shedding {
    /// Utilisation of pool or ring that starts it, 0 to 1.
    pub above: f64,
    /// The first priority that is sheddable.
    pub priority_at_least: u8,
}

/// Limits of one event.
#[derive(Debug, Clone, Deserialize)]
pub struct Payload {
    /// Longest payload.
    pub max_bytes: usize,
    /// Deepest nesting.
    pub max_depth: u32,
    /// Longest array.
    pub max_array_length: u32,
    /// Longest string.
    pub max_string_bytes: usize,
}

/// The slots of state.
#[derive(Debug, Clone, Deserialize)]
pub struct Arena {
    /// Number of slots.
    pub capacity: u32,
    /// Size of a slot; 256.
    pub slot_size_bytes: usize,
    /// Whether all slots' memory is touched at start.
    pub preallocate: bool,
    /// Share of holes above which slots are moved together; never where left out.
    #[serde(default = "always_below")]
    pub fragmentation_threshold: f64,
    /// What each source may hold; others share what is left.
    #[serde(default)]
    pub tenants: Vec<Tenant>,
}

/// The table of identifiers.
#[derive(Debug, Clone, Deserialize)]
pub struct Identifiers {
    /// Identifiers at most.
    pub capacity: u32,
    /// How long one lives after it was last seen.
    pub lifetime_nanoseconds: u64,
}

impl Default for Identifiers {
    fn default() -> Self {
        Identifiers { capacity: 65_536, lifetime_nanoseconds: 300_000_000_000 }
    }
}

fn always_below() -> f64 {
    1.0
}

/// What one source's events may hold of the arena.
#[derive(Debug, Clone, Deserialize)]
pub struct Tenant {
    /// Name of the source.
    pub source: String,
    /// Slots that are its alone.
    pub reserved: u32,
    /// Slots that it may take besides; none for as many as there are.
    pub burst: Option<u32>,
}

/// Limits whose crossing is reported, and what is written for those who look for the reason.
#[derive(Debug, Clone, Deserialize)]
pub struct Monitoring {
    /// Longest stall of the core thread that is no alert.
    pub stall_alert_nanoseconds: u64,
    /// Longest rollback that is no alert.
    pub rollback_sla_nanoseconds: u64,
    /// Time over which resident memory is compared.
    pub rss_flatness_window_nanoseconds: u64,
    /// Greatest growth over that time, as a share, that is no alert.
    pub rss_growth_alert_ratio: f64,
    /// Where heap profiles are written; none are without it.
    pub heap_profile_directory: Option<String>,
    /// Time between two heap profiles.
    pub heap_profile_interval_nanoseconds: u64,
}

impl Default for Monitoring {
    /// As the contract fills them in.
    fn default() -> Monitoring {
        Monitoring {
            stall_alert_nanoseconds: 5_000_000,
            rollback_sla_nanoseconds: 200_000_000,
            rss_flatness_window_nanoseconds: 300_000_000_000,
            rss_growth_alert_ratio: 0.05,
            heap_profile_directory: None,
            heap_profile_interval_nanoseconds: 30_000_000_000,
        }
    }
}

/// Who this process is, and what it was given.
#[derive(Debug, Clone, Deserialize)]
pub struct Identity {
    /// Name of the engine.
    pub engine: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Unique to this start of the process.
    pub incarnation: String,
    /// CPU limit, in thousandths of a core.
    pub cpu_limit_millicores: Option<u64>,
    /// Memory limit.
    pub memory_limit_bytes: Option<u64>,
    /// `Required`, `Preferred` or `Off`.
    pub pinning: String,
}

fn refused(path: &str, message: impl Into<String>) -> Error {
    Error::Configuration { path: path.to_owned(), message: message.into() }
}

fn named(servers: &[String], properties: &std::collections::BTreeMap<String, String>) -> String {
    let user = properties.get("sasl.username").map_or_else(String::new, |user| format!(" as user {user}"));
    format!("Kafka at {}{user}", servers.join(","))
}

impl Config {
    /// Reads the normalised configuration and checks what the native half relies on.
    pub fn parse(json: &str) -> Result<Config, Error> {
        let config: Config = serde_json::from_str(json)
            .map_err(|error| refused("", format!("the normalised configuration is not readable: {error}")))?;
        config.check()?;
        Ok(config)
    }

    /// The Kafka source and its position among the sources.
    pub fn kafka_source(&self) -> Option<(usize, &Source, &KafkaSource)> {
        self.sources
            .iter()
            .enumerate()
            .find_map(|(index, source)| source.kafka.as_ref().map(|kafka| (index, source, kafka)))
    }

    /// The brokers that events come from, and who asks them, as reasons for not being ready name them.
    pub fn source_brokers(&self) -> String {
        self.kafka_source()
            .map_or_else(String::new, |(_, _, kafka)| named(&kafka.bootstrap_servers, &kafka.properties))
    }

    /// The same of the brokers that outputs go to.
    pub fn output_brokers(&self) -> String {
        self.kafka_sink()
            .map_or_else(|| self.source_brokers(), |sink| named(&sink.bootstrap_servers, &sink.properties))
    }

    /// The TCP sources and their positions among the sources.
    pub fn tcp_sources(&self) -> impl Iterator<Item = (usize, &Source, &TcpSource)> {
        self.sources
            .iter()
            .enumerate()
            .filter_map(|(index, source)| source.tcp.as_ref().map(|tcp| (index, source, tcp)))
    }

    /// The sink's topic, if there is one.
    pub fn kafka_sink(&self) -> Option<&KafkaSink> {
        self.sinks.iter().find_map(|sink| sink.kafka.as_ref())
    }

    /// What each source may hold, by its position; empty where no source is bounded.
    pub fn quotas(&self) -> Vec<Quota> {
        if self.arena.tenants.is_empty() {
            return Vec::new();
        }
        let quota =
            |source: &Source| match self.arena.tenants.iter().find(|tenant| tenant.source == source.name) {
                Some(tenant) => Quota { reserved: tenant.reserved, burst: tenant.burst.unwrap_or(u32::MAX) },
                None => Quota { reserved: 0, burst: u32::MAX },
            };
        self.sources.iter().map(quota).collect()
    }

    fn check(&self) -> Result<(), Error> {
        if self.arena.slot_size_bytes != eventengine_core::arena::SLOT_BYTES {
            return Err(refused("arena.slotSizeBytes", "slots have 256 bytes"));
        }
        if self.buffer_pool.chunk_bytes < 1024 || self.buffer_pool.chunks < 64 {
            return Err(refused("bufferPool", "at least 64 chunks of 1024 bytes are needed"));
        }
        if self.sources.len() > SOURCES_MAX {
            return Err(refused("sources", format!("at most {SOURCES_MAX} sources are supported")));
        }
        for (index, source) in self.sources.iter().enumerate() {
            let named = match source.kind.as_str() {
                "kafka" => source.kafka.is_some(),
                "tcp" => source.tcp.is_some(),
                _ => false,
            };
            if !named {
                let message = format!("no source of type {:?} with its section is supported", source.kind);
                return Err(refused(&format!("sources[{index}].type"), message));
            }
        }
        if self.sources.iter().filter(|source| source.kafka.is_some()).count() > 1 {
            return Err(refused("sources", "at most one source of type kafka is supported"));
        }
        let transactions = &self.transactions;
        if transactions.commit_interval_milliseconds * 2 > transactions.timeout_milliseconds {
            let message = "a transaction stays open for a commit interval: \
                           the timeout has to be at least twice as long";
            return Err(refused("transactions.timeout", message));
        }
        self.check_program()?;
        if let (Some((_, _, source)), Some(sink)) = (self.kafka_source(), self.kafka_sink())
            && source.bootstrap_servers != sink.bootstrap_servers
        {
            let message = "outputs commit with the source's offsets in one transaction: \
                           source and sink need the same bootstrapServers";
            return Err(refused("sinks[0].kafka.bootstrapServers", message));
        }
        Ok(())
    }
}

impl Config {
    fn check_program(&self) -> Result<(), Error> {
        let program = &self.program;
        match (program.name.as_str(), &program.graph) {
            ("treasure-hunt", _) | ("graph", Some(_)) => {}
            ("graph", None) => return Err(refused("program.graph", "the graph needs its size")),
            _ => return Err(refused("program.name", "the built-in programs are treasure-hunt and graph")),
        }
        if program.puzzles_per_district > PUZZLES_MAX {
            return Err(refused("program.puzzlesPerDistrict", format!("at most {PUZZLES_MAX} fit a slot")));
        }
        if program.clues_per_puzzle > CLUES_MAX {
            return Err(refused("program.cluesPerPuzzle", format!("at most {CLUES_MAX} fit a slot")));
        }
        Ok(())
    }
}

impl Identity {
    /// Reads the identity.
    pub fn parse(json: &str) -> Result<Identity, Error> {
        let identity: Identity = serde_json::from_str(json)
            .map_err(|error| refused("identity", format!("the identity is not readable: {error}")))?;
        if !matches!(identity.pinning.as_str(), "Required" | "Preferred" | "Off") {
            return Err(refused("pinning", "pinning is Required, Preferred or Off"));
        }
        Ok(identity)
    }
}
