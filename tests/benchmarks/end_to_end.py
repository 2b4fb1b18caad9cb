"""`make bench`: one engine between two topics of a real Kafka on this machine.

Rows, each a full path Kafka → engine → Kafka with transactions:

- `capacity`: events per second while a backlog is worked off, the median of whole seconds;
- `latency-30`, `latency-60`: an open-loop load of 30 and 60 % of that capacity. Ingest to applied comes from the
  engine's own histogram over its last ten seconds, intended to acknowledged from the load's, which counts from the
  intended send time.

Broker, load generator and engine share this machine's cores, so the figures are of this arrangement and not of the
engine alone. Only a release build is measured. Results go to build/benchmarks/end_to_end.json and, as a table, to
standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, Final

from eventengine import _native
from eventengine_contract.snapshots import Snapshot
from eventengine_harness.brokers import LoopbackKafka
from eventengine_harness.demo.timelines import sustained_rate
from eventengine_harness.engines import EngineProcesses, RunningEngine, lag_events
from eventengine_harness.hunt_stages import HuntStage

ROOT: Final = Path(__file__).resolve().parents[2]
RESULT: Final = ROOT / "build" / "benchmarks" / "end_to_end.json"
BACKLOG_EVENTS: Final = 300_000
BACKLOG_RATE: Final = 60_000
LATENCY_SECONDS: Final = 20
SHARES: Final = {"latency-30": 0.3, "latency-60": 0.6}
ROWS: Final = ("capacity", *SHARES)


def say(line: str) -> None:
    """Progress goes to standard error; the table is the only thing on standard output."""
    print(line, file=sys.stderr, flush=True)


def measure_capacity(stage: HuntStage) -> tuple[dict[str, Any], RunningEngine]:
    """Send a backlog, start the engine, and watch it work the backlog off."""
    say(f"capacity: sending a backlog of {BACKLOG_EVENTS:,} events")
    stage.load("--rate", str(BACKLOG_RATE), "--duration", "60s", "--events", str(BACKLOG_EVENTS), "--quiet")
    engine = stage.start_engine()
    samples: dict[int, Snapshot] = {}

    def drained(sample: Snapshot) -> bool:
        samples[sample.sampled_at_seconds] = sample
        return lag_events(sample) == 0 and sample.counters.events_applied >= BACKLOG_EVENTS

    say("capacity: the engine works it off")
    last = engine.wait_for_sample(drained, "the backlog to be applied", 120.0)
    seconds = sorted(samples)
    rate = sustained_rate(
        [(second, samples[second].counters.events_applied) for second in seconds],
        [lag_events(samples[second]) for second in seconds],
    )
    if rate is None:
        raise SystemExit("capacity: the backlog was gone within a second; nothing to measure")
    row = {
        "row": "capacity",
        "events_per_second": round(rate),
        "service_p99_microseconds": last.latency.service_p99_nanoseconds / 1e3,
        "core_thread_allocated_bytes": last.allocator.core_thread_allocated_bytes,
        "rss_bytes": last.process.rss_bytes,
    }
    return row, engine


def measure_latency(stage: HuntStage, engine: RunningEngine, name: str, rate: float) -> dict[str, Any]:
    """An open-loop load at a fixed rate; percentiles from both histograms."""
    say(f"{name}: {rate:,.0f} events/s for {LATENCY_SECONDS} s")
    result = stage.load("--rate", f"{rate:.0f}", "--duration", f"{LATENCY_SECONDS}s", "--quiet")
    sample = engine.snapshot()
    if sample is None:
        raise SystemExit(f"{name}: the engine gave no sample")
    applied, acknowledged = sample.latency, result["latency"]
    return {
        "row": name,
        "events_per_second": round(result["acknowledged_per_second"]),
        "applied_p50_microseconds": applied.p50_nanoseconds / 1e3,
        "applied_p99_microseconds": applied.p99_nanoseconds / 1e3,
        "applied_max_microseconds": applied.max_nanoseconds / 1e3,
        "acknowledged_p99_microseconds": acknowledged["p99_nanoseconds"] / 1e3,
        "acknowledged_max_microseconds": acknowledged["max_nanoseconds"] / 1e3,
    }


def measure(rows: tuple[str, ...]) -> dict[str, Any]:
    """All asked rows on one broker and one engine, with what they were measured on."""
    build = _native.build_info()
    if build["profile"] != "release":
        raise SystemExit(
            f"the native module is a {build['profile']} build; `make native` makes a release one"
        )
    results = []
    with LoopbackKafka() as kafka, EngineProcesses() as processes:
        stage = HuntStage(kafka.broker, processes, "bench")
        stage.create_topics()
        capacity, engine = measure_capacity(stage)
        if "capacity" in rows:
            results.append(capacity)
        results += [
            measure_latency(stage, engine, name, SHARES[name] * capacity["events_per_second"])
            for name in SHARES
            if name in rows
        ]
    conditions = {
        "build": build,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "backlog_events": BACKLOG_EVENTS,
        "payload_bytes": 700,
    }
    return {"conditions": conditions, "rows": results}


def table(report: dict[str, Any]) -> str:
    """The rows as Markdown, with every column that any row has."""
    columns = list(dict.fromkeys(column for row in report["rows"] for column in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in report["rows"]:
        cells = (row.get(column, "") for column in columns)
        texts = (f"{cell:,.0f}" if isinstance(cell, float | int) else str(cell) for cell in cells)
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main() -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=ROWS, help="measure this row only")
    options = parser.parse_args()
    report = measure((options.only,) if options.only else ROWS)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
