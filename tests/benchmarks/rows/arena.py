"""The arena: edge updates at a rate beside a Go peer, rollbacks, shortest paths, memory per edge.

- Edge update: one 12-byte packet an event, through the ring to the core thread and back, open loop; the time counts
  from the moment that the packet was to be sent. The peer holds a map of edges for each vertex and applies the same
  packets from a channel. The machine's floor stands beside both: the same times through two threads that do nothing.
- Rollback: the full arena of the article and 10,000 slots spread over it, by the undo log; the content is compared
  with a snapshot. Restoring that snapshot is shown beside it.
- Paths: batches of 128 random searches, each over a bounded number of vertices.
- Memory: the resident memory that 47 million edges over 256,000 vertices of uneven degree take, all in.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median
from typing import Any, Final

from eventengine_harness.caching import cached, key_of
from eventengine_harness.exceptions import HarnessError
from eventengine_harness.locations import TESTS
from eventengine_harness.running import run, run_showing_progress
from frame.context import Context, alternating
from frame.histograms import Histogram
from frame.load import FLOOR
from frame.programs import measured
from frame.tables import Detail, Row, Table, milliseconds, quantity

PEER: Final = TESTS / "benchmarks" / "peers" / "go" / "edges"
RATE: Final = 80_000
SLOTS: Final = 256_000
CHANGED: Final = 10_000
EDGES: Final = 47_000_000
ARTICLE_RATIO: Final = 4.3
"""180 µs of the broker-centric Go engine over 42 µs of the arena, both p99."""
SUSTAINED: Final = 0.999


def peer() -> Path:
    """The Go program, built once for its sources and its compiler."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise HarnessError(
            "Go is missing: the peer needs the version in tests/benchmarks/peers/go/edges/go.mod"
        )
    flags = ("-trimpath", "-mod=readonly", "-buildvcs=false")

    def build(destination: Path) -> None:
        command: list[str | Path] = [go, "build", *flags, "-o", destination / "edges", "."]
        run_showing_progress(command, "building the Go peer of the edge update", folder=PEER)

    files = [path for path in PEER.iterdir() if path.suffix in {".go", ".mod", ".sum"}]
    key = key_of(files=files, folder=PEER, words=[run([go, "version"], folder=PEER), *flags])
    return cached("benchmark-peer-edges", key, build) / "edges"


def update_runs(context: Context) -> dict[str, list[dict[str, Any]]]:
    """Alternating runs of ours, the peer's, and of the machine's floor."""
    rate = ["--rate", str(RATE), "--seconds", str(context.choose(5, 30))]
    load = ["--edges", str(4_000_000), *rate]

    def measure(system: str, number: int) -> dict[str, Any]:
        context.say(f"edge update at {RATE:,}/s, {system}, run {number + 1}")
        if system == "peer":
            return measured([peer(), *load])
        if system == FLOOR:
            return context.run("floor", *rate)
        return context.run("arena", "--measure", "update", *load)

    return alternating(["engine", "peer", FLOOR], context.choose(2, 5), measure)


def update_rows(runs: dict[str, list[dict[str, Any]]]) -> tuple[list[Row], Detail]:
    """The rows of the edge update, and what each system showed."""
    merged = {
        system: Histogram.merged(Histogram.read(one["latency"]) for one in results)
        for system, results in runs.items()
    }
    figures = {system: histogram.figures() for system, histogram in merged.items()}
    sustained = {
        system: min(one["sustained_share"] for one in results)
        for system, results in runs.items()
        if system != FLOOR
    }
    ours, theirs = figures["engine"], figures["peer"]
    note = (
        ""
        if sustained["peer"] >= SUSTAINED
        else f"the peer sustained only {sustained['peer']:.2%} of the rate"
    )
    rows = [
        Row.at_most(
            f"edge update at {RATE // 1000} k/s, p99", ours["p99"] / 1e3, 10, "µs", margin=0.2, gates=False
        ),
        Row.at_least(
            "p99 of the Go peer over ours, at that rate",
            theirs["p99"] / max(ours["p99"], 1),
            ARTICLE_RATIO,
            "×",
            margin=0.2,
            note=note,
        ),
        Row.shown("the machine's floor, two threads that do nothing: p99", figures[FLOOR]["p99"] / 1e3, "µs"),
    ]
    cells = [
        [
            system,
            f"{sustained[system]:.2%}" if system in sustained else "",
            *(quantity(figures[system][name] / 1e3, "µs") for name in ("p50", "p99", "p999", "max")),
            quantity(max(one["rss_bytes"] for one in runs[system]) / 1e6, "MB")
            if system in sustained
            else "",
        ]
        for system in runs
    ]
    columns = ("edge update, 4 M edges", "sustained", "p50", "p99", "p99.9", "max", "resident")
    return rows, Detail("From the intended time to the outcome", columns, cells)


