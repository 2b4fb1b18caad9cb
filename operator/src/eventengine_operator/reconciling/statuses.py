"""The status of an EventEngine, whole, as it should stand now.

Rules: `lastTransitionTime` moves only with `status`; the messages of AutoscalingActive and Hibernated move
only with their reasons, for autoscaler and adapter write changing figures into them; everything is sorted, so
that an unchanged state is an unchanged status and costs no write.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from eventengine_contract.event_engine import ConditionType
from eventengine_contract.well_known import pod_selector

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object, list_at, number_at, optional_number_at, text_at

from . import conditions
from .conditions import Verdict
from .observations import Observed
from .planning import Plan

MESSAGE_CHARACTERS_MAX: Final = 1024
PAUSED_IN_SHORT: Final = {
    "Annotation": "paused",
    "ScaleIn": "scale-in paused",
    "ScaleOut": "scale-out paused",
    "ScaleInAndScaleOut": "scaling paused",
}
SELF_DESCRIBED: Final = frozenset({ConditionType.AUTOSCALING_ACTIVE, ConditionType.HIBERNATED})


def make_status(
    engine: Engine, plan: Plan, observed: Observed, errors: tuple[str, ...], now: datetime
) -> Object:
    """The complete status after a reconcile that saw `observed` and met `errors`."""
    workload = observed.child("StatefulSet", engine.name) or observed.child("Deployment", engine.name)
    rollout = conditions.read_rollout(workload, observed.refusal)
    blocked = conditions.obstacle(plan, errors)
    is_valid = engine.spec is not None
    desired = plan.replicas if plan.replicas is not None else rollout.desired
    reports = dict(observed.reports)
    grave = conditions.pod_troubles(observed.pods, reports, now, with_starting=False)
    all_troubles = conditions.pod_troubles(observed.pods, reports, now, with_starting=True)
    refusal = plan.admission.sentence(plan.replicas, now) if plan.admission is not None else ""
    if refusal:
        all_troubles.insert(0, refusal)
    pinning, missing = _pinning(engine, observed)
    verdicts = [
        conditions.spec_valid(engine, plan.partitions),
        conditions.paused(engine),
        conditions.progressing(rollout, blocked),
        conditions.degraded(rollout, blocked, is_valid, refusal, grave),
        conditions.ready(rollout, blocked, is_valid, desired, all_troubles),
        conditions.pinning_satisfied(engine.spec, pinning["required"], pinning["satisfied"], missing),
        conditions.metrics_available(engine.spec, observed.metrics_apis),
        conditions.autoscaling_active(engine.spec, plan, observed, engine.name),
        conditions.hibernated(engine.spec, desired, observed.idleness, now),
    ]
    status: Object = {
        "observedGeneration": engine.generation,
        "replicas": rollout.existing,
        "readyReplicas": rollout.ready,
        "partitions": plan.partitions if is_valid else number_at(engine.status, "partitions"),
        "selector": ",".join(f"{key}={value}" for key, value in sorted(pod_selector(engine.name).items())),
        "message": _summary(verdicts),
        "pinning": pinning,
        "conditions": [
            _condition(verdict, engine, now) for verdict in sorted(verdicts, key=lambda item: item.type)
        ],
    }
    if plan.admission is not None:
        status["admission"] = plan.admission.to_status()
    return status


def _pinning(engine: Engine, observed: Observed) -> tuple[dict[str, Any], list[str]]:
    """status.pinning, and `pod: why` of every pod that should own cores and gave no report."""
    if engine.spec is None or engine.spec.pod.pinning == "Off":
        return {"required": 0, "satisfied": 0, "pods": []}, []
    pods = [pod for pod in observed.pods if not pod.is_leaving and not pod.refusal]
    entries: list[dict[str, Any]] = []
    missing: list[str] = []
    satisfied = 0
    for pod in pods:
        report = observed.reports.get(pod.uid)
        if report is None or report.error or report.container_id != pod.container_id:
            is_current = report is not None and report.container_id == pod.container_id
            missing.append(f"{pod.name}: {report.error if report and is_current else 'no report yet'}")
            continue
        entries.append({"name": pod.name, "cpuSet": report.cpu_set, "exclusive": report.is_exclusive})
        satisfied += report.is_exclusive and report.is_pinned
    return {"required": len(pods), "satisfied": satisfied, "pods": entries}, missing


def _summary(verdicts: list[Verdict]) -> str:
    """The one sentence that `kubectl get` shows: the gravest thing there is to say."""
    by_type = {verdict.type: verdict for verdict in verdicts}
    if by_type[ConditionType.SPEC_VALID].status == "False":
        return f"spec invalid: {by_type[ConditionType.SPEC_VALID].message}"[:MESSAGE_CHARACTERS_MAX]
    message = by_type[ConditionType.READY].message
    paused = by_type[ConditionType.PAUSED]
    if paused.status == "True":
        message = f"{PAUSED_IN_SHORT[paused.reason]}; {message}"
    return message[:MESSAGE_CHARACTERS_MAX]


def _condition(verdict: Verdict, engine: Engine, now: datetime) -> dict[str, Any]:
    message = verdict.message[:MESSAGE_CHARACTERS_MAX]
    transition = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    for previous in list_at(engine.status, "conditions"):
        if previous.get("type") != verdict.type:
            continue
        if previous.get("status") == verdict.status:
            transition = text_at(previous, "lastTransitionTime") or transition
        is_same = (previous.get("status"), previous.get("reason")) == (verdict.status, verdict.reason)
        if is_same and verdict.type in SELF_DESCRIBED:
            message = text_at(previous, "message")
    return {
        "type": verdict.type.value,
        "status": verdict.status,
        "reason": verdict.reason,
        "message": message,
        "observedGeneration": engine.generation,
        "lastTransitionTime": transition,
    }


def news(previous: Object, status: Object) -> list[Verdict]:
    """Conditions whose status changed in a way worth an Event: from known to known, or to bad at first."""
    before = {item.get("type"): item for item in list_at(previous, "conditions")}
    changed = []
    for item in list_at(status, "conditions"):
        old = before.get(item.get("type"))
        old_status = old.get("status") if old else None
        if item["status"] == old_status or "Unknown" in (item["status"], old_status):
            continue
        if old is None and not _is_bad(item):
            continue
        changed.append(Verdict(ConditionType(item["type"]), item["status"], item["reason"], item["message"]))
    return [item for item in changed if item.type != ConditionType.PROGRESSING]


def _is_bad(item: Object) -> bool:
    if item["type"] == ConditionType.DEGRADED:
        return bool(item["status"] == "True")
    return item["type"] == ConditionType.SPEC_VALID and bool(item["status"] == "False")


def scaling_news(previous: Object, desired: int | None) -> str:
    """A sentence about a change in the number of pods, or an empty one."""
    before = optional_number_at(previous, "replicas")
    if (
        desired is None
        or before is None
        or before == desired
        or not number_at(previous, "observedGeneration")
    ):
        return ""
    return f"from {before} to {desired} pods"
