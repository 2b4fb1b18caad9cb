//! Payload files: one JSON document a line, read whole before anything is measured.

use std::path::Path;

use crate::refuse;

/// The payloads of a file, one after the other in one piece of memory.
#[derive(Debug)]
pub struct Payloads {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Payloads {
    /// Reads a file; ends the program if it can't be read or is empty.
    pub fn read(path: &str) -> Payloads {
        let text = std::fs::read(Path::new(path)).unwrap_or_else(|error| refuse(&format!("{path}: {error}")));
        let mut bytes = Vec::with_capacity(text.len());
        let mut ends = Vec::new();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            bytes.extend_from_slice(line);
            ends.push(bytes.len());
        }
        if ends.is_empty() {
            refuse(&format!("{path}: no payloads in it"));
        }
        Payloads { bytes, ends }
    }

    /// How many there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a file without payloads is refused when it is read")]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The payload at a place.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Bytes of all of them together.
    pub fn total_bytes(&self) -> usize {
        self.bytes.len()
    }
}
