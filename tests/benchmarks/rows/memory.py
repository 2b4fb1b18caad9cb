"""Memory and CPU of the whole engine process: over time, at eight times the players, and sized for the hunt alone.

One engine with a TCP source, as users run it, Python face and telemetry included; the load comes over loopback at a
fixed rate. Each second its snapshot is read: resident memory, what jemalloc holds, what the core thread allocated.
The engine writes heap profiles meanwhile. The arena is sized for the larger hunt from the start, so whatever grows
with time or with players is what should not. How much a process needs that is sized for the usual hunt alone, as the
`latency` rows' is, is read from a run of its own, without profiles and with bursts at the rate of those rows.

Growth is compared as the engine's own alert does: the least of the last tenth less the least of the first one, after
the warm-up. CPU is the process' share of the machine over windows of thirty seconds, and by how many points the
farthest of them is off their mean. The sender's share, whose work is as steady, stands beside it: what moves both is
the machine. No event may be dropped: the load sends none but of priority 0. Of the figures here, the mean of the CPU
alone depends on how fast the machine is, and nothing is asked of it.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml
from eventengine_contract.snapshots import Snapshot
from eventengine_harness.control_planes import free_port
from eventengine_harness.engines import Command, EngineProcesses, RunningEngine
from eventengine_harness.exceptions import HarnessError
from frame.context import Context
from frame.heap_profiles import growing_stacks, live_bytes
from frame.load import ENGINE
from frame.tables import Detail, Row, Table, megabytes
from frame.usage import cpu_seconds, memory_bytes, shares_of_windows

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
NATIVE_MAX_MEGABYTES: Final = 32
PROCESS_MAX_MEGABYTES: Final = 96
BURSTS: Final = 3
BURST_RATE: Final = 120_000
BURST_SECONDS: Final = 1
CPU_WINDOW_SECONDS: Final = 30.0
CPU_DEVIATION_MAX: Final = 0.03
LOAD_DEADLINE_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Run:
    """What one run showed, after its warm-up."""

    players: int
    seconds: int
    warm_at_seconds: int
    applied: int
    resident_bytes: Sequence[int]
    allocated_bytes: Sequence[int]
    peak_resident_bytes: int
    native_resident_bytes: int
    cpu_shares: Sequence[float]
    """Shares of the machine's CPUs, window by window."""
    sender_cpu_shares: Sequence[float]
    """The same of the process that sends the load."""
    sent: int
    dropped: int
    """Events that were sent and never acknowledged, or refused."""
    core_thread_bytes: int | None
    threads: Sequence[tuple[str, float]]
    profiles: Sequence[dict[str, int]] = ()

    @property
    def settled_bytes(self) -> int:
        """Resident memory at the end: the least of the last tenth."""
        return min(self.resident_bytes[-_tenth(self.resident_bytes) :])

    @property
    def growth(self) -> float:
        """By how much resident memory grew, as a share."""
        return self.settled_bytes / min(self.resident_bytes[: _tenth(self.resident_bytes)]) - 1


def deviation(shares: Sequence[float]) -> float:
    """How far the farthest window is off the mean of all, as a share of the machine."""
    mean = statistics.fmean(shares)
    return max(abs(share - mean) for share in shares)


