//! Payloads as trees: accepted and refused as serde_json does, with the same values.

#![no_main]

#[path = "../../crates/eventengine-core/tests/trees/mod.rs"]
mod trees;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| trees::agree(payload));
