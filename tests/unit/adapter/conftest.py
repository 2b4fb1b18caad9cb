"""A fleet that tests describe in a line: engines, their pods, and what each pod measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from eventengine_adapter.apis.custom import custom_metric_list
from eventengine_adapter.apis.external import external_metric_list
from eventengine_adapter.apis.metric_values import MetricView
from eventengine_adapter.apis.routing import resolve
from eventengine_adapter.samples.broker_lag import KafkaTopic
from eventengine_adapter.samples.fleets import Engine, EnginePod, Fleet
from eventengine_adapter.samples.last_known_good import LastKnownGood
from eventengine_adapter.samples.pod_samples import PartitionSample, PodSample, SourceSample
from eventengine_adapter.samples.store import SampleStore
from eventengine_contract.pod_metrics import PodMetrics

NOW = 1_795_255_200


class World:
    """Engines, pods and samples, built step by step; `view()` is what a request sees."""

    second = NOW

    def __init__(self) -> None:
        self.store = SampleStore()
        self.now = float(NOW) + 0.4
        self._pods: dict[tuple[str, str], list[EnginePod]] = {}
        self._labels: dict[tuple[str, str], dict[str, str]] = {}
        self._declared: dict[tuple[str, str], tuple[KafkaTopic | None, int, PodMetrics | None, str]] = {}
        self.endpoint_store = SampleStore()
        self.last_known_good = LastKnownGood()

    def engine(
        self,
        name: str,
        namespace: str = "default",
        labels: Mapping[str, str] | None = None,
        topic: KafkaTopic | None = None,
        last_known_good_seconds: int = 0,
        endpoint: PodMetrics | None = None,
        endpoint_refusal: str = "",
    ) -> None:
        self._pods.setdefault((namespace, name), [])
        self._labels[namespace, name] = dict(labels or {})
        self._declared[namespace, name] = (topic, last_known_good_seconds, endpoint, endpoint_refusal)

    def pod(
        self,
        name: str,
        engine: str = "hunt",
        namespace: str = "default",
        *,
        ready: bool = True,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        if (namespace, engine) not in self._pods:
            self.engine(engine, namespace)
        pod = EnginePod(namespace, name, f"uid-{name}", engine, "127.0.0.1", ready, dict(labels or {}))
        self._pods[namespace, engine].append(pod)

    def only_pods(self, names: Iterable[str], engine: str = "hunt", namespace: str = "default") -> None:
        """Let the engine have exactly these pods; the samples of the others are forgotten."""
        wanted = list(names)
        pods = self._pods[namespace, engine]
        pods[:] = [pod for pod in pods if pod.name in wanted]
        for name in wanted:
            if name not in {pod.name for pod in pods}:
                self.pod(name, engine, namespace)
        pods.sort(key=lambda pod: pod.name)
        self.store.retain({pod.uid for pods in self._pods.values() for pod in pods})

    def replace_pod(self, old: str, new: str, engine: str = "hunt", namespace: str = "default") -> None:
        """Let a pod be gone with its samples, and another one run in its place."""
        pods = self._pods[namespace, engine]
        pods[:] = [pod for pod in pods if pod.name != old]
        self.pod(new, engine, namespace)
        self.store.retain({pod.uid for pods in self._pods.values() for pod in pods})

    def sample(
        self,
        pod: str,
        *,
        second: int = NOW,
        partitions: Mapping[int, int | None] | None = None,
        total: int = 4,
        assigned_at: int = 0,
        source: tuple[str, str, str | None] = ("moves", "kafka", "hunt-events"),
        gauges: Mapping[str, int | None] | None = None,
        shed: Mapping[str, int] | None = None,
        ready: bool = True,
        incarnation: str = "one",
        started_at: int = 0,
        positions: Mapping[int, int] | None = None,
        further_sources: Iterable[SourceSample] = (),
    ) -> None:
        name, kind, topic = source
        claims = tuple(
            PartitionSample(number, assigned_at, lag, (positions or {}).get(number))
            for number, lag in (partitions or {}).items()
        )
        sample = PodSample(
            sampled_at_seconds=second,
            incarnation=incarnation,
            started_at_seconds=started_at,
            ready=ready,
            gauges_millis=dict(gauges or {}),
            shed_events=dict(shed or {}),
            sources=(SourceSample(name, kind, topic, total, True, claims), *further_sources),
        )
        self.store.record(f"uid-{pod}", [sample])

    def endpoint_sample(
        self, pod: str, gauges: Mapping[str, int | None], because: Mapping[str, str] | None = None
    ) -> None:
        """What the user's own endpoint in a pod said."""
        sample = PodSample(self.second, "", 0, True, dict(gauges), {}, (), dict(because or {}))
        self.endpoint_store.record(f"uid-{pod}", [sample])

    def fleet(self) -> Fleet:
        return Fleet(
            Engine(
                namespace,
                name,
                f"uid-{name}",
                self._labels[namespace, name],
                tuple(pods),
                *self._declared[namespace, name],
            )
            for (namespace, name), pods in self._pods.items()
        )

    def view(self) -> MetricView:
        return MetricView(
            self.fleet(), self.store, self.now, self.last_known_good, endpoint_store=self.endpoint_store
        )

    def external(
        self, metric: str, selector: str | None = None, namespace: str = "default"
    ) -> list[dict[str, Any]]:
        """The items of an answer of external.metrics.k8s.io."""
        route = resolve(f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}")
        answer = external_metric_list(self.view(), route, selector)
        assert answer["kind"] == "ExternalMetricValueList"
        assert answer["apiVersion"] == "external.metrics.k8s.io/v1beta1"
        items: list[dict[str, Any]] = answer["items"]
        return items

    def custom(
        self,
        path: str,
        selector: str | None = None,
        metric_selector: str | None = None,
        version: str = "v1beta2",
    ) -> list[dict[str, Any]]:
        """The items of an answer of custom.metrics.k8s.io, for a path below the namespace."""
        route = resolve(f"/apis/custom.metrics.k8s.io/{version}/namespaces/default/{path}")
        answer = custom_metric_list(self.view(), route, selector, metric_selector)
        assert answer["kind"] == "MetricValueList"
        assert answer["apiVersion"] == f"custom.metrics.k8s.io/{version}"
        items: list[dict[str, Any]] = answer["items"]
        return items


