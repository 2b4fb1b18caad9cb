//! The state-machine core: buffer pool, rings, parser, arena, programs, changelog.
//!
//! Owns everything that is deterministic. It opens no file and no socket, reads no
//! clock and starts no thread: time comes in as an argument. After its warm-up it
//! allocates nothing.

pub mod arena;
pub mod changelog;
pub mod core;
pub mod cut;
pub mod executor;
pub mod graph;
pub mod histogram;
pub mod identifiers;
pub mod parse;
pub mod pool;
mod prefetch;
pub mod program;
pub mod region;
pub mod ring;
pub mod shedding;
pub mod stats;
mod sync;
pub mod watch;
