//! The threads around the core: sources, the pinned core thread, publishing, sampling.
//!
//! Owns everything that waits, opens or reads a clock. Knows nothing of Python and
//! nothing of Kubernetes.

mod affinity;
mod alerts;
mod allocation;
pub mod audit;
mod clock;
pub mod config;
mod core_thread;
mod direct;
mod engine;
mod executors;
mod growth;
mod heap_profile;
mod idling;
pub mod in_process;
pub mod kafka;
pub mod load;
pub mod log;
mod machine;
mod metrics;
mod shared;
mod snapshot;
mod system;
pub mod tcp;
mod wake;
mod window;

pub use engine::{Engine, Observer};

// jemalloc holds the memory of the native half, so that what each thread allocates can be counted.
#[global_allocator]
static ALLOCATOR: allocation::CountingAllocator = allocation::CountingAllocator;

/// Version of the engine.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `release` or `dev`.
pub const BUILD_PROFILE: &str = if cfg!(debug_assertions) { "dev" } else { "release" };

/// Hash of the sources that this module was built from, given by the build.
pub const SOURCE_HASH: &str = match option_env!("EVENTENGINE_SOURCE_HASH") {
    Some(hash) => hash,
    None => "unknown",
};

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A key of the configuration can't be used.
    Configuration {
        /// Path of the key.
        path: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// The engine can't do what was asked.
    Engine(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Configuration { path, message } if path.is_empty() => formatter.write_str(message),
            Error::Configuration { path, message } => write!(formatter, "{path}: {message}"),
            Error::Engine(message) => formatter.write_str(message),
        }
    }
}

impl std::error::Error for Error {}
