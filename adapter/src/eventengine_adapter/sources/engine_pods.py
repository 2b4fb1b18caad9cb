"""Which pods are whose: the chain of owners from a pod up to an EventEngine.

A label is only a hint, anybody who may make a pod can write it. A pod counts if
its controller is a ReplicaSet that exists, whose controller is a Deployment
that exists, or is a StatefulSet that exists, which is owned by an EventEngine that exists, each by UID, and if
that EventEngine is the one the label names. Pods that are being deleted, have
ended, or don't run yet are left out at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from eventengine_contract.engine_config import EngineConfig
from eventengine_contract.event_engine import Autoscaling
from eventengine_contract.pod_metrics import PodMetrics, pod_metrics
from eventengine_contract.well_known import (
    API_GROUP,
    COMPONENT_ENGINE,
    KIND,
    LABEL_COMPONENT,
    LABEL_ENGINE,
    PLURAL,
)
from eventengine_contract.well_known import API_VERSION as ENGINE_API_VERSION
from pydantic import ValidationError

from eventengine_adapter.cluster.mirrors import Mirror, Reader
from eventengine_adapter.samples.broker_lag import KafkaTopic
from eventengine_adapter.samples.fleets import Engine, EnginePod, Fleet

SELECTOR: Final = f"{LABEL_COMPONENT}={COMPONENT_ENGINE},{LABEL_ENGINE}"
_APPS: Final = "apps"


@dataclass(frozen=True, slots=True)
class Owner:
    """One object that owns another, as its owner reference says."""

    group: str
    kind: str
    uid: str
    controller: bool


@dataclass(frozen=True, slots=True)
class Owned:
    """An object in the chain of owners: what identifies it, and who owns it."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    owners: tuple[Owner, ...]


@dataclass(frozen=True, slots=True)
class DeclaredEngine:
    """An EventEngine, with what its spec says to the adapter."""

    identity: Owned
    topic: KafkaTopic | None = None
    last_known_good_seconds: int = 0
    endpoint: PodMetrics | None = None
    endpoint_refusal: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that runs, with what is needed to read its samples."""

    identity: Owned
    address: str
    ready: bool


def keep_owned(item: Mapping[str, Any]) -> Owned | None:
    """What is kept of an object that may own others."""
    metadata = item.get("metadata") or {}
    uid = metadata.get("uid")
    if not uid:
        return None
    return Owned(
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        uid=str(uid),
        labels=dict(metadata.get("labels") or {}),
        owners=tuple(
            Owner(
                group=str(reference.get("apiVersion", "")).rpartition("/")[0],
                kind=str(reference.get("kind", "")),
                uid=str(reference.get("uid", "")),
                controller=reference.get("controller") is True,
            )
            for reference in metadata.get("ownerReferences") or []
        ),
    )


def keep_engine(item: Mapping[str, Any]) -> DeclaredEngine | None:
    """What is kept of an EventEngine. A spec that can't be read leaves an engine with pods and nothing more."""
    identity = keep_owned(item)
    if identity is None:
        return None
    spec = item.get("spec") or {}
    endpoint, refusal = _endpoint(spec)
    try:
        config = EngineConfig.model_validate({"name": identity.name, **(spec.get("engine") or {})})
        autoscaling = Autoscaling.model_validate(spec.get("autoscaling") or {"driver": "none"})
    except ValidationError:
        return DeclaredEngine(identity, endpoint=endpoint, endpoint_refusal=refusal)
    return DeclaredEngine(
        identity, _kafka_topic(config), autoscaling.last_known_good_seconds, endpoint, refusal
    )


def _endpoint(spec: Mapping[str, Any]) -> tuple[PodMetrics | None, str]:
    """The endpoint that the pods' annotations name, or why that can't be read."""
    template = (spec.get("pod") or {}).get("template") or {}
    try:
        return pod_metrics(template.get("annotations") or {}), ""
    except ValueError as error:
        return None, str(error)


def _kafka_topic(config: EngineConfig) -> KafkaTopic | None:
    for source in config.sources:
        if source.kafka is not None:
            return KafkaTopic(
                source=source.name,
                bootstrap_servers=tuple(source.kafka.bootstrap_servers),
                topic=source.kafka.topic,
                group=config.group_id,
                from_earliest=source.kafka.start_from == "earliest",
                properties=tuple(sorted(source.kafka.properties.items())),
                credentials=source.kafka.credentials or "",
            )
    return None


def keep_pod(item: Mapping[str, Any]) -> Pod | None:
    """What is kept of a pod; None unless it runs, has an address, and is not being deleted."""
    metadata, status = item.get("metadata") or {}, item.get("status") or {}
    identity = keep_owned(item)
    if identity is None or metadata.get("deletionTimestamp") or status.get("phase") != "Running":
        return None
    address = str(status.get("podIP") or "")
    if not address:
        return None
    ready = any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in status.get("conditions") or []
    )
    return Pod(identity, address, ready)


