"""One function for each condition of an EventEngine. Pure; times come as arguments.

Messages are for people and hold no fast-moving figure of the engine's: counts of pods, names
and reasons only. Lists are sorted, so that equal states give equal texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from eventengine_contract.event_engine import ConditionType, EventEngineSpec
from eventengine_contract.well_known import (
    ANNOTATION_PAUSED,
    ANNOTATION_PAUSED_SCALE_IN,
    ANNOTATION_PAUSED_SCALE_OUT,
)

from eventengine_operator.manifests.children import SCALED_OBJECT
from eventengine_operator.manifests.scaled_objects import complaint
from eventengine_operator.resources.engines import Engine, insecure_sources, metric_sources
from eventengine_operator.resources.objects import Object, condition_of, generation_of, number_at, text_at
from eventengine_operator.resources.pod_refusals import refusal_in_status
from eventengine_operator.resources.pods import UNSCHEDULABLE, EngineReport, Pod

from .idling import Idleness
from .observations import MetricsApi, MetricsApis, Observed
from .planning import Plan

STARTING_SECONDS_MAX: Final = 30
"""A pod younger than this and not ready is starting, or awaits a node; older, it is in trouble."""
PODS_NAMED_MAX: Final = 5
REASON_CHARACTERS_MAX: Final = 300


@dataclass(frozen=True)
class Verdict:
    """A condition before it gets its generation and time."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


@dataclass(frozen=True)
class Rollout:
    """How far the workload is. `desired` is what it asks for now."""

    exists: bool
    is_observed: bool
    has_stalled: bool
    desired: int
    existing: int
    updated: int
    ready: int
    refusal: str = ""
    """Why the API server takes no pod of it: a quota, an admission policy, a class that doesn't exist."""

    @property
    def is_settled(self) -> bool:
        """Every pod is of the present template, ready, and there is none too many."""
        return (
            self.exists and self.is_observed and self.desired == self.existing == self.updated == self.ready
        )


def read_rollout(workload: Object | None, refusal: str = "") -> Rollout:
    """Read a Deployment's progress, or a StatefulSet's, which doesn't know of a deadline.

    `refusal` is what is known of one that the workload's status doesn't tell.
    """
    if workload is None:
        return Rollout(False, False, False, 0, 0, 0, 0)
    progressing = condition_of(workload, "Progressing")
    return Rollout(
        exists=True,
        is_observed=number_at(workload, "status", "observedGeneration") >= generation_of(workload),
        has_stalled=progressing.get("reason") == "ProgressDeadlineExceeded",
        desired=number_at(workload, "spec", "replicas"),
        existing=number_at(workload, "status", "replicas"),
        updated=number_at(workload, "status", "updatedReplicas"),
        ready=number_at(workload, "status", "readyReplicas"),
        refusal=refusal_in_status(workload) or refusal,
    )


def spec_valid(engine: Engine, partitions: int) -> Verdict:
    """Whether the spec can be acted on; also where what it asks for is unsafe or has no effect yet."""
    if engine.spec is None:
        return Verdict(ConditionType.SPEC_VALID, "False", "Invalid", "; ".join(map(str, engine.faults)))
    notes = notes_on(engine.spec, partitions)
    reason = "InsecureSource" if insecure_sources(engine.spec.engine) else "Valid"
    return Verdict(ConditionType.SPEC_VALID, "True", reason, "; ".join(notes) or "the spec is valid")


def notes_on(spec: EventEngineSpec, partitions: int) -> list[str]:
    """What a valid spec asks for that is unsafe, or has no effect. `partitions` 0: unknown, or without meaning."""
    notes = []
    insecure = insecure_sources(spec.engine)
    if insecure:
        notes.append(f"anybody may send events to {_listed(insecure)} (insecure: true)")
    inactive = spec.engine.inactive_keys()
    if inactive:
        notes.append(f"accepted, without an effect yet: {_listed(inactive)}")
    scaling = spec.autoscaling
    fewest = scaling.min_replicas if scaling.driver != "none" else spec.replicas or 0
    if scaling.driver != "none" and 0 < partitions < scaling.max_replicas:
        notes.append(
            f"autoscaling stops at {max(partitions, scaling.min_replicas)} pods, below maxReplicas: "
            f"there are {partitions} partitions"
        )
    if 0 < partitions < fewest:
        notes.append(
            f"{fewest - partitions} of {fewest} pods have nothing to do: there are {partitions} partitions"
        )
    sources = {source.name for source in spec.engine.sources}
    for metric in scaling.metrics:
        selected = metric.selector.match_labels.get("source") if metric.selector is not None else None
        if selected is not None and selected not in sources:
            notes.append(f"no source is called {selected}, so {metric.name} of it can't be scaled on")
    return notes


