"""The HorizontalPodAutoscaler of an EventEngine with `driver: hpa`.

It targets the EventEngine's /scale, never the Deployment: replicas have one path, the
EventEngine's spec. An External metric is always narrowed to this engine, since the
external API answers for a whole namespace. A direction that the user paused is disabled, whatever
else is declared for it; the bounds still hold.
"""

from __future__ import annotations

from typing import Any

from eventengine_contract.event_engine import Autoscaling, AutoscalingMetric, ScalingBehavior, ScalingRules
from eventengine_contract.well_known import KIND

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object

from .metadata import ENGINE_API_VERSION, owned_object
from .quantities import decimal_quantity


def autoscaler(
    engine: Engine, autoscaling: Autoscaling, replicas_max: int, *, with_tolerance: bool
) -> Object:
    """The HorizontalPodAutoscaler `<X>`.

    Without `with_tolerance` the field is left out: an API server that doesn't know it refuses the whole object.
    """
    spec: Object = {
        "scaleTargetRef": _engine_reference(engine),
        "minReplicas": autoscaling.min_replicas,
        "maxReplicas": replicas_max,
        "metrics": [_metric(engine, metric) for metric in autoscaling.metrics],
    }
    declared = autoscaling.behavior or ScalingBehavior()
    behavior = {
        "scaleUp": _rules(declared.scale_up, engine.is_scale_out_paused, with_tolerance),
        "scaleDown": _rules(declared.scale_down, engine.is_scale_in_paused, with_tolerance),
    }
    if any(behavior.values()):
        spec["behavior"] = {name: rules for name, rules in behavior.items() if rules}
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


def _rules(rules: ScalingRules | None, is_paused: bool, with_tolerance: bool) -> dict[str, Any]:
    """One direction verbatim: what the user left out is left to the API server's defaults."""
    written: dict[str, Any] = (
        rules.model_dump(by_alias=True, exclude_none=True, exclude={"tolerance"}) if rules else {}
    )
    if rules and rules.tolerance is not None and with_tolerance:
        written["tolerance"] = decimal_quantity(rules.tolerance)
    if is_paused:
        written["selectPolicy"] = "Disabled"
    return written
