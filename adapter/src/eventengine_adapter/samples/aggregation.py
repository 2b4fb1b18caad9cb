"""From samples to answers: which values a query gets, or why it gets none.

Owns which rule applies to which metric. A question about engines or pods that
the selector doesn't exclude is answered whole or not at all (`NotFresh`): the
autoscaler adds up what it gets, so a part of an answer would read as less load.
"""

from __future__ import annotations

from collections.abc import Sequence

from eventengine_contract.metric_names import Aggregation

from . import gauges, lag
from .fleets import Engine, EnginePod
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


def pod_values(
    question: Question, engine: Engine, pods: Sequence[EnginePod], store: SampleStore, *, whole: bool
) -> list[tuple[EnginePod, Value]]:
    """The value of each of `pods`, all of `engine`; `whole` says that they were asked for as a group."""
    if not pods or not question.could_concern(engine):
        return []
    if question.metric.aggregation is Aggregation.PER_PARTITION:
        return lag.pod_lags(question, engine, pods, store, whole=whole)
    return gauges.pod_gauges(question, pods, store, whole=whole)
