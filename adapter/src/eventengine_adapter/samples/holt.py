"""Holt's linear method: double exponential smoothing of a level and its trend.

C. C. Holt, "Forecasting seasonals and trends by exponentially weighted moving
averages", 1957. Owns the arithmetic and the rule about gaps; knows nothing of
lag. Deterministic: equal points give equal forecasts on every replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

LEVEL_WEIGHT: Final = 0.3
"""Weight of the newest point in the level, which follows a step to 97 % in ten points."""

TREND_WEIGHT: Final = 0.05
"""Weight of the newest slope in the trend. With both weights one outlier moves a forecast of sixty steps by 1.2 times
its own size, and by less from the next point on."""

GAP_SECONDS_MAX: Final = 5
"""Longest gap between two points that is bridged by a straight line; a rebalance takes a second or two."""


class GapError(ValueError):
    """The points leave out more than can be bridged; the message says how much and when."""


def every_second(points: Sequence[tuple[int, int]]) -> list[float]:
    """One value per second from the first point to the last, with short gaps bridged.

    Raises:
        GapError: a gap is longer than `GAP_SECONDS_MAX`.
    """
    values: list[float] = []
    for index, (second, value) in enumerate(points):
        if index:
            before_second, before = points[index - 1]
            step = second - before_second
            if step > GAP_SECONDS_MAX + 1:
                raise GapError(f"{step - 1} seconds are missing after {before_second}")
            values += [before + (value - before) * part / step for part in range(1, step)]
        values.append(float(value))
    return values


def forecast(values: Sequence[float], horizon: int) -> float:
    """The value `horizon` steps after the last one; never below zero, which no lag is.

    Raises:
        ValueError: there are fewer than two values, which have no trend.
    """
    if len(values) < 2:
        raise ValueError("a trend needs two values")
    level, trend = values[0], values[1] - values[0]
    for value in values[1:]:
        expected = level + trend
        before, level = level, expected + LEVEL_WEIGHT * (value - expected)
        trend += TREND_WEIGHT * (level - before - trend)
    return max(0.0, level + horizon * trend)
