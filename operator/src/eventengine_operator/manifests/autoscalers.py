"""The HorizontalPodAutoscaler of an EventEngine with `driver: hpa`.

It targets the EventEngine's /scale, never the Deployment: replicas have one path, the
EventEngine's spec. An External metric is always narrowed to this engine, since the
external API answers for a whole namespace.
"""

from __future__ import annotations

from typing import Any

from eventengine_contract.event_engine import Autoscaling, AutoscalingMetric, ScalingRules
from eventengine_contract.well_known import KIND

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object

from .metadata import ENGINE_API_VERSION, owned_object
from .quantities import decimal_quantity


def autoscaler(engine: Engine, autoscaling: Autoscaling) -> Object:
    """The HorizontalPodAutoscaler `<X>`."""
    spec: Object = {
        "scaleTargetRef": _engine_reference(engine),
        "minReplicas": autoscaling.min_replicas,
        "maxReplicas": autoscaling.max_replicas,
        "metrics": [_metric(engine, metric) for metric in autoscaling.metrics],
    }
    if autoscaling.behavior is not None:
        directions = {
            "scaleUp": autoscaling.behavior.scale_up,
            "scaleDown": autoscaling.behavior.scale_down,
        }
        behavior = {name: _rules(rules) for name, rules in directions.items() if rules is not None}
        if behavior:
            spec["behavior"] = behavior
    return owned_object(engine, "autoscaling/v2", "HorizontalPodAutoscaler", engine.name, {"spec": spec})


def _engine_reference(engine: Engine) -> Object:
    return {"apiVersion": ENGINE_API_VERSION, "kind": KIND, "name": engine.name}


def _metric(engine: Engine, metric: AutoscalingMetric) -> Object:
    labels = dict(metric.selector.match_labels) if metric.selector else {}
    if metric.source == "External":
        labels["engine"] = engine.name
    identifier: Object = {"name": metric.name}
    if labels:
        identifier["selector"] = {"matchLabels": dict(sorted(labels.items()))}
    body: Object = {"metric": identifier, "target": _target(metric)}
    if metric.source == "Object":
        body["describedObject"] = _engine_reference(engine)
    return {"type": metric.source, metric.source.lower(): body}


def _target(metric: AutoscalingMetric) -> Object:
    if metric.target.average_value is not None:
        return {"type": "AverageValue", "averageValue": decimal_quantity(metric.target.average_value)}
    return {"type": "Value", "value": decimal_quantity(metric.target.value or "0")}


def _rules(rules: ScalingRules) -> dict[str, Any]:
    """One direction verbatim: what the user left out is left to the API server's defaults."""
    written: dict[str, Any] = rules.model_dump(by_alias=True, exclude_none=True)
    if rules.tolerance is not None:
        written["tolerance"] = decimal_quantity(rules.tolerance)
    return written
