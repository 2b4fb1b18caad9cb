"""Pods that a node took in and then refused: what to do instead of trying again at once, for ever.

The scheduler counts cores; a kubelet with a static CPU manager also asks how they lie. Where it refuses
(TopologyAffinityError, SMTAlignmentError, UnexpectedAdmissionError) the pod is Failed for good, and a
ReplicaSet makes the next one without a pause: hundreds of pods in a minute.

Rules: refused pods are deleted. The workload is held for a while at the pods that nodes did admit; during a
rollout the old pods are kept and the rollout is what is held. Then it is let go for one more attempt; each
failed attempt doubles the while, up to a bound. An attempt that brings all pods up is the end of the story.
All of it is read from and written to the status, so that a restarted operator goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from eventengine_operator.resources.objects import (
    Object,
    mapping_at,
    number_at,
    optional_number_at,
    text_at,
    uid_of,
)
from eventengine_operator.resources.pods import Pod, ordinal_of, parse_time

HOLD_SECONDS_FIRST: Final = 10
HOLD_SECONDS_MAX: Final = 300
NODES_NAMED_MAX: Final = 5
DOUBLINGS_MAX: Final = 10
REMEDY: Final = "a node with as many free, aligned cores as a pod asks for is needed, or pinning: Off"


@dataclass(frozen=True)
class Admission:
    """Attempts that failed in a row, and until when there is none."""

    failed_attempts: int
    held_until: datetime
    held_at: int
    """Pods that the nodes had admitted."""
    is_rollout_held: bool
    reason: str
    nodes: tuple[str, ...]

    def is_held(self, now: datetime) -> bool:
        """Whether no attempt is made now."""
        return now < self.held_until

    def to_status(self) -> Object:
        """As `status.admission`."""
        return {
            "failedAttempts": self.failed_attempts,
            "heldUntil": self.held_until.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "heldAt": self.held_at,
            "rolloutHeld": self.is_rollout_held,
            "reason": self.reason,
            "nodes": list(self.nodes),
        }

    def sentence(self, desired: int | None, now: datetime) -> str:
        """For people: which nodes refused what, what is done about it, and what helps."""
        where = ", ".join(self.nodes) or "a node"
        if desired is None:
            state = "its replicas are another's, so it is not held"
        elif not self.is_held(now):
            state = "tried again"
        elif self.is_rollout_held:
            state = f"the rollout is held until {self.held_until:%H:%M:%S} UTC"
        else:
            state = f"held at {self.held_at} of {desired} pods until {self.held_until:%H:%M:%S} UTC"
        return f"{where} refused pods ({self.reason}); {state}; {REMEDY}"


def read_admission(status: Object) -> Admission | None:
    """The `status.admission` that was written last."""
    source = mapping_at(status, "admission")
    held_until = parse_time(text_at(source, "heldUntil"))
    if held_until is None:
        return None
    nodes = source.get("nodes")
    return Admission(
        failed_attempts=number_at(source, "failedAttempts"),
        held_until=held_until,
        held_at=number_at(source, "heldAt"),
        is_rollout_held=source.get("rolloutHeld") is True,
        reason=text_at(source, "reason"),
        nodes=tuple(nodes) if isinstance(nodes, list) else (),
    )


def judge_admission(
    pods: Sequence[Pod],
    replica_sets: Sequence[Object],
    before: Admission | None,
    desired: int | None,
    now: datetime,
) -> Admission | None:
    """The story after this look at the pods; None where nothing was refused lately."""
    refused = refused_pods(pods)
    admitted = sum(pod.is_admitted and not pod.is_leaving for pod in pods)
    if not refused:
        is_over = before is not None and not before.is_held(now) and admitted >= (desired or 0)
        return None if is_over else before
    is_same_attempt = before is not None and before.is_held(now)
    if before is not None and is_same_attempt:
        attempts, held_until = before.failed_attempts, before.held_until
        held_at = min(before.held_at, admitted)
    else:
        attempts = 1 + (before.failed_attempts if before is not None else 0)
        held_until = now.replace(microsecond=0) + timedelta(seconds=hold_seconds(attempts) + 1)
        held_at = admitted
    nodes = {pod.node for pod in refused if pod.node} | set(
        before.nodes if before and is_same_attempt else ()
    )
    return Admission(
        failed_attempts=attempts,
        held_until=held_until,
        held_at=held_at,
        is_rollout_held=_is_rolling(refused, replica_sets) or bool(before and before.is_rollout_held),
        reason=refused[-1].refusal,
        nodes=tuple(sorted(nodes)[:NODES_NAMED_MAX]),
    )


def refused_pods(pods: Sequence[Pod]) -> list[Pod]:
    """Pods to collect."""
    return [pod for pod in pods if pod.refusal and not pod.is_leaving]


def pods_while_held(admission: Admission, pods: Sequence[Pod]) -> int:
    """How many pods to ask for while the workload is held, so that none that a node admitted goes.

    A StatefulSet takes its pods away from the highest ordinal down. A refused pod below an admitted one is therefore
    made again as often as it is refused, one at a time.
    """
    ordinals = [
        ordinal_of(pod.name) or 0 for pod in pods if pod.has_volume and pod.is_admitted and not pod.is_leaving
    ]
    return max(ordinals) + 1 if ordinals else admission.held_at


def hold_seconds(failed_attempts: int) -> int:
    """How long to wait after so many failed attempts in a row."""
    seconds = HOLD_SECONDS_FIRST << min(failed_attempts - 1, DOUBLINGS_MAX)
    return min(seconds, HOLD_SECONDS_MAX)


def failing_replica_sets(pods: Sequence[Pod], replica_sets: Sequence[Object]) -> list[Object]:
    """Those that made refused pods and would go on, by the size they ask for."""
    failing = {pod.owner_uid for pod in refused_pods(pods)}
    return [item for item in replica_sets if uid_of(item) in failing and _size(item)]


def _is_rolling(refused: Sequence[Pod], replica_sets: Sequence[Object]) -> bool:
    """Whether there is another revision, whose pods run and must not pay for the new one's failure."""
    failing = {pod.owner_uid for pod in refused}
    return any(_size(item) for item in replica_sets if uid_of(item) not in failing)


def _size(replica_set: Object) -> int:
    return optional_number_at(replica_set, "spec", "replicas") or 0
