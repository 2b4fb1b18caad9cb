"""Answers about lag: one item per partition, or its sum over an engine or a pod.

Owns the rule that a lag is complete or an error. A partition that no pod owns,
a number of partitions that nobody knows and a lag that could not be measured
each fail the answer, unless the selector leaves them out. A pod that is not
ready counts too: a partition that is being restored is owned and has a lag.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import structs

from .fleets import Engine, EnginePod
from .folding import Statistic
from .freshness import NotFresh
from .ownership import Ownership, SourceKey, resolve_ownership
from .quantities import millis_from_count
from .questions import POD_KEYS, Parameters, Question, Value, describe_ranges, not_fresh
from .store import SampleStore

_KAFKA_METRICS: Final = frozenset({"kafka_consumer_lag"})


def partition_values(question: Question, engine: Engine, store: SampleStore) -> list[Value]:
    """One value per partition of `engine` that the selector leaves."""
    ownership = _resolve(question, engine, store)
    _refuse_gaps(question, ownership)
    _refuse_silent_pod(question, ownership, store)
    values, unmeasured = [], []
    for owned in ownership.owned:
        labels = ownership.partition_labels(owned.source, owned.partition)
        if owned.pod:
            labels["pod"] = owned.pod
        if not question.selector.matches(labels):
            continue
        millis = millis_from_count(owned.lag_events) if owned.lag_events is not None else None
        if millis is None:
            unmeasured.append(owned.partition)
        else:
            values.append(Value(millis, owned.sampled_at_seconds, 0, labels, bool(owned.pod)))
    if unmeasured:
        raise NotFresh(_unmeasured(question, engine, unmeasured))
    return values


def shaped_partition_values(
    question: Question, parameters: Parameters, engine: Engine, store: SampleStore
) -> list[Value]:
    """One value per partition, as the parameters ask for it: over a window, without the stuck, capped."""
    values = _windowed(question, parameters, engine, store)
    if parameters.exclude_stuck_seconds:
        values = _without_stuck(values, parameters.exclude_stuck_seconds, engine, store)
    if parameters.cap_events:
        # With a target of as many events per pod this never asks for more pods than partitions with lag.
        cap_millis = parameters.cap_events * 1000
        values = [structs.replace(value, millis=min(value.millis, cap_millis)) for value in values]
    return values


def _without_stuck(values: list[Value], seconds: int, engine: Engine, store: SampleStore) -> list[Value]:
    """The values but for partitions that have a lag and did not move for `seconds`: more pods don't help them."""
    uids = {pod.name: pod.uid for pod in engine.pods}
    positions: dict[tuple[str, int], dict[tuple[str, str, str], int | None]] = {}

    def position(value: Value, second: int) -> int | None:
        uid = uids.get(value.labels.get("pod", ""), "")
        if (uid, second) not in positions:
            sample = store.history(uid).at(second)
            positions[uid, second] = {
                (source.name, source.topic or "", str(claim.partition)): claim.position
                for source in (sample.sources if sample is not None else ())
                for claim in source.partitions
            }
        return positions[uid, second].get(_partition_of(value))

    def is_stuck(value: Value) -> bool:
        now = position(value, value.sampled_at_seconds)
        return (
            value.millis > 0
            and now is not None
            and now == position(value, value.sampled_at_seconds - seconds)
        )

    return [value for value in values if not is_stuck(value)]


def _windowed(question: Question, parameters: Parameters, engine: Engine, store: SampleStore) -> list[Value]:
    """One value per partition, each over the window that the parameters ask for.

    Every second of it has to be known whole, whoever owned the partitions then.
    """
    newest = partition_values(question, engine, store)
    if parameters.window_seconds == 1 or not newest:
        return newest
    owned = [value for value in newest if value.from_pods]
    if len(owned) < len(newest):
        raise NotFresh(
            f"metric {question.metric.name} is not known over {parameters.window_seconds} s: nobody owns all "
            f"partitions of engine {engine.name}, and the brokers know only how it is now"
        )
    second = owned[0].sampled_at_seconds
    points = {_partition_of(value): [value.millis] for value in newest}
    for past in range(second - 1, second - parameters.window_seconds, -1):
        for value in partition_values(question.at(past), engine, store):
            if _partition_of(value) in points:
                points[_partition_of(value)].append(value.millis)
    statistic = parameters.statistic or Statistic.AVERAGE
    return [
        Value(
            statistic.over_time(points[_partition_of(value)]),
            second,
            parameters.window_seconds,
            value.labels,
        )
        for value in newest
    ]


def _partition_of(value: Value) -> tuple[str, str, str]:
    labels = value.labels
    return labels["source"], labels.get("topic", ""), labels["partition"]


def source_lags(
    question: Question, engine: Engine, store: SampleStore
) -> tuple[int, dict[SourceKey, int | None]]:
    """A second, and the lag in events of each source on it; None for one that is not known whole."""
    ownership = _resolve(question, engine, store)
    lags: dict[SourceKey, int | None] = {}
    for owned in ownership.owned:
        before = lags.setdefault(owned.source, 0)
        if before is not None:
            lags[owned.source] = None if owned.lag_events is None else before + owned.lag_events
    for source in (*(source for source, _ in ownership.missing), *ownership.unknown_totals):
        lags[source] = None
    return ownership.second, lags


