"""Looking at a running engine: metrics APIs for lag and utilisation, snapshots for rates and cores.

Owns all reads of the demo. Each read goes through the API server, as a user's would; a read that
fails leaves its figures None and never stops the demo. Keeps the highest offsets seen per partition,
so that rates survive pods that come and go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any, Final

from eventengine_contract.quantities import parse_quantity_millis
from eventengine_contract.snapshots import SAMPLES_KEPT

from eventengine_harness import waiting
from eventengine_harness.api_requests import ApiRequests
from eventengine_harness.exceptions import RequestError

from .timelines import Observation, sustained_rate

EXTERNAL: Final = "/apis/external.metrics.k8s.io/v1beta1"
CUSTOM: Final = "/apis/custom.metrics.k8s.io/v1beta2"
ENGINES: Final = "/apis/eventengine.dev/v1alpha1"
READ_TIMEOUT_SECONDS: Final = 4
PODS_READ_AT_ONCE: Final = 5
BACKLOG_SECONDS_MAX: Final = 60


class KubernetesReader:
    """GETs through the API server with the rights of a kubeconfig."""

    def __init__(self, requests: ApiRequests) -> None:
        self._requests = requests

    def get(self, path: str, **query: str) -> Any | None:
        """The decoded answer, or None where there is none: an error status, or no connection."""
        try:
            return self._requests.send("GET", path, query=query, timeout_seconds=READ_TIMEOUT_SECONDS)
        except RequestError:
            return None


class EngineObserver:
    """Looks at one EventEngine, again and again."""

    def __init__(
        self, reader: KubernetesReader, namespace: str, engine: str, clock: Callable[[], float]
    ) -> None:
        self._reader = reader
        self._namespace = namespace
        self._engine = engine
        self._clock = clock
        self._started = clock()
        self._offsets: dict[tuple[str, int], tuple[int, int]] = {}
        self._totals: list[tuple[float, int, int]] = []
        self._pool = ThreadPoolExecutor(max_workers=PODS_READ_AT_ONCE)

    def close(self) -> None:
        """End the reading threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def elapsed_seconds(self) -> float:
        """Seconds since the observer was made."""
        return self._clock() - self._started

    def look(self) -> Observation:
        """One look. Takes a few API requests."""
        namespaced = f"namespaces/{self._namespace}"
        external = self._pool.submit(
            self._reader.get,
            f"{EXTERNAL}/{namespaced}/kafka_consumer_lag",
            labelSelector=f"engine={self._engine}",
        )
        utilisation = self._pool.submit(
            self._reader.get,
            f"{CUSTOM}/{namespaced}/eventengines.eventengine.dev/{self._engine}/buffer_pool_utilisation",
        )
        deployment = self._reader.get(f"/apis/apps/v1/{namespaced}/deployments/{self._engine}") or {}
        snapshots = self.snapshots()
        rates = self._rates(snapshots)
        return Observation(
            at_seconds=self.elapsed_seconds(),
            events_in_per_second=rates[0],
            events_out_per_second=rates[1],
            lag_events=_sum_of_items(external.result()),
            pool_utilisation=_single_ratio(utilisation.result()),
            replicas_desired=deployment.get("spec", {}).get("replicas", 0),
            replicas_ready=deployment.get("status", {}).get("readyReplicas", 0),
            cores_pinned=sum(snapshot["process"]["exclusive"] for snapshot in snapshots.values()),
        )

    def engine(self) -> Mapping[str, Any]:
        """The EventEngine as the API server has it; empty where it can't be read."""
        found = self._reader.get(f"{ENGINES}/namespaces/{self._namespace}/eventengines/{self._engine}")
        return found if isinstance(found, dict) else {}

    def snapshots(self) -> dict[str, Any]:
        """The latest sample of each running pod, by pod name."""
        pods = self._reader.get(
            f"/api/v1/namespaces/{self._namespace}/pods",
            labelSelector=f"eventengine.dev/engine={self._engine}",
        )
        names = [
            pod["metadata"]["name"]
            for pod in (pods or {}).get("items", [])
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]
        bodies = self._pool.map(self._snapshot, names)
        return {name: body for name, body in zip(names, bodies, strict=True) if body is not None}

    def capacity_events_per_second(self, backlog_events: int, report: Callable[[str], None]) -> float:
        """What the one pod applies while it works off a backlog, which lasts for a few seconds."""
        totals: dict[int, tuple[int, int]] = {}

        def note(snapshot: Mapping[str, Any]) -> tuple[int, int]:
            partitions = [p for source in snapshot["sources"] for p in source["partitions"]]
            lag = sum(partition["lag_events"] or 0 for partition in partitions)
            found = (snapshot["counters"]["events_applied"], lag)
            totals[snapshot["sampled_at_seconds"]] = found
            return found

        def drained() -> str | None:
            snapshots = self.snapshots()
            if len(snapshots) != 1:
                return None
            ((pod, snapshot),) = snapshots.items()
            applied, lag = note(snapshot)
            return pod if lag == 0 and applied >= backlog_events else None

        pod = wait_for(drained, "the calibration events to be applied", BACKLOG_SECONDS_MAX, report)
        # Looks may have come late; the pod keeps its last samples.
        last = max(totals)
        for second in range(last - SAMPLES_KEPT + 1, last):
            if second not in totals and (kept := self._snapshot(pod, at=str(second))):
                note(kept)
        seconds = sorted(totals)
        rate = sustained_rate([(s, totals[s][0]) for s in seconds], [totals[s][1] for s in seconds])
        if rate is None:
            raise TimeoutError("the calibration was too short to measure one pod's capacity")
        return rate

    def _snapshot(self, pod: str, **query: str) -> Any | None:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod}:9464/proxy/snapshot"
        return self._reader.get(path, **query)

    def _rates(self, snapshots: Mapping[str, Any]) -> tuple[float | None, float | None]:
        """Events per second into the topic and out of the engine since the last look that moved."""
        sampled_at = 0.0
        for snapshot in snapshots.values():
            sampled_at = max(sampled_at, snapshot["sampled_at_seconds"])
            for source in snapshot["sources"]:
                for partition in source["partitions"]:
                    key = (source["name"], partition["partition"])
                    end, position = self._offsets.get(key, (0, 0))
                    self._offsets[key] = (
                        max(end, partition["last_stable_offset"] or 0),
                        max(position, partition["position"] or 0),
                    )
        if not snapshots:
            return None, None
        total_in = sum(end for end, _ in self._offsets.values())
        total_out = sum(position for _, position in self._offsets.values())
        self._totals = [*self._totals[-RATE_LOOKS:], (sampled_at, total_in, total_out)]
        first, last = self._totals[0], self._totals[-1]
        seconds = last[0] - first[0]
        if seconds <= 0:
            return None, None
        return (last[1] - first[1]) / seconds, (last[2] - first[2]) / seconds


