//! Why an event is refused, and where.
//!
//! Owns the reasons and their numbers. Numbers travel in descriptors and in replies to
//! senders: they never change their meaning, new ones go to the end.

/// Why an event was refused. The numbers travel in descriptors.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Not JSON, or not the object that a schema asks for.
    InvalidJson = 0,
    /// Nested deeper than the limit.
    TooDeep = 1,
    /// Payload, array, string or tree beyond its limit.
    TooLarge = 2,
    /// Not UTF-8.
    InvalidUtf8 = 3,
    /// A required field is not there.
    MissingField = 4,
    /// The kind of event is none that the program knows, or a text none of those that its field allows.
    UnknownKind = 5,
    /// A number outside of what its field, or a double, can hold, or of what the program allows.
    OutOfRange = 6,
    /// The arena has no slot left for the state that the event would make.
    ArenaExhausted = 7,
    /// The tenant that the event belongs to holds all the slots that it may.
    TenantExhausted = 8,
    /// Not as long as a binary packet, or a batch of them, has to be.
    WrongLength = 9,
    /// The payload ends before its value does.
    Truncated = 10,
    /// A key stands twice in one object.
    DuplicateKey = 11,
    /// A well-formed value of another type than its field's.
    WrongType = 12,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Reason; 13] = [
        Reason::InvalidJson,
        Reason::TooDeep,
        Reason::TooLarge,
        Reason::InvalidUtf8,
        Reason::MissingField,
        Reason::UnknownKind,
        Reason::OutOfRange,
        Reason::ArenaExhausted,
        Reason::TenantExhausted,
        Reason::WrongLength,
        Reason::Truncated,
        Reason::DuplicateKey,
        Reason::WrongType,
    ];

    /// The reason's name in headers, replies and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::InvalidJson => "invalid_json",
            Reason::TooDeep => "too_deep",
            Reason::TooLarge => "too_large",
            Reason::InvalidUtf8 => "invalid_utf8",
            Reason::MissingField => "missing_field",
            Reason::UnknownKind => "unknown_kind",
            Reason::OutOfRange => "out_of_range",
            Reason::ArenaExhausted => "arena_exhausted",
            Reason::TenantExhausted => "tenant_exhausted",
            Reason::WrongLength => "wrong_length",
            Reason::Truncated => "truncated",
            Reason::DuplicateKey => "duplicate_key",
            Reason::WrongType => "wrong_type",
        }
    }

    /// The reason with a number.
    pub fn from_number(number: u8) -> Option<Reason> {
        Reason::ALL.get(usize::from(number)).copied()
    }

    /// Whether the payload may be well-formed JSON that a schema just doesn't describe.
    pub fn is_misfit(self) -> bool {
        matches!(
            self,
            Reason::WrongType
                | Reason::OutOfRange
                | Reason::UnknownKind
                | Reason::MissingField
                | Reason::TooLarge
        )
    }
}

/// A refusal and where in the payload it arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Byte position, from 0; the payload's length where something is missing at its end.
    pub position: u32,
}

impl Refusal {
    /// A refusal at a position.
    pub fn new(reason: Reason, position: usize) -> Refusal {
        Refusal { reason, position: u32::try_from(position).unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_stable_names_and_numbers() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            assert_eq!(Reason::from_number(number as u8), Some(reason));
        }
        assert_eq!(Reason::from_number(Reason::ALL.len() as u8), None);
    }
}
