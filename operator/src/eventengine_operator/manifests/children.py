"""All objects of one EventEngine, in the order they have to be written."""

from __future__ import annotations

from eventengine_contract.event_engine import EventEngineSpec
from eventengine_contract.well_known import config_map_name

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object, Reference

from .autoscalers import autoscaler
from .config_maps import config_map
from .deployments import deployment
from .services import service


def desired_children(
    engine: Engine,
    spec: EventEngineSpec,
    default_image: str,
    replicas: int | None,
    with_autoscaler: bool,
) -> list[Object]:
    """What has to exist. The ConfigMap precedes the Deployment whose pods mount it."""
    children = [
        config_map(engine),
        service(engine, spec),
        deployment(engine, spec, default_image, replicas),
    ]
    if with_autoscaler:
        children.append(autoscaler(engine, spec.autoscaling))
    return children


def child_references(engine_name: str) -> list[Reference]:
    """Kind and name of everything that an EventEngine of this name may ever own."""
    return [
        Reference("ConfigMap", config_map_name(engine_name)),
        Reference("Service", engine_name),
        Reference("Deployment", engine_name),
        Reference("HorizontalPodAutoscaler", engine_name),
    ]
