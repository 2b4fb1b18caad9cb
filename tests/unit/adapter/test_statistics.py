"""Statistics over pods, partitions and windows, as a selector asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from eventengine_adapter.apis.statuses import ApiError
from eventengine_adapter.explaining.replica_calculator import from_average
from eventengine_adapter.samples.folding import Statistic
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from conftest import World

POOL = "buffer_pool_utilisation"
LAG = "consumer_lag"


def refused(world: World, metric: str, selector: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        world.external(metric, selector)
    return caught.value


@pytest.fixture
def ten(world: World) -> World:
    """Ten pods that use 10, 20 … 100 % of their pools and own one partition each, with a lag of 1 … 10."""
    for number in range(1, 11):
        name = f"hunt-{number:02}"
        world.pod(name)
        world.sample(name, gauges={POOL: number * 100}, partitions={number - 1: number}, total=10)
    return world


@pytest.mark.parametrize(
    ("statistic", "pool", "lag"),
    [
        ("maximum", "1", "10"),
        ("average", "550m", "5500m"),
        ("sum", "5500m", "55"),
        ("p50", "500m", "5"),
        ("p90", "900m", "9"),
        ("p95", "1", "10"),
        ("p99", "1", "10"),
    ],
)
def test_a_statistic_is_one_item_over_pods_or_partitions(
    ten: World, statistic: str, pool: str, lag: str
) -> None:
    selector = f"aggregation={statistic}"

    assert [(i["value"], i["metricLabels"]["aggregation"]) for i in ten.external(POOL, selector)] == [
        (pool, statistic)
    ]
    assert [(i["value"], i["metricLabels"]["aggregation"]) for i in ten.external(LAG, selector)] == [
        (lag, statistic)
    ]
    engine = ten.custom(f"eventengines.eventengine.dev/hunt/{LAG}", metric_selector=selector)
    assert [i["value"] for i in engine] == [lag]


def test_a_statistic_is_over_what_the_selector_leaves(ten: World) -> None:
    assert ten.external(LAG, "aggregation=maximum,partition<4")[0]["value"] == "4"
    assert ten.external(POOL, "aggregation=average,pod in (hunt-01,hunt-02)")[0]["value"] == "150m"
    assert ten.external(LAG, "aggregation=sum,topic=other") == []


@pytest.mark.parametrize(
    ("metric", "selector"),
    [
        (POOL, "aggregation=median"),
        (POOL, "aggregation"),
        (POOL, "aggregation!=average"),
        (POOL, "aggregation in (average,maximum)"),
        (POOL, "aggregation=average,aggregation=maximum"),
        (POOL, "window_seconds=0"),
        (POOL, "window_seconds=16"),
        (POOL, "window_seconds=1.5"),
        (POOL, "horizon_seconds=60"),
        (LAG, "horizon_seconds=60"),
        ("shed_events_per_second", "window_seconds=10"),
        (POOL, "cap_events=10"),
        (LAG, "cap_events=0"),
        (POOL, "exclude_stuck_seconds=10"),
        (LAG, "exclude_stuck_seconds=4"),
        (LAG, "exclude_stuck_seconds=16"),
        ("consumer_lag_forecast", "aggregation=sum"),
        ("consumer_lag_forecast", "horizon_seconds=0"),
        ("consumer_lag_forecast", "horizon_seconds=601"),
    ],
)
def test_a_parameter_that_means_nothing_is_refused_by_name(ten: World, metric: str, selector: str) -> None:
    error = refused(ten, metric, selector)

    assert error.code == 400
    assert selector.split("=")[0].split("!")[0].split(" ")[0] in error.message


def test_a_pod_s_lag_is_a_sum_and_takes_no_parameters(ten: World) -> None:
    with pytest.raises(ApiError, match="takes no parameters"):
        ten.custom(f"pods/*/{LAG}", metric_selector="aggregation=maximum")


def test_a_cap_never_asks_for_more_pods_than_partitions_with_lag(world: World) -> None:
    """One partition with a mountain of lag is worked off by one pod, however many there are."""
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={0: 1_000_000, 1: 300, 2: 0, 3: 0})

    capped = world.external(LAG, "cap_events=1000")

    assert [i["value"] for i in capped] == ["1000", "300", "0", "0"]
    total = world.external(LAG, "cap_events=1000,aggregation=sum")[0]["value"]
    assert from_average(int(total) * 1000, 1000 * 1000, 1).replicas == 2
    engine = world.custom(f"eventengines.eventengine.dev/hunt/{LAG}", metric_selector="cap_events=1000")
    assert engine[0]["value"] == "1300"


def test_a_partition_that_does_not_move_is_left_out_where_that_is_asked_for(world: World) -> None:
    world.pod("hunt-a")
    for age in range(11):
        world.sample(
            "hunt-a",
            second=world.second - age,
            partitions={0: 50, 1: 60, 2: 0},
            positions={0: 7, 1: 1000 - age, 2: 9},
            total=3,
        )

    moving = world.external(LAG, "exclude_stuck_seconds=10")

    assert [(i["metricLabels"]["partition"], i["value"]) for i in moving] == [("1", "60"), ("2", "0")]
    assert len(world.external(LAG)) == 3, "nothing is left out unasked"


def test_a_partition_that_just_came_is_not_stuck(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={0: 50}, positions={0: 7}, total=1)
    world.sample("hunt-a", second=world.second - 5, partitions={}, total=1)

    assert [i["value"] for i in world.external(LAG, "exclude_stuck_seconds=5")] == ["50"]


def test_a_window_holds_the_peak_between_two_questions(world: World) -> None:
    world.pod("hunt-a")
    for age, value in enumerate((100, 100, 900, 100, 100)):
        world.sample("hunt-a", second=world.second - age, gauges={POOL: value})

    assert world.external(POOL)[0]["value"] == "100m"
    item = world.external(POOL, "window_seconds=5")[0]
    assert (item["value"], item["window"]) == ("900m", 5)
    assert world.external(POOL, "window_seconds=5,aggregation=average")[0]["value"] == "260m"
    assert world.custom(f"pods/*/{POOL}", metric_selector="window_seconds=5")[0]["value"] == "900m"


def test_a_window_with_a_hole_is_an_error_and_a_young_pod_s_is_shorter(world: World) -> None:
    world.pod("hunt-a")
    for age in (0, 1, 3, 4):
        world.sample("hunt-a", second=world.second - age, gauges={POOL: 100}, started_at=world.second - 100)
    assert "no sample of 2 s before its newest" in refused(world, POOL, "window_seconds=4").message

    world.sample("hunt-a", gauges={POOL: 100}, started_at=world.second - 2)
    assert world.external(POOL, "window_seconds=4")[0]["value"] == "100m"


def test_a_window_over_lag_follows_partitions_to_their_new_owner(world: World) -> None:
    for name in ("hunt-a", "hunt-b"):
        world.pod(name)
    for age, lag in enumerate((10, 20, 60)):
        owner, other = ("hunt-a", "hunt-b") if age == 0 else ("hunt-b", "hunt-a")
        world.sample(owner, second=world.second - age, partitions={0: lag}, total=1)
        world.sample(other, second=world.second - age, partitions={}, total=1)

    item = world.external(LAG, "window_seconds=3")[0]

    assert (item["value"], item["metricLabels"]["pod"], item["window"]) == ("30", "hunt-a", 3)
    assert world.external(LAG, "window_seconds=3,aggregation=maximum")[0]["value"] == "60"


def test_a_window_over_a_second_without_owner_is_an_error(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={0: 1}, total=1)
    world.sample("hunt-a", second=world.second - 1, partitions={}, total=1)

    assert refused(world, LAG, "window_seconds=2").code == 503


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50), st.sampled_from(list(Statistic)))
def test_every_statistic_but_the_sum_lies_within_its_values(values: list[int], statistic: Statistic) -> None:
    result = statistic.over_time(values)

    assert min(values) <= result <= max(values)
    if statistic not in {Statistic.AVERAGE, Statistic.SUM}:
        assert result in values


def test_nothing_has_no_statistic() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Statistic.MAXIMUM.of([])
