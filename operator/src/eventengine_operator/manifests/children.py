"""All objects of one EventEngine, in the order they have to be written."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from eventengine_contract.event_engine import EventEngineSpec

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object, Reference, reference_of

from .autoscalers import autoscaler
from .config_maps import config_map
from .deployments import deployment
from .disruption_budgets import disruption_budget
from .network_policies import network_policy
from .service_monitors import service_monitor
from .services import services

SERVICE_MONITOR: Final = "ServiceMonitor"
OPTIONAL_KINDS: Final = (SERVICE_MONITOR,)
"""Kinds that a cluster may not serve; they are written where it does."""


def desired_children(
    engine: Engine,
    spec: EventEngineSpec,
    default_image: str,
    replicas: int | None,
    with_autoscaler: bool,
    served: Collection[str] = (),
) -> list[Object]:
    """What has to exist. The ConfigMap precedes the Deployment whose pods mount it.

    `served` names the optional kinds that the cluster knows.
    """
    children = [
        config_map(engine),
        *services(engine, spec),
        network_policy(engine, spec),
        disruption_budget(engine, spec),
        deployment(engine, spec, default_image, replicas),
    ]
    if SERVICE_MONITOR in served:
        children.append(service_monitor(engine))
    if with_autoscaler:
        children.append(autoscaler(engine, spec.autoscaling))
    return children


def needed_names(engine: Engine, served: Collection[str]) -> list[Reference]:
    """Kind and name of everything that this EventEngine may need; none where its spec can't be read."""
    if engine.spec is None:
        return []
    return [reference_of(item) for item in desired_children(engine, engine.spec, "", None, True, served)]
