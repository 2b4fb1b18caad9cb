//! A schema, compiled: flat tables that a walk over a payload follows.
//!
//! Owns where each field's value goes. Made once per schema; nothing here changes while
//! events are read (what is learned of their order is [`super::Parser`]'s).

use super::names::Names;
use super::record::ROOT;
use super::scan::{TEXT_BYTES, Text};
use super::schema::{
    FIELDS_MAX, Field, NAME_BYTES_MAX, Presence, SCHEMA_DEPTH_MAX, Schema, SchemaError, Type,
};

/// Most entries of all objects together: predictions are numbers of one byte.
const ENTRIES_MAX: usize = 255;

/// Most cells of one event, so that offsets stay small and a bad schema can't take all memory.
const CELLS_MAX: usize = 1 << 22;

/// What stands at a field's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Unsigned,
    Signed,
    F64,
    Bool,
    String,
    Enum,
    Object,
    Array,
    /// Stands for no field: nothing was seen at this place yet.
    Unpredicted,
}

/// One field, or the items of an array. As long as two cache lines, so that its place is a shift away.
#[derive(Debug, Clone)]
#[repr(align(128))]
pub(super) struct Entry {
    /// The key with quotes and colon.
    pub(super) text: Text,
    /// Bytes of the text.
    pub(super) length: u32,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
    /// Where the items' rows are, for objects and arrays.
    pub(super) region: u8,
    /// The table of an enumeration's texts.
    pub(super) names: u8,
    /// Position among the object's fields.
    pub(super) field: u32,
    pub(super) maximum: u64,
    pub(super) minimum: i64,
}

/// The fields of one object.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// The first of its entries; the one behind the last stands for no field.
    pub(super) first: usize,
    pub(super) fields: usize,
    /// Bits of the fields that have to be there.
    pub(super) required: u64,
    /// Bits of the fields that are strings.
    pub(super) texts: u64,
    pub(super) names: Names,
    /// Depth of the object itself; 1 for the payload's.
    pub(super) level: u32,
}

/// Rows of an array's items.
#[derive(Debug, Clone)]
pub(super) struct Region {
    pub(super) base: usize,
    pub(super) stride: usize,
    /// Rows.
    pub(super) capacity: u32,
    pub(super) item: Entry,
    /// The items' shape, where they are objects.
    pub(super) shape: usize,
    /// Depth of the array itself.
    pub(super) level: u32,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) shapes: Vec<Shape>,
    pub(super) entries: Vec<Entry>,
    pub(super) regions: Vec<Region>,
    /// Texts of enumerations.
    pub(super) names: Vec<Names>,
    pub(super) cells: usize,
}

fn refused<T>(path: &str, message: impl Into<String>) -> Result<T, SchemaError> {
    Err(SchemaError { path: path.to_owned(), message: message.into() })
}

impl Plan {
    /// Compiles a schema.
    pub(super) fn compile(schema: &Schema) -> Result<Plan, SchemaError> {
        let mut plan = Plan {
            shapes: Vec::new(),
            entries: Vec::new(),
            regions: Vec::new(),
            names: Vec::new(),
            cells: ROOT + 1 + schema.fields.len(),
        };
        plan.add_shape("", &schema.fields, 1, 1)?;
        if plan.entries.len() > ENTRIES_MAX {
            let message = format!("the schema has more than {ENTRIES_MAX} fields in all; split the event");
            return refused("", message);
        }
        Ok(plan)
    }

