"""Looking at the cluster around one EventEngine: everything is listed afresh, nothing is remembered.

Watches only wake the operator up. What it knows comes from lists, so that a lost event can't
leave a ghost behind.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from itertools import chain

from eventengine_contract.well_known import LABEL_ENGINE, LABEL_MANAGED_BY, MANAGED_BY

from eventengine_operator.manifests.children import needed_names
from eventengine_operator.resources.claims import Claim, claims_of
from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.mounted_secrets import version_of
from eventengine_operator.resources.objects import (
    Object,
    Reference,
    labels_of,
    name_of,
    reference_of,
    uid_of,
)
from eventengine_operator.resources.pods import Pod, pods_of, replica_sets_of

from .errors import RefusedError
from .kubernetes_api import (
    AUTOSCALERS,
    CHILD_TYPES,
    DEPLOYMENTS,
    OPTIONAL_TYPES,
    PODS,
    REPLICA_SETS,
    SCALED_OBJECTS,
    SECRETS,
    STATEFUL_SETS,
    STORAGE_TYPES,
    KubernetesApi,
    type_of,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """Live objects around one EventEngine."""

    children: dict[Reference, Object]
    autoscalers: tuple[Object, ...]
    scaled_objects: tuple[Object, ...]
    replica_sets: tuple[Object, ...]
    """Those of the EventEngine's Deployment."""
    pods: tuple[Pod, ...]
    claims: tuple[Claim, ...]
    secrets: dict[str, str | None]
    """Version of each Secret that the pods mount; None where it may not be read."""


async def observe(
    api: KubernetesApi, engine: Engine, features: frozenset[str], secrets: frozenset[str] = frozenset()
) -> Surroundings:
    """List what carries the EventEngine's labels, and look at the names that it needs.

    `features` names what this cluster has of what not every cluster has; `secrets` those whose version is wanted.
    """
    labels = {LABEL_ENGINE: engine.name, LABEL_MANAGED_BY: MANAGED_BY}
    child_types = [*CHILD_TYPES, *(item for item in OPTIONAL_TYPES if item.kind in features)]
    # Storage is declared when an EventEngine is made, or never; of an invalid spec it isn't known.
    has_storage = engine.spec is None or engine.spec.storage is not None
    autoscalers, replica_sets, pods, *listed = await asyncio.gather(
        api.list(AUTOSCALERS, engine.namespace),
        api.list(REPLICA_SETS, engine.namespace, labels),
        api.list(PODS, engine.namespace, labels),
        *(api.list(item, engine.namespace, labels) for item in child_types),
        *(api.list(item, engine.namespace, labels) for item in STORAGE_TYPES if has_storage),
    )
    claims = listed.pop() if has_storage else []
    scaled_objects = (
        await api.list(SCALED_OBJECTS, engine.namespace) if SCALED_OBJECTS.kind in features else []
    )
    # Of autoscalers all were listed, whatever their labels: ours, what sits on our name, and others'.
    near = [
        item
        for item in (*autoscalers, *scaled_objects)
        if labels.items() <= labels_of(item).items() or name_of(item) == engine.name
    ]
    children = {reference_of(item): item for item in chain(near, *listed)}
    for reference in needed_names(engine, features):
        if reference in children or reference.kind in (AUTOSCALERS.kind, SCALED_OBJECTS.kind):
            continue
        occupant = await api.get(type_of(reference.kind), engine.namespace, reference.name)
        if occupant is not None:
            children[reference] = occupant
    deployment = children.get(Reference(DEPLOYMENTS.kind, engine.name))
    owned = replica_sets_of(uid_of(deployment) if deployment is not None else "", replica_sets)
    stateful_set = children.get(Reference(STATEFUL_SETS.kind, engine.name))
    makers = owned if stateful_set is None else [*owned, stateful_set]
    return Surroundings(
        children,
        tuple(autoscalers),
        tuple(scaled_objects),
        tuple(owned),
        tuple(pods_of(makers, pods)),
        claims_of(engine.name, claims),
        {name: await _version_of_secret(api, engine.namespace, name) for name in sorted(secrets)},
    )


async def _version_of_secret(api: KubernetesApi, namespace: str, name: str) -> str | None:
    try:
        return version_of(await api.get_metadata(SECRETS, namespace, name))
    except RefusedError as error:
        _log.warning("changes of a Secret can't be followed: %s", error)
        return None
