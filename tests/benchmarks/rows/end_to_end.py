"""End to end: one engine between two topics of a real Kafka on this machine.

Rows, each a full path Kafka → engine → Kafka with transactions:

- capacity: events per second while a backlog is worked off, the median of whole seconds;
- latency at 30 and at 60 % of that capacity, under an open-loop load. Ingest to applied comes from the engine's own
  histogram over its last ten seconds, intended to acknowledged from the load's, which counts from the intended send
  time.

Broker, load generator and engine share this machine's cores, so the figures are of this arrangement and not of the
engine alone. Nothing is to be reached here but an allocation-free core thread.
"""

from __future__ import annotations

from typing import Any, Final

from eventengine_contract.snapshots import Snapshot
from eventengine_harness.brokers import LoopbackKafka
from eventengine_harness.demo.timelines import sustained_rate
from eventengine_harness.engines import EngineProcesses, RunningEngine, lag_events
from eventengine_harness.exceptions import HarnessError
from eventengine_harness.hunt_stages import HuntStage
from frame.context import Context
from frame.tables import Row, Table

BACKLOG_RATE: Final = 60_000
SHARES: Final = (0.3, 0.6)
PAYLOAD_BYTES: Final = 700


def measure_capacity(context: Context, stage: HuntStage) -> tuple[dict[str, Any], RunningEngine]:
    """Send a backlog, start the engine, and watch it work the backlog off."""
    backlog = context.choose(300_000, 1_200_000)
    context.say(f"capacity: sending a backlog of {backlog:,} events")
    stage.load("--rate", str(BACKLOG_RATE), "--duration", "60s", "--events", str(backlog), "--quiet")
    engine = stage.start_engine()
    samples: dict[int, Snapshot] = {}

    def drained(sample: Snapshot) -> bool:
        samples[sample.sampled_at_seconds] = sample
        return lag_events(sample) == 0 and sample.counters.events_applied >= backlog

    context.say("capacity: the engine works it off")
    last = engine.wait_for_sample(drained, "the backlog to be applied", 120.0)
    seconds = sorted(samples)
    rate = sustained_rate(
        [(second, samples[second].counters.events_applied) for second in seconds],
        [lag_events(samples[second]) for second in seconds],
    )
    if rate is None:
        raise HarnessError("capacity: the backlog was gone within a second; nothing to measure")
    figures = {
        "backlog_events": backlog,
        "events_per_second": round(rate),
        "service_p99_nanoseconds": last.latency.service_p99_nanoseconds,
        "core_thread_allocated_bytes": last.allocator.core_thread_allocated_bytes,
        "rss_bytes": last.process.rss_bytes,
    }
    return figures, engine


def measure_latency(context: Context, stage: HuntStage, engine: RunningEngine, rate: float) -> dict[str, Any]:
    """An open-loop load at a fixed rate; percentiles from both histograms."""
    seconds = context.choose(12, 120)
    context.say(f"latency: {rate:,.0f} events/s for {seconds} s")
    result = stage.load("--rate", f"{rate:.0f}", "--duration", f"{seconds}s", "--quiet")
    sample = engine.snapshot()
    if sample is None:
        raise HarnessError("latency: the engine gave no sample")
    applied, acknowledged = sample.latency, result["latency"]
    return {
        "events_per_second": round(result["acknowledged_per_second"]),
        "applied_p50_nanoseconds": applied.p50_nanoseconds,
        "applied_p99_nanoseconds": applied.p99_nanoseconds,
        "applied_max_nanoseconds": applied.max_nanoseconds,
        "acknowledged_p99_nanoseconds": acknowledged["p99_nanoseconds"],
        "acknowledged_max_nanoseconds": acknowledged["max_nanoseconds"],
    }


def rows_of(capacity: dict[str, Any], latencies: list[dict[str, Any]]) -> list[Row]:
    """The table's rows from the figures."""
    rows = [
        Row.shown("capacity, Kafka to Kafka in transactions", capacity["events_per_second"], "events/s"),
        Row.shown("service time p99 of the core", capacity["service_p99_nanoseconds"] / 1e3, "µs"),
        Row.at_most(
            "allocated by the core thread after warm-up", capacity["core_thread_allocated_bytes"], 0, "B"
        ),
        Row.shown("resident memory at the end of the backlog", capacity["rss_bytes"] / 1e6, "MB"),
    ]
    for share, latency in zip(SHARES, latencies, strict=True):
        at = f"at {share:.0%} of capacity"
        rate = f"{latency['events_per_second']:,} events/s acknowledged"
        rows += [
            Row.shown(
                f"ingest to applied p99 {at}", latency["applied_p99_nanoseconds"] / 1e6, "ms", note=rate
            ),
            Row.shown(
                f"intended to acknowledged p99 {at}",
                latency["acknowledged_p99_nanoseconds"] / 1e6,
                "ms",
                note="commits come every 100 ms",
            ),
        ]
    return rows


def measure(context: Context) -> Table:
    """All rows on one broker and one engine."""
    from eventengine import _native  # the module is built by then; its build is what is measured

    build = _native.build_info()
    if build["profile"] != "release":
        raise HarnessError(
            f"the native module is a {build['profile']} build; `make native` makes a release one"
        )
    with LoopbackKafka() as kafka, EngineProcesses() as processes:
        stage = HuntStage(kafka.broker, processes, "bench")
        stage.create_topics()
        capacity, engine = measure_capacity(context, stage)
        latencies = [
            measure_latency(context, stage, engine, share * capacity["events_per_second"]) for share in SHARES
        ]
    return Table(
        "End to end: one engine between two topics of a Kafka on the same cores",
        rows_of(capacity, latencies),
        data={
            "build": build,
            "payload_bytes": PAYLOAD_BYTES,
            "capacity": capacity,
            "latencies": latencies,
        },
    )
