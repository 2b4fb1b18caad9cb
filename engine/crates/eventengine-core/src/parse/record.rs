//! What was read of an event: one flat row of cells per object, all of them made before the first event.
//!
//! Owns the cells' layout. A row's first cell says which fields are there, the others hold
//! one field each; items of arrays lie in regions of their own, row after row. Text stays
//! in the payload: its cell says where.

use super::plan::{Entry, Kind, Plan, Region, Shape};
use super::schema::FIELDS_MAX;
use super::string::RawString;

const ESCAPED: u64 = 1 << 63;

/// Cells that share a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u64; LINE_CELLS]);

/// How many cells share a cache line.
pub(super) const LINE_CELLS: usize = 8;

/// Cells from a cache line's begin on: what is written to a whole line at once can be read from it soon.
#[derive(Debug, Clone)]
pub(super) struct Cells(Box<[Line]>);

impl std::ops::Deref for Cells {
    type Target = [u64];

    #[inline(always)]
    fn deref(&self) -> &[u64] {
        // SAFETY: a line is its cells and nothing else.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LINE_CELLS) }
    }
}

impl std::ops::DerefMut for Cells {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u64] {
        // SAFETY: a line is its cells and nothing else.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LINE_CELLS) }
    }
}

/// Where the payload's own row begins: its fields' cells begin a cache line.
pub(super) const ROOT: usize = LINE_CELLS - 1;

/// Cells of the longest row. Whoever looks at a row sees so many from its begin on, whatever it has: that a field lies
/// within is known beforehand then.
const ROW_CELLS: usize = 1 + FIELDS_MAX;

/// A row in which no field is there.
static NOTHING: [u64; ROW_CELLS] = [0; ROW_CELLS];

/// The cells of one event; reused for the next.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) cells: Cells,
    /// Rows in use of each region.
    pub(super) used: Box<[u32]>,
}

impl Record {
    /// Cells for whatever a plan may read, and behind the last row as many as the longest has.
    pub(super) fn new(plan: &Plan) -> Record {
        let lines = (plan.cells + ROW_CELLS).div_ceil(LINE_CELLS);
        Record {
            cells: Cells(vec![Line([0; LINE_CELLS]); lines].into()),
            used: vec![0; plan.regions.len()].into(),
        }
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
///
/// A field is asked for by its own type; that another is asked for is a fault of the program, found in debug builds.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    plan: &'a Plan,
    cells: &'a [u64],
    bytes: &'a [u8],
    /// The object's own shape and cells.
    shape: &'a Shape,
    row: &'a [u64; ROW_CELLS],
}

impl<'a> View<'a> {
    #[inline(always)]
    pub(super) fn root(plan: &'a Plan, record: &'a Record, bytes: &'a [u8]) -> View<'a> {
        View::of_row(plan, &record.cells, bytes, &plan.shapes[0], ROOT)
    }

    #[inline(always)]
    fn of_row(plan: &'a Plan, cells: &'a [u64], bytes: &'a [u8], shape: &'a Shape, row: usize) -> View<'a> {
        let row = cells.get(row..).and_then(<[u64]>::first_chunk);
        debug_assert!(row.is_some(), "there are cells behind each row");
        View { plan, cells, bytes, shape, row: row.unwrap_or(&NOTHING) }
    }

    /// What was compiled of a field.
    #[inline(always)]
    fn entry(&self, field: usize) -> &'a Entry {
        &self.plan.entries[self.shape.first + field]
    }

    /// A field's cell, if it is there.
    #[inline(always)]
    fn cell(&self, field: usize, kind: Kind) -> Option<u64> {
        debug_assert!(self.entry(field).kind == kind, "field {field} is of another type");
        if self.has(field) { Some(self.row[1 + field]) } else { None }
    }

    /// Whether a field is there.
    #[inline(always)]
    pub fn has(&self, field: usize) -> bool {
        self.row[0] >> field & 1 == 1
    }

    /// An unsigned integer.
    #[inline]
    pub fn unsigned(&self, field: usize) -> Option<u64> {
        self.cell(field, Kind::Unsigned)
    }

    /// A signed integer.
    #[inline]
    pub fn signed(&self, field: usize) -> Option<i64> {
        self.cell(field, Kind::Signed).map(|cell| cell as i64)
    }

