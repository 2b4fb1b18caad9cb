//! Payloads by a schema: accepted and refused as serde_json does, with the same values, on all levels and in any order.
//!
//! An input is one payload or several, divided by a byte that is in no UTF-8: what came before trains the prediction.

#![no_main]

#[path = "../../crates/eventengine-core/tests/differential/mod.rs"]
mod differential;

use libfuzzer_sys::fuzz_target;

const DIVIDER: u8 = 0xFE;

/// Payloads of one input that are looked at: more teach the prediction nothing new.
const PAYLOADS_MAX: usize = 8;

fuzz_target!(|input: &[u8]| {
    let payloads = || input.split(|byte| *byte == DIVIDER).take(PAYLOADS_MAX);
    payloads().for_each(differential::agree);
    differential::same_on_all_levels(&mut differential::parsers(), payloads());
});
