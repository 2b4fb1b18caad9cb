"""The engines of the cluster and the pods that count as theirs, as plain data.

A fleet is made anew whenever the cluster changes (`sources.engine_pods`); it
holds no sample. A pod that is in it was verified: its chain of owners ends in
that EventEngine's UID, it runs, and it is not being deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from eventengine_contract.pod_metrics import PodMetrics

from .broker_lag import KafkaTopic


@dataclass(frozen=True, slots=True)
class EnginePod:
    """One live pod of one engine. `ready` is the pod's own Ready condition."""

    namespace: str
    name: str
    uid: str
    engine: str
    address: str
    ready: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    endpoint: PodMetrics | None = None
    """The user's own Prometheus endpoint in it, if its engine names one."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One EventEngine and its live pods, sorted by name."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    pods: tuple[EnginePod, ...] = ()
    topic: KafkaTopic | None = None
    """The topic whose lag the brokers can tell; None if there is none or it can't be asked for."""
    last_known_good_seconds: int = 0
    """How old an external value may get that is served for want of a fresh one; 0: never."""
    endpoint: PodMetrics | None = None
    """The user's own Prometheus endpoint in each of its pods."""
    endpoint_refusal: str = ""
    """Why the endpoint that it names is not read; empty if it is, or names none."""


class Fleet:
    """All engines, found by namespace. Immutable."""

    def __init__(self, engines: Iterable[Engine] = ()) -> None:
        self._by_namespace: dict[str, dict[str, Engine]] = {}
        for engine in sorted(engines, key=lambda engine: (engine.namespace, engine.name)):
            self._by_namespace.setdefault(engine.namespace, {})[engine.name] = engine
        self.pods: tuple[EnginePod, ...] = tuple(pod for engine in self.all_engines() for pod in engine.pods)
        self._by_pod = {
            (pod.namespace, pod.name): (engine, pod) for engine in self.all_engines() for pod in engine.pods
        }

    def engines(self, namespace: str) -> tuple[Engine, ...]:
        """The engines of a namespace, sorted by name."""
        return tuple(self._by_namespace.get(namespace, {}).values())

    def find_pod(self, namespace: str, name: str) -> tuple[Engine, EnginePod] | None:
        """The pod of that name and its engine."""
        return self._by_pod.get((namespace, name))

    def all_engines(self) -> tuple[Engine, ...]:
        """Every engine, sorted by namespace and name."""
        return tuple(engine for engines in self._by_namespace.values() for engine in engines.values())

    def with_endpoints(self) -> Fleet:
        """The engines that name an endpoint of their own, and no others."""
        return Fleet(engine for engine in self.all_engines() if engine.endpoint is not None)
