//! The arena against a plain map, in any order of steps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const CAPACITY: u32 = 24;
const PARTITIONS: u32 = 3;
/// The last partition lives in memory only.
const VOLATILE_FROM: u32 = 2;
const QUOTAS: [Quota; 2] = [Quota { reserved: 4, burst: 16 }, Quota { reserved: 6, burst: 12 }];

#[derive(Debug, Clone)]
enum Step {
    Write(Key, u8, u8),
    Release(Key),
    ReleasePartition(u32),
    Load(Key, u64, u8),
    Cut,
    Checkpoint,
    Rollback(usize),
    Snapshot,
    Restore,
    Compact(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = (0..PARTITIONS, 0..2_u32, 0..4_u32, 0..4_u32)
        .prop_map(|(partition, kind, district, team)| Key { partition, kind, district, team });
    let step = prop_oneof![
        30 => (key.clone(), 0..2_u8, any::<u8>()).prop_map(|(key, tenant, value)| Step::Write(key, tenant, value)),
        15 => key.clone().prop_map(Step::Release),
        1 => (0..PARTITIONS).prop_map(Step::ReleasePartition),
        1 => (key.prop_filter("nothing is loaded that is never kept", |key| key.partition < VOLATILE_FROM), 0..500_u64, any::<u8>()).prop_map(|(key, version, value)| Step::Load(key, version, value)),
        4 => Just(Step::Cut),
        4 => Just(Step::Checkpoint),
        3 => (0..6_usize).prop_map(Step::Rollback),
        2 => Just(Step::Snapshot),
        2 => Just(Step::Restore),
        3 => (0..6_u32).prop_map(Step::Compact),
    ];
    proptest::collection::vec(step, 0..250)
}

/// Value and tenant of each key.
type Content = BTreeMap<Key, (u8, u8)>;

#[derive(Default)]
struct Model {
    content: Content,
    changelog: BTreeMap<Key, u8>,
    checkpoints: Vec<(u64, Content)>,
    snapshot: Option<Content>,
    seen: BTreeMap<u64, (u32, Key, u8)>,
}

impl Model {
    fn held_by(&self, tenant: u8) -> u32 {
        self.content.values().filter(|(_, holder)| *holder == tenant).count() as u32
    }

    /// Whether the quotas leave a slot to a tenant.
    fn has_room(&self, tenant: u8) -> bool {
        let quota = QUOTAS[usize::from(tenant)];
        let held = self.held_by(tenant);
        let bursts: u32 = (0..2)
            .map(|tenant| self.held_by(tenant).saturating_sub(QUOTAS[usize::from(tenant)].reserved))
            .sum();
        let common = CAPACITY - QUOTAS.iter().map(|quota| quota.reserved).sum::<u32>();
        held < quota.reserved || held - quota.reserved < quota.burst && bursts < common
    }