def paused(engine: Engine) -> Verdict:
    """Whether the user asked the operator to keep its hands off."""
    if engine.is_paused:
        message = f"changes are not applied while the annotation {ANNOTATION_PAUSED} is true"
        return Verdict(ConditionType.PAUSED, "True", "Annotation", message)
    directions = {
        "ScaleIn": (engine.is_scale_in_paused, ANNOTATION_PAUSED_SCALE_IN),
        "ScaleOut": (engine.is_scale_out_paused, ANNOTATION_PAUSED_SCALE_OUT),
    }
    held = {reason: annotation for reason, (is_held, annotation) in directions.items() if is_held}
    if held:
        message = f"the autoscaler holds still in a direction while {_listed(held.values())} is true"
        return Verdict(ConditionType.PAUSED, "True", "And".join(held), message)
    return Verdict(ConditionType.PAUSED, "False", "NotPaused", "changes are applied")


def obstacle(plan: Plan, errors: tuple[str, ...]) -> tuple[str, str] | None:
    """(reason, message) of what keeps the declared state from being written."""
    if plan.conflicts:
        names = _listed(plan.conflicts)
        return (
            "NameConflict",
            f"{names} exists and isn't this EventEngine's; delete it or rename the EventEngine",
        )
    if plan.awaits_deletion_of:
        return (
            "AwaitingDeletion",
            f"waiting for the garbage collector to delete {_listed(plan.awaits_deletion_of)}",
        )
    if plan.missing_secrets:
        names = _listed(plan.missing_secrets)
        return (
            "SecretMissing",
            f"the pods mount {names}, which doesn't exist in this namespace; create it (kubectl create secret "
            f"generic {plan.missing_secrets[0]} ...) or mount it as optional: until then the pods stay as they are",
        )
    if errors:
        return "ApplyFailed", "; ".join(errors)
    return None


def progressing(rollout: Rollout, blocked: tuple[str, str] | None) -> Verdict:
    """Whether the pods are on their way to what is declared."""
    kind = ConditionType.PROGRESSING
    if blocked is not None:
        return Verdict(kind, "False", *blocked)
    if not rollout.exists or not rollout.is_observed:
        return Verdict(kind, "True", "Applied", "its controller has yet to act")
    if rollout.has_stalled and not rollout.is_settled:
        return Verdict(kind, "False", "Stalled", "the rollout made no progress within its deadline")
    if rollout.refusal:
        return Verdict(kind, "False", "PodsNotMade", f"the API server refuses its pods: {rollout.refusal}")
    if rollout.updated < rollout.desired:
        return Verdict(
            kind, "True", "RollingOut", f"{rollout.updated} of {rollout.desired} pods are up to date"
        )
    if rollout.existing > rollout.desired:
        return Verdict(kind, "True", "RemovingPods", f"{rollout.existing - rollout.desired} pods have to go")
    if rollout.ready < rollout.desired:
        return Verdict(kind, "True", "AwaitingPods", f"{rollout.ready} of {rollout.desired} pods are ready")
    return Verdict(kind, "False", "Settled", "all pods are as declared")


def pod_troubles(
    pods: Iterable[Pod], reports: dict[str, EngineReport], now: datetime, with_starting: bool
) -> list[str]:
    """`pod: reason` of every pod that isn't ready; starting ones only on demand."""
    troubles = []
    for pod in pods:
        if pod.is_ready or pod.is_leaving or pod.refusal:
            continue
        age_seconds = (now - pod.created_at).total_seconds() if pod.created_at else STARTING_SECONDS_MAX
        may_pass = not pod.trouble or pod.trouble.startswith(UNSCHEDULABLE)
        if may_pass and age_seconds < STARTING_SECONDS_MAX and not with_starting:
            continue
        troubles.append(f"{pod.name}: {_why_not_ready(pod, reports.get(pod.uid))[:REASON_CHARACTERS_MAX]}")
    return _first(troubles)


def _why_not_ready(pod: Pod, report: EngineReport | None) -> str:
    if pod.trouble:
        return pod.trouble
    if not pod.container_id:
        return f"its container isn't running ({pod.phase or 'Unknown'})"
    if report is None or report.container_id != pod.container_id:
        return "not ready"
    if report.error:
        return f"not ready, and its telemetry can't be read: {report.error}"
    return ", ".join(report.reasons) or "not ready"


