//! The arena's rules, one by one. `model` holds them in any order against a plain map.

use super::*;

fn key(partition: u32, district: u32, team: u32) -> Key {
    Key { partition, kind: 1, district, team }
}

fn with_undo(capacity: u32, undo_images: u32, checkpoints: u32) -> Arena {
    let settings = Settings { capacity, partitions: 1, undo_images, checkpoints, ..Settings::default() };
    Arena::with_settings(&settings).unwrap()
}

fn write(arena: &mut Arena, key: Key, value: u8) -> SlotId {
    let slot = arena.find(&key).unwrap_or_else(|| arena.acquire(key).unwrap());
    arena.payload_mut(slot)[0] = value;
    slot
}

fn value(arena: &Arena, key: Key) -> Option<u8> {
    arena.find(&key).map(|slot| arena.payload(slot)[0])
}

fn gone(arena: &Arena) -> Vec<Key> {
    let keys = arena.changes().filter_map(|change| match change {
        Change::Gone { key } => Some(key),
        Change::Image { .. } => None,
    });
    keys.collect()
}

fn images(arena: &Arena) -> Vec<(Key, u8)> {
    let images = arena.changes().filter_map(|change| match change {
        Change::Image { key, payload, .. } => Some((key, payload[0])),
        Change::Gone { .. } => None,
    });
    images.collect()
}

#[test]
fn a_version_never_returns_to_an_old_one() {
    let mut arena = Arena::new(1, 1, 7);
    let slot = write(&mut arena, key(0, 1, 1), 9);
    let before = arena.version(slot);
    arena.release(slot).unwrap();
    let again = arena.acquire(key(0, 2, 2)).unwrap();
    assert_eq!(slot, again);
    assert!(arena.version(again) > before);
    assert_eq!(arena.payload(again), &[0; PAYLOAD_BYTES], "a reused slot holds nothing of the former one");
    arena.load(key(0, 2, 2), before + 100, b"loaded").unwrap();
    assert!(arena.version(again) > before + 100);
    assert!(arena.payload(again).starts_with(b"loaded\0"));
}

#[test]
fn releasing_twice_is_refused() {
    let mut arena = Arena::new(4, 1, 7);
    let slot = arena.acquire(key(0, 1, 1)).unwrap();
    arena.release(slot).unwrap();
    assert_eq!(arena.release(slot), Err(NotInUse(slot)));
    assert_eq!(arena.free(), 4);
}

#[test]
fn an_exhausted_arena_and_an_unknown_partition_are_named() {
    let mut arena = Arena::new(2, 2, 7);
    assert_eq!(arena.acquire(key(2, 0, 0)), Err(Exhausted::UnknownPartition));
    arena.acquire(key(0, 0, 0)).unwrap();
    arena.acquire(key(1, 0, 0)).unwrap();
    assert_eq!(arena.acquire(key(1, 0, 1)), Err(Exhausted::Arena));
    assert_eq!(arena.release_partition(0), 1);
    assert!(arena.acquire(key(1, 0, 1)).is_ok());
}

#[test]
fn a_released_key_is_gone_from_the_changelog_unless_it_has_a_slot_again() {
    let mut arena = Arena::new(8, 1, 7);
    let slot = write(&mut arena, key(0, 0, 1), 1);
    arena.release(slot).unwrap();
    assert_eq!(gone(&arena), [], "the changelog never heard of it");
    write(&mut arena, key(0, 0, 1), 1);
    arena.clear_dirty();
    arena.release(arena.find(&key(0, 0, 1)).unwrap()).unwrap();
    write(&mut arena, key(0, 0, 2), 2);
    assert_eq!((gone(&arena), images(&arena)), (vec![key(0, 0, 1)], vec![(key(0, 0, 2), 2)]));
    write(&mut arena, key(0, 0, 1), 3);
    assert_eq!(gone(&arena), [], "its image says it all");
    assert!(arena.change_count() >= arena.changes().count());
}

