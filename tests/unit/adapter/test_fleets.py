"""A fleet finds pods by their labels, and remembers what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventengine_adapter.samples.fleets import SELECTIONS_MAX
from eventengine_adapter.samples.label_selectors import EVERYTHING, parse_selector

if TYPE_CHECKING:
    from conftest import World
    from eventengine_adapter.samples.fleets import Selection


def names(selection: Selection) -> dict[str, list[str]]:
    return {engine.name: [pod.name for pod in pods] for engine, pods in selection}


def test_pods_are_found_by_engine_and_engines_without_any_are_left_out(world: World) -> None:
    world.pod("hunt-a", labels={"track": "stable"})
    world.pod("hunt-b", labels={"track": "canary"})
    world.pod("race-a", engine="race", labels={"track": "stable"})
    world.pod("else-a", engine="else", namespace="other", labels={"track": "stable"})
    fleet = world.fleet()

    assert names(fleet.select_pods("default", parse_selector("track=canary"))) == {"hunt": ["hunt-b"]}
    assert names(fleet.select_pods("default", EVERYTHING)) == {
        "hunt": ["hunt-a", "hunt-b"],
        "race": ["race-a"],
    }
    assert names(fleet.select_pods("other", parse_selector("track=stable"))) == {"else": ["else-a"]}
    assert fleet.select_pods("nowhere", EVERYTHING) == ()


def test_a_selection_is_made_once_and_the_number_that_is_remembered_is_bounded(world: World) -> None:
    world.pod("hunt-a")
    fleet = world.fleet()
    first = fleet.select_pods("default", EVERYTHING)
    assert fleet.select_pods("default", EVERYTHING) is first

    for number in range(SELECTIONS_MAX):
        fleet.select_pods("default", parse_selector(f"number!={number}"))

    again = fleet.select_pods("default", EVERYTHING)
    assert again is not first
    assert again == first
