"""What KEDA needs to scale an EventEngine with `driver: keda`: a ScaledObject, and whom its triggers may trust.

One trigger of the adapter's external scaler for each declared metric. KEDA asks for a number and
whether there is anything to do; it makes the HorizontalPodAutoscaler itself, and goes to zero itself. Like
ours that autoscaler targets the EventEngine's /scale. KEDA knows no Pods and Object metrics of ours, so these
become the external question that has the same answer.

KEDA 2.21 can take a trigger that answers with an error for an idle one: where it reads for its autoscaler and for
its own loop at once, the error closes what the loop reads from, and the loop takes that for "nothing to do, no error".
So it may not take pods away while it is blind, and never goes to zero sooner than that is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from eventengine_contract.event_engine import Autoscaling, AutoscalingMetric
from eventengine_contract.keda_triggers import (
    ACTIVATION,
    ENGINE,
    LIMIT_TO_PARTITIONS,
    METRIC,
    SELECTOR,
    TARGET,
)
from eventengine_contract.metric_names import METRICS, Aggregation

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object, condition_of, text_at

from .autoscalers import engine_reference, scaling_behavior
from .metadata import owned_object
from .quantities import decimal_quantity

API_VERSION: Final = "keda.sh/v1alpha1"
BUNDLE_KEY: Final = "ca.crt"
POLLING_SECONDS: Final = 5
"""How often KEDA asks whether an engine without pods has anything to do."""
COOLDOWN_SECONDS_MIN: Final = 3 * POLLING_SECONDS
"""Long enough for KEDA to say that it is blind, and for the operator to hold the pods."""
NEVER_ACTIVE: Final = "1G"
"""No metric but a lag tells that there is something to do: state fills an arena for ever."""
PAUSED_SCALE_IN: Final = "autoscaling.keda.sh/paused-scale-in"
PAUSED_SCALE_OUT: Final = "autoscaling.keda.sh/paused-scale-out"


@dataclass(frozen=True)
class KedaScaler:
    """The adapter's external scaler as KEDA reaches it: `host:port`, and the CAs of its certificate (PEM)."""

    address: str
    bundle: bytes = b""
    """Empty where the operator issues no certificates: KEDA's own CAs have to do."""


def trust(engine: Engine, scaler: KedaScaler) -> list[Object]:
    """The ConfigMap `<X>-keda` with the CAs, and the TriggerAuthentication `<X>` that hands them to the triggers."""
    if not scaler.bundle:
        return []
    name = f"{engine.name}-keda"
    source = {"parameter": "caCert", "name": name, "key": BUNDLE_KEY}
    return [
        owned_object(engine, "v1", "ConfigMap", name, {"data": {BUNDLE_KEY: scaler.bundle.decode()}}),
        owned_object(
            engine,
            API_VERSION,
            "TriggerAuthentication",
            engine.name,
            {"spec": {"configMapTargetRef": [source]}},
        ),
    ]


def complaint(live: Object) -> Object:
    """The condition by which KEDA, or the autoscaler behind it, says that it can't scale; empty where there is none."""
    found = (condition_of(live, kind) for kind in ("Ready", "HPAActive"))
    return next((condition for condition in found if text_at(condition, "status") == "False"), {})


def scaled_object(
    engine: Engine,
    autoscaling: Autoscaling,
    replicas_max: int,
    scaler: KedaScaler,
    *,
    with_tolerance: bool,
    is_blind: bool = False,
) -> Object:
    """The ScaledObject `<X>`; `is_blind` while KEDA complains of the one that there is."""
    spec: Object = {
        "scaleTargetRef": engine_reference(engine),
        "minReplicaCount": autoscaling.min_replicas,
        "maxReplicaCount": replicas_max,
        # The number of pods stays what it is when KEDA lets go of them.
        "advanced": {"restoreToOriginalReplicaCount": False},
        "triggers": [_trigger(engine, autoscaling, metric, scaler) for metric in autoscaling.metrics],
    }
    if autoscaling.scale_to_zero is not None:
        idle_seconds = max(autoscaling.scale_to_zero.idle_seconds, COOLDOWN_SECONDS_MIN)
        spec["idleReplicaCount"] = 0
        spec["pollingInterval"] = POLLING_SECONDS
        # KEDA takes an engine that it never saw active for idle at once, unless it is told to wait.
        spec |= {"initialCooldownPeriod": idle_seconds, "cooldownPeriod": idle_seconds}
    behavior = scaling_behavior(autoscaling, with_tolerance=with_tolerance)
    if behavior:
        spec["advanced"]["horizontalPodAutoscalerConfig"] = {"behavior": behavior}
    is_scale_in_paused = engine.is_scale_in_paused or is_blind
    paused = {PAUSED_SCALE_IN: is_scale_in_paused, PAUSED_SCALE_OUT: engine.is_scale_out_paused}
    annotations = {name: "true" for name, is_paused in paused.items() if is_paused}
    return owned_object(engine, API_VERSION, "ScaledObject", engine.name, {"spec": spec}, annotations)


def _trigger(
    engine: Engine, autoscaling: Autoscaling, metric: AutoscalingMetric, scaler: KedaScaler
) -> Object:
    labels = dict(metric.selector.match_labels) if metric.selector else {}
    aggregation = METRICS[metric.name].aggregation
    is_lag = aggregation is Aggregation.PER_PARTITION
    metric_type = "AverageValue" if metric.target.average_value is not None else "Value"
    if metric.source == "Pods" and aggregation is Aggregation.MAXIMUM:
        labels.setdefault("aggregation", "average")
        metric_type = "Value"  # an average over pods already: KEDA must not divide it by them again
    target = metric.target.average_value if metric.target.average_value is not None else metric.target.value
    metadata: dict[str, Any] = {
        "scalerAddress": scaler.address,
        "enableTLS": "true",
        ENGINE: engine.name,
        METRIC: metric.name,
        TARGET: decimal_quantity(target or "0"),
    }
    if labels:
        metadata[SELECTOR] = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    if is_lag and metric_type == "Value":
        metadata[LIMIT_TO_PARTITIONS] = "false"
    if autoscaling.scale_to_zero is not None:
        lag_events = autoscaling.scale_to_zero.activation_lag_events
        metadata[ACTIVATION] = str(lag_events) if is_lag else NEVER_ACTIVE
    trigger: Object = {"type": "external", "metricType": metric_type, "metadata": metadata}
    if scaler.bundle:
        trigger["authenticationRef"] = {"name": engine.name}
    return trigger
