"""From samples to answers: which values a query gets, or why it gets none.

Owns which rule applies to which metric. A question about engines or pods that
the selector doesn't exclude is answered whole or not at all (`NotFresh`): the
autoscaler adds up what it gets, so a part of an answer would read as less load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eventengine_contract.metric_names import Aggregation

from . import gauges, lag
from .fleets import Engine, EnginePod
from .freshness import NotFresh
from .quantities import bounded_millis
from .questions import Question, Value
from .store import SampleStore


def external_values(question: Question, engines: Sequence[Engine], store: SampleStore) -> list[Value]:
    """The items of an external answer over the engines of a namespace.

    Lag is one item per partition; everything else is at most one item.
    """
    concerned = [engine for engine in engines if question.could_concern(engine)]
    if question.metric.aggregation is Aggregation.PER_PARTITION:
        return [value for engine in concerned for value in lag.partition_values(question, engine, store)]
    value = gauges.combined_value(question, concerned, store)
    return [value] if value is not None else []


def engine_value(question: Question, engine: Engine, store: SampleStore) -> Value | None:
    """The value of one EventEngine as a whole; None if the selector leaves nothing of it."""
    if not question.could_concern(engine):
        return None
    if question.metric.aggregation is Aggregation.PER_PARTITION:
        return lag.engine_lag(question, engine, store)
    return gauges.combined_value(question, [engine], store)


def namespace_value(question: Question, engines: Sequence[Engine], store: SampleStore) -> Value | None:
    """The value of all engines of a namespace together; None if the selector leaves nothing of them."""
    concerned = [engine for engine in engines if question.could_concern(engine)]
    if question.metric.aggregation is not Aggregation.PER_PARTITION:
        return gauges.combined_value(question, concerned, store)
    # Engines may share another second than each has for itself; each attempt goes back by one at least.
    for _ in range(question.metric.age_seconds_max + 1):
        found = [lag.engine_lag(question, engine, store) for engine in concerned]
        values = [value for value in found if value is not None]
        if not values:
            return None
        second = min(value.sampled_at_seconds for value in values)
        if all(value.sampled_at_seconds == second for value in values):
            millis = bounded_millis(sum(value.millis for value in values))
            if millis is None:
                break
            return Value(millis, second)
        question = replace(question, newest_second=second)
    raise NotFresh(f"metric {question.metric.name} is not known: the sum over all engines can't be served")


def pod_values(
    question: Question, engine: Engine, pods: Sequence[EnginePod], store: SampleStore, *, whole: bool
) -> list[tuple[EnginePod, Value]]:
    """The value of each of `pods`, all of `engine`; `whole` says that they were asked for as a group."""
    if not pods or not question.could_concern(engine):
        return []
    if question.metric.aggregation is Aggregation.PER_PARTITION:
        return lag.pod_lags(question, engine, pods, store, whole=whole)
    return gauges.pod_gauges(question, pods, store, whole=whole)
