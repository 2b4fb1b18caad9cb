"""Looking at the cluster around one EventEngine: by the mirror of what the watches told, or by lists made for it.

Where the mirror can't answer for a kind, that kind is listed. What isn't watched is always listed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

from eventengine_contract.well_known import LABEL_ENGINE, LABEL_MANAGED_BY, MANAGED_BY

from eventengine_operator.resources.claims import Claim, claims_of
from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.mounted_secrets import version_of
from eventengine_operator.resources.objects import (
    Object,
    Reference,
    labels_of,
    name_of,
    namespace_of,
    reference_of,
    uid_of,
)
from eventengine_operator.resources.pod_refusals import EVENT_REASON, lacks_pods, refusal_in_events
from eventengine_operator.resources.pods import Pod, pods_of, replica_sets_of

from .errors import RefusedError
from .kubernetes_api import (
    AUTOSCALERS,
    CHILD_TYPES,
    CLAIMS,
    DEPLOYMENTS,
    EVENTS,
    OPTIONAL_TYPES,
    PODS,
    REPLICA_SETS,
    SCALED_OBJECTS,
    SECRETS,
    STATEFUL_SETS,
    STORAGE_TYPES,
    KubernetesApi,
    ResourceType,
    type_of,
)
from .mirrors import Mirror

UNLABELLED: Final = (AUTOSCALERS, SCALED_OBJECTS)
"""Those of others may act on the same pods, or sit on a name that is needed."""
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
    refusal: str = ""
    """Why the API server takes no pod of its StatefulSet, or an empty text."""


async def observe(
    api: KubernetesApi,
    engine: Engine,
    features: frozenset[str],
    secrets: frozenset[str] = frozenset(),
    mirror: Mirror | None = None,
) -> Surroundings:
    """Look at what carries the EventEngine's labels, by the mirror if there is one.

    `features` names what this cluster has of what not every cluster has; `secrets` those whose version is wanted.
    """
    labels = {LABEL_ENGINE: engine.name, LABEL_MANAGED_BY: MANAGED_BY}
    # Storage is declared when an EventEngine is made, or never; of an invalid spec it isn't known.
    has_storage = engine.spec is None or engine.spec.storage is not None
    optional = tuple(item for item in (*OPTIONAL_TYPES, SCALED_OBJECTS) if item.kind in features)
    types = (
        *CHILD_TYPES,
        *optional,
        *(STORAGE_TYPES if has_storage else ()),
        REPLICA_SETS,
        PODS,
        AUTOSCALERS,
    )
    listed = await _listed(api, engine, types, labels, mirror)
    autoscalers = listed.pop(AUTOSCALERS)
    scaled_objects = listed.pop(SCALED_OBJECTS, [])
    replica_sets, pods, claims = listed.pop(REPLICA_SETS), listed.pop(PODS), listed.pop(CLAIMS, [])
    # Of autoscalers all were listed, whatever their labels: ours, what sits on our name, and others'.
    near = [
        item
        for item in (*autoscalers, *scaled_objects)
        if labels.items() <= labels_of(item).items() or name_of(item) == engine.name
    ]
    children = {reference_of(item): item for item in chain(near, *listed.values())}
    deployment = children.get(Reference(DEPLOYMENTS.kind, engine.name))
    owned = replica_sets_of(uid_of(deployment) if deployment is not None else "", replica_sets)
    stateful_set = children.get(Reference(STATEFUL_SETS.kind, engine.name))
    makers = owned if stateful_set is None else [*owned, stateful_set]
    own_pods = tuple(pods_of(makers, pods))
    return Surroundings(
        children,
        tuple(autoscalers),
        tuple(scaled_objects),
        tuple(owned),
        own_pods,
        claims_of(engine.name, claims),
        {name: await _version_of_secret(api, engine.namespace, name) for name in sorted(secrets)},
        await _refusal_of(api, stateful_set, own_pods),
    )


async def _listed(
    api: KubernetesApi,
    engine: Engine,
    types: Iterable[ResourceType],
    labels: Mapping[str, str],
    mirror: Mirror | None,
) -> dict[ResourceType, list[Object]]:
    """The objects of each type with these labels; autoscalers and ScaledObjects with any or none."""
    found: dict[ResourceType, list[Object]] = {}
    asked: list[ResourceType] = []
    for item in types:
        name = None if item in UNLABELLED else engine.name
        known = mirror.list(item, engine.namespace, name) if mirror is not None else None
        if known is None:
            asked.append(item)
        else:
            found[item] = known
    if asked:
        answers = (api.list(item, engine.namespace, None if item in UNLABELLED else labels) for item in asked)
        found |= zip(asked, await asyncio.gather(*answers), strict=True)
    return found


async def occupants(
    api: KubernetesApi, namespace: str, names: Iterable[Reference]
) -> dict[Reference, Object]:
    """What sits on these names, without the EventEngine's labels or since it was looked at."""
    references = list(names)
    found = await asyncio.gather(*(api.get(type_of(item.kind), namespace, item.name) for item in references))
    return {reference: live for reference, live in zip(references, found, strict=True) if live is not None}


async def _refusal_of(api: KubernetesApi, stateful_set: Object | None, pods: Iterable[Pod]) -> str:
    """What Events tell of pods that a StatefulSet lacks. They are asked for only while there are too few."""
    if stateful_set is None or not lacks_pods(stateful_set):
        return ""
    fields = {"regarding.uid": uid_of(stateful_set), "reason": EVENT_REASON}
    try:
        return refusal_in_events(await api.list(EVENTS, namespace_of(stateful_set), fields=fields), pods)
    except RefusedError as error:
        _log.warning("why a StatefulSet has too few pods can't be read: %s", error)
        return ""


async def _version_of_secret(api: KubernetesApi, namespace: str, name: str) -> str | None:
    try:
        return version_of(await api.get_metadata(SECRETS, namespace, name))
    except RefusedError as error:
        _log.warning("changes of a Secret can't be followed: %s", error)
        return None
