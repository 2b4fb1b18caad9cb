"""From samples to answers: which values a query gets, or why it gets none.

Owns which rule applies to which metric, and that what is added up is of one
second. A question about engines or pods that the selector doesn't exclude is
answered whole or not at all (`NotFresh`): the autoscaler adds up what it gets,
so a part of an answer would read as less load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from eventengine_contract.metric_names import Aggregation

from . import forecasts, gauges, lag
from .fleets import Engine, EnginePod
from .folding import Statistic
from .freshness import NotFresh
from .label_selectors import SelectorError
from .quantities import bounded_millis
from .questions import AGGREGATION_LABEL, Parameters, Question, Value, take_parameters
from .store import SampleStore


def external_values(question: Question, engines: Sequence[Engine], store: SampleStore) -> list[Value]:
    """The items of an external answer over the engines of a namespace.

    Lag is one item per partition, a forecast one per source, everything else at
    most one item; so is a lag of which a statistic is asked for.
    """
    concerned = question.concerned(engines)
    if question.metric.aggregation is Aggregation.PER_PARTITION:
        parameters, narrowed = take_parameters(question)
        if parameters.statistic is not None:
            value = _lag_statistic(narrowed, parameters, parameters.statistic, concerned, store)
            return [value] if value is not None else []
        return [
            value
            for engine in concerned
            for value in lag.shaped_partition_values(narrowed, parameters, engine, store)
        ]
    if question.metric.aggregation is Aggregation.PER_SOURCE:
        return [
            value for engine in concerned for value in forecasts.source_forecasts(question, engine, store)
        ]
    value = gauges.combined_value(question, concerned, store)
    return [value] if value is not None else []


def engine_value(question: Question, engine: Engine, store: SampleStore) -> Value | None:
    """The value of one EventEngine as a whole; None if the selector leaves nothing of it."""
    return namespace_value(question, [engine], store)


def namespace_value(question: Question, engines: Sequence[Engine], store: SampleStore) -> Value | None:
    """The value of all engines of a namespace together; None if the selector leaves nothing of them."""
    concerned = question.concerned(engines)
    if question.metric.aggregation is Aggregation.PER_PARTITION:
        parameters, narrowed = take_parameters(question)
        return _lag_statistic(narrowed, parameters, parameters.statistic or Statistic.SUM, concerned, store)
    if question.metric.aggregation is Aggregation.PER_SOURCE:
        parts = _on_one_second(
            question, concerned, lambda asked, engine: forecasts.source_forecasts(asked, engine, store)
        )
        return _folded(question, Statistic.SUM, parts)
    return gauges.combined_value(question, concerned, store)


def pod_values(
    question: Question, engine: Engine, pods: Sequence[EnginePod], store: SampleStore, *, whole: bool
) -> list[tuple[EnginePod, Value]]:
    """The value of each of `pods`, all of `engine`; `whole` says that they were asked for as a group."""
    if not pods or not question.concerned([engine]):
        return []
    if question.metric.aggregation is Aggregation.PER_PARTITION:
        parameters, question = take_parameters(question)
        if parameters.any_of_lag:
            raise SelectorError(f"metric {question.metric.name} of a pod is a sum and takes no parameters")
        return lag.pod_lags(question, engine, pods, store, whole=whole)
    return gauges.pod_gauges(question, pods, store, whole=whole)


def _lag_statistic(
    question: Question,
    parameters: Parameters,
    statistic: Statistic,
    engines: Sequence[Engine],
    store: SampleStore,
) -> Value | None:
    """One value over the partitions of all these engines; None if the selector leaves none."""
    over_time = replace(parameters, statistic=statistic)
    parts = _on_one_second(
        question,
        engines,
        lambda asked, engine: lag.shaped_partition_values(asked, over_time, engine, store),
    )
    value = _folded(question, statistic, parts)
    if value is not None and parameters.statistic is not None:
        value.labels[AGGREGATION_LABEL] = statistic.value
    return value


def _on_one_second(
    question: Question,
    engines: Sequence[Engine],
    answer: Callable[[Question, Engine], list[Value]],
) -> list[Value]:
    """The values of all these engines: those from pods as of one and the same second.

    Brokers are asked every few seconds only, about partitions in which nothing
    moves but the end. Engines may share another second than each has for itself. Each attempt goes
    back by one second at least, and none goes past what may be served.
    """
    for _ in range(question.metric.age_seconds_max + 1):
        values = [value for engine in engines for value in answer(question, engine)]
        seconds = {value.sampled_at_seconds for value in values if value.from_pods}
        if len(seconds) <= 1:
            return values
        question = replace(question, newest_second=min(seconds))
    raise NotFresh(f"metric {question.metric.name} is not fresh: its engines have no second in common")


def _folded(question: Question, statistic: Statistic, parts: Sequence[Value]) -> Value | None:
    if not parts:
        return None
    millis = bounded_millis(statistic.of([part.millis for part in parts]))
    if millis is None:
        raise NotFresh(
            f"metric {question.metric.name} is not known: the {statistic} is too large to be served"
        )
    return Value(millis, min(part.sampled_at_seconds for part in parts), parts[0].window_seconds)
