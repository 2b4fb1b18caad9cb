"""Lag as the brokers know it: what is left of a topic for a group that nobody runs.

Owns the arithmetic from offsets to a lag, and when there is none. The last
stable offset counts transaction markers, a committed offset may stand before
some of them: where nothing but markers lies between the two, the lag is zero
(`OffsetsOfPartition.drained`), and where that was not looked at it is an upper
bound, larger than the truth by the markers. It is never too small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    """A source of an engine as its EventEngine declares it: enough to ask the brokers."""

    source: str
    bootstrap_servers: tuple[str, ...]
    topic: str
    group: str
    from_earliest: bool
    properties: tuple[tuple[str, str], ...] = ()
    credentials: str = ""
    """Name of the Secret with what is shown to the brokers; empty for none."""


@dataclass(frozen=True, slots=True)
class OffsetsOfPartition:
    """What brokers say of one partition. Offsets count records and markers alike."""

    earliest: int
    last_stable: int
    committed: int | None
    """Where the group goes on; None if it never committed."""
    drained: bool = False
    """Whether no record that a reader of committed data would see lies between the two."""


@dataclass(frozen=True, slots=True)
class BrokerSample:
    """The lag of a topic's partitions on one second; None where it is not known."""

    sampled_at_seconds: int
    lag_events: Mapping[int, int | None] = field(default_factory=dict)
    failure: str = ""
    """Why nothing is known; empty if something is."""


def start_of(offsets: OffsetsOfPartition, *, from_earliest: bool) -> int | None:
    """The offset that the group's next owner would read first; None if nobody can know.

    A group that never committed and begins at the end has no such place, and a
    commit beyond the end is of a topic that was made anew since.
    """
    start = offsets.committed
    if start is None:
        return offsets.earliest if from_earliest else None
    return max(start, offsets.earliest) if start <= offsets.last_stable else None


def lag_of(offsets: OffsetsOfPartition, *, from_earliest: bool) -> int | None:
    """Events that the next owner would have to apply; None if that is not known."""
    start = start_of(offsets, from_earliest=from_earliest)
    if start is None:
        return None
    return 0 if offsets.drained else offsets.last_stable - start
