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
        "scaleTargetRef": engine_reference(engine),
        "minReplicas": autoscaling.min_replicas,
        "maxReplicas": replicas_max,
        "metrics": [_metric(engine, metric) for metric in autoscaling.metrics],
    }
    behavior = scaling_behavior(autoscaling, with_tolerance=with_tolerance)
    for direction, is_paused in (
        ("scaleUp", engine.is_scale_out_paused),
        ("scaleDown", engine.is_scale_in_paused),
    ):
        if is_paused:
            behavior.setdefault(direction, {})["selectPolicy"] = "Disabled"
    if behavior:
        spec["behavior"] = behavior
    return owned_object(engine, "autoscaling/v2", "HorizontalPodAutoscaler", engine.name, {"spec": spec})


def scaling_behavior(autoscaling: Autoscaling, *, with_tolerance: bool) -> dict[str, dict[str, Any]]:
    """`behavior` as declared, without directions about which nothing is said."""
    declared = autoscaling.behavior or ScalingBehavior()
    directions = {"scaleUp": declared.scale_up, "scaleDown": declared.scale_down}
    return {
        name: written
        for name, rules in directions.items()
        if rules is not None and (written := _rules(rules, with_tolerance))
    }


def engine_reference(engine: Engine) -> Object:
    """The EventEngine as the target of an autoscaler."""
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
        body["describedObject"] = engine_reference(engine)
    return {"type": metric.source, metric.source.lower(): body}


def _target(metric: AutoscalingMetric) -> Object:
    if metric.target.average_value is not None:
        return {"type": "AverageValue", "averageValue": decimal_quantity(metric.target.average_value)}
    return {"type": "Value", "value": decimal_quantity(metric.target.value or "0")}


def _rules(rules: ScalingRules, with_tolerance: bool) -> dict[str, Any]:
    """One direction verbatim: what the user left out is left to the API server's defaults."""
    written: dict[str, Any] = rules.model_dump(by_alias=True, exclude_none=True, exclude={"tolerance"})
    if rules.tolerance is not None and with_tolerance:
        written["tolerance"] = decimal_quantity(rules.tolerance)
    return written