@pytest.fixture
def world() -> World:
    return World()


SNAPSHOT = """
{
  "version": 1, "sampled_at": "2026-11-21T10:00:00Z", "sampled_at_seconds": 1795255200,
  "a_field_of_the_future": true,
  "identity": {
    "engine": "hunt", "namespace": "default", "pod": "hunt-a", "incarnation": "c0ffee", "build": "0.1.0",
    "started_at_seconds": 1795255100
  },
  "readiness": {"ready": true, "live": true, "reasons": []},
  "buffer_pool": {"chunks": 16384, "chunk_bytes": 2048, "in_use": 10, "high_water": 99, "utilisation": 0.0006},
  "rings": [
    {"name": "ingest", "slots": 65536, "bound": 65536, "in_use": 0, "high_water": 0, "utilisation": 0.25},
    {"name": "publish", "slots": 65536, "bound": 1024, "in_use": 0, "high_water": 0, "utilisation": 0.5}
  ],
  "arena": {"slots": 65536, "slot_bytes": 256, "in_use": 0, "utilisation": 0.0, "fragmentation": 0.0},
  "sources": [
    {
      "name": "moves", "type": "kafka", "topic": "hunt-events", "group": "hunt", "partitions_total": 2,
      "connected": true,
      "partitions": [
        {
          "partition": 0, "state": "running", "assigned_at_seconds": 1795255150, "position": 10,
          "last_stable_offset": 12, "lag_events": 2
        },
        {
          "partition": 1, "state": "restoring", "assigned_at_seconds": 1795255199, "position": null,
          "last_stable_offset": null, "lag_events": null
        }
      ]
    },
    {
      "name": "direct", "type": "tcp", "topic": null, "group": null, "partitions_total": 0, "connected": true,
      "partitions": []
    }
  ],
  "allocator": {
    "allocated_bytes": 1, "active_bytes": 2, "resident_bytes": 300, "retained_bytes": 0,
    "core_thread_allocated_bytes": 0
  },
  "process": {
    "rss_bytes": 1, "memory_limit_bytes": 900, "cpu_set": "1", "cpu_limit_millicores": 1000,
    "pinning": "Required", "pinned": true, "exclusive": true, "core_thread_cpu": 1
  },
  "counters": {
    "events_in": 0, "events_applied": 0, "outputs_committed": 0, "transactions_committed": 0,
    "transactions_aborted": 0, "dead_letters": {}, "shed": {"telemetry": 40}, "errors": {}
  },
  "latency": {
    "count": 0, "p50_nanoseconds": 0, "p99_nanoseconds": 0, "p999_nanoseconds": 0, "max_nanoseconds": 0,
    "service_p99_nanoseconds": 1234567, "window_seconds": 10
  }
}
"""


@pytest.fixture
def snapshot_document() -> dict[str, Any]:
    """A whole snapshot as an engine writes it, with a field that this version doesn't know."""
    document: dict[str, Any] = json.loads(SNAPSHOT)
    return document
