"""One pod's sample, reduced to what the metrics APIs can ask for.

Owns the step from what is read of a snapshot (`snapshot_views`) to values: which
field each metric reads. A value that the engine did not measure is None; it is
never replaced by zero.

Tens of thousands of samples are kept. They refer to nothing that refers back, so
the collector of cycles is told to leave them alone: its pauses would be the
slowest answers otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from .quantities import bounded_millis, millis_from_count, millis_from_ratio
from .snapshot_views import SnapshotView, SourceView

KAFKA: Final = "kafka"


class PartitionSample(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A partition that the pod claims. `lag_events` is None where it could not be measured."""

    partition: int
    assigned_at_seconds: int
    lag_events: int | None
    position: int | None = None
    """Offset up to which events were applied."""


class SourceSample(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One source of the pod and the partitions of it that the pod claims."""

    name: str
    type: str
    topic: str | None
    partitions_total: int
    connected: bool
    partitions: tuple[PartitionSample, ...]

    @property
    def partitioned(self) -> bool:
        """Whether this source has a lag at all: a Kafka topic always, others if they have partitions."""
        return self.type == KAFKA or self.partitions_total > 0


class PodSample(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What one pod measured on one whole second."""

    sampled_at_seconds: int
    incarnation: str
    started_at_seconds: int
    ready: bool
    gauges_millis: Mapping[str, int | None]
    shed_events: Mapping[str, int]
    sources: tuple[SourceSample, ...]
    unknown_because: Mapping[str, str] | None = None
    """Why a gauge is None, by name, where that was learned."""


def _allocator_pressure(snapshot: SnapshotView) -> int | None:
    limit = snapshot.process.memory_limit_bytes
    resident = snapshot.allocator.resident_bytes
    if not limit or resident is None:
        return None
    return bounded_millis(-(-resident * 1000 // limit))


def _ring_utilisation(snapshot: SnapshotView) -> int | None:
    values = [millis_from_ratio(ring.utilisation) for ring in snapshot.rings]
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


_GAUGES: Final[dict[str, Callable[[SnapshotView], int | None]]] = {
    "buffer_pool_utilisation": lambda snapshot: millis_from_ratio(snapshot.buffer_pool.utilisation),
    "ring_utilisation": _ring_utilisation,
    "arena_utilisation": lambda snapshot: millis_from_ratio(snapshot.arena.utilisation),
    "allocator_pressure": _allocator_pressure,
    "service_time_p99_milliseconds": lambda snapshot: bounded_millis(
        -(-snapshot.latency.service_p99_nanoseconds // 1000)
    ),
}
PARTITIONS_MAX: Final = 65_536
"""More partitions than any source has; a pod that reports more is refused before it costs memory."""


def pod_sample(snapshot: SnapshotView) -> PodSample:
    """The values in `snapshot`.

    Raises:
        ValueError: it reports more than can be true.
    """
    for source in snapshot.sources:
        if source.partitions_total > PARTITIONS_MAX:
            raise ValueError(f"source {source.name} reports {source.partitions_total} partitions")
    return PodSample(
        sampled_at_seconds=snapshot.sampled_at_seconds,
        incarnation=snapshot.identity.incarnation,
        started_at_seconds=snapshot.identity.started_at_seconds,
        ready=snapshot.readiness.ready,
        gauges_millis={name: gauge(snapshot) for name, gauge in _GAUGES.items()},
        shed_events=dict(snapshot.counters.shed),
        sources=tuple(_source_sample(source) for source in snapshot.sources),
    )


def _source_sample(source: SourceView) -> SourceSample:
    return SourceSample(
        name=source.name,
        type=source.type,
        topic=source.topic,
        partitions_total=source.partitions_total,
        connected=source.connected,
        partitions=tuple(
            PartitionSample(
                partition.partition,
                partition.assigned_at_seconds,
                partition.lag_events
                if partition.lag_events is not None and millis_from_count(partition.lag_events) is not None
                else None,
                partition.position,
            )
            for partition in source.partitions
        ),
    )
