"""external.metrics.k8s.io/v1beta1: metrics of the engines of a namespace."""

from __future__ import annotations

from typing import Any

from eventengine_adapter.samples.aggregation import external_values
from eventengine_adapter.samples.quantities import format_millis
from eventengine_adapter.samples.questions import Question, Value

from . import statuses
from .metric_values import MetricView, answering, find_metric, format_timestamp, read_selector
from .routing import EXTERNAL_GROUP, Route


def external_metric_list(view: MetricView, route: Route, label_selector: str | None) -> dict[str, Any]:
    """The answer to one query.

    Raises:
        ApiError: 404 for an unknown metric, 400 for a bad selector, 503 for what is not fresh.
    """
    metric = find_metric(route.metric)
    if metric is None:
        raise statuses.not_found(f"the server could not find the external metric {route.metric}")
    question = Question(metric, read_selector(label_selector, "labelSelector"), view.now_seconds)
    with answering(f"namespace {route.namespace}"):
        values = external_values(question, view.fleet.engines(route.namespace), view.store)
    for value in values:
        view.note_served(value.sampled_at_seconds)
    return {
        "kind": "ExternalMetricValueList",
        "apiVersion": f"{EXTERNAL_GROUP}/{route.version}",
        "metadata": {},
        "items": [_item(metric.name, value) for value in values],
    }


def _item(name: str, value: Value) -> dict[str, Any]:
    return {
        "metricName": name,
        "metricLabels": value.labels,
        "timestamp": format_timestamp(value.sampled_at_seconds),
        "window": value.window_seconds,
        "value": format_millis(value.millis),
    }
