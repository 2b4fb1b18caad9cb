"""How many values become one: the statistics that a selector may ask for.

Owns their names and their arithmetic, in whole thousandths. A percentile is a
value that was measured (nearest rank), never one between two.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class Statistic(StrEnum):
    """What the label `aggregation` may select."""

    AVERAGE = "average"
    MAXIMUM = "maximum"
    SUM = "sum"
    P50 = "p50"
    P90 = "p90"
    P95 = "p95"
    P99 = "p99"

    def of(self, values: Sequence[int]) -> int:
        """The statistic of at least one value.

        An average is rounded up, so that pressure never reads as none.
        """
        if not values:
            raise ValueError("nothing has no statistic")
        match self:
            case Statistic.AVERAGE:
                return -(-sum(values) // len(values))
            case Statistic.MAXIMUM:
                return max(values)
            case Statistic.SUM:
                return sum(values)
        rank = -(-len(values) * int(self.value[1:]) // 100)
        return sorted(values)[rank - 1]

    def over_time(self, values: Sequence[int]) -> int:
        """The statistic of one thing's values on several seconds, where a sum means nothing: their average."""
        return (Statistic.AVERAGE if self is Statistic.SUM else self).of(values)