    fn end_checkpoints(&mut self) {
        self.checkpoints.clear();
        self.snapshot = None;
    }
}

fn apply(
    arena: &mut Arena,
    model: &mut Model,
    snapshot: &mut ArenaSnapshot,
    step: Step,
) -> Result<(), TestCaseError> {
    match step {
        Step::Write(key, tenant, value) => {
            arena.act_for(tenant);
            let held = model.content.get(&key).map(|(_, holder)| *holder);
            let slot = match arena.find(&key) {
                Some(slot) => Ok(slot),
                None => arena.acquire(key),
            };
            prop_assert_eq!(slot.is_ok(), held.is_some() || model.has_room(tenant));
            if let Ok(slot) = slot {
                arena.payload_mut(slot)[0] = value;
                model.content.insert(key, (value, held.unwrap_or(tenant)));
            }
        }
        Step::Release(key) => match arena.find(&key) {
            Some(slot) => {
                arena.release(slot).unwrap();
                prop_assert!(arena.release(slot).is_err());
                prop_assert!(model.content.remove(&key).is_some());
            }
            None => prop_assert!(!model.content.contains_key(&key)),
        },
        Step::ReleasePartition(partition) => {
            let expected = model.content.keys().filter(|key| key.partition == partition).count();
            prop_assert_eq!(arena.release_partition(partition) as usize, expected);
            model.content.retain(|key, _| key.partition != partition);
            model.changelog.retain(|key, _| key.partition != partition);
            model.end_checkpoints();
        }
        Step::Load(key, version, value) => {
            // A partition is taken over as a whole: what was held of an earlier life goes first.
            arena.release_partition(key.partition);
            model.content.retain(|held, _| held.partition != key.partition);
            model.changelog.retain(|held, _| held.partition != key.partition);
            arena.act_for(0);
            model.end_checkpoints();
            if let Ok(slot) = arena.load(key, version, &[value]) {
                prop_assert!(arena.version(slot) > version);
                let holder = model.content.get(&key).map_or(0, |(_, holder)| *holder);
                model.content.insert(key, (value, holder));
                model.changelog.insert(key, value);
            }
        }
        Step::Cut => {
            prop_assert!(arena.changes().count() <= arena.change_count());
            let mut keys = BTreeSet::new();
            for change in arena.changes() {
                let key = match change {
                    Change::Image { key, payload, .. } => {
                        model.changelog.insert(key, payload[0]);
                        key
                    }
                    Change::Gone { key } => {
                        prop_assert!(model.changelog.remove(&key).is_some());
                        key
                    }
                };
                prop_assert!(keys.insert(key), "{:?} twice in a cut", key);
            }
            arena.clear_dirty();
            let kept = model.content.iter().filter(|(key, _)| key.partition < VOLATILE_FROM);
            let values: BTreeMap<Key, u8> = kept.map(|(key, (value, _))| (*key, *value)).collect();
            prop_assert_eq!(&model.changelog, &values, "the changelog tells the whole state");
        }
        Step::Checkpoint => {
            let version = arena.checkpoint();
            if model.checkpoints.last().is_none_or(|(last, _)| *last != version) {
                model.checkpoints.push((version, model.content.clone()));
            }
        }
        Step::Rollback(back) => {
            let Some(place) = model.checkpoints.len().checked_sub(back + 1) else { return Ok(()) };
            let (version, content) = model.checkpoints[place].clone();
            let oldest = arena.oldest_checkpoint();
            match arena.rollback(version) {
                Ok(_) => {
                    prop_assert!(oldest.is_some_and(|oldest| oldest <= version));
                    model.content = content;
                    model.checkpoints.truncate(place + 1);
                }
                Err(error) => {
                    prop_assert_eq!(error, RollbackError::Gone { version, oldest });
                    prop_assert!(oldest.is_none_or(|oldest| version < oldest));
                }
            }
        }
        Step::Snapshot => {
            arena.snapshot(snapshot);
            model.snapshot = Some(model.content.clone());
        }
        Step::Restore => {
            let restored = arena.restore(snapshot);
            if let Some(content) = &model.snapshot {
                prop_assert!(restored.is_ok());
                model.content = content.clone();
            }
        }
        Step::Compact(moves) => {
            let before = arena.fragmentation();
            prop_assert!(arena.compact(moves) <= moves);
            prop_assert!(arena.fragmentation() <= before);
        }
    }
    Ok(())
}

fn compare(arena: &Arena, model: &mut Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(arena.in_use() as usize, model.content.len());
    prop_assert_eq!(arena.free() + arena.in_use(), CAPACITY);
    for tenant in 0..2 {
        prop_assert_eq!(arena.in_use_by(tenant), model.held_by(tenant));
    }
    let mut listed = 0;
    for partition in 0..PARTITIONS {
        for slot in arena.slots_of(partition) {
            listed += 1;
            let key = arena.key(slot);
            prop_assert_eq!(key.partition, partition);
            prop_assert_eq!(arena.find(&key), Some(slot));
            let value = arena.payload(slot)[0];
            prop_assert_eq!(model.content.get(&key).map(|(value, _)| *value), Some(value));
            let seen = *model.seen.entry(arena.version(slot)).or_insert((slot.0, key, value));
            prop_assert_eq!(seen, (slot.0, key, value), "a version was seen twice");
        }
    }
    prop_assert_eq!(listed, model.content.len());
    Ok(())
}

proptest! {
    /// Same keys, values, tenants and refusals as the model; checkpoints and snapshots give exactly what they
    /// were made of; each cut brings a changelog up to the whole state; no version is ever seen twice.
    #[test]
    fn it_behaves_like_a_plain_map(steps in steps(), seed in any::<u64>()) {
        let settings = Settings {
            capacity: CAPACITY, partitions: PARTITIONS, volatile_from: VOLATILE_FROM, seed, tenants: &QUOTAS, undo_images: 20, checkpoints: 3,
            fragmentation_threshold: 1.0,
        };
        let mut arena = Arena::with_settings(&settings).unwrap();
        let mut snapshot = ArenaSnapshot::new(&arena);
        let mut model = Model { snapshot: Some(Content::new()), ..Model::default() };
        for step in steps {
            apply(&mut arena, &mut model, &mut snapshot, step)?;
            compare(&arena, &mut model)?;
        }
    }
}
