"""Memory: the whole engine process at steady load over time, and at eight times the players.

One engine with a TCP source, as users run it, Python face and telemetry included; the load comes over loopback at a
fixed rate. Each second its snapshot is read: resident memory, what jemalloc holds, what the core thread allocated.
The engine writes heap profiles meanwhile. The arena is sized for the larger hunt from the start, so whatever grows
with time or with players is what should not.

Growth is compared as the engine's own alert does: the least of the last tenth less the least of the first one, after
the warm-up. No figure here depends on how fast the machine is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eventengine_contract.snapshots import Snapshot
from eventengine_harness.control_planes import free_port
from eventengine_harness.engines import EngineProcesses
from eventengine_harness.exceptions import HarnessError
from frame.context import Context
from frame.heap_profiles import growing_stacks, live_bytes
from frame.tables import Detail, Row, Table, megabytes

RATE: Final = 10_000
PLAYERS: Final = 6_000
MORE: Final = 8
CONFIG: Final[dict[str, Any]] = {
    "name": "memory",
    # Twelve districts and eight times 1,200 teams.
    "arena": {"capacity": 131_072},
    "bufferPool": {"chunks": 4096},
}
GROWTH_MAX: Final = 0.01
GROWTH_MAX_WITH_PLAYERS: Final = 0.02
POLL_SECONDS: Final = 1.0
READY_SECONDS: Final = 60.0
PROFILES: Final = 6
"""Heap profiles over a run, at least; the engine keeps sixteen."""


@dataclass(frozen=True)
class Run:
    """What one run showed, after its warm-up."""

    players: int
    seconds: int
    applied: int
    resident_bytes: Sequence[int]
    allocated_bytes: Sequence[int]
    core_thread_bytes: int | None
    threads: Sequence[tuple[str, float]]
    profiles: Sequence[dict[str, int]]

    @property
    def settled_bytes(self) -> int:
        """Resident memory at the end: the least of the last tenth."""
        return min(self.resident_bytes[-_tenth(self.resident_bytes) :])

    @property
    def growth(self) -> float:
        """By how much resident memory grew, as a share."""
        return self.settled_bytes / min(self.resident_bytes[: _tenth(self.resident_bytes)]) - 1


def _tenth(points: Sequence[int]) -> int:
    return max(1, len(points) // 10)


def _profiles(folder: Path, since_seconds: float) -> list[dict[str, int]]:
    """The profiles that were written since a time, in order. The engine has ended, so each is whole."""
    written = {int(path.stem.rpartition("-")[2]): path for path in folder.glob("*.heap")}
    return [live_bytes(written[second].read_text()) for second in sorted(written) if second >= since_seconds]


def steady_run(context: Context, players: int, warmup: int, seconds: int) -> Run:
    """Send at one rate, and read the engine's own figures each second."""
    folder = context.folder / f"profiles-{players}"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.heap"):
        old.unlink()
    port = free_port()
    tcp = {"listen": f"127.0.0.1:{port}", "insecure": True}
    monitoring = {
        "heapProfileDirectory": str(folder),
        "heapProfileInterval": f"{max(1, seconds // (PROFILES + 1))}s",
    }
    config = {
        **CONFIG,
        "sources": [{"name": "direct", "type": "tcp", "tcp": tcp}],
        "monitoring": monitoring,
    }
    context.say(f"{players:,} players: {warmup} s of warm-up, then {seconds} s at {RATE:,} events/s")
    samples: dict[int, Snapshot] = {}
    with EngineProcesses() as processes:
        engine = processes.run(config)
        engine.wait_until_ready(READY_SECONDS)
        words = ["--tcp", f"127.0.0.1:{port}", "--rate", str(RATE), "--duration", f"{warmup + seconds}s"]
        load = processes.start("load", *words, "--players", str(players), "--quiet")
        begun, warm_at_seconds = time.monotonic(), time.time() + warmup
        while (passed := time.monotonic() - begun) < warmup + seconds:
            sample = engine.snapshot()
            if sample is not None and passed >= warmup:
                samples[sample.sampled_at_seconds] = sample
            time.sleep(POLL_SECONDS)
        status = load.wait()
        if status:
            raise HarnessError(f"the load was not acknowledged (status {status}):\n{load.log}")
        engine.terminate()
        engine.wait()
    return _run_of(
        players, seconds, [samples[second] for second in sorted(samples)], _profiles(folder, warm_at_seconds)
    )


