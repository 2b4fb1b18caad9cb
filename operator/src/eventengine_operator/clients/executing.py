"""Carrying out what was decided, in order, each write under the field manager it belongs to.

A refused write doesn't stop those after it that don't depend on it; it is reported. A conflict
or an unreachable API server ends the pass: the state has changed, or can't be known.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from eventengine_operator.manifests.metadata import ENGINE_API_VERSION
from eventengine_operator.reconciling.actions import (
    Action,
    Apply,
    Delete,
    KeepReplicas,
    SetReplicas,
    StopReplicaSet,
)
from eventengine_operator.reconciling.replicas import FIELD_MANAGER, REPLICAS_KEEPER
from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object, Reference, reference_of

from .errors import NotFoundError, RefusedError
from .kubernetes_api import ENGINES, REPLICA_SETS, KubernetesApi, type_of

STATUS_MANAGER: Final = "eventengine-operator-status"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What the writes led to: new live objects, names of deleted ones, refusals in words."""

    applied: dict[Reference, Object]
    deleted: frozenset[Reference]
    errors: tuple[str, ...]


async def execute(api: KubernetesApi, engine: Engine, actions: tuple[Action, ...]) -> Outcome:
    """Carry out the actions.

    Raises:
        ConflictError: somebody changed an object since it was observed.
        UnavailableError: the API server can't be asked.
    """
    applied: dict[Reference, Object] = {}
    deleted: set[Reference] = set()
    errors: list[str] = []
    for action in actions:
        try:
            await _execute_one(api, engine, action, applied, deleted)
        except RefusedError as error:
            errors.append(str(error))
            _log.warning("%s/%s: refused: %s", engine.namespace, engine.name, error)
    return Outcome(applied, frozenset(deleted), tuple(errors))


async def _execute_one(
    api: KubernetesApi,
    engine: Engine,
    action: Action,
    applied: dict[Reference, Object],
    deleted: set[Reference],
) -> None:
    place = f"{engine.namespace}/{engine.name}"
    match action:
        case Apply(manifest, reason):
            reference = reference_of(manifest)
            _log.info("%s: applying %s: %s", place, reference, reason)
            applied[reference] = await api.apply(manifest, FIELD_MANAGER)
        case Delete(reference, uid, resource_version, reason):
            _log.info("%s: deleting %s: %s", place, reference, reason)
            resource = type_of(reference.kind)
            await api.delete(resource, engine.namespace, reference.name, uid, resource_version)
            deleted.add(reference)
        case KeepReplicas(kind, name, uid, resource_version, replicas):
            _log.info("%s: keeping %d replicas for their next owner", place, replicas)
            manifest = _replicas_only(engine, Reference(kind, name), uid, resource_version, replicas)
            await api.apply(manifest, REPLICAS_KEEPER)
        case SetReplicas(replicas, resource_version):
            _log.info("%s: asking for %d replicas", place, replicas)
            patch = _scale(replicas, resource_version)
            await api.merge_patch(ENGINES, engine.namespace, engine.name, patch, FIELD_MANAGER, "scale")
        case StopReplicaSet(name, resource_version):
            _log.info("%s: stopping ReplicaSet %s, whose pods are refused", place, name)
            patch = _scale(0, resource_version)
            await api.merge_patch(REPLICA_SETS, engine.namespace, name, patch, FIELD_MANAGER, "scale")


def _scale(replicas: int, resource_version: str) -> Object:
    return {"metadata": {"resourceVersion": resource_version}, "spec": {"replicas": replicas}}


def _replicas_only(
    engine: Engine, workload: Reference, uid: str, resource_version: str, replicas: int
) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": workload.kind,
        "metadata": {
            "name": workload.name,
            "namespace": engine.namespace,
            "uid": uid,
            "resourceVersion": resource_version,
        },
        "spec": {"replicas": replicas},
    }


async def write_status(api: KubernetesApi, engine: Engine, status: Object) -> None:
    """Write the status of exactly this EventEngine; one that is gone needs none."""
    manifest = {
        "apiVersion": ENGINE_API_VERSION,
        "kind": ENGINES.kind,
        "metadata": {"name": engine.name, "namespace": engine.namespace, "uid": engine.uid},
        "status": status,
    }
    try:
        await api.apply(manifest, STATUS_MANAGER, "status")
    except NotFoundError:
        _log.debug("%s/%s is gone", engine.namespace, engine.name)
