"""Answers about ratios, percentiles and rates, which one sample or two of a pod give.

Owns the rule that such an answer is one value over ready pods: the maximum, the
sum of rates, or the statistic that was asked for. Every ready pod that the
selector leaves must have a fresh sample, and over a window one of each second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from eventengine_contract.metric_names import Aggregation

from .fleets import Engine, EnginePod
from .folding import Statistic
from .freshness import NotFresh, newest_common_second
from .label_selectors import Selector
from .pod_samples import PodSample
from .quantities import bounded_millis
from .questions import AGGREGATION_LABEL, Parameters, Question, Value, not_fresh, take_parameters
from .store import RATE_WINDOW_SECONDS, History, SampleStore

_SHED: Final = "shed_events_per_second"
_WINDOWED: Final = frozenset({_SHED, "service_time_p99_milliseconds"})
_DEFAULTS: Final = {Aggregation.MAXIMUM: Statistic.MAXIMUM, Aggregation.SUM: Statistic.SUM}


def combined_value(question: Question, engines: Sequence[Engine], store: SampleStore) -> Value | None:
    """One value over the ready pods that the selector leaves; None if it leaves none.

    Raises:
        NotFresh: an engine that the selector leaves has no ready pod, or one of its ready pods no fresh sample.
    """
    parameters, question = take_parameters(question)
    statistic = parameters.statistic or _DEFAULTS[question.metric.aggregation]
    conditions = _conditions_on_pods(question.selector)
    # Whether an engine as a whole is meant, rather than a pod of some name.
    any_pod = not conditions.mentions("pod")
    chosen: list[EnginePod] = []
    for engine in engines:
        matching = [
            pod
            for pod in engine.pods
            if pod.ready and conditions.matches({"engine": pod.engine, "pod": pod.name})
        ]
        if not matching and any_pod and conditions.matches({"engine": engine.name}):
            raise NotFresh(
                f"metric {question.metric.name} is not known: engine {engine.name} has no ready pod"
            )
        chosen += matching
    if not chosen:
        return None
    second = _newest_second(question, chosen, store)
    values = []
    for pod in chosen:
        history = store.history(pod.uid)
        sample = history.at(second)
        if sample is not None and sample.ready:
            millis = _millis_over(question, pod, history, second, parameters.window_seconds, statistic)
            values.append((millis, pod))
    if not values:
        raise NotFresh(f"metric {question.metric.name} is not known: no pod reports that it is ready")
    return _fold(question, values, second, statistic, _window_seconds(question, parameters))


def pod_gauges(
    question: Question, pods: Sequence[EnginePod], store: SampleStore, *, whole: bool
) -> list[tuple[EnginePod, Value]]:
    """The value of each of `pods`.

    With `whole` a running pod that is not ready yet and has no fresh sample is
    left out; a ready one without fails the answer.
    """
    parameters, question = take_parameters(question)
    statistic = parameters.statistic or _DEFAULTS[question.metric.aggregation]
    conditions = _conditions_on_pods(question.selector)
    oldest_second, window_seconds = question.oldest_second, _window_seconds(question, parameters)
    values = []
    for pod in pods:
        if not conditions.matches({"engine": pod.engine, "pod": pod.name}):
            continue
        history = store.history(pod.uid)
        newest = history.newest_second
        if whole and not pod.ready and (newest is None or newest < oldest_second):
            continue
        second = _newest_second(question, [pod], store)
        millis = _millis_over(question, pod, history, second, parameters.window_seconds, statistic)
        values.append((pod, Value(millis, second, window_seconds)))
    return values


def _conditions_on_pods(selector: Selector) -> Selector:
    """The conditions that choose among pods; those on `class` choose among a pod's counters instead."""
    return selector.without({"class"})


