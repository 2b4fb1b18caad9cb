//! Events that are alike: the short form of what the fuzzer `layout` does, and the proof that it reaches what guesses.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod differential;
#[path = "layouts/mod.rs"]
mod layouts;

use std::sync::LazyLock;

use differential::{parse_with, parsers};
use eventengine_core::parse::Instructions;
use layouts::{events, judge};
use proptest::prelude::*;

/// Inputs that the fuzzer keeps.
static KEPT_INPUTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/layout");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
});

#[test]
fn an_input_is_a_layout_with_holes_and_fillings_of_which_a_last_value_changes_a_byte() {
    let input = b"{\"x\":\xff,\"y\":\xff}\xfe1\xff2\xfe3\xfe1\xff2\xff\x01z";
    let spelled = [&b"{\"x\":1,\"y\":2}"[..], b"{\"x\":3,\"y\":}", b"{zx\":1,\"y\":2}"];
    assert_eq!(events(input), spelled);
    assert!(events(b"{}").is_empty());
}

#[test]
fn the_fuzzers_inputs_are_judged_as_the_reference_does() {
    assert!(KEPT_INPUTS.len() >= 9);
    KEPT_INPUTS.iter().for_each(|input| judge(&mut parsers(), input));
}

#[test]
fn the_fuzzers_inputs_reach_the_walk_that_guesses() {
    for fresh in parsers().into_iter().filter(|fresh| fresh.instructions() == Instructions::Avx512) {
        let mut guessed = 0;
        for input in KEPT_INPUTS.iter() {
            let Some(event) = events(input).into_iter().next() else { continue };
            let mut parser = fresh.clone();
            let last = (0..4).map(|_| parse_with(&mut parser, &event).is_ok() && parser.was_guessed()).last();
            guessed += usize::from(last.unwrap());
        }
        assert!(guessed >= 9, "of {} layouts {guessed} are guessed when they come again", KEPT_INPUTS.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn changed_inputs_of_the_fuzzer_are_judged_as_the_reference_does(
        input in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec(
            (any::<proptest::sample::Index>(), prop_oneof![any::<u8>(), proptest::sample::select(&b"{}[]\",:\\ 0.-\xff"[..])], any::<bool>()),
            0..4,
        ),
    ) {
        let mut input = input.get(&KEPT_INPUTS).clone();
        for (place, byte, replaces) in changes {
            let place = place.index(input.len());
            if replaces {
                input[place] = byte;
            } else {
                input.insert(place, byte);
            }
        }
        judge(&mut parsers(), &input);
    }
}
