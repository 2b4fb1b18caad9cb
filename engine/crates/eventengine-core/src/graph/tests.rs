//! Edges against a plain map, and paths against a plain Dijkstra.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use proptest::prelude::*;

use super::*;

const VERTICES: u32 = 40;

type Model = BTreeMap<u32, BTreeMap<u32, u8>>;

fn dijkstra(model: &Model, source: u32, target: u32) -> Path {
    let mut distances: BTreeMap<u32, u32> = BTreeMap::new();
    let mut queue = BinaryHeap::from([Reverse((0, source))]);
    while let Some(Reverse((distance, vertex))) = queue.pop() {
        if distances.contains_key(&vertex) {
            continue;
        }
        distances.insert(vertex, distance);
        for (neighbour, weight) in model.get(&vertex).into_iter().flatten() {
            queue.push(Reverse((distance + u32::from(*weight), *neighbour)));
        }
    }
    distances.get(&target).map_or(Path::Unreachable, |distance| Path::Distance(*distance))
}

#[derive(Debug, Clone)]
enum Step {
    Set(u32, u32, u8),
    Remove(u32, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few sources, so that vertices outgrow a slot.
    let source = prop_oneof![3 => 0..3_u32, 2 => 0..VERTICES];
    let step = prop_oneof![
        4 => (source.clone(), 0..200_u32, any::<u8>()).prop_map(|(source, target, weight)| Step::Set(source, target, weight)),
        1 => (source, 0..200_u32).prop_map(|(source, target)| Step::Remove(source, target)),
    ];
    proptest::collection::vec(step, 0..600)
}

proptest! {
    #[test]
    fn edges_behave_like_a_map_of_maps_and_paths_are_dijkstra_s(
        steps in steps(),
        searches in proptest::collection::vec((0..VERTICES, 0..200_u32), 8),
    ) {
        let mut arena = Arena::new(256, 2, 3);
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Set(source, target, weight) => {
                    let held = model.entry(source).or_default().insert(target, weight);
                    prop_assert_eq!(set(&mut arena, 1, source, target, weight), Ok(held.is_some()));
                }
                Step::Remove(source, target) => {
                    let held = model.get_mut(&source).and_then(|edges| edges.remove(&target));
                    prop_assert_eq!(remove(&mut arena, 1, source, target), held.is_some());
                }
            }
        }
        let graph = Graph { arena: &arena, partition: 1 };
        let mut used = 0;
        for vertex in 0..VERTICES {
            let mut edges = BTreeMap::new();
            graph.each_edge(vertex, |target, weight| assert!(edges.insert(target, weight).is_none()));
            let expected = model.remove(&vertex).unwrap_or_default();
            used += expected.len().div_ceil(EDGES_PER_SLOT);
            for target in 0..200 {
                prop_assert_eq!(get(&arena, 1, vertex, target), expected.get(&target).copied());
            }
            prop_assert_eq!(&edges, &expected);
            model.insert(vertex, expected);
        }
        prop_assert_eq!(arena.in_use() as usize, used, "no slot is emptier than it has to be");
        let mut paths = Paths::new(200);
        for (source, target) in searches {
            let mut budget = u32::MAX;
            prop_assert_eq!(paths.shortest(&graph, source, target, &mut budget), dijkstra(&model, source, target));
        }
    }
}

#[test]
fn a_weight_is_the_two_low_bytes_of_the_mask_folded() {
    assert_eq!([0, 0xff, 0xff00, 0xffff, 0x1234_56a7].map(weight), [0, 255, 255, 0, 0x56 ^ 0xa7]);
}

#[test]
fn a_search_ends_at_its_bound_and_leaves_nothing_for_the_next_one() {
    let mut arena = Arena::new(256, 1, 3);
    for vertex in 0..9 {
        set(&mut arena, 0, vertex, vertex + 1, 200).unwrap();
    }
    let graph = Graph { arena: &arena, partition: 0 };
    let mut paths = Paths::new(10);
    let mut shortest = |source, target, mut budget| {
        let path = paths.shortest(&graph, source, target, &mut budget);
        (path, budget)
    };
    assert_eq!(shortest(0, 9, 8), (Path::BeyondLimit, 0));
    assert_eq!(shortest(0, 9, 11), (Path::Distance(1800), 2), "far more than there are buckets");
    assert_eq!(shortest(9, 0, 9), (Path::Unreachable, 8));
    assert_eq!(shortest(3, 3, 0), (Path::Distance(0), 0));
    assert_eq!(shortest(0, 10, 9), (Path::Unreachable, 9), "no vertex of that number");
}

#[test]
fn an_edge_that_the_arena_has_no_room_for_is_refused() {
    let mut arena = Arena::new(1, 1, 3);
    for target in 0..EDGES_PER_SLOT as u32 {
        assert_eq!(set(&mut arena, 0, 7, target, 1), Ok(false));
    }
    assert_eq!(set(&mut arena, 0, 7, 99, 1), Err(Exhausted::Arena));
    assert_eq!(set(&mut arena, 0, 7, 3, 9), Ok(true), "an edge that is there can be changed");
    assert_eq!(get(&arena, 0, 7, 3), Some(9));
}