def _tenth(points: Sequence[int]) -> int:
    return max(1, len(points) // 10)


def _profiles(folder: Path, since_seconds: int) -> list[dict[str, int]]:
    """The profiles that were written since a time, in order. The engine has ended, so each is whole."""
    written = {int(path.stem.rpartition("-")[2]): path for path in folder.glob("*.heap")}
    return [live_bytes(written[second].read_text()) for second in sorted(written) if second >= since_seconds]


def profiled_run(context: Context, players: int, warmup: int, seconds: int) -> Run:
    """A steady run of the engine that is sized for the larger hunt, and writes heap profiles."""
    folder = context.folder / f"profiles-{players}"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.heap"):
        old.unlink()
    interval = f"{max(1, seconds // (PROFILES + 1))}s"
    monitoring = {"heapProfileDirectory": str(folder), "heapProfileInterval": interval}
    run = steady_run(context, {**CONFIG, "monitoring": monitoring}, players, warmup, seconds)
    return replace(run, profiles=_profiles(folder, run.warm_at_seconds))


def bursts_after(warmup: int, seconds: int) -> list[str]:
    """Words for the load: bursts spread over a run, with which it sends at `BURST_RATE` in all."""
    rate = BURST_RATE - RATE
    begins = [warmup + seconds * (number + 1) // (BURSTS + 1) for number in range(BURSTS)]
    bursts = [f"at={begin}s,duration={BURST_SECONDS}s,rate={rate}" for begin in begins]
    return [word for burst in bursts for word in ("--burst", burst)]


def steady_run(
    context: Context,
    config: Mapping[str, Any],
    players: int,
    warmup: int,
    seconds: int,
    bursts: Sequence[str] = (),
) -> Run:
    """Send at one rate, and read the engine's own figures each second."""
    port = free_port()
    tcp = {"listen": f"127.0.0.1:{port}", "insecure": True}
    context.say(f"{players:,} players: {warmup} s of warm-up, then {seconds} s at {RATE:,} events/s")
    observed = Observed()
    with EngineProcesses() as processes:
        engine = processes.run({**config, "sources": [{"name": "direct", "type": "tcp", "tcp": tcp}]})
        engine.wait_until_ready(READY_SECONDS)
        result = processes.folder / "load.json"
        words = ["--tcp", f"127.0.0.1:{port}", "--rate", str(RATE), "--duration", f"{warmup + seconds}s"]
        load = processes.start(
            "load", *words, *bursts, "--players", str(players), "--result", result, "--quiet"
        )
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < warmup + seconds:
            if passed >= warmup:
                observed.look_at(engine, load)
            time.sleep(POLL_SECONDS)
        status = load.wait(LOAD_DEADLINE_SECONDS)
        if not result.exists():
            raise HarnessError(f"the load ended with status {status}:\n{load.log}")
        peak = memory_bytes(engine.process.identity.pid, "VmHWM")
        sent = json.loads(result.read_text())
        engine.terminate()
        engine.wait()
    return observed.run(players, seconds, peak, sent)


class Observed:
    """What was seen of one engine, look by look."""

    def __init__(self) -> None:
        self._samples: dict[int, Snapshot] = {}
        self._cpu_seconds: list[tuple[float, float]] = []
        self._sender_cpu_seconds: list[tuple[float, float]] = []

    def look_at(self, engine: RunningEngine, load: Command) -> None:
        """Keep its latest sample, and the CPU time that it and its load have used."""
        sample = engine.snapshot()
        if sample is not None:
            self._samples[sample.sampled_at_seconds] = sample
        self._cpu_seconds.append((time.monotonic(), cpu_seconds(engine.process.identity.pid)))
        self._sender_cpu_seconds.append((time.monotonic(), cpu_seconds(load.process.identity.pid)))

    def run(self, players: int, seconds: int, peak_resident_bytes: int, sent: Mapping[str, Any]) -> Run:
        """All of it; HarnessError if samples or figures are missing."""
        samples = [self._samples[second] for second in sorted(self._samples)]
        resident = [sample.process.rss_bytes for sample in samples]
        allocated = [sample.allocator.allocated_bytes for sample in samples]
        native = [sample.allocator.resident_bytes for sample in samples]
        if len(samples) < seconds // 2 or None in resident or None in allocated or None in native:
            raise HarnessError(f"{len(samples)} samples of {seconds} s, and none may lack its memory")
        first, last = samples[0], samples[-1]
        return Run(
            players=players,
            seconds=seconds,
            warm_at_seconds=first.sampled_at_seconds,
            applied=last.counters.events_applied - first.counters.events_applied,
            resident_bytes=[number for number in resident if number is not None],
            allocated_bytes=[number for number in allocated if number is not None],
            peak_resident_bytes=peak_resident_bytes,
            native_resident_bytes=max(number for number in native if number is not None),
            cpu_shares=shares_of_machine(self._cpu_seconds),
            sender_cpu_shares=shares_of_machine(self._sender_cpu_seconds),
            sent=sent["intended"],
            dropped=sent["intended"] - sent["acknowledged"],
            core_thread_bytes=last.allocator.core_thread_allocated_bytes,
            threads=[
                (thread.name, thread.allocated_bytes_per_second or 0.0) for thread in last.allocator.threads
            ],
        )


def shares_of_machine(points: Sequence[tuple[float, float]]) -> list[float]:
    """Of CPU times, seen at times: the shares of all CPUs over the windows."""
    cpus = os.cpu_count() or 1
    return [share / cpus for share in shares_of_windows(points, CPU_WINDOW_SECONDS)]


def core_row(runs: Sequence[Run]) -> Row:
    """What the core thread allocated after its warm-up, in all runs together."""
    what = "allocated by the core thread after warm-up"
    if any(run.core_thread_bytes is None for run in runs):
        return Row.missed(what, "≤ 0 B", "a core thread had not warmed up")
    total = sum(run.core_thread_bytes or 0 for run in runs)
    return Row.at_most(
        what, total, 0, "B", note=f"over {sum(run.applied for run in runs):,} events; the articles: 128 KB/s"
    )


def cpu_row(run: Run) -> Row:
    """How steady the CPU time is that a steady load takes."""
    what = f"CPU over {CPU_WINDOW_SECONDS:.0f} s windows at steady load: farthest off the mean"
    if len(run.cpu_shares) < 2:
        limit = f"≤ {CPU_DEVIATION_MAX:.0%}"
        return Row.missed(what, limit, f"{len(run.cpu_shares)} windows were seen")
    mean, sender_mean = statistics.fmean(run.cpu_shares), statistics.fmean(run.sender_cpu_shares)
    note = (
        f"points of the machine; mean {mean:.1%}, {len(run.cpu_shares)} windows; the sender beside it: mean "
        f"{sender_mean:.1%}, farthest off {deviation(run.sender_cpu_shares):.2%}; the article: ±3% around 60%"
    )
    return Row.at_most(what, deviation(run.cpu_shares) * 100, CPU_DEVIATION_MAX * 100, "%", note=note)


def drop_row(runs: Sequence[Run]) -> Row:
    """Events that were sent in all runs together, each of priority 0, and not acknowledged."""
    sent = sum(run.sent for run in runs)
    note = f"of {sent:,}, all of priority 0, bursts among them; the article: 0%"
    return Row.at_most("events dropped", sum(run.dropped for run in runs), 0, "", note=note)


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


def rows_of(usual: Run, more: Run, sized: Run) -> list[Row]:
    """What the three runs reached: over time, with more players, and sized for the usual ones alone."""
    with_players = more.settled_bytes / usual.settled_bytes - 1
    return [
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
        cpu_row(usual),
        Row.at_most(
            "sized for the hunt: native memory",
            sized.native_resident_bytes / 1e6,
            NATIVE_MAX_MEGABYTES,
            "MB",
            note=f"jemalloc's resident bytes, bursts of {BURST_RATE:,} events/s; the articles: 192 MB",
        ),
        Row.at_most(
            "sized for the hunt: whole process",
            sized.peak_resident_bytes / 1e6,
            PROCESS_MAX_MEGABYTES,
            "MB",
            note="peak RSS, the Python face included",
        ),
        drop_row([usual, more, sized]),
        heap_row(usual),
        core_row([usual, more, sized]),
        Row.shown(
            f"sized for {MORE} times the players: held by the native half",
            usual.allocated_bytes[-1] / 1e6,
            "MB",
            note="jemalloc's allocated bytes: pool, rings, arena",
        ),
    ]


def measure(context: Context) -> Table:
    """The hunt of the article for long, then eight times its players, then the hunt in an engine of its size."""
    from eventengine import _native  # the module is built by then; its build is what is measured

    build = _native.build_info()
    if build["profile"] != "release":
        raise HarnessError(
            f"the native module is a {build['profile']} build; `make native` makes a release one"
        )
    warmup = context.choose(15, 60)
    usual = profiled_run(context, PLAYERS, warmup, context.choose(65, 1800))
    more = profiled_run(context, MORE * PLAYERS, warmup, context.choose(20, 300))
    seconds = context.choose(15, 60)
    sized = steady_run(
        context, yaml.safe_load(ENGINE.read_text()), PLAYERS, warmup, seconds, bursts_after(warmup, seconds)
    )
    threads = [[name, megabytes(per_second)] for name, per_second in usual.threads]
    data = {"build": build, "rate": RATE, "runs": [_data(run) for run in (usual, more, sized)]}
    detail = Detail("Bytes that each thread asked for in the last second:", ["thread", "a second"], threads)
    return Table(
        "Memory and CPU of the whole engine process at steady load",
        rows_of(usual, more, sized),
        [detail],
        data,
    )


def _data(run: Run) -> dict[str, Any]:
    return {
        "players": run.players,
        "seconds": run.seconds,
        "applied": run.applied,
        "growth_ratio": run.growth,
        "resident_bytes": list(run.resident_bytes),
        "allocated_bytes": list(run.allocated_bytes),
        "peak_resident_bytes": run.peak_resident_bytes,
        "native_resident_bytes": run.native_resident_bytes,
        "cpu_shares": list(run.cpu_shares),
        "sender_cpu_shares": list(run.sender_cpu_shares),
        "sent": run.sent,
        "dropped": run.dropped,
        "core_thread_allocated_bytes": run.core_thread_bytes,
        "heap_profiles": len(run.profiles),
    }
