"""Who owns which partition of an engine's sources, and which partitions nobody owns.

Owns the rule of one owner: where two pods claim a partition on the same second
(it just moved), the one that got it last counts. Partitions that nobody claims
are listed, because a lag without them would be a number that is too small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .fleets import Engine
from .freshness import NotFresh, is_fresh, newest_common_second
from .pod_samples import KAFKA, PodSample
from .questions import Question, not_fresh
from .store import SampleStore


@dataclass(frozen=True, slots=True, order=True)
class SourceKey:
    """One source of one engine. The topic is part of it: two releases may read different ones."""

    name: str
    topic: str
    type: str

    def describe(self) -> str:
        """The source in words."""
        return f"source {self.name} (topic {self.topic})" if self.topic else f"source {self.name}"


@dataclass(frozen=True, slots=True)
class OwnedPartition:
    """A partition and its one owner. `lag_events` is None where the owner could not measure it."""

    source: SourceKey
    partition: int
    pod: str
    lag_events: int | None
    assigned_at_seconds: int


@dataclass(frozen=True, slots=True)
class Ownership:
    """All partitions of one engine, as its pods reported them on one second."""

    engine: Engine
    second: int
    owned: tuple[OwnedPartition, ...]
    missing: tuple[tuple[SourceKey, int], ...]
    unknown_totals: tuple[SourceKey, ...]
    """Sources whose number of partitions no pod knows yet."""
    pods: frozenset[str]
    """Names of the pods whose samples this was read from."""

    def source_labels(self, source: SourceKey) -> dict[str, str]:
        """The labels that all partitions of a source share."""
        labels = {"engine": self.engine.name, "source": source.name}
        if source.topic:
            labels["topic"] = source.topic
        return labels

    def partition_labels(self, source: SourceKey, partition: int) -> dict[str, str]:
        """The labels that a partition has whoever owns it."""
        return {**self.source_labels(source), "partition": str(partition)}


def resolve_ownership(
    question: Question, engine: Engine, store: SampleStore, *, kafka_only: bool
) -> Ownership:
    """Compare the samples of all live pods of `engine`, ready or not, on their newest common second.

    Raises:
        NotFresh: no pod has a fresh sample, or there is no second that all share.
    """
    metric = question.metric
    if not engine.pods:
        raise NotFresh(f"metric {metric.name} is not known: engine {engine.name} has no running pod")
    fresh = [
        pod
        for pod in engine.pods
        if is_fresh(store.history(pod.uid), question.now_seconds, metric.age_seconds_max)
    ]
    if not fresh:
        raise NotFresh(not_fresh(question, list(engine.pods), store))
    histories = [store.history(pod.uid) for pod in fresh]
    second = newest_common_second(
        histories, question.oldest_second, latecomers=True, newest_second=question.newest_second
    )
    if second is None:
        raise NotFresh(
            f"metric {metric.name} is not fresh: the pods of engine {engine.name} have no second in common "
            f"that is at most {metric.age_seconds_max} s old"
        )
    samples = {}
    for pod in fresh:
        sample = store.history(pod.uid).at(second)
        if sample is not None:
            samples[pod.name] = sample
    return _compare(engine, second, samples, kafka_only=kafka_only)


def _compare(engine: Engine, second: int, samples: Mapping[str, PodSample], *, kafka_only: bool) -> Ownership:
    totals: dict[SourceKey, int] = {}
    owners: dict[tuple[SourceKey, int], OwnedPartition] = {}
    for pod in sorted(samples):
        for source in samples[pod].sources:
            if not source.partitioned or (kafka_only and source.type != KAFKA):
                continue
            key = SourceKey(source.name, source.topic or "", source.type)
            totals[key] = max(totals.get(key, 0), source.partitions_total)
            for claim in source.partitions:
                rival = owners.get((key, claim.partition))
                if rival is None or claim.assigned_at_seconds > rival.assigned_at_seconds:
                    owners[key, claim.partition] = OwnedPartition(
                        key, claim.partition, pod, claim.lag_events, claim.assigned_at_seconds
                    )
    return Ownership(
        engine=engine,
        second=second,
        owned=tuple(owners[where] for where in sorted(owners)),
        missing=tuple(
            (key, partition)
            for key in sorted(totals)
            for partition in range(totals[key])
            if (key, partition) not in owners
        ),
        unknown_totals=tuple(key for key in sorted(totals) if totals[key] == 0),
        pods=frozenset(samples),
    )
