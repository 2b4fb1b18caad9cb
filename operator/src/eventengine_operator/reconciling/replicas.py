"""Who owns the number of pods: one party at a time.

| declared                              | Deployment's replicas        | our autoscaler |
|---------------------------------------|------------------------------|----------------|
| driver hpa                            | copied from spec.replicas    | yes            |
| driver keda                           | copied from spec.replicas    | KEDA's, for us |
| driver none, spec.replicas given      | copied from spec.replicas    | no             |
| driver none, spec.replicas left out   | not in the manifest          | no             |
| somebody else scales the Deployment   | not in the manifest          | no             |
| somebody else scales the EventEngine  | copied from spec.replicas    | no             |

A HorizontalPodAutoscaler that reads no spec.replicas (0) is disabled, and one that reads a number from
before somebody else scaled would throw pods away. In both cases the operator first writes the
live value, within the declared bounds, to the EventEngine.

Between zero and minReplicas the operator itself scales (`scaleToZero`), on the same path: an autoscaler
that reads 0 holds still until somebody else writes another number, so both never act at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from eventengine_contract.event_engine import Autoscaling, ConditionType, EventEngineSpec
from eventengine_contract.well_known import API_GROUP, KIND

from eventengine_operator.manifests.deployments import ANNOTATION_REPLICAS, REPLICAS_OF_OTHERS
from eventengine_operator.resources.engines import Engine, is_bound_by_partitions, workload_kind
from eventengine_operator.resources.objects import (
    Object,
    annotations_of,
    condition_of,
    controller_of,
    controller_uid_of,
    field_managers_of,
    is_being_deleted,
    mapping_at,
    name_of,
    number_at,
    optional_number_at,
    text_at,
    uid_of,
)
from eventengine_operator.resources.pods import EngineReport

from .idling import Idleness, next_replicas

FIELD_MANAGER: Final = "eventengine-operator"
REPLICAS_KEEPER: Final = "eventengine-operator-replicas"
"""The field manager that keeps the replicas alive while their ownership changes hands."""


@dataclass(frozen=True)
class ForeignAutoscaler:
    """An autoscaler that isn't ours and scales the same pods."""

    name: str
    targets_deployment: bool
    kind: str = "HorizontalPodAutoscaler"


@dataclass(frozen=True)
class ReplicaDecision:
    """`replicas` None: left out of the Deployment. `first` is to be written to the EventEngine.

    `with_autoscaler`: one of ours is to scale, of the kind that is declared.
    """

    replicas: int | None
    first: int | None
    with_autoscaler: bool


def find_foreign_autoscaler(
    engine: Engine, autoscalers: Iterable[Object], scaled_objects: Iterable[Object] = ()
) -> ForeignAutoscaler | None:
    """Another's autoscaler on this EventEngine or its Deployment.

    A ScaledObject comes first, even while KEDA keeps no HorizontalPodAutoscaler for it; else the first by name.
    What KEDA made for a ScaledObject of ours is ours.
    """
    known = list(scaled_objects)
    others = [item for item in autoscalers if not is_made_for_ours(engine, item, known)]
    kinds = (("ScaledObject", known), ("HorizontalPodAutoscaler", others))
    for kind, items in kinds:
        found = [
            ForeignAutoscaler(name_of(item), target != KIND, kind)
            for item in items
            if (target := _target_of(item, engine)) and controller_uid_of(item) != engine.uid
        ]
        if found:
            return min(found, key=lambda item: item.name)
    return None


def is_made_for_ours(engine: Engine, autoscaler: Object, scaled_objects: Iterable[Object]) -> bool:
    """Whether KEDA made it for this EventEngine's ScaledObject, be it that this one is gone already."""
    maker = controller_of(autoscaler)
    if text_at(maker, "kind") != "ScaledObject":
        return False
    makers = {uid_of(item): controller_uid_of(item) for item in scaled_objects}
    uid = text_at(maker, "uid")
    return makers[uid] == engine.uid if uid in makers else text_at(maker, "name") == engine.name


def autoscalers_of_keda(
    engine: Engine, autoscalers: Iterable[Object], scaled_objects: Iterable[Object]
) -> tuple[str, ...]:
    """What is left of KEDA scaling this EventEngine for us: two autoscalers on the same pods disable each other."""
    known = list(scaled_objects)
    left = [f"ScaledObject {name_of(item)}" for item in known if controller_uid_of(item) == engine.uid]
    left += [
        f"HorizontalPodAutoscaler {name_of(item)}"
        for item in autoscalers
        if is_made_for_ours(engine, item, known)
    ]
    return tuple(sorted(left))


