//! Events that are alike, one after the other: read as serde_json does, by walks that guess what comes.

#![no_main]

#[path = "../../crates/eventengine-core/tests/differential/mod.rs"]
mod differential;
#[path = "../../crates/eventengine-core/tests/layouts/mod.rs"]
mod layouts;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| layouts::judge(&mut differential::parsers(), input));
