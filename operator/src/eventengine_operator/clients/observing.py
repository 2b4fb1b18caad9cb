"""Looking at the cluster around one EventEngine: everything is listed afresh, nothing is remembered.

Watches only wake the operator up. What it knows comes from lists, so that a lost event can't
leave a ghost behind.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from eventengine_contract.well_known import LABEL_ENGINE, LABEL_MANAGED_BY, MANAGED_BY

from eventengine_operator.reconciling.planning import names_to_look_up
from eventengine_operator.resources.objects import Object, Reference, reference_of, uid_of
from eventengine_operator.resources.pods import Pod, pods_of_deployment

from .kubernetes_api import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    SERVICES,
    KubernetesApi,
    type_of,
)


@dataclass(frozen=True)
class Surroundings:
    """Live objects around one EventEngine."""

    children: dict[Reference, Object]
    autoscalers: tuple[Object, ...]
    pods: tuple[Pod, ...]


async def observe(api: KubernetesApi, namespace: str, engine_name: str) -> Surroundings:
    """List what carries the EventEngine's labels, and look at the names that it needs."""
    labels = {LABEL_ENGINE: engine_name, LABEL_MANAGED_BY: MANAGED_BY}
    config_maps, services, deployments, autoscalers, replica_sets, pods = await asyncio.gather(
        api.list(CONFIG_MAPS, namespace, labels),
        api.list(SERVICES, namespace, labels),
        api.list(DEPLOYMENTS, namespace, labels),
        api.list(AUTOSCALERS, namespace),
        api.list(REPLICA_SETS, namespace, labels),
        api.list(PODS, namespace, labels),
    )
    ours = [item for item in autoscalers if labels.items() <= _labels(item).items()]
    children = {reference_of(item): item for item in (*config_maps, *services, *deployments, *ours)}
    for item in autoscalers:
        if reference_of(item) == Reference(AUTOSCALERS.kind, engine_name):
            children[reference_of(item)] = item
    for reference in names_to_look_up(engine_name, set(children)):
        if reference.kind == AUTOSCALERS.kind:
            continue  # all of them were listed
        occupant = await api.get(type_of(reference.kind), namespace, reference.name)
        if occupant is not None:
            children[reference] = occupant
    deployment = children.get(Reference(DEPLOYMENTS.kind, engine_name))
    uid = uid_of(deployment) if deployment is not None else ""
    return Surroundings(children, tuple(autoscalers), tuple(pods_of_deployment(uid, replica_sets, pods)))


def _labels(item: Object) -> dict[str, str]:
    labels: dict[str, str] = item.get("metadata", {}).get("labels") or {}
    return labels