#[test]
fn a_partition_that_is_given_up_leaves_no_record() {
    let mut arena = Arena::new(8, 2, 7);
    for partition in 0..2 {
        for team in 0..3 {
            write(&mut arena, key(partition, 0, team), 1);
        }
    }
    arena.clear_dirty();
    arena.release(arena.find(&key(0, 0, 1)).unwrap()).unwrap();
    write(&mut arena, key(1, 0, 0), 2);
    assert_eq!(arena.release_partition(0), 2);
    assert_eq!((gone(&arena), images(&arena)), (vec![], vec![(key(1, 0, 0), 2)]));
    assert_eq!(arena.change_count(), 1);
}

#[test]
fn state_that_lives_in_memory_only_is_never_dirty() {
    let settings = Settings { capacity: 2, partitions: 2, volatile_from: 1, ..Settings::default() };
    let mut arena = Arena::with_settings(&settings).unwrap();
    write(&mut arena, key(1, 0, 0), 1);
    assert_eq!(arena.dirty_count(), 0);
    write(&mut arena, key(0, 0, 0), 1);
    arena.clear_dirty();
    arena.release(arena.find(&key(0, 0, 0)).unwrap()).unwrap();
    write(&mut arena, key(1, 0, 1), 2);
    assert_eq!(
        (gone(&arena), images(&arena)),
        (vec![key(0, 0, 0)], vec![]),
        "the slot's former key is told of"
    );
    arena.clear_dirty();
    write(&mut arena, key(1, 0, 1), 3);
    assert_eq!(arena.change_count(), 0);
}

#[test]
fn fragmentation_is_the_share_of_holes_below_the_highest_slot_in_use() {
    let mut arena = Arena::new(8, 1, 7);
    let slots: Vec<SlotId> = (0..4).map(|team| arena.acquire(key(0, 0, team)).unwrap()).collect();
    assert_eq!(arena.fragmentation(), 0.0);
    arena.release(slots[1]).unwrap();
    assert_eq!(arena.fragmentation(), 0.25);
    arena.release(slots[3]).unwrap();
    arena.release(slots[2]).unwrap();
    assert_eq!(arena.fragmentation(), 0.0);
    arena.release(slots[0]).unwrap();
    assert_eq!((arena.fragmentation(), arena.in_use()), (0.0, 0));
}

#[test]
fn compacting_moves_slots_into_holes_a_bounded_number_at_a_time_and_keys_still_find_them() {
    let mut arena = Arena::new(64, 1, 7);
    for team in 0..40 {
        write(&mut arena, key(0, 0, team), team as u8);
    }
    for team in (0..40).filter(|team| team % 4 != 0) {
        arena.release(arena.find(&key(0, 0, team)).unwrap()).unwrap();
    }
    assert!(arena.fragmentation() > 0.7);
    assert_eq!(arena.compact(3), 3);
    assert!(arena.fragmentation() > 0.0);
    assert_eq!(arena.compact(100), 4, "7 of the 10 slots lay behind the tenth; three of them had been moved");
    assert_eq!((arena.fragmentation(), arena.in_use()), (0.0, 10));
    for team in 0..40 {
        assert_eq!(value(&arena, key(0, 0, team)), (team % 4 == 0).then_some(team as u8));
    }
}

#[test]
fn compacting_waits_for_the_changelog_to_hear_of_the_holes() {
    let mut arena = Arena::new(8, 1, 7);
    for team in 0..3 {
        write(&mut arena, key(0, 0, team), 1);
    }
    arena.clear_dirty();
    arena.release(arena.find(&key(0, 0, 0)).unwrap()).unwrap();
    assert_eq!(arena.compact(8), 0);
    assert_eq!(gone(&arena), [key(0, 0, 0)]);
    arena.clear_dirty();
    assert_eq!(arena.compact(8), 1);
    assert_eq!(arena.change_count(), 0, "the changelog knows keys, not places");
    arena.release(arena.find(&key(0, 0, 2)).unwrap()).unwrap();
    assert_eq!(gone(&arena), [key(0, 0, 2)]);
}

