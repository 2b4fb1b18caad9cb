//! What was read of an event: one flat row of cells per object, all of them made before the first event.
//!
//! Owns the cells' layout. A row's first cell says which fields are there, the others hold
//! one field each; items of arrays lie in regions of their own, row after row. Text stays
//! in the payload: its cell says where.

use super::plan::{Entry, Kind, Plan, Shape};
use super::string::RawString;

const ESCAPED: u64 = 1 << 63;

/// The cells of one event; reused for the next.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) cells: Box<[u64]>,
    /// Rows in use of each region.
    pub(super) used: Box<[u32]>,
}

impl Record {
    /// Cells for whatever a plan may read.
    pub(super) fn new(plan: &Plan) -> Record {
        Record { cells: vec![0; plan.cells].into(), used: vec![0; plan.regions.len()].into() }
    }
}

/// A cell that says where a string stands.
#[inline(always)]
pub(super) fn string_cell(start: usize, length: usize, escaped: bool) -> u64 {
    start as u64 | (length as u64) << 32 | if escaped { ESCAPED } else { 0 }
}

/// A cell that says which rows of a region are an array's items.
#[inline(always)]
pub(super) fn rows_cell(begin: u32, count: u32) -> u64 {
    u64::from(begin) | u64::from(count) << 32
}

/// An object that was read: fields by their position in the schema.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    plan: &'a Plan,
    shape: &'a Shape,
    cells: &'a [u64],
    row: usize,
    bytes: &'a [u8],
}

impl<'a> View<'a> {
    pub(super) fn root(plan: &'a Plan, record: &'a Record, bytes: &'a [u8]) -> View<'a> {
        View { plan, shape: &plan.shapes[0], cells: &record.cells, row: 0, bytes }
    }

    #[inline(always)]
    fn cell(&self, field: usize) -> Option<(&'a Entry, u64)> {
        let there = self.cells[self.row] >> field & 1 == 1;
        there.then(|| (&self.plan.entries[self.shape.first + field], self.cells[self.row + 1 + field]))
    }

    /// Whether a field is there.
    pub fn has(&self, field: usize) -> bool {
        self.cell(field).is_some()
    }

    /// An unsigned integer.
    #[inline]
    pub fn unsigned(&self, field: usize) -> Option<u64> {
        self.cell(field).and_then(|(entry, cell)| (entry.kind == Kind::Unsigned).then_some(cell))
    }

    /// A signed integer.
    #[inline]
    pub fn signed(&self, field: usize) -> Option<i64> {
        self.cell(field).and_then(|(entry, cell)| (entry.kind == Kind::Signed).then_some(cell as i64))
    }

    /// A double.
    #[inline]
    pub fn double(&self, field: usize) -> Option<f64> {
        self.cell(field).and_then(|(entry, cell)| (entry.kind == Kind::F64).then_some(f64::from_bits(cell)))
    }

    /// True or false.
    #[inline]
    pub fn flag(&self, field: usize) -> Option<bool> {
        self.cell(field).and_then(|(entry, cell)| (entry.kind == Kind::Bool).then_some(cell == 1))
    }

    /// Text.
    #[inline]
    pub fn string(&self, field: usize) -> Option<RawString<'a>> {
        self.cell(field)
            .and_then(|(entry, cell)| (entry.kind == Kind::String).then(|| raw_string(self.bytes, cell)))
    }

    /// Which of an enumeration's texts stands there, by its position among them.
    #[inline]
    pub fn choice(&self, field: usize) -> Option<usize> {
        self.cell(field).and_then(|(entry, cell)| (entry.kind == Kind::Enum).then_some(cell as usize))
    }

    /// The objects of an array, or the one object of a field of type object.
    pub fn objects(&self, field: usize) -> impl ExactSizeIterator<Item = View<'a>> + use<'a> {
        let (rows, base, stride, shape) = match self.cell(field) {
            Some((entry, cell)) if matches!(entry.kind, Kind::Array | Kind::Object) => {
                let region = &self.plan.regions[entry.region as usize];
                let shape = if region.item.kind == Kind::Object { Some(region.shape) } else { None };
                (rows(cell), region.base, region.stride, shape)
            }
            _ => (0..0, 0, 0, None),
        };
        let view = *self;
        let rows = if shape.is_some() { rows } else { 0..0 };
        rows.map(move |row| View {
            shape: &view.plan.shapes[shape.unwrap_or(0)],
            row: base + row as usize * stride,
            ..view
        })
    }

    /// The cells of an array of scalars, as items of the given reader.
    fn scalars<T, R: Fn(&'a [u8], u64) -> T>(
        &self,
        field: usize,
        kind: Kind,
        read: R,
    ) -> impl ExactSizeIterator<Item = T> + use<'a, T, R> {
        let (rows, base) = match self.cell(field) {
            Some((entry, cell)) if entry.kind == Kind::Array => {
                let region = &self.plan.regions[entry.region as usize];
                if region.item.kind == kind { (rows(cell), region.base) } else { (0..0, 0) }
            }
            _ => (0..0, 0),
        };
        let (cells, bytes) = (self.cells, self.bytes);
        rows.map(move |row| read(bytes, cells[base + row as usize]))
    }

    /// The items of an array of unsigned integers.
    pub fn unsigned_items(&self, field: usize) -> impl ExactSizeIterator<Item = u64> + use<'a> {
        self.scalars(field, Kind::Unsigned, |_, cell| cell)
    }

    /// The items of an array of signed integers.
    pub fn signed_items(&self, field: usize) -> impl ExactSizeIterator<Item = i64> + use<'a> {
        self.scalars(field, Kind::Signed, |_, cell| cell as i64)
    }

    /// The items of an array of doubles.
    pub fn double_items(&self, field: usize) -> impl ExactSizeIterator<Item = f64> + use<'a> {
        self.scalars(field, Kind::F64, |_, cell| f64::from_bits(cell))
    }

    /// The items of an array of truth values.
    pub fn flag_items(&self, field: usize) -> impl ExactSizeIterator<Item = bool> + use<'a> {
        self.scalars(field, Kind::Bool, |_, cell| cell == 1)
    }

    /// The items of an array of texts.
    pub fn string_items(&self, field: usize) -> impl ExactSizeIterator<Item = RawString<'a>> + use<'a> {
        self.scalars(field, Kind::String, raw_string)
    }

    /// The items of an array of an enumeration's texts, by their positions.
    pub fn choice_items(&self, field: usize) -> impl ExactSizeIterator<Item = usize> + use<'a> {
        self.scalars(field, Kind::Enum, |_, cell| cell as usize)
    }
}

fn rows(cell: u64) -> std::ops::Range<u32> {
    let begin = cell as u32;
    begin..begin + (cell >> 32) as u32
}

#[inline(always)]
fn raw_string(bytes: &[u8], cell: u64) -> RawString<'_> {
    let start = cell as u32 as usize;
    let length = (cell >> 32) as usize & (u32::MAX >> 1) as usize;
    RawString { bytes: &bytes[start..start + length], escaped: cell & ESCAPED != 0 }
}
