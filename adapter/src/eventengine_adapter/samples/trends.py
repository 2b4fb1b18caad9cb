"""The lag of each engine's sources over the last minutes: what forecasts are made from.

Bounded: `TREND_SECONDS` and a little per source, and only engines that the fleet
still has. A second on which a lag was not known whole is not here. Kept apart
from the pods' samples, because a lag outlives the pod that reported it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

TREND_SECONDS: Final = 120
"""How far back a forecast looks."""

_SECONDS_KEPT: Final = TREND_SECONDS + 16
"""A forecast may be of a second some time ago, and looks back from there."""


class LagTrends:
    """Lag in events by engine UID, source and second."""

    def __init__(self) -> None:
        self._series: dict[str, dict[str, dict[int, int]]] = {}

    def record(self, engine_uid: str, source: str, second: int, lag_events: int) -> None:
        """Keep the lag of a source on `second`."""
        series = self._series.setdefault(engine_uid, {}).setdefault(source, {})
        series[second] = lag_events
        for old in sorted(series)[:-_SECONDS_KEPT]:
            del series[old]

    def knows(self, engine_uid: str, second: int) -> bool:
        """Whether the lag of any source of that engine is kept for `second`."""
        return any(second in series for series in self._series.get(engine_uid, {}).values())

    def points(self, engine_uid: str, source: str, newest_second: int) -> list[tuple[int, int]]:
        """Second and lag in events over the `TREND_SECONDS` up to `newest_second`, oldest first."""
        series = self._series.get(engine_uid, {}).get(source, {})
        oldest_second = newest_second - TREND_SECONDS
        return sorted(point for point in series.items() if oldest_second <= point[0] <= newest_second)

    def retain(self, engine_uids: Collection[str], oldest_second: int) -> None:
        """Forget all engines but these, and sources of which nothing is known since `oldest_second`."""
        self._series = {
            uid: {source: series for source, series in sources.items() if max(series) >= oldest_second}
            for uid, sources in self._series.items()
            if uid in engine_uids
        }

    def clear(self) -> None:
        """Forget everything."""
        self._series.clear()
