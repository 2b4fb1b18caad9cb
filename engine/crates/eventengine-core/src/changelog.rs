//! The changelog's format: how a slot's after-image is written to its partition's topic.
//!
//! Owns key and value of a changelog record. Both begin with a format version; a reader
//! refuses a version that it doesn't know instead of guessing. All integers are little-endian.
//!
//! ```text
//! key    u8 version = 1 | u8 kind | u32 district | u32 team
//! value  u8 version = 1 | u8 0 | u16 payload length | u64 slot version | payload without trailing zeroes
//! ```
//!
//! The partition is the record's own. A record without a value frees the slot.

use crate::arena::{Key, PAYLOAD_BYTES};

/// Version that is written, and the only one that is read.
pub const FORMAT_VERSION: u8 = 1;

/// Bytes of a key.
pub const KEY_BYTES: usize = 10;

/// Bytes of a value before its payload.
const VALUE_HEADER_BYTES: usize = 12;

/// Bytes of the longest value.
pub const VALUE_BYTES_MAX: usize = VALUE_HEADER_BYTES + PAYLOAD_BYTES;

/// A record that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Written by a version that this one doesn't know.
    UnknownVersion(u8),
    /// Shorter or longer than its format says.
    WrongLength(usize),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unreadable::UnknownVersion(version) => write!(
                formatter,
                "changelog record of format {version}; this engine reads format {FORMAT_VERSION}: \
                 run the version that wrote it, or a newer one"
            ),
            Unreadable::WrongLength(length) => {
                write!(formatter, "changelog record of {length} bytes, which its format doesn't allow")
            }
        }
    }
}

/// The after-image in a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AfterImage<'a> {
    /// Version of the slot when the image was taken.
    pub slot_version: u64,
    /// The payload; what is missing at its end is zeroes.
    pub payload: &'a [u8],
}

/// Writes the key of a slot.
pub fn encode_key(key: &Key) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    bytes[0] = FORMAT_VERSION;
    bytes[1] = key.kind as u8;
    bytes[2..6].copy_from_slice(&key.district.to_le_bytes());
    bytes[6..10].copy_from_slice(&key.team.to_le_bytes());
    bytes
}

/// Reads a key of a partition's changelog.
pub fn decode_key(partition: u32, bytes: &[u8]) -> Result<Key, Unreadable> {
    check_version(bytes)?;
    let bytes: &[u8; KEY_BYTES] = bytes.try_into().map_err(|_| Unreadable::WrongLength(bytes.len()))?;
    let [_, kind, d0, d1, d2, d3, t0, t1, t2, t3] = *bytes;
    Ok(Key {
        partition,
        kind: u32::from(kind),
        district: u32::from_le_bytes([d0, d1, d2, d3]),
        team: u32::from_le_bytes([t0, t1, t2, t3]),
    })
}

/// Writes a value into `bytes`, which has [`VALUE_BYTES_MAX`], and says how long it is.
pub fn encode_value(
    slot_version: u64,
    payload: &[u8; PAYLOAD_BYTES],
    bytes: &mut [u8; VALUE_BYTES_MAX],
) -> usize {
    let length = payload.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes[0] = FORMAT_VERSION;
    bytes[1] = 0;
    bytes[2..4].copy_from_slice(&(length as u16).to_le_bytes());
    bytes[4..12].copy_from_slice(&slot_version.to_le_bytes());
    bytes[VALUE_HEADER_BYTES..VALUE_HEADER_BYTES + length].copy_from_slice(&payload[..length]);
    VALUE_HEADER_BYTES + length
}