def _run_of(
    players: int, seconds: int, samples: Sequence[Snapshot], profiles: Sequence[dict[str, int]]
) -> Run:
    resident = [sample.process.rss_bytes for sample in samples]
    allocated = [sample.allocator.allocated_bytes for sample in samples]
    if len(samples) < seconds // 2 or None in resident or None in allocated:
        raise HarnessError(f"{len(samples)} samples of {seconds} s, and none may lack its memory")
    last = samples[-1]
    return Run(
        players,
        seconds,
        last.counters.events_applied - samples[0].counters.events_applied,
        [number for number in resident if number is not None],
        [number for number in allocated if number is not None],
        last.allocator.core_thread_allocated_bytes,
        [(thread.name, thread.allocated_bytes_per_second or 0.0) for thread in last.allocator.threads],
        profiles,
    )


def core_row(runs: Sequence[Run]) -> Row:
    """What the core thread allocated after its warm-up, in all runs together."""
    what = "allocated by the core thread after warm-up"
    if any(run.core_thread_bytes is None for run in runs):
        return Row.missed(what, "≤ 0 B", "a core thread had not warmed up")
    total = sum(run.core_thread_bytes or 0 for run in runs)
    return Row.at_most(
        what, total, 0, "B", note=f"over {sum(run.applied for run in runs):,} events; the articles: 128 KB/s"
    )


def heap_row(run: Run) -> Row:
    """Whether a call stack holds more and more."""
    what = "call stacks that hold more and more"
    if len(run.profiles) < 3:
        return Row.missed(what, "≤ 0", f"{len(run.profiles)} heap profiles were written")
    growing = growing_stacks(run.profiles)
    largest = max(growing.values(), default=0)
    note = f"{len(run.profiles)} heap profiles" + (
        f"; the largest gained {megabytes(largest)}" if growing else ""
    )
    return Row.at_most(what, len(growing), 0, "", note=note)


def measure(context: Context) -> Table:
    """The hunt of the article for long, then eight times its players."""
    from eventengine import _native  # the module is built by then; its build is what is measured

    build = _native.build_info()
    if build["profile"] != "release":
        raise HarnessError(
            f"the native module is a {build['profile']} build; `make native` makes a release one"
        )
    warmup = context.choose(20, 60)
    usual = steady_run(context, PLAYERS, warmup, context.choose(60, 1800))
    more = steady_run(context, MORE * PLAYERS, warmup, context.choose(40, 300))
    with_players = more.settled_bytes / usual.settled_bytes - 1
    rows = [
        Row.at_most(
            f"growth of resident memory over {usual.seconds} s at steady load",
            usual.growth * 100,
            GROWTH_MAX * 100,
            "%",
            note=f"{megabytes(usual.settled_bytes)} at the end, {usual.applied:,} events; the article: flat",
        ),
        Row.at_most(
            f"growth of resident memory at {MORE} times the players",
            with_players * 100,
            GROWTH_MAX_WITH_PLAYERS * 100,
            "%",
            note=f"{megabytes(more.settled_bytes)} with {more.players:,} players",
        ),
        heap_row(usual),
        core_row([usual, more]),
        Row.shown(
            "held by the native half (jemalloc)",
            usual.allocated_bytes[-1] / 1e6,
            "MB",
            note="pool, rings, arena",
        ),
    ]
    threads = [[name, megabytes(per_second)] for name, per_second in usual.threads]
    data = {"build": build, "rate": RATE, "runs": [_data(run) for run in (usual, more)]}
    detail = Detail("Bytes that each thread asked for in the last second:", ["thread", "a second"], threads)
    return Table("Memory of the whole engine process at steady load", rows, [detail], data)


def _data(run: Run) -> dict[str, Any]:
    return {
        "players": run.players,
        "seconds": run.seconds,
        "applied": run.applied,
        "growth_ratio": run.growth,
        "resident_bytes": list(run.resident_bytes),
        "allocated_bytes": list(run.allocated_bytes),
        "core_thread_allocated_bytes": run.core_thread_bytes,
        "heap_profiles": len(run.profiles),
    }