def rollback_rows(
    context: Context, changed: int, limit_milliseconds: float
) -> tuple[list[Row], dict[str, Any]]:
    """Rolling back so many slots; the exact content is asked for besides the time."""
    what = "the full arena" if changed == SLOTS else f"{changed:,} changed slots"
    context.say(f"rollback of {what}")
    rounds = str(context.choose(20, 100))
    sizes = ["--slots", str(SLOTS), "--changed", str(changed), "--rounds", rounds]
    result = context.run("arena", "--measure", "rollback", *sizes)
    times = result["rollback_nanoseconds"]
    note = f"median of {rounds}; slowest {milliseconds(max(times))}"
    if not result["exact"]:
        note = f"the content that came back was another; {note}"
    rolled = Row.at_most(
        f"rollback of {what}, {SLOTS:,} slots",
        median(times) / 1e6,
        limit_milliseconds,
        "ms",
        margin=0.2,
        note=note,
    )
    if not result["exact"]:
        rolled = Row.missed(rolled.what, rolled.target, note)
    restored = Row.shown(
        f"restoring a snapshot that differs in {what}", median(result["restore_nanoseconds"]) / 1e6, "ms"
    )
    return [rolled, restored], result


def paths_row(context: Context) -> tuple[Row, dict[str, Any]]:
    """Searches over a random graph."""
    context.say("shortest paths")
    result = context.run("arena", "--measure", "paths", "--batches", str(context.choose(20, 200)))
    seconds = sum(result["batch_nanoseconds"]) / 1e9
    note = (
        f"{result['searches'] / seconds:,.0f} searches/s in batches of 128 over {result['vertices']:,} vertices of "
        f"degree {result['degree']}, each bounded to {result['limit']:,} vertices"
    )
    return Row.shown(
        "shortest paths, vertices looked at", result["settled"] / seconds, "vertices/s", note=note
    ), result


def memory_rows(context: Context) -> tuple[list[Row], dict[str, Any]]:
    """Resident memory of the article's number of edges."""
    context.say(f"memory of {EDGES:,} edges")
    result = context.run("arena", "--measure", "memory", "--edges", str(EDGES))
    note = f"{result['edges']:,} edges in {result['slots']:,} slots, {result['edges_per_slot']:.1f} a slot"
    rows = [
        Row.at_most("memory per edge, all in", result["bytes_per_edge"], 9, "B", note=note),
        Row.shown(f"resident memory with {EDGES // 1_000_000} M edges", result["rss_bytes"] / 1e6, "MB"),
    ]
    return rows, result


def measure(context: Context) -> Table:
    """All rows."""
    runs = update_runs(context)
    updates, detail = update_rows(runs)
    full, full_data = rollback_rows(context, SLOTS, 10)
    some, some_data = rollback_rows(context, CHANGED, 1)
    paths, paths_data = paths_row(context)
    memory, memory_data = memory_rows(context)
    return Table(
        "Arena: edges, rollback, paths, memory",
        [*updates, *full, *some, paths, *memory],
        details=[detail],
        data={
            "update": runs,
            "rollback_full": full_data,
            "rollback_some": some_data,
            "paths": paths_data,
            "memory": memory_data,
        },
    )
