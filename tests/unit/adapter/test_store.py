"""What is derived from samples is made once, and anew as soon as they change."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from eventengine_adapter.samples.broker_lag import BrokerSample
from eventengine_adapter.samples.pod_samples import PartitionSample, PodSample, SourceSample, pod_sample
from eventengine_adapter.samples.snapshot_views import decode
from eventengine_adapter.samples.store import (
    DERIVED_MAX,
    SAMPLES_UNPACKED,
    SECONDS_KEPT,
    History,
    SampleStore,
)

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


# --- the past of a pod ---------------------------------------------------------------------------------------

LARGEST = 2**63 - 1


def sample_of(second: int) -> PodSample:
    """A sample in which every field says something, up to the largest numbers that there are."""
    partitions = (PartitionSample(7, second, LARGEST, LARGEST), PartitionSample(8, -second, None))
    return PodSample(
        sampled_at_seconds=second,
        incarnation="one",
        started_at_seconds=-LARGEST,
        ready=second % 2 == 0,
        gauges_millis={"ring_utilisation": second, "allocator_pressure": None},
        shed_events={"sheddable": LARGEST},
        sources=(SourceSample("moves", "kafka", None, 9, True, partitions),),
        unknown_because={"allocator_pressure": "no limit"},
    )


@pytest.mark.parametrize("step", [1, -1])
def test_a_sample_stays_what_it_was_however_old_it_gets(step: int) -> None:
    history = History()
    seconds = range(1000, 1000 + SECONDS_KEPT)
    for second in seconds[::step]:
        history.add(sample_of(second))

    assert SECONDS_KEPT > SAMPLES_UNPACKED
    assert [history.at(second) for second in seconds] == [sample_of(second) for second in seconds]
    assert all(history.has(second) for second in seconds)
    assert not history.has(seconds[0] - 1)
    assert history.at(seconds[0] - 1) is None


def test_the_past_takes_less_memory_than_it_would_as_it_was(snapshot_document: dict[str, Any]) -> None:
    """A thousand pods have tens of thousands of samples."""
    body = json.dumps(snapshot_document).encode()

    def bytes_of(number: int) -> int:
        tracemalloc.start()
        history = History()
        for second in range(number):
            history.add(msgspec.structs.replace(pod_sample(decode(body)), sampled_at_seconds=second))
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size

    recent = bytes_of(SAMPLES_UNPACKED)
    packed = bytes_of(SECONDS_KEPT) - recent
    assert packed / (SECONDS_KEPT - SAMPLES_UNPACKED) < recent / SAMPLES_UNPACKED / 2