    /// A double.
    #[inline]
    pub fn double(&self, field: usize) -> Option<f64> {
        self.cell(field, Kind::F64).map(f64::from_bits)
    }

    /// True or false.
    #[inline]
    pub fn flag(&self, field: usize) -> Option<bool> {
        self.cell(field, Kind::Bool).map(|cell| cell == 1)
    }

    /// Text.
    #[inline]
    pub fn string(&self, field: usize) -> Option<RawString<'a>> {
        let cell = self.cell(field, Kind::String)?;
        // Only what was read as a string is known to be cut at characters.
        (self.shape.texts >> field & 1 == 1).then(|| raw_string(self.bytes, cell))
    }

    /// Which of an enumeration's texts stands there, by its position among them.
    #[inline]
    pub fn choice(&self, field: usize) -> Option<usize> {
        self.cell(field, Kind::Enum).map(|cell| cell as usize)
    }

    /// The region of an object or an array of such items, where its first row is, and how many belong to this field.
    #[inline]
    fn rows(&self, field: usize, items: Kind) -> Option<(&'a Region, usize, usize)> {
        let entry = self.entry(field);
        if !self.has(field) || !matches!(entry.kind, Kind::Array | Kind::Object) {
            return None;
        }
        let region = &self.plan.regions[usize::from(entry.region)];
        let cell = self.row[1 + field];
        let first = region.base + cell as u32 as usize * region.stride;
        (region.item.kind == items).then_some((region, first, (cell >> 32) as usize))
    }

    /// The objects of an array, or the one object of a field of type object.
    #[inline]
    pub fn objects(&self, field: usize) -> impl Iterator<Item = View<'a>> + use<'a> {
        let View { plan, cells, bytes, shape, .. } = *self;
        let (shape, first, stride, count) = match self.rows(field, Kind::Object) {
            Some((region, first, count)) => (&plan.shapes[region.shape], first, region.stride, count),
            None => (shape, 0, 0, 0),
        };
        (0..count).map(move |item| View::of_row(plan, cells, bytes, shape, first + item * stride))
    }

    /// The cells of an array of scalars of the given kind.
    #[inline]
    fn scalars(&self, field: usize, kind: Kind) -> impl Iterator<Item = u64> + use<'a> {
        let cells = self.cells;
        let (first, count) = self.rows(field, kind).map_or((0, 0), |(_, first, count)| (first, count));
        (first..first + count).map(move |cell| cells[cell])
    }

    /// The items of an array of unsigned integers.
    pub fn unsigned_items(&self, field: usize) -> impl Iterator<Item = u64> + use<'a> {
        self.scalars(field, Kind::Unsigned)
    }

    /// The items of an array of signed integers.
    pub fn signed_items(&self, field: usize) -> impl Iterator<Item = i64> + use<'a> {
        self.scalars(field, Kind::Signed).map(|cell| cell as i64)
    }

    /// The items of an array of doubles.
    pub fn double_items(&self, field: usize) -> impl Iterator<Item = f64> + use<'a> {
        self.scalars(field, Kind::F64).map(f64::from_bits)
    }

    /// The items of an array of truth values.
    pub fn flag_items(&self, field: usize) -> impl Iterator<Item = bool> + use<'a> {
        self.scalars(field, Kind::Bool).map(|cell| cell == 1)
    }

    /// The items of an array of texts.
    pub fn string_items(&self, field: usize) -> impl Iterator<Item = RawString<'a>> + use<'a> {
        let bytes = self.bytes;
        self.scalars(field, Kind::String).map(move |cell| raw_string(bytes, cell))
    }

    /// The items of an array of an enumeration's texts, by their positions.
    pub fn choice_items(&self, field: usize) -> impl Iterator<Item = usize> + use<'a> {
        self.scalars(field, Kind::Enum).map(|cell| cell as usize)
    }
}

#[inline(always)]
fn raw_string(bytes: &[u8], cell: u64) -> RawString<'_> {
    let start = cell as u32 as usize;
    let length = (cell >> 32) as usize & (u32::MAX >> 1) as usize;
    RawString::new(&bytes[start..start + length], cell & ESCAPED != 0)
}
