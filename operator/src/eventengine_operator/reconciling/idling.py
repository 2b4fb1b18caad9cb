"""Between no pods and some: when an engine with `scaleToZero` is put to rest, and when it wakes.

Owns the decision and what it rests on, the lag over time; reads nothing itself. Times are arguments.

Rules:
- What isn't known is never idleness: an unknown lag, a pod that can't be asked, a gap between two readings
  and a clock that was set each begin the wait anew.
- A lag of zero isn't idleness either while pods take events as fast as they come.
- The autoscaler goes first: only from minReplicas does an engine go to zero, so the way down is its own.
- With no pods, a lag that stays unknown wakes: rather pods without work than work without pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from eventengine_contract.event_engine import ScaleToZero

GAP_SECONDS_MAX: Final = 60
"""Longer between two readings, and nobody knows what happened in between."""
READING_SECONDS_MAX: Final = 10
"""The reading on which an engine is put to rest is no older."""
UNKNOWN_SHOWN_SECONDS: Final = 30
"""A lag is unknown for moments in every rebalance; only what lasts is worth a word."""


@dataclass(frozen=True)
class Reading:
    """What was read at one moment."""

    at: datetime
    lag_events: int | None
    """Over all partitions; None: not known."""
    events_taken: Mapping[str, int] | None = field(default_factory=dict)
    """Total of each start of a container that runs; None: one of them could not be asked."""
    failure: str = ""
    """Why something isn't known."""

    @property
    def is_incomplete(self) -> bool:
        """Whether something isn't known."""
        return self.lag_events is None or self.events_taken is None


@dataclass(frozen=True)
class Idleness:
    """What all readings so far amount to."""

    idle_since: datetime | None = None
    unknown_since: datetime | None = None
    last: Reading | None = None

    def after(self, reading: Reading) -> Idleness:
        """The same with one more reading."""
        unknown_since = None
        if reading.is_incomplete:
            unknown_since = min(self.unknown_since or reading.at, reading.at)
        idle_since = None
        if reading.lag_events == 0 and reading.events_taken is not None:
            idle_since = self.idle_since if self._is_continued_by(reading) else reading.at
        return Idleness(idle_since, unknown_since, reading)

    def _is_continued_by(self, reading: Reading) -> bool:
        if self.idle_since is None or self.last is None:
            return False
        gap = reading.at - self.last.at
        is_near = timedelta() <= gap <= timedelta(seconds=GAP_SECONDS_MAX)
        return is_near and reading.events_taken == self.last.events_taken

    def is_unknown(self, now: datetime) -> bool:
        """Whether something has been unknown for longer than a rebalance takes."""
        return _lasts(self.unknown_since, UNKNOWN_SHOWN_SECONDS, now)


def next_replicas(
    declared: ScaleToZero,
    replicas: int,
    replicas_min: int,
    idleness: Idleness,
    now: datetime,
    *,
    may_rest: bool = True,
    may_wake: bool = True,
) -> int | None:
    """The number to go on with: 0, or `replicas_min` out of 0; None to leave it to the autoscaler.

    `may_rest` and `may_wake` are false while the user paused scaling in that direction.
    """
    last = idleness.last
    if last is None:
        return None
    if replicas == 0:
        has_work = last.lag_events is not None and last.lag_events > declared.activation_lag_events
        is_blind = _lasts(idleness.unknown_since, declared.unknown_seconds_max, now)
        return replicas_min if may_wake and (has_work or is_blind) else None
    is_fresh = timedelta() <= now - last.at <= timedelta(seconds=READING_SECONDS_MAX)
    is_idle = is_fresh and _lasts(idleness.idle_since, declared.idle_seconds, now)
    return 0 if may_rest and is_idle and replicas <= replicas_min else None


def _lasts(since: datetime | None, seconds: int, now: datetime) -> bool:
    return since is not None and now - since >= timedelta(seconds=seconds)
