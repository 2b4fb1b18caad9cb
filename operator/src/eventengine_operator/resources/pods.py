"""Pods of an EventEngine, and what the engine inside each one says of itself.

Owns the reading of a pod's state into the few facts that status is made of. A report is
what an engine answered on its telemetry port; it counts only for the container start
that it was read from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from .objects import (
    Object,
    condition_of,
    controller_uid_of,
    is_being_deleted,
    list_at,
    name_of,
    namespace_of,
    text_at,
    uid_of,
)

CONTAINER_NAME: Final = "engine"
UNSCHEDULABLE: Final = "Unschedulable"
REFUSALS: Final = frozenset({"TopologyAffinityError", "SMTAlignmentError", "UnexpectedAdmissionError"})
"""Reasons of a kubelet that can't give a pod the cores that the scheduler saw."""
WAITING_IS_NORMAL: Final = frozenset({"", "ContainerCreating", "PodInitializing"})


@dataclass(frozen=True)
class Pod:
    """One pod. `trouble` is what Kubernetes itself says is wrong with it, or an empty text."""

    name: str
    namespace: str
    uid: str
    address: str
    phase: str
    container_id: str
    """Identity of the running container, new with every start; empty while none runs."""
    is_ready: bool
    is_leaving: bool
    created_at: datetime | None
    trouble: str
    node: str = ""
    owner_uid: str = ""
    """UID of the ReplicaSet or StatefulSet that made it."""
    is_admitted: bool = False
    """Whether its node took it in for good: containers are listed, running or about to."""
    refusal: str = ""
    """One of REFUSALS, or an empty text."""
    has_volume: bool = False
    """Whether a StatefulSet made it, so that what it leaves behind matters."""


@dataclass(frozen=True)
class EngineReport:
    """What an engine answered, or why it could not be asked (`error`)."""

    container_id: str
    was_ready: bool
    """Readiness of the pod when the report was read; a report of the other state is out of date."""
    read_at_seconds: float
    """On the monotonic clock."""
    error: str = ""
    reasons: tuple[str, ...] = ()
    cpu_set: str = ""
    is_pinned: bool = False
    is_exclusive: bool = False
    was_leaving: bool = False
    """Whether the pod was being deleted when it was read."""
    log_is_empty: bool | None = None
    """Whether everything in the log on its volume is done with; None: it keeps none, or didn't say."""
    partitions: int = 0
    """Partitions of the source that has most of them; 0 where it doesn't know."""
    events_taken: int = 0
    """Events it took since its process started."""


def read_pod(source: Object) -> Pod:
    """Read a pod."""
    has_failed = text_at(source, "status", "phase") == "Failed"
    reason = text_at(source, "status", "reason")
    return Pod(
        name=name_of(source),
        namespace=namespace_of(source),
        uid=uid_of(source),
        address=text_at(source, "status", "podIP"),
        phase=text_at(source, "status", "phase"),
        container_id=_running_container_id(source),
        is_ready=condition_of(source, "Ready").get("status") == "True",
        is_leaving=is_being_deleted(source),
        created_at=parse_time(text_at(source, "metadata", "creationTimestamp")),
        trouble=_trouble_of(source),
        node=text_at(source, "spec", "nodeName"),
        owner_uid=controller_uid_of(source),
        is_admitted=not has_failed and bool(list_at(source, "status", "containerStatuses")),
        refusal=reason if has_failed and reason in REFUSALS else "",
        has_volume=any(
            owner.get("controller") is True and owner.get("kind") == "StatefulSet"
            for owner in list_at(source, "metadata", "ownerReferences")
        ),
    )


def replica_sets_of(deployment_uid: str, replica_sets: list[Object]) -> list[Object]:
    """Those that the Deployment controls."""
    return [item for item in replica_sets if deployment_uid and controller_uid_of(item) == deployment_uid]


def pods_of(makers: list[Object], pods: list[Object]) -> list[Pod]:
    """Pods that these ReplicaSets, or this StatefulSet, made, sorted by name.

    Labels alone prove nothing: anybody who may create pods in the namespace can set them.
    """
    owned = {uid_of(item) for item in makers}
    chosen = [read_pod(item) for item in pods if controller_uid_of(item) in owned]
    return sorted(chosen, key=lambda pod: pod.name)


def ordinal_of(name: str) -> int | None:
    """The number that a StatefulSet gave a pod or a claim, or None."""
    number = name.rpartition("-")[2]
    return int(number) if number.isdecimal() and len(number) <= 9 else None


def _running_container_id(source: Object) -> str:
    for status in list_at(source, "status", "containerStatuses"):
        if status.get("name") == CONTAINER_NAME and "running" in (status.get("state") or {}):
            return text_at(status, "containerID")
    return ""


def _trouble_of(source: Object) -> str:
    phase = text_at(source, "status", "phase")
    if phase == "Failed":
        reason = text_at(source, "status", "reason") or "Failed"
        return _joined(reason, text_at(source, "status", "message"))
    scheduled = condition_of(source, "PodScheduled")
    runs = bool(_running_container_id(source))
    if not runs and scheduled.get("status") == "False" and scheduled.get("reason") == UNSCHEDULABLE:
        return _joined(UNSCHEDULABLE, text_at(scheduled, "message"))
    for status in list_at(source, "status", "containerStatuses"):
        reason = text_at(status, "state", "waiting", "reason")
        if reason not in WAITING_IS_NORMAL:
            return _joined(reason, text_at(status, "state", "waiting", "message"))
    return ""


def _joined(reason: str, message: str) -> str:
    return f"{reason}: {message}" if message else reason


def parse_time(text: str) -> datetime | None:
    """The instant that the API server wrote, or None."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