def resolve_fleet(
    engines: Iterable[DeclaredEngine],
    deployments: Iterable[Owned],
    replica_sets: Iterable[Owned],
    pods: Iterable[Pod],
    stateful_sets: Iterable[Owned] = (),
) -> Fleet:
    """The engines with the pods that are verified to be theirs."""
    declared = {engine.identity.uid: engine for engine in engines}
    engines_by_uid = {uid: engine.identity for uid, engine in declared.items()}
    deployments_by_uid = {deployment.uid: deployment for deployment in deployments}
    sets_by_uid = {replica_set.uid: replica_set for replica_set in replica_sets}
    stateful_sets_by_uid = {stateful_set.uid: stateful_set for stateful_set in stateful_sets}
    members: dict[str, list[EnginePod]] = {uid: [] for uid in engines_by_uid}
    for pod in pods:
        replica_set = _owner(pod.identity, _APPS, "ReplicaSet", sets_by_uid)
        workload = _owner(replica_set, _APPS, "Deployment", deployments_by_uid)
        if workload is None:
            workload = _owner(pod.identity, _APPS, "StatefulSet", stateful_sets_by_uid)
        engine = _owner(workload, API_GROUP, KIND, engines_by_uid, controller=False)
        if engine is None or pod.identity.labels.get(LABEL_ENGINE) != engine.name:
            continue
        members[engine.uid].append(
            EnginePod(
                namespace=pod.identity.namespace,
                name=pod.identity.name,
                uid=pod.identity.uid,
                engine=engine.name,
                address=pod.address,
                ready=pod.ready,
                labels=pod.identity.labels,
                endpoint=declared[engine.uid].endpoint,
            )
        )
    return Fleet(
        Engine(
            engine.namespace,
            engine.name,
            engine.uid,
            engine.labels,
            tuple(sorted(members[engine.uid], key=lambda pod: pod.name)),
            declared[engine.uid].topic,
            declared[engine.uid].last_known_good_seconds,
            declared[engine.uid].endpoint,
            declared[engine.uid].endpoint_refusal,
        )
        for engine in engines_by_uid.values()
    )


def _owner(
    owned: Owned | None, group: str, kind: str, existing: Mapping[str, Owned], *, controller: bool = True
) -> Owned | None:
    """The one existing owner of that kind, in the same namespace."""
    if owned is None:
        return None
    for reference in owned.owners:
        if reference.group != group or reference.kind != kind or (controller and not reference.controller):
            continue
        found = existing.get(reference.uid)
        if found is not None and found.namespace == owned.namespace:
            return found
    return None


class EnginePods:
    """Follows the five kinds of objects and gives the fleet as it is now."""

    def __init__(
        self, reader: Reader, on_restart: Callable[[str, str], None] = lambda _kind, _reason: None
    ) -> None:
        def noted(kind: str) -> Callable[[str], None]:
            return lambda reason: on_restart(kind, reason)

        labelled = {"labelSelector": SELECTOR}
        self._pods: Mirror[Pod] = Mirror(
            reader, "/api/v1/pods", keep_pod, query=labelled, on_restart=noted("pods")
        )
        self._replica_sets: Mirror[Owned] = Mirror(
            reader,
            "/apis/apps/v1/replicasets",
            keep_owned,
            query=labelled,
            metadata_only=True,
            on_restart=noted("replicasets"),
        )
        self._deployments: Mirror[Owned] = Mirror(
            reader,
            "/apis/apps/v1/deployments",
            keep_owned,
            query=labelled,
            metadata_only=True,
            on_restart=noted("deployments"),
        )
        self._stateful_sets: Mirror[Owned] = Mirror(
            reader,
            "/apis/apps/v1/statefulsets",
            keep_owned,
            query=labelled,
            metadata_only=True,
            on_restart=noted("statefulsets"),
        )
        self._engines: Mirror[DeclaredEngine] = Mirror(
            reader,
            f"/apis/{API_GROUP}/{ENGINE_API_VERSION}/{PLURAL}",
            keep_engine,
            # Until the CRD is installed there is no engine, and the adapter is none the worse for it.
            absent_is_empty=True,
            on_restart=noted(PLURAL),
        )
        self._fleet = Fleet()
        self._resolved_generations: tuple[int, ...] = ()

    @property
    def mirrors(self) -> tuple[Mirror[Pod] | Mirror[Owned] | Mirror[DeclaredEngine], ...]:
        """The copies that have to run."""
        return (self._pods, self._replica_sets, self._deployments, self._stateful_sets, self._engines)

    def synced(self) -> bool:
        """Whether every kind was listed once."""
        return all(mirror.synced.is_set() for mirror in self.mirrors)

    def fleet(self) -> Fleet:
        """The fleet as of now; resolved again only after a change."""
        generations = tuple(mirror.generation for mirror in self.mirrors)
        if generations != self._resolved_generations:
            self._fleet = resolve_fleet(
                self._engines.objects,
                self._deployments.objects,
                self._replica_sets.objects,
                self._pods.objects,
                self._stateful_sets.objects,
            )
            self._resolved_generations = generations
        return self._fleet
