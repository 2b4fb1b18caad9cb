//! In which form a source's payloads are read, and how often the schema did not do.
//!
//! Owns the choice per source and the counters of those that fell back. Clones share the
//! counters: several threads may parse one source's events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sources that an engine may have.
pub const SOURCES_MAX: usize = 8;

/// How payloads become events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// By the schema, to the letter.
    #[default]
    Schema,
    /// By way of a bounded tree, leniently.
    Tree,
    /// By the schema; by way of a tree what the schema doesn't describe.
    Auto,
}

/// Payloads of each source that only a tree could make an event of.
#[derive(Debug, Default)]
pub struct Fallbacks([AtomicU64; SOURCES_MAX]);

impl Fallbacks {
    /// The total of a source since the start.
    pub fn of(&self, source: usize) -> u64 {
        self.0.get(source).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// The form of each source.
#[derive(Debug, Clone, Default)]
pub struct Forms {
    forms: [Form; SOURCES_MAX],
    fallbacks: Arc<Fallbacks>,
}

impl Forms {
    /// Forms of the first sources; further ones are read by the schema.
    pub fn new(forms: impl IntoIterator<Item = Form>, fallbacks: Arc<Fallbacks>) -> Forms {
        let mut all = [Form::Schema; SOURCES_MAX];
        for (place, form) in all.iter_mut().zip(forms) {
            *place = form;
        }
        Forms { forms: all, fallbacks }
    }

    /// The form of a source.
    #[inline]
    pub fn of(&self, source: u8) -> Form {
        self.forms.get(usize::from(source)).copied().unwrap_or_default()
    }

    /// Whether any source needs trees.
    pub fn need_trees(&self) -> bool {
        self.forms.iter().any(|form| *form != Form::Schema)
    }

    /// Counts a payload that the schema did not do for.
    #[cold]
    pub fn count_fallback(&self, source: u8) {
        if let Some(count) = self.fallbacks.0.get(usize::from(source)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