#[test]
fn an_arena_is_tidied_above_its_threshold_only() {
    let settings =
        Settings { capacity: 64, partitions: 1, fragmentation_threshold: 0.25, ..Settings::default() };
    let mut arena = Arena::with_settings(&settings).unwrap();
    for team in 0..40 {
        write(&mut arena, key(0, 0, team), 1);
    }
    for team in 0..10 {
        arena.release(arena.find(&key(0, 0, team)).unwrap()).unwrap();
    }
    assert_eq!((arena.fragmentation(), arena.became_fragmented(), arena.tidy()), (0.25, false, 0));
    arena.release(arena.find(&key(0, 0, 10)).unwrap()).unwrap();
    assert_eq!(
        [arena.became_fragmented(), arena.became_fragmented()],
        [true, false],
        "a crossing counts once"
    );
    assert_eq!((arena.tidy(), arena.fragmentation()), (11, 0.0));
    assert_eq!((arena.became_fragmented(), arena.tidy()), (false, 0));
}

#[test]
fn a_rollback_puts_the_exact_content_back_and_tells_the_changelog() {
    let mut arena = with_undo(8, 16, 4);
    write(&mut arena, key(0, 0, 1), 1);
    write(&mut arena, key(0, 0, 2), 2);
    let version = arena.checkpoint();
    let before = arena.version(arena.find(&key(0, 0, 1)).unwrap());
    write(&mut arena, key(0, 0, 1), 10);
    arena.release(arena.find(&key(0, 0, 2)).unwrap()).unwrap();
    write(&mut arena, key(0, 0, 3), 30);
    arena.clear_dirty();
    assert_eq!(arena.rollback(version), Ok(2), "two slots: the third key reused the second one's");
    assert_eq!([1, 2, 3].map(|team| value(&arena, key(0, 0, team))), [Some(1), Some(2), None]);
    assert_eq!(gone(&arena), [key(0, 0, 3)]);
    let mut back = images(&arena);
    back.sort_unstable();
    assert_eq!(back, [(key(0, 0, 1), 1), (key(0, 0, 2), 2)]);
    assert!(
        arena.version(arena.find(&key(0, 0, 1)).unwrap()) > before + 1,
        "content goes back, versions don't"
    );
    write(&mut arena, key(0, 0, 1), 11);
    assert_eq!(arena.rollback(version), Ok(1), "the checkpoint is still there");
    assert_eq!(value(&arena, key(0, 0, 1)), Some(1));
}

#[test]
fn a_rollback_goes_back_over_several_checkpoints() {
    let mut arena = with_undo(4, 16, 4);
    let mut versions = Vec::new();
    for round in 1..=3 {
        write(&mut arena, key(0, 0, 0), round);
        versions.push(arena.checkpoint());
    }
    write(&mut arena, key(0, 0, 0), 99);
    assert_eq!(arena.rollback(versions[0]), Ok(3));
    assert_eq!(value(&arena, key(0, 0, 0)), Some(1));
    let version = versions[1];
    assert_eq!(
        arena.rollback(version),
        Err(RollbackError::NoCheckpoint { version, before: versions[0] }),
        "what came after the checkpoint is no more"
    );
}

#[test]
fn a_version_that_is_gone_is_refused_by_the_name_of_the_oldest_one_kept() {
    let mut arena = with_undo(8, 4, 2);
    let first = arena.checkpoint();
    write(&mut arena, key(0, 0, 0), 1);
    let second = arena.checkpoint();
    write(&mut arena, key(0, 0, 1), 1);
    let third = arena.checkpoint();
    let gone = arena.rollback(first).unwrap_err();
    assert_eq!(gone, RollbackError::Gone { version: first, oldest: Some(second) }, "two are kept");
    assert_eq!(gone.to_string(), format!("version {first} is gone; the oldest one kept is {second}"));
    for team in 2..6 {
        write(&mut arena, key(0, 0, team), 1);
    }
    assert_eq!(arena.oldest_checkpoint(), Some(third), "four images are kept, and the second needed five");
    write(&mut arena, key(0, 0, 6), 1);
    assert_eq!(arena.rollback(third), Err(RollbackError::Gone { version: third, oldest: None }));
}

