"""Who owns which partition of an engine's sources, and which partitions nobody owns.

Owns the rule of one owner: where two pods claim a partition on the same second
(it just moved), the one that got it last counts. What no pod claims is taken
from the brokers where they were asked of late, never from both. What is left
is listed, because a lag without it would be a number that is too small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec

from .broker_lag import BrokerSample
from .fleets import Engine
from .freshness import NotFresh, is_fresh, newest_common_second
from .pod_samples import KAFKA, PodSample
from .questions import Question, not_fresh
from .store import SampleStore


class SourceKey(NamedTuple):
    """One source of one engine. The topic is part of it: two releases may read different ones."""

    name: str
    topic: str
    type: str

    def describe(self) -> str:
        """The source in words."""
        return f"source {self.name} (topic {self.topic})" if self.topic else f"source {self.name}"


class OwnedPartition(msgspec.Struct, frozen=True, gc=False):
    """A partition and its one owner. `lag_events` is None where it could not be measured."""

    source: SourceKey
    partition: int
    pod: str
    """Name of the owner; empty where nobody owns it and the brokers told its lag."""
    lag_events: int | None
    assigned_at_seconds: int
    sampled_at_seconds: int


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
    if question.exactly:
        return _resolve(question, engine, store, kafka_only=kafka_only)
    what = (engine.uid, kafka_only, question.oldest_second, question.newest_second)
    return store.derived(what, engine, lambda: _resolve(question, engine, store, kafka_only=kafka_only))


def _resolve(question: Question, engine: Engine, store: SampleStore, *, kafka_only: bool) -> Ownership:
    metric = question.metric
    brokers = _fresh_broker_sample(question, engine, store)
    if not engine.pods:
        if brokers is not None:
            return _from_brokers(
                _compare(engine, brokers.sampled_at_seconds, {}, kafka_only=kafka_only), brokers
            )
        raise NotFresh(
            f"metric {metric.name} is not known: engine {engine.name} has no running pod"
            + _describe_brokers(engine, store)
        )
    fresh = [
        pod
        for pod in engine.pods
        if is_fresh(store.history(pod.uid), question.now_seconds, metric.age_seconds_max)
    ]
    if not fresh:
        if brokers is not None:
            return _from_brokers(
                _compare(engine, brokers.sampled_at_seconds, {}, kafka_only=kafka_only), brokers
            )
        raise NotFresh(not_fresh(question, list(engine.pods), store) + _describe_brokers(engine, store))
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
    ownership = _compare(engine, second, samples, kafka_only=kafka_only)
    return _from_brokers(ownership, brokers) if brokers is not None else ownership


def _fresh_broker_sample(question: Question, engine: Engine, store: SampleStore) -> BrokerSample | None:
    """What the brokers said, if that may be served. They say how it is, not how it was: no part of a window."""
    sample = store.broker_sample(engine.uid)
    if sample is None or sample.failure or engine.topic is None or question.exactly:
        return None
    return sample if sample.sampled_at_seconds >= question.oldest_second else None


def _describe_brokers(engine: Engine, store: SampleStore) -> str:
    sample = store.broker_sample(engine.uid)
    if engine.topic is None or sample is None:
        return ""
    return f"; the brokers: {sample.failure or 'not asked of late'}"


def _from_brokers(ownership: Ownership, sample: BrokerSample) -> Ownership:
    """The same, with the partitions of the engine's topic that no pod owns from the brokers."""
    declared = ownership.engine.topic
    if declared is None:
        return ownership
    key = SourceKey(declared.source, declared.topic, KAFKA)
    owned = {(found.source, found.partition) for found in ownership.owned}
    told = tuple(
        OwnedPartition(key, partition, "", lag_events, 0, sample.sampled_at_seconds)
        for partition, lag_events in sorted(sample.lag_events.items())
        if (key, partition) not in owned
    )
    known = {(found.source, found.partition) for found in told}
    return replace(
        ownership,
        owned=tuple(sorted((*ownership.owned, *told), key=lambda found: (found.source, found.partition))),
        missing=tuple(where for where in ownership.missing if where not in known),
        unknown_totals=tuple(source for source in ownership.unknown_totals if source != key),
    )


def _compare(engine: Engine, second: int, samples: Mapping[str, PodSample], *, kafka_only: bool) -> Ownership:
    totals: dict[SourceKey, int] = {}
    owners: dict[SourceKey, dict[int, OwnedPartition]] = {}
    for pod in sorted(samples):
        for source in samples[pod].sources:
            if not source.partitioned or (kafka_only and source.type != KAFKA):
                continue
            key = SourceKey(source.name, source.topic or "", source.type)
            totals[key] = max(totals.get(key, 0), source.partitions_total)
            of_source = owners.setdefault(key, {})
            for claim in source.partitions:
                rival = of_source.get(claim.partition)
                if rival is None or claim.assigned_at_seconds > rival.assigned_at_seconds:
                    of_source[claim.partition] = OwnedPartition(
                        key, claim.partition, pod, claim.lag_events, claim.assigned_at_seconds, second
                    )
    keys = sorted(totals)
    return Ownership(
        engine=engine,
        second=second,
        owned=tuple(owners[key][partition] for key in keys for partition in sorted(owners[key])),
        missing=tuple(
            (key, partition)
            for key in keys
            for partition in range(totals[key])
            if partition not in owners[key]
        ),
        unknown_totals=tuple(key for key in keys if totals[key] == 0),
        pods=frozenset(samples),
    )