def _target_of(autoscaler: Object, engine: Engine) -> str:
    """Kind of what the autoscaler scales where that is the EventEngine or its workload, else an empty text."""
    target = mapping_at(autoscaler, "spec", "scaleTargetRef")
    if text_at(target, "name") != engine.name or is_being_deleted(autoscaler):
        return ""
    # A ScaledObject may leave both out, and means a Deployment then.
    kind = text_at(target, "kind") or "Deployment"
    group = (text_at(target, "apiVersion") or "apps/v1").partition("/")[0]
    workload = workload_kind(engine.spec) if engine.spec is not None else "Deployment"
    return kind if (group, kind) in ((API_GROUP, KIND), ("apps", workload)) else ""


def count_partitions(engine: Engine, spec: EventEngineSpec, reports: Mapping[str, EngineReport]) -> int:
    """Partitions that the pods share, as they report, else as reported before; 0 where that bounds nothing."""
    if not is_bound_by_partitions(spec.engine):
        return 0
    reported = max((report.partitions for report in reports.values()), default=0)
    return reported or number_at(engine.status, "partitions")


def most_replicas(scaling: Autoscaling, partitions: int) -> int:
    """Most pods an autoscaler may ask for: one more than there are partitions would only stand by."""
    if not partitions:
        return scaling.max_replicas
    return max(scaling.min_replicas, min(scaling.max_replicas, partitions))


def decide_replicas(
    spec: EventEngineSpec, live: Object | None, foreign: ForeignAutoscaler | None, most: int
) -> ReplicaDecision:
    """Apply the table above. `most` is what an autoscaler of ours may ask for at most."""
    if foreign is not None and foreign.targets_deployment:
        return ReplicaDecision(replicas=None, first=None, with_autoscaler=False)
    current = live_replicas(live)
    if foreign is not None:
        first = max(current or 0, 1) if spec.replicas is None else None
        return ReplicaDecision(spec.replicas if first is None else first, first, with_autoscaler=False)
    if spec.autoscaling.driver == "none":
        return ReplicaDecision(replicas=spec.replicas, first=None, with_autoscaler=False)
    is_stale = live is not None and were_of_others(live) and current != spec.replicas
    if spec.replicas is not None and not is_stale:
        return ReplicaDecision(replicas=spec.replicas, first=None, with_autoscaler=True)
    first = min(max(current or 0, spec.autoscaling.min_replicas), most)
    return ReplicaDecision(replicas=first, first=first, with_autoscaler=True)


def rest_or_wake(
    engine: Engine, spec: EventEngineSpec, decision: ReplicaDecision, idleness: Idleness, now: datetime
) -> ReplicaDecision:
    """The same decision, or one that goes to zero or back from it."""
    if not decision.with_autoscaler or decision.first is not None or decision.replicas is None:
        return decision
    scaling = spec.autoscaling
    if scaling.scale_to_zero is not None:
        if scaling.driver == "keda":
            return decision
        following = next_replicas(
            scaling.scale_to_zero,
            decision.replicas,
            scaling.min_replicas,
            idleness,
            now,
            may_rest=not engine.is_scale_in_paused,
            may_wake=not engine.is_scale_out_paused,
        )
    else:
        # Nobody is left who would ever wake it.
        is_at_rest = decision.replicas == 0 and is_hibernated(engine)
        following = scaling.min_replicas if is_at_rest else None
    return decision if following is None else replace(decision, replicas=following, first=following)


def is_hibernated(engine: Engine) -> bool:
    """Whether the operator took its pods away, by its own account."""
    condition = condition_of({"status": engine.status}, ConditionType.HIBERNATED)
    return text_at(condition, "status") == "True"


def may_hibernate(engine: Engine, foreign: ForeignAutoscaler | None) -> bool:
    """Whether its lag has to be followed, for the operator to scale it to zero and back."""
    if engine.spec is None or engine.is_being_deleted or foreign is not None:
        return False
    scaling = engine.spec.autoscaling
    return scaling.driver == "hpa" and scaling.scale_to_zero is not None


def were_of_others(live: Object) -> bool:
    """Whether others had the replicas until now, so that the EventEngine's number is an old one."""
    return annotations_of(live).get(ANNOTATION_REPLICAS) == REPLICAS_OF_OTHERS


def live_replicas(live: Object | None) -> int | None:
    """Replicas that the live Deployment asks for."""
    return optional_number_at(live, "spec", "replicas") if live is not None else None


def needs_a_keeper(live: Object) -> bool:
    """Whether the live replicas would be lost if the operator stopped applying them."""
    owners = field_managers_of(live, "spec", "replicas")
    ours = (FIELD_MANAGER, "Apply")
    return ours in owners and not owners - {ours}
