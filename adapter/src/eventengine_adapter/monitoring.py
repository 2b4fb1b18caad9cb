"""The adapter's own measurements, for Prometheus.

Bounded in cardinality: no label holds a pod, a user or a path; engines are
labels of the sample ages only, and only `ENGINES_MAX` of them.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .samples.fleets import Fleet
from .samples.store import SampleStore
from .security.serving_tls import ServingTls

ENGINES_MAX: Final = 200
_FRESHNESS_BUCKETS: Final = tuple(1.364**power for power in range(20))
_REQUEST_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Monitoring:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.request_seconds = Histogram(
            "eventengine_adapter_request_duration_seconds",
            "Time to answer a request, by what was asked for and the status code.",
            ("kind", "code"),
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._freshness = _Freshness()
        self.registry.register(self._freshness)
        self.sample_reads = Counter(
            "eventengine_adapter_sample_reads_total",
            "Reads of engine pods, by how they ended.",
            ("outcome",),
            registry=self.registry,
        )
        self.broker_reads = Counter(
            "eventengine_adapter_broker_reads_total",
            "Questions to Kafka brokers about what no pod owns, by how they ended.",
            ("outcome",),
            registry=self.registry,
        )
        self.sample_read_seconds = Histogram(
            "eventengine_adapter_sample_read_duration_seconds",
            "Time to read one engine pod.",
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.watch_restarts = Counter(
            "eventengine_adapter_watch_restarts_total",
            "Watches of the Kubernetes API that ended other than in good order, by kind and reason.",
            ("resource", "reason"),
            registry=self.registry,
        )
        self.access_review_seconds = Histogram(
            "eventengine_adapter_access_review_duration_seconds",
            "Time that a SubjectAccessReview took, by outcome.",
            ("outcome",),
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.review_questions = Counter(
            "eventengine_adapter_review_questions_total",
            "Questions about tokens and access, by whether a remembered answer held.",
            ("kind", "remembered"),
            registry=self.registry,
        )
        self.served_age_seconds = Gauge(
            "eventengine_adapter_served_age_seconds",
            "Age of the oldest value in the last answer about a metric.",
            ("metric",),
            registry=self.registry,
        )
        self.last_known_good = Counter(
            "eventengine_adapter_last_known_good_total",
            "Values served that were not fresh, because their engine asks for that.",
            ("metric",),
            registry=self.registry,
        )
        self.draining = Gauge(
            "eventengine_adapter_draining",
            "1 while the adapter is being stopped and still serves.",
            registry=self.registry,
        )

        self._add_peers()

    def note_served(
        self, group: str, metric: str, ages_seconds: Sequence[tuple[float, int]], last_known_good: int
    ) -> None:
        """Count an answer: the ages of its values, each with their number, and how many of them were not fresh."""
        for age_seconds, count in ages_seconds:
            self._freshness.observe(group, age_seconds, count)
        if ages_seconds:
            self.served_age_seconds.labels(metric).set(max(age_seconds for age_seconds, _ in ages_seconds))
        if last_known_good:
            self.last_known_good.labels(metric).inc(last_known_good)

    def _add_peers(self) -> None:
        """What is counted of those at the other end of a connection."""
        self.connections_refused = Counter(
            "eventengine_adapter_connections_refused_total",
            "Connections that were hung up on because they overstepped a bound, by which one.",
            ("reason",),
            registry=self.registry,
        )
        self.chained_seconds = Histogram(
            "eventengine_adapter_chained_request_duration_seconds",
            "Time that the chained adapter took for an external metric, by the status code that came of it.",
            ("code",),
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.endpoint_reads = Counter(
            "eventengine_adapter_endpoint_reads_total",
            "Reads of the users' own endpoints in engine pods, by how they ended.",
            ("outcome",),
            registry=self.registry,
        )
        self.front_proxy_expiry = Gauge(
            "eventengine_adapter_front_proxy_certificate_expiry_timestamp_seconds",
            "When the certificate ends that the front proxy showed last; 0 before it showed one.",
            registry=self.registry,
        )

    def watch_samples(self, fleet: Callable[[], Fleet], store: SampleStore, tls: ServingTls) -> None:
        """Report ages of samples and the end of the certificate whenever the metrics are read."""
        self.registry.register(_SampleAges(fleet, store))
        Gauge(
            "eventengine_adapter_serving_certificate_expiry_timestamp_seconds",
            "When the certificate that is being served ends; 0 before there is one.",
            registry=self.registry,
        ).set_function(lambda: tls.expires_at_seconds or 0.0)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class _Freshness(Collector):
    """Ages of what was served, by API group. The values of a list are counted together: most are of one second."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self._sums_seconds: dict[str, float] = {}

    def observe(self, group: str, age_seconds: float, count: int) -> None:
        """Count `count` values of that age."""
        counts = self._counts.setdefault(group, [0] * (len(_FRESHNESS_BUCKETS) + 1))
        counts[bisect_left(_FRESHNESS_BUCKETS, age_seconds)] += count
        self._sums_seconds[group] = self._sums_seconds.get(group, 0.0) + age_seconds * count

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "metrics_apiserver_metric_freshness_seconds",
            "Age of the samples that were served, by API group.",
            labels=("group",),
        )
        bounds = [*(repr(bound) for bound in _FRESHNESS_BUCKETS), "+Inf"]
        for group, counts in self._counts.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric((group,), buckets, self._sums_seconds[group])
        yield family


class _SampleAges(Collector):
    """Ages and numbers per engine, made when they are asked for."""

    def __init__(self, fleet: Callable[[], Fleet], store: SampleStore) -> None:
        self._fleet = fleet
        self._store = store

    def collect(self) -> Iterator[Metric]:
        labels = ("namespace", "engine")
        ages = GaugeMetricFamily(
            "eventengine_adapter_sample_age_seconds",
            "Age of the oldest of the newest samples of an engine's pods.",
            labels=labels,
        )
        pods = GaugeMetricFamily(
            "eventengine_adapter_engine_pods", "Pods that count as the engine's.", labels=labels
        )
        unsampled = GaugeMetricFamily(
            "eventengine_adapter_engine_pods_without_sample",
            "Pods of the engine that gave no sample yet.",
            labels=labels,
        )
        now = time.time()
        engines = self._fleet().all_engines()[:ENGINES_MAX]
        for engine in engines:
            newest = [self._store.history(pod.uid).newest_second for pod in engine.pods]
            known = [second for second in newest if second is not None]
            values = (engine.namespace, engine.name)
            pods.add_metric(values, len(newest))
            unsampled.add_metric(values, len(newest) - len(known))
            if known:
                ages.add_metric(values, max(0.0, now - min(known)))
        yield from (ages, pods, unsampled)
