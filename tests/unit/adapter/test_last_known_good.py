"""Values that were fresh a while ago: only where an engine asks for them, marked, and not for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from eventengine_adapter.apis.statuses import ApiError
from eventengine_adapter.samples.last_known_good import ANSWERS_MAX

if TYPE_CHECKING:
    from conftest import World

LAG = "kafka_consumer_lag"
POOL = "buffer_pool_utilisation"


def answered(world: World, metric: str = LAG, selector: str | None = None) -> int:
    """The status code of an external query."""
    try:
        world.external(metric, selector)
    except ApiError as error:
        return error.code
    return 200


@pytest.fixture
def patient(world: World) -> World:
    """Engine hunt, which asks for values of up to a minute ago, and whose only sample is of now."""
    world.engine("hunt", last_known_good_seconds=60)
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={0: 7}, total=1, gauges={POOL: 300})
    return world


@pytest.mark.parametrize("metric", [LAG, POOL])
def test_the_last_answer_stands_in_with_its_own_timestamp_and_a_mark(patient: World, metric: str) -> None:
    before = patient.external(metric)[0]
    assert "last_known_good" not in before["metricLabels"]
    patient.now += 30

    after = patient.external(metric)[0]

    assert after == {**before, "metricLabels": {**before["metricLabels"], "last_known_good": "true"}}


def test_it_ends_when_the_engine_says_so(patient: World) -> None:
    patient.external(LAG)

    patient.now = patient.second + 60.0
    assert answered(patient) == 200
    patient.now += 0.1
    assert answered(patient) == 503


def test_an_engine_that_did_not_ask_for_it_gets_an_error(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={0: 7}, total=1)
    assert answered(world) == 200

    world.now += 30
    assert answered(world) == 503


def test_another_question_has_no_answer_to_fall_back_on(patient: World) -> None:
    patient.external(LAG)
    patient.now += 30

    assert answered(patient, LAG, "partition=0") == 503


def test_a_fresh_value_replaces_the_old_one(patient: World) -> None:
    patient.external(LAG)
    patient.sample("hunt-a", second=patient.second + 20, partitions={0: 1}, total=1)
    patient.now += 20
    assert patient.external(LAG)[0]["value"] == "1"

    patient.now += 30
    assert patient.external(LAG)[0]["value"] == "1"


def test_an_impatient_engine_beside_it_still_fails_its_own_items(patient: World) -> None:
    patient.pod("race-a", "race")
    patient.sample("race-a", partitions={0: 1}, total=1)
    assert answered(patient) == 200
    patient.now += 30

    assert answered(patient) == 503
    assert answered(patient, LAG, "engine=hunt") == 503, "that question was never asked before"


def test_after_a_clock_was_set_back_nothing_is_known_to_be_good(patient: World) -> None:
    patient.external(LAG)
    patient.store.retain(())
    patient.now -= 100

    assert answered(patient) == 503


def test_what_is_remembered_is_bounded(patient: World) -> None:
    for number in range(ANSWERS_MAX + 50):
        patient.external(LAG, f"partition!={number}" if number else "topic")

    assert len(patient.last_known_good._answers) == ANSWERS_MAX