def _newest_second(question: Question, pods: Sequence[EnginePod], store: SampleStore) -> int:
    """The newest second on which all these pods have what the metric needs."""
    histories = [store.history(pod.uid) for pod in pods]
    oldest_second = question.oldest_second
    stale = [
        pod
        for pod, history in zip(pods, histories, strict=True)
        if history.newest_second is None or history.newest_second < oldest_second
    ]
    if stale:
        raise NotFresh(not_fresh(question, stale, store))
    rated = question.metric.name == _SHED
    second = newest_common_second(
        histories,
        oldest_second,
        _has_rate if rated else _has_sample,
        newest_second=question.newest_second,
    )
    if second is None:
        base = f", each with a sample {RATE_WINDOW_SECONDS} s before it" if rated else ""
        raise NotFresh(
            f"metric {question.metric.name} is not fresh: the samples of {len(pods)} pods have no second in "
            f"common that is at most {question.metric.age_seconds_max} s old{base}"
        )
    return second


def _has_sample(history: History, second: int) -> bool:
    return history.has(second)


def _has_rate(history: History, second: int) -> bool:
    return history.rate_base(second) is not None


def _millis_over(
    question: Question,
    pod: EnginePod,
    history: History,
    second: int,
    window_seconds: int,
    statistic: Statistic,
) -> int:
    """The pod's value over the window that ends on `second`, as far back as the pod runs."""
    values = [_millis_at(question, pod, history, second)]
    if window_seconds == 1:
        return values[0]
    newest = history.at(second)
    for past in range(second - 1, second - window_seconds, -1):
        if newest is not None and past <= newest.started_at_seconds:
            break
        if not history.has(past):
            raise NotFresh(
                f"metric {question.metric.name} is not known over {window_seconds} s: pod {pod.name} has no "
                f"sample of {second - past} s before its newest"
            )
        values.append(_millis_at(question, pod, history, past))
    return statistic.over_time(values)


def _millis_at(question: Question, pod: EnginePod, history: History, second: int) -> int:
    name = question.metric.name
    millis: int | None = None
    because = ""
    if name == _SHED:
        pair = history.rate_base(second)
        if pair is not None:
            millis = _shed_rate(question.selector, pod, *pair)
    else:
        sample = history.at(second)
        if sample is not None:
            millis = sample.gauges_millis.get(name)
            because = (sample.unknown_because or {}).get(name, "")
    if millis is None:
        reason = f": {because}" if because else ""
        raise NotFresh(f"metric {name} is not known: pod {pod.name} runs but could not measure it{reason}")
    return millis


def _shed_rate(selector: Selector, pod: EnginePod, sample: PodSample, base: PodSample | None) -> int | None:
    """Events shed per second over the window, of the classes that the selector leaves."""
    before = base.shed_events if base is not None else {}
    total = sum(
        count - before.get(name, 0)
        for name, count in sample.shed_events.items()
        if selector.matches({"engine": pod.engine, "pod": pod.name, "class": name})
    )
    return bounded_millis(total * 1000 // RATE_WINDOW_SECONDS)


def _fold(
    question: Question,
    values: list[tuple[int, EnginePod]],
    second: int,
    statistic: Statistic,
    window_seconds: int,
) -> Value:
    engines = {pod.engine for _, pod in values}
    labels = {"engine": engines.pop()} if len(engines) == 1 else {}
    millis = bounded_millis(statistic.of([millis for millis, _ in values]))
    if millis is None:
        raise NotFresh(
            f"metric {question.metric.name} is not known: the {statistic} is too large to be served"
        )
    if statistic is not _DEFAULTS[question.metric.aggregation] or statistic is Statistic.MAXIMUM:
        labels[AGGREGATION_LABEL] = statistic.value
    if statistic is Statistic.MAXIMUM:
        _, pod = max(values, key=lambda found: (found[0], found[1].name))
        labels |= {"engine": pod.engine, "pod": pod.name}
    return Value(millis, second, window_seconds, labels)


def _window_seconds(question: Question, parameters: Parameters) -> int:
    if question.metric.name in _WINDOWED:
        return RATE_WINDOW_SECONDS
    return parameters.window_seconds if parameters.window_seconds > 1 else 0
