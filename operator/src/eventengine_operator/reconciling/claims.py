"""Which claims may go: those of pods that were scaled away and had nothing left in their log. Pure.

A pod that leaves is asked for its log until it ends. If it says that the log is empty, its claim is marked; once the
pod is gone and its ordinal still isn't wanted, the marked claim is deleted. If the ordinal comes back before, the mark
goes. What isn't known is never empty: of a pod that can't be asked, or keeps no log, the claim stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eventengine_contract.well_known import ANNOTATION_LOG_EMPTY

from eventengine_operator.resources.claims import Claim
from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object, Reference
from eventengine_operator.resources.pods import EngineReport, Pod, ordinal_of

from .actions import Apply, Delete


def plan_claims(
    engine: Engine,
    claims: Sequence[Claim],
    pods: Sequence[Pod],
    reports: Mapping[str, EngineReport],
    replicas: int | None,
) -> list[Apply | Delete]:
    """What to do about the claims, `replicas` being as many pods as are wanted (None: others decide that)."""
    pods_by_ordinal = {ordinal_of(pod.name): pod for pod in pods}
    actions: list[Apply | Delete] = []
    for claim in claims:
        pod = pods_by_ordinal.get(claim.ordinal)
        is_wanted = replicas is None or claim.ordinal < replicas or (pod is not None and not pod.is_leaving)
        if is_wanted:
            if claim.is_marked:
                actions.append(Apply(_mark(engine, claim, ""), "its pod is back, and fills its log"))
        elif pod is None and claim.is_marked:
            reference = Reference("PersistentVolumeClaim", claim.name)
            actions.append(
                Delete(reference, claim.uid, claim.resource_version, "its pod went with an empty log")
            )
        elif pod is not None and not claim.is_marked and _went_empty(pod, reports.get(pod.uid)):
            actions.append(Apply(_mark(engine, claim, pod.uid), "its pod goes with an empty log"))
    return actions


def _went_empty(pod: Pod, report: EngineReport | None) -> bool:
    """Whether the pod said so of this start, after it was told to go: before, events might still have come."""
    if report is None or report.error or report.container_id != pod.container_id:
        return False
    return pod.is_leaving and report.was_leaving and report.log_is_empty is True


def _mark(engine: Engine, claim: Claim, pod_uid: str) -> Object:
    annotations = {ANNOTATION_LOG_EMPTY: pod_uid} if pod_uid else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim.name,
            "namespace": engine.namespace,
            "uid": claim.uid,
            "annotations": annotations,
        },
    }