def degraded(
    rollout: Rollout, blocked: tuple[str, str] | None, is_valid: bool, refusal: str, troubles: list[str]
) -> Verdict:
    """Whether something needs a person's attention."""
    kind = ConditionType.DEGRADED
    if not is_valid:
        return Verdict(kind, "True", "SpecInvalid", "the spec is invalid; the pods stay as they are")
    if blocked is not None and blocked[0] != "AwaitingDeletion":
        return Verdict(kind, "True", *blocked)
    if refusal:
        return Verdict(kind, "True", "PodsRefused", "; ".join([refusal, *troubles]))
    if rollout.refusal:
        message = (
            f"the API server refuses its pods: {rollout.refusal}; change what refuses them (a quota, an admission "
            "policy) or what they ask for (spec.pod): they are tried again by themselves"
        )
        return Verdict(kind, "True", "PodsNotMade", message)
    if troubles:
        return Verdict(kind, "True", "PodsNotReady", "; ".join(troubles))
    if rollout.has_stalled and not rollout.is_settled:
        return Verdict(kind, "True", "Stalled", "the rollout made no progress within its deadline")
    return Verdict(kind, "False", "AsDeclared", "nothing is wrong")


def ready(
    rollout: Rollout, blocked: tuple[str, str] | None, is_valid: bool, desired: int, troubles: list[str]
) -> Verdict:
    """SpecValid, everything written, and as many pods ready as are desired."""
    kind = ConditionType.READY
    if not is_valid:
        return Verdict(kind, "False", "SpecInvalid", "the spec is invalid")
    if blocked is not None:
        return Verdict(kind, "False", *blocked)
    count = f"{min(rollout.ready, desired)} of {desired} pods ready"
    if rollout.is_settled and rollout.desired == desired:
        reason = "AllPodsReady" if desired else "ScaledToZero"
        return Verdict(kind, "True", reason, count)
    if rollout.refusal:
        troubles = [f"the API server refuses its pods: {rollout.refusal}", *troubles]
    reason = "PodsNotMade" if rollout.refusal else "PodsNotReady" if troubles else "Progressing"
    return Verdict(kind, "False", reason, "; ".join([count, *troubles]))


def pinning_satisfied(
    spec: EventEngineSpec | None, required: int, satisfied: int, missing: list[str]
) -> Verdict:
    """Whether the pods own their cores, by their own account. `missing`: `pod: why` without a report."""
    kind = ConditionType.PINNING_SATISFIED
    if spec is None:
        return Verdict(kind, "Unknown", "SpecInvalid", "the spec is invalid")
    if spec.pod.pinning == "Off":
        return Verdict(kind, "True", "NotRequested", "pinning is Off")
    if not required:
        return Verdict(kind, "Unknown", "NoPods", "there are no pods")
    count = f"{satisfied} of {required} pods own their cores"
    if satisfied == required:
        return Verdict(kind, "True", "CoresOwned", count)
    if missing:
        return Verdict(kind, "Unknown", "AwaitingReports", "; ".join([count, *_first(missing)]))
    message = f"{count}; the node needs the static CPU manager policy and free cores"
    return Verdict(kind, "False", "CoresShared", message)


def metrics_available(spec: EventEngineSpec | None, apis: MetricsApis) -> Verdict:
    """Whether the metrics APIs that this EventEngine's autoscaler reads are served by our adapter."""
    kind = ConditionType.METRICS_AVAILABLE
    if spec is not None and spec.autoscaling.driver == "keda":
        return Verdict(kind, "True", "AskedByKeda", "KEDA asks the adapter itself, past the metrics APIs")
    sources = metric_sources(spec) if spec is not None else frozenset()
    needed: list[MetricsApi | None] = []
    if "External" in sources or not sources:
        needed.append(apis.external)
    if sources - {"External"} or not sources:
        needed.append(apis.custom)
    known = [api for api in needed if api is not None]
    if len(known) < len(needed):
        return Verdict(kind, "Unknown", "NotChecked", "the metrics APIs were not looked at yet")
    for state in ("Foreign", "Absent", "Unavailable"):
        faulty = [api for api in known if api.state == state]
        if faulty:
            message = "; ".join(dict.fromkeys(f"{api.name}: {api.detail}" for api in faulty))
            return Verdict(kind, "False", state, message)
    return Verdict(kind, "True", "Available", f"{_listed(api.name for api in known)} answer")


