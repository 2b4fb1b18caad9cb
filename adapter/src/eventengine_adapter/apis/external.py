"""external.metrics.k8s.io/v1beta1: metrics of the engines of a namespace."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from eventengine_contract.metric_names import Aggregation

from eventengine_adapter.samples.aggregation import external_values
from eventengine_adapter.samples.fleets import Engine
from eventengine_adapter.samples.quantities import format_millis
from eventengine_adapter.samples.questions import AGGREGATION_LABEL, Question, Value
from eventengine_adapter.samples.store import SampleStore

from . import statuses
from .metric_values import (
    MetricView,
    answering,
    describe_refusals,
    find_subject,
    format_timestamp,
    read_selector,
)
from .routing import EXTERNAL_GROUP, Route

_COMBINED: Final = frozenset({Aggregation.MAXIMUM, Aggregation.SUM})


def external_metric_list(view: MetricView, route: Route, label_selector: str | None) -> dict[str, Any]:
    """The answer to one query.

    Raises:
        ApiError: 404 for an unknown metric, 400 for a bad selector, 503 for what is not fresh.
    """
    subject = find_subject(view, route.namespace, route.metric)
    if subject is None:
        refusals = describe_refusals(view, route.namespace)
        raise statuses.not_found(f"the server could not find the external metric {route.metric}{refusals}")
    metric = subject.metric
    question = Question(metric, read_selector(label_selector, "labelSelector"), view.now_seconds)
    where = f"namespace {route.namespace}"
    values = values_of(view, question, subject.engines, where, store=subject.store)
    return {
        "kind": "ExternalMetricValueList",
        "apiVersion": f"{EXTERNAL_GROUP}/{route.version}",
        "metadata": {},
        "items": [_item(metric.name, value) for value in values],
    }


def values_of(
    view: MetricView,
    question: Question,
    engines: Sequence[Engine],
    where: str,
    *,
    may_be_old: bool = True,
    store: SampleStore | None = None,
) -> list[Value]:
    """The values over all engines; an engine's own items stand or fall alone, one over all of them together.

    `may_be_old` says whether a value that was fresh once will do where the EventEngine allows it, `store` whose
    samples it is about: those of the engines themselves if it is left out.

    Raises:
        ApiError: 400 for a selector that the metric doesn't take, 503 for what is not fresh.
    """
    single_item = question.selector.mentions(AGGREGATION_LABEL) or question.metric.aggregation in _COMBINED
    concerned = question.concerned(engines)
    # Without any, the selector is still looked at.
    groups = [concerned] if single_item or not concerned else [[engine] for engine in concerned]
    values: list[Value] = []
    with answering(where):
        for group in groups:
            fresh = partial(external_values, question, group, store or view.store)
            values += view.last_known_good.answer(question, group, fresh) if may_be_old else fresh()
    view.note_served(values)
    return values


def _item(name: str, value: Value) -> dict[str, Any]:
    return {
        "metricName": name,
        "metricLabels": value.labels,
        "timestamp": format_timestamp(value.sampled_at_seconds),
        "window": value.window_seconds,
        "value": format_millis(value.millis),
    }
