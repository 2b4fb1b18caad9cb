"""The PodDisruptionBudget of an EventEngine: drains go one by one, and never stop.

It says how many pods may be missing, never how many must be there: with one replica the latter
would keep its node from ever being drained. Pods that aren't ready hold no drain up either.
"""

from __future__ import annotations

from eventengine_contract.event_engine import EventEngineSpec
from eventengine_contract.well_known import pod_selector

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object

from .metadata import owned_object


def disruption_budget(engine: Engine, spec: EventEngineSpec) -> Object:
    """The PodDisruptionBudget `<X>`. The API server rounds a percentage up, so it is never none."""
    body = {
        "maxUnavailable": spec.disruption.max_unavailable,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": pod_selector(engine.name)},
    }
    return owned_object(engine, "policy/v1", "PodDisruptionBudget", engine.name, {"spec": body})
