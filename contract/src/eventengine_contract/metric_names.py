"""The metrics that the Kubernetes metrics APIs serve, and what each one means.

Owns the names and their semantics: how values of one pod become one value, how
values of many pods become an answer, and the greatest age at which a sample
may still be served. The adapter implements them, the operator writes them into
HorizontalPodAutoscalers, and the README's table is generated from them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
"""The autoscaler's client writes external names in lower case: no two may differ in case alone."""

_RESERVED_NAMES: Final = frozenset({"finalize", "status"})
"""Kubernetes reads a path that ends in one of these as a part of the namespace itself, and authorises that."""


class Aggregation(StrEnum):
    """How the pods' values become the items of an external answer."""

    MAXIMUM = "maximum"
    """Exactly one item, the maximum over ready pods; `aggregation=average` selects the mean."""
    PER_PARTITION = "per-partition"
    """One item per source partition; a missing partition makes the answer an error."""
    PER_SOURCE = "per-source"
    """One item per source of an engine, over all its partitions; a single pod has none."""
    SUM = "sum"
    """Exactly one item, the sum over ready pods."""


@dataclass(frozen=True)
class Metric:
    """One metric of the Kubernetes metrics APIs.

    `age_seconds_max` is the age past which a sample is no longer served: the
    answer becomes an error that names metric, age and limit.
    """

    name: str
    unit: str
    description: str
    aggregation: Aggregation
    age_seconds_max: int

    @property
    def of_pods(self) -> bool:
        """Whether a single pod has this metric, not only the engine as a whole."""
        return self.aggregation is not Aggregation.PER_SOURCE

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in _RESERVED_NAMES:
            raise ValueError(
                f"{self.name!r} can't be a metric's name: use lower-case letters, digits and underscores, and none "
                f"of {', '.join(sorted(_RESERVED_NAMES))}"
            )


_METRICS: Final = (
    Metric(
        "buffer_pool_utilisation",
        "ratio 0-1",
        "Chunks of the buffer pool in use, as a share of all chunks.",
        Aggregation.MAXIMUM,
        10,
    ),
    Metric(
        "ring_utilisation",
        "ratio 0-1",
        "Slots of the fullest ring in use, as a share of the bound in force.",
        Aggregation.MAXIMUM,
        10,
    ),
    Metric(
        "arena_utilisation",
        "ratio 0-1",
        "Slots of the state arena in use, as a share of all slots.",
        Aggregation.MAXIMUM,
        10,
    ),
    Metric(
        "consumer_lag",
        "events",
        "Events not yet applied, over all sources, one item per partition.",
        Aggregation.PER_PARTITION,
        10,
    ),
    Metric(
        "consumer_lag_forecast",
        "events",
        "`consumer_lag` in a minute, or in `horizon_seconds`, if the trend of two minutes goes on.",
        Aggregation.PER_SOURCE,
        10,
    ),
    Metric(
        "kafka_consumer_lag",
        "events",
        "Last stable offset minus applied position, over Kafka sources, one item per partition.",
        Aggregation.PER_PARTITION,
        10,
    ),
    Metric(
        "allocator_pressure",
        "ratio",
        "Resident bytes of the allocator over the memory limit.",
        Aggregation.MAXIMUM,
        10,
    ),
    Metric(
        "shed_events_per_second",
        "events per second",
        "Directly ingested events refused by shedding, over the last ten seconds.",
        Aggregation.SUM,
        10,
    ),
    Metric(
        "service_time_p99_milliseconds",
        "milliseconds",
        "99th percentile of the time the core spends on one event.",
        Aggregation.MAXIMUM,
        10,
    ),
)

METRICS: Final[dict[str, Metric]] = {metric.name: metric for metric in _METRICS}
EXTERNAL_LABELS: Final = ("engine", "source", "topic", "partition", "pod", "class")