def autoscaling_active(spec: EventEngineSpec | None, plan: Plan, observed: Observed, name: str) -> Verdict:
    """Our autoscaler's own account of itself, or why there is none."""
    kind = ConditionType.AUTOSCALING_ACTIVE
    if spec is None:
        return Verdict(kind, "Unknown", "SpecInvalid", "the spec is invalid")
    foreign = plan.foreign_autoscaler
    if foreign is not None:
        target = "Deployment" if foreign.targets_deployment else "EventEngine"
        message = f"{foreign.kind} {foreign.name} scales the {target}; the operator leaves it to that one"
        return Verdict(kind, "False", "ForeignAutoscaler", message)
    if spec.autoscaling.driver == "none":
        return Verdict(kind, "False", "DriverNone", "autoscaling.driver is none")
    if plan.replicas == 0 and spec.autoscaling.scale_to_zero is not None:
        return Verdict(kind, "True", "Hibernated", "it goes on when there is a lag")
    if plan.awaits_autoscalers:
        names = _listed(plan.awaits_autoscalers)
        message = f"waiting for KEDA to let go of {names}; without KEDA, remove the finalizer"
        return Verdict(kind, "False", "AwaitingKeda", message)
    if spec.autoscaling.driver == "keda":
        return _keda_active(observed, name)
    live = observed.child("HorizontalPodAutoscaler", name)
    condition = condition_of(live, "ScalingActive") if live is not None else {}
    status = text_at(condition, "status")
    if status not in ("True", "False"):
        return Verdict(kind, "Unknown", "NotReported", "the HorizontalPodAutoscaler has yet to report")
    reason = text_at(condition, "reason") or "NotReported"
    return Verdict(kind, "True" if status == "True" else "False", reason, text_at(condition, "message"))


def _keda_active(observed: Observed, name: str) -> Verdict:
    """KEDA's account of our ScaledObject: that it works, and that the autoscaler behind it does."""
    kind = ConditionType.AUTOSCALING_ACTIVE
    if SCALED_OBJECT not in observed.features:
        message = "this cluster has no ScaledObjects; install KEDA, or set autoscaling.driver to hpa"
        return Verdict(kind, "False", "KedaNotInstalled", message)
    live = observed.child(SCALED_OBJECT, name) or {}
    condition = complaint(live)
    if condition:
        return Verdict(
            kind, "False", text_at(condition, "reason") or "NotReady", text_at(condition, "message")
        )
    if text_at(condition_of(live, "Ready"), "status") == "True":
        return Verdict(kind, "True", "ScaledObjectReady", "KEDA scales by the adapter's metrics")
    return Verdict(kind, "Unknown", "NotReported", "KEDA has yet to report on the ScaledObject")


def hibernated(spec: EventEngineSpec | None, replicas: int, idleness: Idleness, now: datetime) -> Verdict:
    """Whether the engine rests without pods, and what keeps it from resting or waking."""
    kind = ConditionType.HIBERNATED
    if spec is None:
        return Verdict(kind, "Unknown", "SpecInvalid", "the spec is invalid")
    declared = spec.autoscaling.scale_to_zero
    if declared is None:
        return Verdict(kind, "False", "NotDeclared", "autoscaling.scaleToZero isn't declared")
    is_unknown = idleness.is_unknown(now) and idleness.last is not None
    failure = idleness.last.failure if idleness.last is not None else ""
    if replicas == 0:
        wakes = f"pods come back after {declared.unknown_seconds_max} s of that"
        if is_unknown:
            return Verdict(
                kind, "True", "LagUnknown", f"no pods, and the lag isn't known: {failure}; {wakes}"
            )
        return Verdict(kind, "True", "Idle", "there is nothing to do; pods come back when there is a lag")
    if is_unknown:
        message = f"not scaled to zero while nobody knows whether it is idle: {failure}"
        return Verdict(kind, "False", "IdlenessUnknown", message)
    message = f"scaled to zero from minReplicas, after {declared.idle_seconds} s without anything to do"
    return Verdict(kind, "False", "Active", message)


def _first(sentences: list[str]) -> list[str]:
    """The first few, and how many more there are."""
    more = len(sentences) - PODS_NAMED_MAX
    return [*sentences[:PODS_NAMED_MAX], *([f"and {more} more"] if more > 0 else [])]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
