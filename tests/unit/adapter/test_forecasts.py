"""What a lag comes to: Holt's linear method, and when there is no forecast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from eventengine_adapter.apis.statuses import ApiError
from eventengine_adapter.samples import forecasts, holt
from eventengine_adapter.samples.trends import TREND_SECONDS
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import World

FORECAST = "consumer_lag_forecast"


def refused(world: World, selector: str | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        world.external(FORECAST, selector)
    return caught.value


def observe(world: World, second: int) -> None:
    """What happens each second."""
    forecasts.forget(world.fleet(), world.store, second)
    for engine in world.fleet().all_engines():
        forecasts.observe(engine, world.store, second)


def live(world: World, lag: Callable[[int], int | None], *, seconds: int = TREND_SECONDS + 1) -> None:
    """Let a pod of two partitions live until now, its lag a function of the seconds it still has to go."""
    world.pod("hunt-a")
    for second in range(world.second - seconds + 1, world.second + 1):
        value = lag(world.second - second)
        world.sample("hunt-a", second=second, partitions={0: value, 1: 0}, total=2)
        observe(world, second + 1)


# --- the method ----------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.integers(0, 50), st.integers(1, 600))
def test_a_straight_line_goes_on_straight(start: int, slope: int, horizon: int) -> None:
    values = [float(start + slope * second) for second in range(121)]

    assert holt.forecast(values, horizon) == pytest.approx(start + slope * (120 + horizon))


def test_the_textbook_recursion_holds() -> None:
    """Worked by hand: level 10, trend 2; then 12 fits exactly; then 20 pulls both up."""
    level = 14 + 0.3 * (20 - 14)
    trend = 2 + 0.05 * (level - 12 - 2)

    assert holt.forecast([10.0, 12.0, 20.0], 5) == pytest.approx(level + 5 * trend)


def test_a_lag_that_shrinks_does_not_become_less_than_nothing() -> None:
    assert holt.forecast([float(120 - second) for second in range(121)], 60) == 0.0


def test_a_single_outlier_moves_the_forecast_little_and_not_for_long() -> None:
    values = [100.0] * 100 + [1000.0]

    assert holt.forecast(values, 60) == pytest.approx(100 + 1.2 * 900)
    assert holt.forecast(values + [100.0] * 20, 60) < 200


def test_short_gaps_are_bridged_and_long_ones_are_not() -> None:
    assert holt.every_second([(1, 10), (2, 20), (5, 50)]) == [10, 20, 30, 40, 50]
    with pytest.raises(holt.GapError, match="6 seconds are missing after 2"):
        holt.every_second([(1, 10), (2, 20), (9, 50)])


def test_one_value_has_no_trend() -> None:
    with pytest.raises(ValueError, match="two values"):
        holt.forecast([1.0], 1)


# --- the metric ----------------------------------------------------------------------------------------------


def test_a_growing_lag_is_forecast_a_minute_ahead_and_as_far_as_is_asked(world: World) -> None:
    live(world, lambda remaining: 2000 - 10 * remaining)

    item = world.external(FORECAST)[0]
    assert item == {
        "metricName": FORECAST,
        "metricLabels": {
            "engine": "hunt",
            "source": "moves",
            "topic": "hunt-events",
            "horizon_seconds": "60",
        },
        "timestamp": "2026-11-21T10:00:00Z",
        "window": TREND_SECONDS,
        "value": "2600",
    }
    assert world.external(FORECAST, "horizon_seconds=300,source=moves")[0]["value"] == "5000"
    assert world.external(FORECAST, "source=other") == []
    whole = world.custom(
        f"eventengines.eventengine.dev/hunt/{FORECAST}", metric_selector="horizon_seconds=300"
    )
    assert [i["value"] for i in whole] == ["5000"]


def test_a_single_pod_has_no_forecast(world: World) -> None:
    live(world, lambda _: 1)

    with pytest.raises(ApiError) as caught:
        world.custom(f"pods/*/{FORECAST}")
    assert caught.value.code == 404


def test_before_two_minutes_are_known_there_is_no_forecast(world: World) -> None:
    live(world, lambda _: 5, seconds=60)

    error = refused(world)
    assert error.code == 503
    assert "has a known lag for 59 s, a forecast needs 120 s" in error.message


def test_a_rebalance_of_seconds_does_not_take_the_forecast_away(world: World) -> None:
    live(world, lambda remaining: None if remaining in {30, 31} else 100)

    assert world.external(FORECAST)[0]["value"] == "100"


def test_a_longer_gap_does_until_it_is_out_of_sight(world: World) -> None:
    live(world, lambda remaining: None if 30 <= remaining < 40 else 100)

    assert "10 seconds are missing" in refused(world).message


def test_a_lag_that_is_not_known_any_more_has_no_forecast(world: World) -> None:
    live(world, lambda remaining: None if remaining < 12 else 100)

    assert "has had no known lag for 10 s" in refused(world).message


def test_the_trend_outlives_the_pod_that_reported_it(world: World) -> None:
    live(world, lambda _: 100)
    world.replace_pod("hunt-a", "hunt-b")
    world.sample("hunt-b", partitions={0: 100, 1: 0}, total=2)

    assert world.external(FORECAST)[0]["value"] == "100"


def test_trends_are_bounded_and_end_with_their_engine(world: World) -> None:
    live(world, lambda _: 1, seconds=3 * TREND_SECONDS)
    points = world.store.trends.points("uid-hunt", "kafka/moves/hunt-events", world.second)
    assert len(points) == TREND_SECONDS + 1

    world.store.trends.retain((), 0)

    assert world.store.trends.points("uid-hunt", "kafka/moves/hunt-events", world.second) == []
