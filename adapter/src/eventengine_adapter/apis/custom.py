"""custom.metrics.k8s.io, v1beta1 and v1beta2: metrics of pods, of EventEngines and of namespaces.

Owns which objects have metrics and the two shapes of an item. A query for one
object gets exactly one item or an error, as the autoscaler's client demands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from eventengine_contract.metric_names import Metric
from eventengine_contract.well_known import API_GROUP, API_VERSION, KIND, PLURAL

from eventengine_adapter.samples.aggregation import engine_value, namespace_value, pod_values
from eventengine_adapter.samples.fleets import Engine, EnginePod
from eventengine_adapter.samples.label_selectors import Selector
from eventengine_adapter.samples.quantities import format_millis
from eventengine_adapter.samples.questions import Question, Value

from . import statuses
from .metric_values import MetricView, Subject, answering, find_subject, format_timestamp, read_selector
from .routing import CUSTOM_GROUP, Route

PODS: Final = "pods"
NAMESPACES: Final = "namespaces"
ENGINES: Final = f"{PLURAL}.{API_GROUP}"
ALL: Final = "*"
_Found = list[tuple[dict[str, Any], Value]]


def custom_metric_list(
    view: MetricView, route: Route, label_selector: str | None, metric_label_selector: str | None
) -> dict[str, Any]:
    """The answer to one query.

    Raises:
        ApiError: 404 for an unknown metric or object, 400 for a bad selector, 503 for what is not fresh.
    """
    subject = find_subject(view, route.namespace, route.metric)
    if subject is None or not route.namespace or route.resource not in {PODS, ENGINES}:
        raise _no_metric(route)
    metric = subject.metric
    if route.resource == PODS and not metric.of_pods:
        raise _no_metric(route)
    metric_selector = read_selector(metric_label_selector, "metricLabelSelector")
    objects = read_selector(label_selector, "labelSelector")
    question = Question(metric, metric_selector, view.now_seconds)
    with answering(f"namespace {route.namespace}"):
        if route.resource == PODS:
            found = _pods(view, subject, route, question, objects)
        else:
            found = _engines(subject, route, question, objects)
    if route.name != ALL and not found:
        raise _no_metric(route, metric_label_selector)
    return _list(view, route, metric, metric_selector, found)


def namespace_metric_list(
    view: MetricView, route: Route, metric_label_selector: str | None
) -> dict[str, Any]:
    """The answer about a namespace as an object: all its engines together, as exactly one item.

    Raises:
        ApiError: 404 for an unknown metric or a namespace without engines, 400 for a bad selector, 503 for what is
            not fresh.
    """
    subject = find_subject(view, route.namespace, route.metric)
    not_found = statuses.not_found(
        f"the server could not find the metric {route.metric} for namespaces {route.namespace}"
    )
    if subject is None or not subject.engines:
        raise not_found
    metric = subject.metric
    selector = read_selector(metric_label_selector, "metricLabelSelector")
    with answering(f"namespace {route.namespace}"):
        question = Question(metric, selector, view.now_seconds)
        value = namespace_value(question, subject.engines, subject.store)
    if value is None:
        raise not_found
    about = {"kind": "Namespace", "name": route.namespace, "apiVersion": "v1"}
    return _list(view, route, metric, selector, [(about, value)])


def _list(
    view: MetricView, route: Route, metric: Metric, metric_selector: Selector, found: _Found
) -> dict[str, Any]:
    view.note_served(value for _, value in found)
    selector = metric_selector.to_object()
    if route.version == "v1beta1":
        items = [_item_v1beta1(metric, selector, about, value) for about, value in found]
    else:
        # The items share this one: they differ in objects and values only.
        named = {"name": metric.name, "selector": selector}
        items = [_item_v1beta2(named, about, value) for about, value in found]
    return {
        "kind": "MetricValueList",
        "apiVersion": f"{CUSTOM_GROUP}/{route.version}",
        "metadata": {},
        "items": items,
    }


def _pods(view: MetricView, subject: Subject, route: Route, question: Question, objects: Selector) -> _Found:
    whole = route.name == ALL
    groups: list[tuple[Engine, Sequence[EnginePod]]] = []
    if whole:
        groups += [
            (engine, pods)
            for engine, pods in view.fleet.select_pods(route.namespace, objects)
            if subject.is_of(engine)
        ]
    elif (named := view.fleet.find_pod(route.namespace, route.name)) is not None and subject.is_of(named[0]):
        groups.append((named[0], [named[1]]))
    found = [
        (_reference("Pod", "v1", pod.namespace, pod.name), value)
        for engine, pods in groups
        for pod, value in pod_values(question, engine, pods, subject.store, whole=whole)
    ]
    return sorted(found, key=lambda item: str(item[0]["name"]))


def _engines(subject: Subject, route: Route, question: Question, objects: Selector) -> _Found:
    found: _Found = []
    for engine in subject.engines:
        if route.name not in {ALL, engine.name} or (route.name == ALL and not objects.matches(engine.labels)):
            continue
        value = engine_value(question, engine, subject.store)
        if value is not None:
            reference = _reference(KIND, f"{API_GROUP}/{API_VERSION}", engine.namespace, engine.name)
            found.append((reference, value))
    return found


def _reference(kind: str, api_version: str, namespace: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "namespace": namespace, "name": name, "apiVersion": api_version}


def _item_v1beta1(
    metric: Metric, selector: dict[str, Any] | None, about: dict[str, Any], value: Value
) -> dict[str, Any]:
    return {
        "describedObject": about,
        "metricName": metric.name,
        "timestamp": format_timestamp(value.sampled_at_seconds),
        "window": value.window_seconds,
        "value": format_millis(value.millis),
        "selector": selector,
    }


def _item_v1beta2(named: dict[str, Any], about: dict[str, Any], value: Value) -> dict[str, Any]:
    return {
        "describedObject": about,
        "metric": named,
        "timestamp": format_timestamp(value.sampled_at_seconds),
        "windowSeconds": value.window_seconds,
        "value": format_millis(value.millis),
    }


def _no_metric(route: Route, metric_label_selector: str | None = None) -> statuses.ApiError:
    named = "" if route.name == ALL else f" {route.name}"
    selected = f" with selector {metric_label_selector}" if metric_label_selector else ""
    return statuses.not_found(
        f"the server could not find the metric {route.metric} for {route.resource}{named}{selected}"
    )
