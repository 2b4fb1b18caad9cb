"""Who owns the number of pods: one party at a time.

| declared                              | Deployment's replicas        | our autoscaler |
|---------------------------------------|------------------------------|----------------|
| driver hpa                            | copied from spec.replicas    | yes            |
| driver none, spec.replicas given      | copied from spec.replicas    | no             |
| driver none, spec.replicas left out   | not in the manifest          | no             |
| somebody else scales the Deployment   | not in the manifest          | no             |
| somebody else scales the EventEngine  | copied from spec.replicas    | no             |

A HorizontalPodAutoscaler that reads no spec.replicas (0) is disabled, and one that reads a number from
before somebody else scaled would throw pods away. In both cases the operator first writes the
live value, within the declared bounds, to the EventEngine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from eventengine_contract.event_engine import EventEngineSpec
from eventengine_contract.well_known import API_GROUP, KIND

from eventengine_operator.manifests.deployments import ANNOTATION_REPLICAS, REPLICAS_OF_OTHERS
from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import (
    Object,
    annotations_of,
    controller_uid_of,
    field_managers_of,
    is_being_deleted,
    mapping_at,
    name_of,
    optional_number_at,
    text_at,
)

FIELD_MANAGER: Final = "eventengine-operator"
REPLICAS_KEEPER: Final = "eventengine-operator-replicas"
"""The field manager that keeps the replicas alive while their ownership changes hands."""


@dataclass(frozen=True)
class ForeignAutoscaler:
    """An autoscaler that isn't ours and scales the same pods."""

    name: str
    targets_deployment: bool


@dataclass(frozen=True)
class ReplicaDecision:
    """`replicas` None: left out of the Deployment. `first` is to be written to the EventEngine."""

    replicas: int | None
    first: int | None
    with_autoscaler: bool


def find_foreign_autoscaler(engine: Engine, autoscalers: Iterable[Object]) -> ForeignAutoscaler | None:
    """Another's HorizontalPodAutoscaler on this EventEngine or its Deployment, the first by name."""
    found = []
    for item in autoscalers:
        target = mapping_at(item, "spec", "scaleTargetRef")
        if text_at(target, "name") != engine.name or is_being_deleted(item):
            continue
        group = text_at(target, "apiVersion").partition("/")[0]
        on_engine = (group, text_at(target, "kind")) == (API_GROUP, KIND)
        on_deployment = (group, text_at(target, "kind")) == ("apps", "Deployment")
        if (on_engine or on_deployment) and controller_uid_of(item) != engine.uid:
            found.append(ForeignAutoscaler(name_of(item), on_deployment))
    return min(found, key=lambda item: item.name, default=None)


def decide_replicas(
    spec: EventEngineSpec, live: Object | None, foreign: ForeignAutoscaler | None
) -> ReplicaDecision:
    """Apply the table above."""
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
    scaling = spec.autoscaling
    first = min(max(current or 0, scaling.min_replicas), scaling.max_replicas)
    return ReplicaDecision(replicas=first, first=first, with_autoscaler=True)


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
