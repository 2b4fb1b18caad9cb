//! The state machine that a configuration asks for: schema, program, executor and arena, bound together.
//!
//! Owns the one place where that choice is made, before the core thread starts. From there on every
//! combination is code of its own, and nothing is chosen on an event's way.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use eventengine_core::arena::{self, Arena};
use eventengine_core::core::{DIRECT_BASE, PARTITIONS, Parts};
use eventengine_core::identifiers::{self, Identifiers};
use eventengine_core::parse::{Fallbacks, Form, Forms, Limits};
use eventengine_core::program::graph;
use eventengine_core::program::treasure_hunt::{self, HuntSchema, TreasureHunt};

use crate::Error;
use crate::affinity::Placement;
use crate::clock::monotonic_nanoseconds;
use crate::config::{Config, PayloadForm};
use crate::executors::{Machine, assemble};

/// Makes the machine; everything that it needs is allocated here.
pub(crate) fn make(config: &Config, placement: &Placement, parts: Parts) -> Result<Machine, Error> {
    let identifiers = Identifiers::new(identifiers::Settings {
        capacity: config.identifiers.capacity,
        lifetime_nanoseconds: config.identifiers.lifetime_nanoseconds,
        seed: seed(),
        clock: monotonic_nanoseconds,
    });
    match &config.program.graph {
        Some(size) if config.program.name == "graph" => {
            let settings =
                graph::Settings { vertices: size.vertices, path_vertices_max: size.path_vertices_max };
            let arena = make_arena(config, graph::UNDO_IMAGES)?;
            let schema = graph::GraphSchema::new(settings);
            Ok(assemble(placement, schema, graph::GraphProgram::new(settings), arena, identifiers, parts))
        }
        _ => {
            let arena = make_arena(config, 0)?;
            let schema = hunt_schema(config, Arc::clone(&parts.stats.parser_fallbacks));
            Ok(assemble(placement, schema, TreasureHunt::default(), arena, identifiers, parts))
        }
    }
}

fn hunt_schema(config: &Config, fallbacks: Arc<Fallbacks>) -> HuntSchema {
    let settings = treasure_hunt::Settings {
        districts: config.program.districts,
        puzzles_per_district: config.program.puzzles_per_district,
        clues_per_puzzle: config.program.clues_per_puzzle,
    };
    let payload = &config.payload;
    let limits = Limits {
        bytes: payload.max_bytes,
        depth: payload.max_depth,
        array_length: payload.max_array_length,
        string_bytes: payload.max_string_bytes,
    };
    let forms = config.sources.iter().map(|source| match source.payload {
        PayloadForm::Schema => Form::Schema,
        PayloadForm::Tree => Form::Tree,
        PayloadForm::Auto => Form::Auto,
    });
    HuntSchema::new(settings, limits).with_forms(Forms::new(forms, fallbacks))
}

/// A seed of this process alone: senders can't aim at one place of a table.
fn seed() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// An arena that can roll back what the last event changed, if that is at most so many slots.
fn make_arena(config: &Config, undo_images: u32) -> Result<Arena, Error> {
    let settings = arena::Settings {
        capacity: config.arena.capacity,
        partitions: PARTITIONS as u32,
        volatile_from: DIRECT_BASE,
        seed: seed(),
        tenants: &config.quotas(),
        undo_images,
        checkpoints: 1,
        fragmentation_threshold: config.arena.fragmentation_threshold,
    };
    let mut arena = Arena::with_settings(&settings).map_err(|excess| Error::Configuration {
        path: "arena.tenants".to_owned(),
        message: format!(
            "{} slots are reserved, but the arena has {}: raise arena.capacity or lower the reserves",
            excess.reserved, excess.capacity
        ),
    })?;
    if config.arena.preallocate {
        arena.touch();
    }
    Ok(arena)
}
