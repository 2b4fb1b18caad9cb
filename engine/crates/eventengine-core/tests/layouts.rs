//! Events that are alike: the short form of what the fuzzer `layout` does, and the proof that it reaches what guesses.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod differential;
#[path = "layouts/mod.rs"]
mod layouts;

use differential::{parse_with, parsers};
use eventengine_core::parse::Instructions;
use layouts::{events, judge};
use proptest::prelude::*;

/// Inputs that the fuzzer keeps.
fn kept_inputs() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/layout");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn an_input_is_a_layout_with_holes_and_fillings_of_which_a_last_value_changes_a_byte() {
    let input = b"{\"x\":\xff,\"y\":\xff}\xfe1\xff2\xfe3\xfe1\xff2\xff\x01z";
    let spelled = [&b"{\"x\":1,\"y\":2}"[..], b"{\"x\":3,\"y\":}", b"{zx\":1,\"y\":2}"];
    assert_eq!(events(input), spelled);
    assert!(events(b"{}").is_empty());
}

#[test]
fn the_fuzzers_inputs_are_judged_as_the_reference_does() {
    let inputs = kept_inputs();
    assert!(inputs.len() >= 8);
    inputs.iter().for_each(|input| judge(&mut parsers(), input));
}

#[test]
fn the_fuzzers_inputs_reach_the_walk_that_guesses() {
    for mut parser in parsers().into_iter().filter(|parser| parser.instructions() == Instructions::Avx512) {
        let mut guessed = 0;
        for input in kept_inputs() {
            let Some(event) = events(&input).into_iter().next() else { continue };
            let last = (0..4).map(|_| parse_with(&mut parser, &event).is_ok() && parser.was_guessed()).last();
            guessed += usize::from(last.unwrap());
        }
        assert!(
            guessed >= 8,
            "of {} layouts {guessed} are guessed when they come again",
            kept_inputs().len()
        );
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
        let mut input = input.get(&kept_inputs()).clone();
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
