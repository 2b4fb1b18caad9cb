"""A thousand simulated engine pods: who they are, what they measure, and the one process that serves them.

Owns their names, addresses and templates. A template is a whole snapshot of the contract, checked by it, in which only
what changes with time is left open (see ../instruments/pods); the same figures stand in the exposition that Prometheus
reads. All of it is a function of a pod's number, so that every system is told the same.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eventengine_contract.snapshots import Snapshot
from eventengine_harness.exceptions import HarnessError

NAMESPACE: Final = "bench"
ENGINES: Final = 100
PODS_PER_ENGINE: Final = 10
PODS: Final = ENGINES * PODS_PER_ENGINE
PARTITIONS_PER_POD: Final = 4
CHANGING_ENGINE: Final = 0
"""The lag of this engine's pods is another one each second and tells which; all others hold still."""

GAUGES: Final = (
    "buffer_pool_utilisation",
    "ring_utilisation",
    "arena_utilisation",
    "allocator_pressure",
    "service_time_p99_milliseconds",
    "shed_events_per_second",
)
LAG: Final = "consumer_lag"
SERIES_PER_POD: Final = len(GAUGES) + PARTITIONS_PER_POD
MEMORY_LIMIT_BYTES: Final = 1 << 30
START_SECONDS: Final = 1_760_000_000
STOP_SECONDS_MAX: Final = 10.0
READY_LINE: Final = b"serving\n"


@dataclass(frozen=True)
class SimulatedPod:
    """One pod, by its number from 0 on."""

    number: int

    @property
    def engine(self) -> str:
        """Its engine."""
        return f"engine-{self.number // PODS_PER_ENGINE:03}"

    @property
    def name(self) -> str:
        """Named as a ReplicaSet names its pods."""
        return f"{self.engine}-7c9d8b6f54-p{self.number % PODS_PER_ENGINE:04}"

    @property
    def address(self) -> str:
        """An address of its own on loopback."""
        return f"127.10.{self.number // 200}.{self.number % 200 + 1}"

    @property
    def is_changing(self) -> bool:
        """Whether its lag tells the second of its sample."""
        return self.number // PODS_PER_ENGINE == CHANGING_ENGINE

    @property
    def utilisation(self) -> float:
        """A ratio that differs from pod to pod."""
        return round(0.1 + self.number % 89 / 100, 3)

    def lag_events(self, index: int) -> int | str:
        """The lag of its n-th partition; a changing pod's first one tells the second, its others are none."""
        if self.is_changing:
            return "@changing@" if index == 0 else 0
        return 100 + self.number + index

    def snapshot(self) -> dict[str, Any]:
        """A whole snapshot; a text between two `@` is filled in when it is read."""
        number = self.number
        watch = {"limit_nanoseconds": 10_000_000, "count": number, "over_limit": 0, "total_nanoseconds": 9}
        pressure = {name: _pressure(number) for name in ("cpu", "memory", "io")}
        return {
            "version": 1,
            "sampled_at": "@sampled_at@",
            "sampled_at_seconds": "@second@",
            "identity": {
                "engine": self.engine,
                "namespace": NAMESPACE,
                "pod": self.name,
                "incarnation": f"{number:08x}-7d1e-4c55-9a3f-2b8f60c41d77",
                "build": "0.1.0 release",
                "started_at_seconds": START_SECONDS,
            },
            "readiness": {"ready": True, "live": True, "reasons": []},
            "buffer_pool": {
                "chunks": 16384,
                "chunk_bytes": 2048,
                "in_use": int(16384 * self.utilisation),
                "high_water": 15000,
                "utilisation": self.utilisation,
            },
            "rings": [_ring(name, self.utilisation) for name in ("ingest", "priority", "output")],
            "arena": {
                "slots": 256_000,
                "slot_bytes": 256,
                "in_use": int(256_000 * self.utilisation),
                "utilisation": self.utilisation,
                "fragmentation": 0.031,
                "fragmentation_crossings": 0,
                "moved_slots": 1200 + number,
                "tenants": [{"source": "moves", "reserved": 64_000, "in_use": 51_234}],
            },
            "identifiers": {
                "capacity": 65536,
                "in_use": 6000,
                "hits": "@events@",
                "misses": 6000,
                "expired": 11,
            },
            "sources": [self._source()],
            "allocator": self._allocator(),
            "process": self._process(),
            "workers": {"threads": 0, "pinned": 0, "parsed_events": 0},
            "pressure": {"cgroup": pressure, "machine": pressure},
            "stalls": {**watch, "longest_nanoseconds": 4_100_000},
            "rollbacks": {**watch, "longest_nanoseconds": 310_000},
            "alerts": {
                name: {"total": 0, "last_at_seconds": None, "last_message": None}
                for name in ("fragmentation", "growth", "stall", "rollback")
            },
            "counters": self._counters(),
            "latency": {
                "count": 120_000,
                "p50_nanoseconds": 2100,
                "p99_nanoseconds": 9800,
                "p999_nanoseconds": 41_000,
                "max_nanoseconds": 310_000,
                "service_p99_nanoseconds": 1200 + number,
                "window_seconds": 10,
            },
        }

    def _source(self) -> dict[str, Any]:
        first = self.number % PODS_PER_ENGINE * PARTITIONS_PER_POD
        return {
            "name": "moves",
            "type": "kafka",
            "topic": "hunt-events",
            "group": f"hunt-{self.engine}",
            "partitions_total": PODS_PER_ENGINE * PARTITIONS_PER_POD,
            "connected": True,
            "partitions": [
                {
                    "partition": first + index,
                    "state": "running",
                    "assigned_at_seconds": START_SECONDS + 4,
                    "position": "@events@",
                    "last_stable_offset": 7_000_000_000 + index,
                    "lag_events": self.lag_events(index),
                }
                for index in range(PARTITIONS_PER_POD)
            ],
        }

    def _allocator(self) -> dict[str, Any]:
        threads = [
            {
                "name": name,
                "allocations": "@events@",
                "allocated_bytes": "@events@",
                "allocations_per_second": 12.5,
                "allocated_bytes_per_second": 4096.0,
            }
            for name in ("core", "io", "publish", "python", "other")
        ]
        return {
            "allocated_bytes": 180_000_000,
            "active_bytes": 190_000_000,
            "resident_bytes": 200_000_000 + self.number * 1000,
            "retained_bytes": 30_000_000,
            "core_thread_allocated_bytes": 0,
            "threads": threads,
        }

    def _process(self) -> dict[str, Any]:
        return {
            "rss_bytes": 260_000_000,
            "rss_growth": {"window_seconds": 600, "growth_bytes": 4096, "growth_ratio": 0.00002},
            "memory_limit_bytes": MEMORY_LIMIT_BYTES,
            "cpu_set": "1",
            "cpu_limit_millicores": 1000,
            "pinning": "Required",
            "pinned": True,
            "exclusive": True,
            "core_thread_cpu": 1,
        }

    def _counters(self) -> dict[str, Any]:
        return {
            "events_in": "@events@",
            "events_applied": "@events@",
            "outputs_committed": "@events@",
            "transactions_committed": "@second@",
            "transactions_aborted": 0,
            "dead_letters": {"moves": 0},
            "parser_fallbacks": {"moves": 0},
            "shed": {"sheddable": 17 + self.number},
            "shed_by_source": {"moves": {"sheddable": 17 + self.number}},
            "errors": {"payload": 0, "publish": 0},
        }

    def exposition(self) -> str:
        """The pod's series as Prometheus reads them: the same figures, under the same names."""
        values: dict[str, float] = {
            "buffer_pool_utilisation": self.utilisation,
            "ring_utilisation": self.utilisation,
            "arena_utilisation": self.utilisation,
            "allocator_pressure": (200_000_000 + self.number * 1000) / MEMORY_LIMIT_BYTES,
            "service_time_p99_milliseconds": (1200 + self.number) / 1e6,
            "shed_events_per_second": 0,
        }
        lines = [f"# TYPE eventengine_{name} gauge\neventengine_{name} {values[name]:g}" for name in GAUGES]
        lines.append(f"# TYPE eventengine_{LAG} gauge")
        for partition, index in zip(self._source()["partitions"], range(PARTITIONS_PER_POD), strict=True):
            label = partition["partition"]
            lines.append(f'eventengine_{LAG}{{partition="{label}"}} {self.lag_events(index)}')
        return "\n".join(lines) + "\n"

    def template(self) -> dict[str, str]:
        """What the serving process is told of this pod."""
        snapshot = json.dumps(self.snapshot(), separators=(",", ":"))
        # A number that changes stands in the document without its quotes.
        for place in ("second", "events", "changing"):
            snapshot = snapshot.replace(f'"@{place}@"', f"@{place}@")
        Snapshot.model_validate_json(fill(snapshot, START_SECONDS))
        return {"address": self.address, "snapshot": snapshot, "metrics": self.exposition()}


