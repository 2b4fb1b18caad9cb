//! What the native programs of the benchmarks share.
//!
//! Owns the form of their results: one JSON document on standard output, with the build's profile in it, so that a
//! debug build is never taken for a measurement; histograms as pairs of value and count.

pub mod arguments;
pub mod histogram;
pub mod payloads;
pub mod round_trip;
pub mod schedule;
pub mod threads;

use serde_json::{Map, Value};

/// `release` or `dev`.
pub const PROFILE: &str = if cfg!(debug_assertions) { "dev" } else { "release" };

/// Prints a program's result, the profile added.
pub fn report(fields: Value) {
    let mut document = Map::new();
    document.insert("profile".to_owned(), PROFILE.into());
    if let Value::Object(fields) = fields {
        document.extend(fields);
    }
    println!("{}", Value::Object(document));
}

/// Ends the program with a message that says what to do.
pub fn refuse(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(2);
}
