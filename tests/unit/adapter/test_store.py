"""What is derived from samples is made once, and anew as soon as they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from eventengine_adapter.samples.broker_lag import BrokerSample
from eventengine_adapter.samples.store import DERIVED_MAX, SampleStore

if TYPE_CHECKING:
    from conftest import World

LAG = "kafka_consumer_lag"


class Counting:
    """Counts how often it is made."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> int:
        self.made += 1
        return self.made


def test_it_is_made_once_for_any_number_of_questions(world: World) -> None:
    derive, of = Counting(), object()

    assert [world.store.derived("lag", of, derive) for _ in range(3)] == [1, 1, 1]
    assert world.store.derived("other", of, derive) == 2


def test_it_is_made_anew_when_anything_that_it_is_made_of_has_changed(world: World) -> None:
    store, derive, of = world.store, Counting(), object()
    world.pod("hunt-a")

    def made() -> int:
        return store.derived("lag", of, derive)

    assert made() == 1
    world.sample("hunt-a", partitions={0: 1}, total=1)
    assert made() == 2
    store.record_broker_sample("uid-hunt", BrokerSample(world.second))
    assert made() == 3
    store.retain_broker_samples(())
    assert made() == 4
    store.retain(())
    assert made() == 5
    assert store.derived("lag", object(), derive) == 6, "another fleet"


def test_what_failed_is_tried_again() -> None:
    store, of = SampleStore(), object()

    def fail() -> int:
        raise LookupError

    with pytest.raises(LookupError):
        store.derived("lag", of, fail)
    assert store.derived("lag", of, lambda: 7) == 7


def test_what_is_kept_is_bounded() -> None:
    store, of, derive = SampleStore(), object(), Counting()
    for number in range(DERIVED_MAX + 1):
        store.derived(number, of, derive)

    assert store.derived(0, of, derive) == DERIVED_MAX + 2
    assert store.derived(DERIVED_MAX, of, derive) == DERIVED_MAX + 1


def test_an_answer_follows_the_samples_from_one_question_to_the_next(world: World) -> None:
    world.pod("hunt-a")
    fleet = world.fleet()
    world.fleet = lambda: fleet  # type: ignore[method-assign]
    for lag in (1, 2):
        world.sample("hunt-a", partitions={0: lag}, total=1)
        assert [item["value"] for item in world.external(LAG)] == [str(lag)]
        assert [item["value"] for item in world.external(LAG)] == [str(lag)]