def fill(template: str, second: int) -> str:
    """A template as the serving process fills it in, for checks."""
    changing = second % 1_000_000
    filled = template.replace("@second@", str(second)).replace("@changing@", str(changing))
    return filled.replace("@events@", str(changing * 1000)).replace("@sampled_at@", "2026-01-01T00:00:00Z")


def _ring(name: str, utilisation: float) -> dict[str, Any]:
    slots = 65536
    in_use = int(slots * utilisation)
    return {
        "name": name,
        "slots": slots,
        "bound": slots,
        "in_use": in_use,
        "high_water": slots,
        "utilisation": utilisation,
    }


def _pressure(number: int) -> dict[str, Any]:
    return {
        "some_avg10": 0.12,
        "some_total_microseconds": 81_000_000 + number,
        "full_avg10": 0.01,
        "full_total_microseconds": 1_000_000 + number,
    }


def all_pods() -> list[SimulatedPod]:
    """Every pod, in order."""
    return [SimulatedPod(number) for number in range(PODS)]


@contextmanager
def serving(program: Path, folder: Path, port: int) -> Iterator[None]:
    """Serve all pods at `port` of their addresses; HarnessError if they don't come up."""
    templates = folder / "pods.jsonl"
    templates.write_text("".join(json.dumps(pod.template()) + "\n" for pod in all_pods()))
    command = [str(program), "-pods", str(templates), "-port", str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if process.stdout is None or process.stdout.readline() != READY_LINE:
            raise HarnessError(f"the simulated pods don't serve at port {port}; see what they printed above")
        yield
    finally:
        # It ends with its input, also if this process is killed.
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
