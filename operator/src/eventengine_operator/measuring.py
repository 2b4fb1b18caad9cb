"""The operator's own metrics, in one registry of their own.

Owns names and labels. Label values come from small closed sets (verbs, codes, kinds, results), never
from object names, so that the number of series has a bound.
"""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Measurements:
    """Counters and gauges of one operator process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.leader = Gauge(
            "eventengine_operator_leader", "1 while this process holds the Lease.", registry=self.registry
        )
        self.queue_depth = Gauge(
            "eventengine_operator_queue_depth", "Keys waiting to be reconciled.", registry=self.registry
        )
        self.queue_seconds = Histogram(
            "eventengine_operator_queue_seconds",
            "How long a key waited for a worker.",
            registry=self.registry,
            buckets=(0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300),
        )
        self.queue_overflows = Counter(
            "eventengine_operator_queue_overflows_total",
            "Keys turned away by a full queue; the next resync brings them back.",
            registry=self.registry,
        )
        self.reconciles = Counter(
            "eventengine_operator_reconciles_total", "Reconciles.", ["result"], registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "eventengine_operator_reconcile_seconds",
            "Duration of a reconcile.",
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self.api_calls = Counter(
            "eventengine_operator_api_calls_total",
            "Calls to the API server.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.api_call_seconds = Histogram(
            "eventengine_operator_api_call_seconds",
            "Duration of a call to the API server, once it was its turn; watches aside.",
            ["verb"],
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.api_wait_seconds = Counter(
            "eventengine_operator_api_wait_seconds_total",
            "Time that calls waited for their turn: the client's own rate limit, and pauses the server asked for.",
            registry=self.registry,
        )
        self._make_hearing()
        self.reports = Counter(
            "eventengine_operator_engine_reports_total",
            "Reads of an engine's own report.",
            ["result"],
            registry=self.registry,
        )
        self.certificate_expiry = Gauge(
            "eventengine_operator_certificate_expiry_timestamp_seconds",
            "When a certificate of the adapter (`authority`, `serving`) or of the webhook (`webhook-...`) ends.",
            ["certificate"],
            registry=self.registry,
        )

        self.reviews = Counter(
            "eventengine_operator_reviews_total",
            "EventEngines that the webhook was asked about.",
            ["result"],
            registry=self.registry,
        )

    def _make_hearing(self) -> None:
        """Whether changes are heard of: watches, and the canary."""
        self.watch_events = Counter(
            "eventengine_operator_watch_events_total", "Watch events.", ["resource"], registry=self.registry
        )
        self.watch_age_seconds = Gauge(
            "eventengine_operator_watch_age_seconds",
            "Time since a watch told of something, bookmarks included where they are seen.",
            ["resource"],
            registry=self.registry,
        )
        self._told_at: dict[str, float] = {}
        self.ghosts = Counter(
            "eventengine_operator_ghosts_total",
            "EventEngines that the watch took to exist and the API server doesn't list: missed deletions.",
            registry=self.registry,
        )
        self.canary_seconds = Gauge(
            "eventengine_operator_canary_seconds",
            "How long the canary's last beat took from its write to its reconcile.",
            registry=self.registry,
        )
        self.canary_unanswered = Gauge(
            "eventengine_operator_canary_unanswered_beats",
            "Beats of the canary in a row that were written and not heard of again.",
            registry=self.registry,
        )

    def watch_told(self, resource: str) -> None:
        """A watch told of something just now."""
        is_new = resource not in self._told_at
        self._told_at[resource] = time.monotonic()
        if is_new:
            age = self.watch_age_seconds.labels(resource)
            age.set_function(lambda: time.monotonic() - self._told_at[resource])

    def exposition(self) -> bytes:
        """All of it in the Prometheus text format."""
        return generate_latest(self.registry)