def pod_lags(
    question: Question, engine: Engine, pods: Sequence[EnginePod], store: SampleStore, *, whole: bool
) -> list[tuple[EnginePod, Value]]:
    """The sum over the partitions of each of `pods`.

    With `whole` the answer is about the group of pods: a partition without an
    owner fails it, and so does a ready pod without a fresh sample. A running
    pod that is not ready yet and has none is left out.
    """
    ownership = _resolve(question, engine, store)
    if whole:
        _refuse_gaps(question, ownership)
    sums = _sums(question, ownership)
    values = []
    for pod in pods:
        if not question.selector.only(POD_KEYS).matches({"engine": engine.name, "pod": pod.name}):
            continue
        if pod.name not in ownership.pods:
            if whole and not pod.ready:
                continue
            raise NotFresh(not_fresh(question, [pod], store))
        if sums is not None:
            values.append((pod, _value(question, ownership, sums, [pod.name])))
    return values


def _resolve(question: Question, engine: Engine, store: SampleStore) -> Ownership:
    return resolve_ownership(question, engine, store, kafka_only=question.metric.name in _KAFKA_METRICS)


def _refuse_gaps(question: Question, ownership: Ownership) -> None:
    """Fail where a partition that the selector may mean has no owner on that second.

    The owner of such a partition is unknown, so it carries no `pod` label.
    """
    engine, metric = ownership.engine, question.metric
    for source in ownership.unknown_totals:
        if question.selector.without({"partition", "pod"}).matches(ownership.source_labels(source)):
            raise NotFresh(_unknown_total(question, ownership, source))
    gaps: dict[SourceKey, list[int]] = {}
    for source, partition in ownership.missing:
        if question.selector.matches(ownership.partition_labels(source, partition)):
            gaps.setdefault(source, []).append(partition)
    if gaps:
        listed = "; ".join(
            f"partitions {describe_ranges(partitions)} of {source.describe()}"
            for source, partitions in gaps.items()
        )
        raise NotFresh(
            f"metric {metric.name} is not known: no pod of engine {engine.name} with a sample of at most "
            f"{metric.age_seconds_max} s owns {listed}"
        )


def _refuse_silent_pod(question: Question, ownership: Ownership, store: SampleStore) -> None:
    """Fail where the selector asks for a pod that has no sample on that second."""
    if not question.selector.mentions("pod"):
        return
    engine = ownership.engine
    silent = [
        pod
        for pod in engine.pods
        if pod.name not in ownership.pods
        and question.selector.only(POD_KEYS).matches({"engine": engine.name, "pod": pod.name})
    ]
    if silent:
        raise NotFresh(not_fresh(question, silent, store))


@dataclass(slots=True)
class _Sums:
    """What each pod owns of the partitions that are meant."""

    lag_events: dict[str, int] = field(default_factory=dict)
    unmeasured: dict[str, list[int]] = field(default_factory=dict)


def _sums(question: Question, ownership: Ownership) -> _Sums | None:
    """The lag of every pod, in one pass over the partitions; None if the selector means no partition."""
    selector = question.selector
    anybody = selector.without({"pod"})
    for source in ownership.unknown_totals:
        if selector.without({"partition", "pod"}).matches(ownership.source_labels(source)):
            raise NotFresh(_unknown_total(question, ownership, source))
    sums = _Sums()
    meant = any(
        anybody.matches(ownership.partition_labels(source, partition))
        for source, partition in ownership.missing
    )
    for owned in ownership.owned:
        if selector.requirements:
            labels = ownership.partition_labels(owned.source, owned.partition)
            meant = meant or anybody.matches(labels)
            chosen = selector.matches({**labels, "pod": owned.pod})
        else:
            meant = chosen = True
        if not owned.pod or not chosen:
            continue
        if owned.lag_events is None:
            sums.unmeasured.setdefault(owned.pod, []).append(owned.partition)
        else:
            sums.lag_events[owned.pod] = sums.lag_events.get(owned.pod, 0) + owned.lag_events
    return sums if meant else None


def _value(question: Question, ownership: Ownership, sums: _Sums, pods: Iterable[str]) -> Value:
    """The lag of these pods together."""
    pods = tuple(pods)
    unmeasured = [partition for pod in pods for partition in sums.unmeasured.get(pod, ())]
    millis = millis_from_count(sum(sums.lag_events.get(pod, 0) for pod in pods))
    if unmeasured or millis is None:
        raise NotFresh(_unmeasured(question, ownership.engine, unmeasured))
    return Value(millis, ownership.second)


def _unknown_total(question: Question, ownership: Ownership, source: SourceKey) -> str:
    return (
        f"metric {question.metric.name} is not known: no pod of engine {ownership.engine.name} has learned "
        f"from the broker how many partitions {source.describe()} has"
    )


def _unmeasured(question: Question, engine: Engine, partitions: list[int]) -> str:
    listed = f" of partitions {describe_ranges(sorted(partitions))}" if partitions else ""
    return (
        f"metric {question.metric.name} is not known: the lag{listed} of engine {engine.name} could not be "
        "measured, the owner did not learn the last stable offset from the broker"
    )
