"""The engines of the cluster and the pods that count as theirs, as plain data.

A fleet is made anew whenever the cluster changes (`sources.engine_pods`); it
holds no sample. A pod that is in it was verified: its chain of owners ends in
that EventEngine's UID, it runs, and it is not being deleted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from eventengine_contract.pod_metrics import PodMetrics

from .broker_lag import KafkaTopic
from .label_selectors import Selector

SELECTIONS_MAX: Final = 256
"""Selections of pods that a fleet remembers. Each autoscaler asks for the same ones again and again."""


ENDPOINT_METRICS_MAX: Final = 512
"""Names of users' own metrics that are listed; the others are answered all the same."""


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


Selection = Sequence[tuple[Engine, Sequence[EnginePod]]]


class Fleet:
    """All engines, found by namespace. Immutable but for what it remembers of itself."""

    def __init__(self, engines: Iterable[Engine] = ()) -> None:
        self._by_namespace: dict[str, dict[str, Engine]] = {}
        for engine in sorted(engines, key=lambda engine: (engine.namespace, engine.name)):
            self._by_namespace.setdefault(engine.namespace, {})[engine.name] = engine
        self.pods: tuple[EnginePod, ...] = tuple(pod for engine in self.all_engines() for pod in engine.pods)
        self._by_pod = {
            (pod.namespace, pod.name): (engine, pod) for engine in self.all_engines() for pod in engine.pods
        }
        named = {
            metric.name
            for engine in self.all_engines()
            if engine.endpoint is not None
            for metric in engine.endpoint.metrics
        }
        self.endpoint_metrics: tuple[str, ...] = tuple(sorted(named)[:ENDPOINT_METRICS_MAX])
        """Names of the metrics of the users' own endpoints, in order."""
        self._selections: OrderedDict[tuple[str, Selector], Selection] = OrderedDict()

    def engines(self, namespace: str) -> tuple[Engine, ...]:
        """The engines of a namespace, sorted by name."""
        return tuple(self._by_namespace.get(namespace, {}).values())

    def find_pod(self, namespace: str, name: str) -> tuple[Engine, EnginePod] | None:
        """The pod of that name and its engine."""
        return self._by_pod.get((namespace, name))

    def select_pods(self, namespace: str, selector: Selector) -> Selection:
        """The pods of a namespace whose labels `selector` matches, by engine; without engines that have none."""
        key = (namespace, selector)
        found = self._selections.get(key)
        if found is None:
            chosen = (
                (engine, tuple(pod for pod in engine.pods if selector.matches(pod.labels)))
                for engine in self.engines(namespace)
            )
            found = self._selections[key] = tuple((engine, pods) for engine, pods in chosen if pods)
            if len(self._selections) > SELECTIONS_MAX:
                self._selections.popitem(last=False)
        return found

    def all_engines(self) -> tuple[Engine, ...]:
        """Every engine, sorted by namespace and name."""
        return tuple(engine for engines in self._by_namespace.values() for engine in engines.values())

    def with_endpoints(self) -> Fleet:
        """The engines that name an endpoint of their own, and no others."""
        return Fleet(engine for engine in self.all_engines() if engine.endpoint is not None)