REPORT_SECONDS: Final = 5.0
RATE_LOOKS: Final = 2
"""Rates are over this many looks, so that the second's edge does not make them jump."""


def _value(item: Mapping[str, Any]) -> Fraction:
    return Fraction(parse_quantity_millis(item["value"]), 1000)


def _sum_of_items(answer: Any | None) -> int | None:
    """The sum that the HPA makes of an external answer."""
    return None if answer is None else int(sum((_value(item) for item in answer["items"]), Fraction(0)))


def _single_ratio(answer: Any | None) -> float | None:
    return float(_value(answer["items"][0])) if answer and answer["items"] else None


def wait_for(
    condition: Callable[[], Any],
    what: str,
    deadline_seconds: float,
    report: Callable[[str], None] = lambda _: None,
) -> Any:
    """Wait until `condition` returns something true, and return that; tell every few seconds that it waits.

    Raises:
        DeadlineError: naming `what`, after `deadline_seconds`.
    """
    started = reported = time.monotonic()

    def fulfilled() -> Any:
        nonlocal reported
        result = condition() or None
        now = time.monotonic()
        if result is None and now - reported > REPORT_SECONDS:
            report(f"  waiting for {what} ({now - started:.0f} s)")
            reported = now
        return result

    return waiting.wait_for(fulfilled, what, deadline_seconds)
