//! Schemas: what an event's object may hold, said at run time.
//!
//! Owns the types of fields and the bounds of a schema. A schema is data: whoever reads a
//! configuration builds one; [`super::plan`] compiles it once.

/// Most fields of one object: one bit each in a mask.
pub const FIELDS_MAX: usize = 63;

/// Longest name of a field, and longest text of an enumeration.
pub const NAME_BYTES_MAX: usize = 64;

/// Deepest nesting of a schema's own objects and arrays.
pub const SCHEMA_DEPTH_MAX: usize = 16;

/// Whether a field has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// An event without it is refused.
    Required,
    /// It may be left out; a null in its place is a value of another type.
    Optional,
    /// It may be left out, or be null, which means the same.
    Nullable,
}

/// Type of a field, or of an array's items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// An integer from 0 to a maximum.
    Unsigned {
        /// Largest value.
        maximum: u64,
    },
    /// An integer within bounds.
    Signed {
        /// Smallest value.
        minimum: i64,
        /// Largest value.
        maximum: i64,
    },
    /// The nearest double of any number.
    F64,
    /// True or false.
    Bool,
    /// Text, borrowed from the payload.
    String,
    /// One of these texts; told apart by its position among them.
    Enum(Vec<String>),
    /// An object with fields of its own.
    Object(Vec<Field>),
    /// An array.
    Array {
        /// What its items are.
        items: Box<Type>,
        /// Items in all arrays of this field that one event may have.
        capacity: u32,
    },
}

impl Type {
    /// An unsigned integer of 8 bits.
    pub const U8: Type = Type::Unsigned { maximum: u8::MAX as u64 };
    /// An unsigned integer of 16 bits.
    pub const U16: Type = Type::Unsigned { maximum: u16::MAX as u64 };
    /// An unsigned integer of 32 bits.
    pub const U32: Type = Type::Unsigned { maximum: u32::MAX as u64 };
    /// An unsigned integer of 64 bits.
    pub const U64: Type = Type::Unsigned { maximum: u64::MAX };
    /// A signed integer of 64 bits.
    pub const I64: Type = Type::Signed { minimum: i64::MIN, maximum: i64::MAX };
}

/// One field of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its key.
    pub name: String,
    /// Type of its value.
    pub kind: Type,
    /// Whether it has to be there.
    pub presence: Presence,
}

impl Field {
    /// A field.
    pub fn new(name: &str, kind: Type, presence: Presence) -> Field {
        Field { name: name.to_owned(), kind, presence }
    }
}

/// The fields of an event. A field is known by its position among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Fields in any order; their number is their position here.
    pub fields: Vec<Field>,
}

/// Why a schema can't be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError {
    /// Where: names of fields, joined by dots.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl std::fmt::Display for SchemaError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "field {}: {}", self.path, self.message)
    }
}

impl std::error::Error for SchemaError {}