#[test]
fn what_came_with_a_partition_s_owner_can_not_be_rolled_back() {
    let mut arena = with_undo(8, 8, 2);
    write(&mut arena, key(0, 0, 0), 1);
    let version = arena.checkpoint();
    let mut snapshot = ArenaSnapshot::new(&arena);
    arena.snapshot(&mut snapshot);
    arena.release_partition(0);
    assert_eq!(arena.rollback(version), Err(RollbackError::Gone { version, oldest: None }));
    assert_eq!(arena.restore(&snapshot), Err(Outdated { version }));
}

#[test]
fn a_snapshot_puts_back_what_differs_and_nothing_else() {
    let mut arena = with_undo(8, 8, 2);
    for team in 0..4 {
        write(&mut arena, key(0, 0, team), 1);
    }
    let mut snapshot = ArenaSnapshot::new(&arena);
    arena.snapshot(&mut snapshot);
    arena.clear_dirty();
    write(&mut arena, key(0, 0, 0), 2);
    arena.release(arena.find(&key(0, 0, 1)).unwrap()).unwrap();
    write(&mut arena, key(0, 0, 9), 2);
    write(&mut arena, key(0, 0, 10), 2);
    assert_eq!(arena.restore(&snapshot), Ok(3));
    assert_eq!(arena.in_use(), 4);
    assert!((0..4).all(|team| value(&arena, key(0, 0, team)) == Some(1)));
    assert_eq!(arena.restore(&snapshot), Ok(2), "versions moved on where content was put back");
}

#[test]
fn an_exhausted_tenant_is_refused_while_others_go_on() {
    let quotas =
        [Quota { reserved: 2, burst: 3 }, Quota { reserved: 4, burst: 4 }, Quota { reserved: 0, burst: 8 }];
    let settings = Settings { capacity: 10, partitions: 1, tenants: &quotas, ..Settings::default() };
    let mut arena = Arena::with_settings(&settings).unwrap();
    let mut acquire = |tenant: u8, team: u32| {
        arena.act_for(tenant);
        arena.acquire(key(0, u32::from(tenant), team)).map(|_| ())
    };
    for team in 0..5 {
        assert_eq!(acquire(0, team), Ok(()));
    }
    assert_eq!(acquire(0, 5), Err(Exhausted::Tenant), "reserve and burst are used up");
    assert_eq!(acquire(2, 0), Ok(()));
    assert_eq!(acquire(2, 1), Err(Exhausted::Arena), "what is free is reserved to another");
    for team in 0..4 {
        assert_eq!(acquire(1, team), Ok(()), "a reserve is never taken by others");
    }
    assert_eq!(acquire(1, 4), Err(Exhausted::Arena));
    arena.release(arena.find(&key(0, 0, 0)).unwrap()).unwrap();
    arena.act_for(1);
    assert_eq!(arena.room_for(1), Ok(()), "a burst slot goes back to the common pool");
    assert_eq!((arena.in_use_by(0), arena.in_use_by(1), arena.in_use_by(2)), (4, 4, 1));
}

#[test]
fn reserves_beyond_the_capacity_are_refused() {
    let quotas = [Quota { reserved: 6, burst: 0 }, Quota { reserved: 5, burst: 0 }];
    let settings = Settings { capacity: 10, partitions: 1, tenants: &quotas, ..Settings::default() };
    assert_eq!(Arena::with_settings(&settings).err(), Some(Overcommitted { reserved: 11, capacity: 10 }));
}
