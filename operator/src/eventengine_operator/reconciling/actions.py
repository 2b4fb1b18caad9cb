"""The writes that a reconcile may ask for. Data only; `clients` carries them out, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from eventengine_operator.resources.objects import Object, Reference


@dataclass(frozen=True)
class Apply:
    """Server-side apply of a whole manifest under the operator's field manager."""

    manifest: Object
    reason: str


@dataclass(frozen=True)
class Delete:
    """Delete exactly the object that was seen: another of the same name is left alone."""

    reference: Reference
    uid: str
    resource_version: str
    reason: str


@dataclass(frozen=True)
class KeepReplicas:
    """Let a second field manager own the workload's live replicas before the first lets go.

    Without it the API server would drop the field with its last owner and default it to 1.
    The resource version makes it fail, and be decided anew, if anybody scaled in between.
    """

    kind: str
    name: str
    uid: str
    resource_version: str
    replicas: int


@dataclass(frozen=True)
class SetReplicas:
    """Write the EventEngine's /scale: the number an autoscaler goes on from, or 0 to keep it still."""

    replicas: int
    resource_version: str


@dataclass(frozen=True)
class StopReplicaSet:
    """Have a ReplicaSet make no more pods, for each of its pods is refused. Its Deployment is paused before."""

    name: str
    resource_version: str


Action: TypeAlias = Apply | Delete | KeepReplicas | SetReplicas | StopReplicaSet
