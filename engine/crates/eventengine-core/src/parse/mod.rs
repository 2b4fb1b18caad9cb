//! From bytes to an event: a schema compiled to a flat plan, read in one pass without a copy.
//!
//! Owns JSON: its grammar, the payload limits, the reasons for which an event is refused.
//! A [`Parser`] allocates when it is made and never again. Three walks read the same
//! language: [`guess`] takes an event for the like of the last ones, [`fast`] follows what producers usually write and may give up anywhere;
//! [`careful`] then decides, with reason and position. Nothing of a refused payload is
//! ever seen by who called.
//!
//! Order: limits, then grammar, are checked before a value is stored; the first fault
//! from the left counts, but bytes that are not UTF-8 count before all others.

mod careful;
mod fast;
mod forms;
#[cfg(target_arch = "x86_64")]
mod guess;
mod index;
mod instructions;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod lenient;
mod names;
mod number;
mod payload;
mod plan;
mod record;
mod refusal;
mod scan;
mod scanner;
mod schema;
mod string;
mod template;
mod tree;
mod unescape;
mod utf8;

#[cfg(test)]
mod tests;

pub use forms::{Fallbacks, Form, Forms, SOURCES_MAX};
pub use instructions::Instructions;
pub use payload::{PADDING, Payload};
pub use record::View;
pub use refusal::{Reason, Refusal};
pub use scanner::{DEPTH_MAX, Limits, RawNumber};
pub use schema::{FIELDS_MAX, Field, NAME_BYTES_MAX, Presence, Schema, SchemaError, Type};
pub use string::RawString;
pub use tree::{NodeKind, TREE_NODES_MAX, Tree, TreeParser, Value};

use std::sync::Arc;

use plan::Plan;
use record::Record;
use template::Learned;

/// How a walk that may give up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The payload was as guessed.
    Guessed,
    /// It was read key by key.
    Read,
    /// The record holds nothing of use.
    GaveUp,
}

/// Reads payloads by a schema; remembers in which order the keys came. Clones share the plan.
#[derive(Debug, Clone)]
pub struct Parser {
    plan: Arc<Plan>,
    limits: Limits,
    record: Record,
    learned: Learned,
    instructions: Instructions,
    guessed: bool,
    trees: Option<TreeParser>,
}

impl Parser {
    /// A parser for a schema, with the best instructions that the machine has.
    ///
    /// # Errors
    /// If the schema is beyond what a plan may hold; the error names the field.
    pub fn new(schema: &Schema, limits: Limits) -> Result<Parser, SchemaError> {
        Parser::with_instructions(schema, limits, Instructions::detect())
    }

    /// A parser that uses the given instructions.
    ///
    /// # Panics
    /// If the machine doesn't have them.
    pub fn with_instructions(
        schema: &Schema,
        limits: Limits,
        instructions: Instructions,
    ) -> Result<Parser, SchemaError> {
        assert!(instructions.are_there(), "the machine has no {instructions:?}");
        let plan = Plan::compile(schema)?;
        Ok(Parser {
            record: Record::new(&plan),
            learned: Learned::new(&plan, limits),
            plan: Arc::new(plan),
            limits,
            instructions,
            guessed: false,
            trees: None,
        })
    }

    /// The instructions that it uses.
    pub fn instructions(&self) -> Instructions {
        self.instructions
    }

    /// Whether the last payload was the like of those before it, and read as such. Measurements and tests ask.
    pub fn was_guessed(&self) -> bool {
        self.guessed
    }

    /// Reads a payload that is one object.
    ///
    /// # Errors
    /// The first fault, with its byte position.
    #[inline]
    pub fn parse<'a>(&'a mut self, payload: Payload<'a>) -> Result<View<'a>, Refusal> {
        let Parser { plan, limits, record, learned, instructions, guessed, .. } = self;
        let outcome = fast::walk(*instructions, plan, *limits, payload, record, learned);
        *guessed = outcome == Outcome::Guessed;
        if outcome == Outcome::GaveUp {
            careful::walk(plan, *limits, payload.bytes(), record)?;
        }
        Ok(View::root(plan, record, payload.bytes()))
    }

    /// The same parser with room for trees, which all forms but [`Form::Schema`] need.
    pub fn with_trees(mut self) -> Parser {
        self.trees = Some(TreeParser::new(self.limits, TREE_NODES_MAX));
        self
    }

    /// Reads a payload in a form. Also says whether it fell back to a tree because the schema did not do.
    ///
    /// # Errors
    /// The first fault, with its byte position: the schema's, or the tree's where a tree was tried.
    #[inline]
    pub fn parse_as<'a>(&'a mut self, payload: Payload<'a>, form: Form) -> Result<(View<'a>, bool), Refusal> {
        if form == Form::Schema {
            return self.parse(payload).map(|view| (view, false));
        }
        let misfit = match form {
            Form::Auto => match self.parse(payload) {
                Ok(_) => None,
                Err(refusal) if refusal.reason.is_misfit() => Some(true),
                Err(refusal) => return Err(refusal),
            },
            Form::Schema | Form::Tree => Some(false),
        };
        if misfit.is_some() {
            let Parser { plan, limits, record, trees, .. } = self;
            let trees = trees.get_or_insert_with(|| TreeParser::new(*limits, TREE_NODES_MAX));
            lenient::fill(plan, *limits, trees.parse(payload.bytes())?.root(), record)?;
        }
        Ok((View::root(&self.plan, &self.record, payload.bytes()), misfit == Some(true)))
    }

    /// Reads a payload as [`Parser::parse`] does, without the fast walk: the reference for tests.
    ///
    /// # Errors
    /// As [`Parser::parse`].
    pub fn parse_carefully<'a>(&'a mut self, bytes: &'a [u8]) -> Result<View<'a>, Refusal> {
        careful::walk(&self.plan, self.limits, bytes, &mut self.record)?;
        Ok(View::root(&self.plan, &self.record, bytes))
    }
}