    /// Adds an object's entries, then those of the objects in it. Gives the shape's position.
    fn add_shape(
        &mut self,
        path: &str,
        fields: &[Field],
        level: u32,
        rows: u32,
    ) -> Result<usize, SchemaError> {
        if fields.len() > FIELDS_MAX {
            return refused(path, format!("an object has at most {FIELDS_MAX} fields"));
        }
        if level as usize > SCHEMA_DEPTH_MAX {
            return refused(path, format!("a schema nests at most {SCHEMA_DEPTH_MAX} deep"));
        }
        let mut keys: Vec<&[u8]> = Vec::new();
        for field in fields {
            let path = join(path, &field.name);
            check_name(&path, &field.name, &keys)?;
            keys.push(field.name.as_bytes());
        }
        let bits = |of: fn(&Field) -> bool| -> u64 {
            (0..).zip(fields).map(|(bit, field)| u64::from(of(field)) << bit).sum()
        };
        let (shape, first) = (self.shapes.len(), self.entries.len());
        self.shapes.push(Shape {
            first,
            fields: fields.len(),
            required: bits(|field| field.presence == Presence::Required),
            texts: bits(|field| matches!(field.kind, Type::String)),
            names: Names::new(&keys),
            level,
        });
        for (index, field) in fields.iter().enumerate() {
            let mut entry = self.scalar(&join(path, &field.name), &field.kind)?;
            let text = [b"\"", field.name.as_bytes(), b"\":"].concat();
            // A key that has to be escaped, or is too long, is never predicted: it takes no byte.
            if text.len() <= TEXT_BYTES
                && !field.name.bytes().any(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'))
            {
                entry.length = text.len() as u32;
                entry.text = Text::new(&text);
            }
            entry.nullable = field.presence == Presence::Nullable;
            entry.field = index as u32;
            self.entries.push(entry);
        }
        self.entries.push(Entry { field: fields.len() as u32, ..EMPTY.clone() });
        for (index, field) in fields.iter().enumerate() {
            let path = join(path, &field.name);
            let region = match &field.kind {
                Type::Object(fields) => self.add_region(&path, None, fields, level, rows)?,
                Type::Array { items, capacity } => match &**items {
                    Type::Object(fields) => {
                        self.add_region(&path, Some(*capacity), fields, level + 1, *capacity)?
                    }
                    item => {
                        let item = self.scalar(&path, item)?;
                        self.push_region(&path, 1, *capacity, item, usize::MAX, level + 1)?
                    }
                },
                _ => continue,
            };
            self.entries[first + index].region = region;
        }
        Ok(shape)
    }

    /// Adds the rows of the objects of a field; without a capacity there is one per row of the object around it.
    fn add_region(
        &mut self,
        path: &str,
        capacity: Option<u32>,
        fields: &[Field],
        level: u32,
        rows: u32,
    ) -> Result<u8, SchemaError> {
        let item = Entry { kind: Kind::Object, ..EMPTY.clone() };
        let rows = capacity.unwrap_or(rows);
        let region = self.push_region(path, 1 + fields.len(), rows, item, usize::MAX, level)?;
        let shape = self.add_shape(path, fields, level + 1, rows)?;
        self.regions[usize::from(region)].shape = shape;
        Ok(region)
    }

    fn push_region(
        &mut self,
        path: &str,
        stride: usize,
        capacity: u32,
        item: Entry,
        shape: usize,
        level: u32,
    ) -> Result<u8, SchemaError> {
        let base = self.cells;
        self.cells += stride * capacity as usize;
        if self.cells > CELLS_MAX {
            return refused(path, "the arrays of the schema hold too many items; lower their capacities");
        }
        let Ok(region) = u8::try_from(self.regions.len()) else {
            return refused(path, "the schema has more than 256 arrays and objects; split the event");
        };
        self.regions.push(Region { base, stride, capacity, item, shape, level });
        Ok(region)
    }

    /// What a value is, without where its items go.
    fn scalar(&mut self, path: &str, kind: &Type) -> Result<Entry, SchemaError> {
        let entry = EMPTY.clone();
        Ok(match kind {
            Type::Unsigned { maximum } => Entry { kind: Kind::Unsigned, maximum: *maximum, ..entry },
            Type::Signed { minimum, maximum } => {
                if *maximum < 0 || *minimum > 0 || minimum > maximum {
                    return refused(path, "the bounds of a signed integer have to enclose zero");
                }
                Entry { kind: Kind::Signed, maximum: *maximum as u64, minimum: *minimum, ..entry }
            }
            Type::F64 => Entry { kind: Kind::F64, ..entry },
            Type::Bool => Entry { kind: Kind::Bool, ..entry },
            Type::String => Entry { kind: Kind::String, ..entry },
            Type::Enum(texts) => Entry { kind: Kind::Enum, names: self.add_texts(path, texts)?, ..entry },
            Type::Object(_) => Entry { kind: Kind::Object, ..entry },
            Type::Array { items, .. } if matches!(**items, Type::Array { .. }) => {
                return refused(path, "arrays of arrays are not supported; put the inner one into an object");
            }
            Type::Array { .. } => Entry { kind: Kind::Array, ..entry },
        })
    }

    fn add_texts(&mut self, path: &str, texts: &[String]) -> Result<u8, SchemaError> {
        let mut list: Vec<&[u8]> = Vec::new();
        for text in texts {
            check_name(path, text, &list)?;
            list.push(text.as_bytes());
        }
        let Ok(table) = u8::try_from(self.names.len()) else {
            return refused(path, "the schema has more than 256 enumerations; split the event");
        };
        if list.is_empty() || list.len() > usize::from(u8::MAX) {
            return refused(path, "an enumeration has from 1 to 255 texts");
        }
        self.names.push(Names::new(&list));
        Ok(table)
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn check_name(path: &str, name: &str, others: &[&[u8]]) -> Result<(), SchemaError> {
    if name.len() > NAME_BYTES_MAX {
        return refused(path, format!("a name has at most {NAME_BYTES_MAX} bytes"));
    }
    if others.contains(&name.as_bytes()) {
        return refused(path, format!("the name {name:?} stands twice; remove one"));
    }
    Ok(())
}

/// An entry that stands for no field.
static EMPTY: std::sync::LazyLock<Entry> = std::sync::LazyLock::new(|| Entry {
    text: Text::new(b""),
    length: 0,
    kind: Kind::Unpredicted,
    nullable: false,
    region: 0,
    names: 0,
    field: 0,
    maximum: 0,
    minimum: 0,
});
