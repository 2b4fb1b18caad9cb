//! Kafka: the client, and the parts of an engine that talk to it.
//!
//! Owns everything that knows librdkafka. [`client`] is a thin safe layer over it; the
//! other modules hold one role each. Every call that waits has a timeout, every retry
//! a growing pause with a bound.

mod attendants;
pub mod bootstrap;
pub mod client;
pub mod lag;
pub mod publisher;
mod refusals;
pub mod restore;
mod rollback;
pub mod source;
pub mod topics;