/// Reads a value.
pub fn decode_value(bytes: &[u8]) -> Result<AfterImage<'_>, Unreadable> {
    check_version(bytes)?;
    let wrong_length = Unreadable::WrongLength(bytes.len());
    let (header, payload) = bytes.split_first_chunk::<VALUE_HEADER_BYTES>().ok_or(wrong_length)?;
    let [_, _, l0, l1, slot_version @ ..] = *header;
    if payload.len() != usize::from(u16::from_le_bytes([l0, l1])) || payload.len() > PAYLOAD_BYTES {
        return Err(wrong_length);
    }
    Ok(AfterImage { slot_version: u64::from_le_bytes(slot_version), payload })
}

fn check_version(bytes: &[u8]) -> Result<(), Unreadable> {
    match bytes.first() {
        None => Err(Unreadable::WrongLength(0)),
        Some(&FORMAT_VERSION) => Ok(()),
        Some(&other) => Err(Unreadable::UnknownVersion(other)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_unknown_version_is_refused_by_name() {
        let key = encode_key(&Key { partition: 3, kind: 1, district: 2, team: 7 });
        let mut newer = key;
        newer[0] = 2;
        assert_eq!(decode_key(3, &newer), Err(Unreadable::UnknownVersion(2)));
        assert_eq!(decode_value(&[9, 0, 0, 0]), Err(Unreadable::UnknownVersion(9)));
        let message = Unreadable::UnknownVersion(2).to_string();
        assert!(message.contains("format 2") && message.contains("reads format 1"), "{message}");
    }

    #[test]
    fn a_record_of_a_wrong_length_is_refused() {
        assert_eq!(decode_key(0, &[]), Err(Unreadable::WrongLength(0)));
        assert_eq!(decode_key(0, &[1, 2, 3]), Err(Unreadable::WrongLength(3)));
        let mut bytes = [0; VALUE_BYTES_MAX];
        let length = encode_value(5, &[7; PAYLOAD_BYTES], &mut bytes);
        assert_eq!(length, VALUE_BYTES_MAX);
        assert!(decode_value(&bytes).is_ok());
        assert_eq!(decode_value(&bytes[..40]), Err(Unreadable::WrongLength(40)));
    }

    #[test]
    fn the_bytes_of_format_one_stay_as_they_are() {
        let key = encode_key(&Key { partition: 9, kind: 2, district: 0x0102_0304, team: 0x0A0B_0C0D });
        assert_eq!(key, [1, 2, 4, 3, 2, 1, 0x0D, 0x0C, 0x0B, 0x0A]);
        let mut payload = [0; PAYLOAD_BYTES];
        payload[..3].copy_from_slice(&[5, 0, 6]);
        let mut bytes = [0; VALUE_BYTES_MAX];
        let length = encode_value(0x0708, &payload, &mut bytes);
        assert_eq!(bytes[..length], [1, 0, 3, 0, 8, 7, 0, 0, 0, 0, 0, 0, 5, 0, 6]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            kind in any::<u8>(), district in any::<u32>(), team in any::<u32>(), partition in 0..1024_u32,
            version in any::<u64>(), start in proptest::collection::vec(any::<u8>(), 0..=PAYLOAD_BYTES),
        ) {
            let key = Key { partition, kind: u32::from(kind), district, team };
            prop_assert_eq!(decode_key(partition, &encode_key(&key)), Ok(key));
            let mut payload = [0; PAYLOAD_BYTES];
            payload[..start.len()].copy_from_slice(&start);
            let mut bytes = [0; VALUE_BYTES_MAX];
            let length = encode_value(version, &payload, &mut bytes);
            let image = decode_value(&bytes[..length]).unwrap();
            prop_assert_eq!(image.slot_version, version);
            let mut read = [0; PAYLOAD_BYTES];
            read[..image.payload.len()].copy_from_slice(image.payload);
            prop_assert_eq!(read, payload);
        }

        #[test]
        fn no_bytes_make_the_reader_fail_otherwise_than_by_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let _ = decode_key(0, &bytes);
            if let Ok(image) = decode_value(&bytes) {
                prop_assert!(image.payload.len() <= PAYLOAD_BYTES);
            }
        }
    }
}
