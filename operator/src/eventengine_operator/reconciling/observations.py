"""What a reconcile saw of the world, all of it listed afresh, and how its own writes went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from eventengine_operator.manifests.scaled_objects import KedaScaler
from eventengine_operator.resources.claims import Claim
from eventengine_operator.resources.objects import Object, Reference
from eventengine_operator.resources.pods import EngineReport, Pod

from .comparing import Spellings
from .idling import Idleness


@dataclass(frozen=True)
class MetricsApi:
    """One metrics API of the cluster: whether it answers, and whose it is."""

    name: str
    state: Literal["Available", "Unavailable", "Foreign", "Absent"]
    detail: str


@dataclass(frozen=True)
class MetricsApis:
    """Both metrics APIs; None until they were looked at for the first time."""

    custom: MetricsApi | None = None
    external: MetricsApi | None = None


@dataclass(frozen=True)
class Observed:
    """State of the cluster around one EventEngine."""

    children: Mapping[Reference, Object]
    """Objects that carry the EventEngine's labels, and whatever else sits on a name it needs."""
    autoscalers: tuple[Object, ...]
    """Every HorizontalPodAutoscaler of the namespace: others may target the same pods."""
    pods: tuple[Pod, ...] = ()
    reports: Mapping[str, EngineReport] = field(default_factory=dict)
    """Latest report of each pod, by the pod's UID."""
    metrics_apis: MetricsApis = MetricsApis()
    replica_sets: tuple[Object, ...] = ()
    """ReplicaSets of the EventEngine's Deployment."""
    scaled_objects: tuple[Object, ...] = ()
    """Every ScaledObject (KEDA) of the namespace."""
    features: frozenset[str] = frozenset()
    """What this cluster has of what not every cluster has."""
    claims: tuple[Claim, ...] = ()
    """Claims of the EventEngine's pods, those of pods that were scaled away too."""
    secrets: Mapping[str, str | None] = field(default_factory=dict)
    """Version of each Secret that the pods mount; None where it may not be read."""
    keda_scaler: KedaScaler | None = None
    """How KEDA reaches the adapter; None while the operator has yet to look after its certificates."""
    refusal: str = ""
    """Why the API server takes no pod of the EventEngine's StatefulSet, where that was asked."""
    spellings: Spellings = field(default_factory=Spellings)
    """What is stored in other words than it was applied in."""
    idleness: Idleness = field(default_factory=Idleness)
    """Lag over time, where the EventEngine may be scaled to zero."""

    def child(self, kind: str, name: str) -> Object | None:
        """The live object, if there is one."""
        return self.children.get(Reference(kind, name))
