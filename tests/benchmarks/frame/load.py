"""One run of one system under load, ours or a peer's: its arguments, its document, and what the document means.

Owns the rules that are the same for all of them: a rate is sustained if all events came out and the last one did so
in time (achieved over offered at least 0.999, never more than a second behind); a run beside which the platform
stalled is discarded and repeated a bounded number of times.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from eventengine.identities import read_identity
from eventengine_contract import well_known
from eventengine_contract.loading import load_engine_config
from eventengine_harness.exceptions import HarnessError
from eventengine_harness.locations import TESTS

from frame import peers, programs
from frame.context import Context
from frame.histograms import Histogram
from frame.tables import NOT_MEASURED, Row, megabytes, milliseconds, quantity, span

ENGINE: Final = TESTS / "benchmarks" / "engine.yaml"
OURS: Final = "eventengine"
WORK_STEALING: Final = "eventengine, work-stealing"
"""The other executor; it stands beside the pinned one and is never what a peer is held against."""
FLOOR: Final = "two threads, no work"
"""What the machine itself allows at that moment: nobody's system, and held against nobody."""
OWN: Final = (OURS, WORK_STEALING)
SUSTAINED: Final = 0.999
RATE_STEP: Final = 1_000
GIVEN_UP: Final = "the run was given up: the rate is not sustained"
COLUMNS: Final = (
    "system",
    "offered/s",
    "achieved/s",
    "sustained",
    "p50",
    "p99",
    "p99.9",
    "max",
    "peak RSS",
    "CPUs' round trip",
    "hiccup p99.9",
    "runs",
)


@dataclass(frozen=True)
class Load:
    """What is sent: events of a file, so many a second (0: as many as are taken), some of them in bursts."""

    file: Path
    rate: int
    seconds: int
    warmup: int
    burst: int = 0

    def arguments(self) -> list[str | Path]:
        """As every system takes them."""
        words: list[str | Path] = ["--file", self.file]
        for name in ("rate", "burst", "seconds", "warmup"):
            words += [f"--{name}", str(getattr(self, name))]
        return words


@dataclass(frozen=True)
class Result:
    """What one system showed under one load, over one or several runs."""

    system: str
    documents: Sequence[Mapping[str, Any]]

    @classmethod
    def merged(cls, results: Sequence[Result]) -> Self:
        """Several runs of the same system as one."""
        return cls(results[0].system, [document for result in results for document in result.documents])

    @property
    def offered_per_second(self) -> float:
        """The rate that was meant, also of a run that was given up; without one what was taken. The runs' median."""
        rates = [
            document.get("rate") or document["offered"] / document["seconds"] for document in self.documents
        ]
        return float(statistics.median(rates))

    @property
    def achieved_per_second(self) -> float:
        """The rate at which events came out, as the median of the runs."""
        return statistics.median(achieved(document) for document in self.documents)

    @property
    def sustained(self) -> bool:
        """Whether every run kept up."""
        return all(keeps_up(document) for document in self.documents)

    @property
    def latency(self) -> Histogram:
        """Applied minus intended, over all runs."""
        return Histogram.merged(Histogram.read(document["latency"]) for document in self.documents)

    @property
    def lost(self) -> int:
        """Events that were sent and never came out."""
        return sum(document["offered"] - document["completed"] for document in self.documents)

    @property
    def quiet(self) -> bool:
        """Whether the platform left every run alone."""
        return all(document["disturbance"]["quiet"] for document in self.documents)

    @property
    def round_trips_nanoseconds(self) -> list[int]:
        """What a cache line took between the CPUs and back, before and after each run; none with one CPU."""
        return [
            trip for document in self.documents for trip in document["disturbance"]["round_trip_nanoseconds"]
        ]

    def most(self, name: str) -> float:
        """The greatest value of a figure over the runs; HarnessError if a run didn't tell it."""
        values = [document.get(name) for document in self.documents]
        known = [float(value) for value in values if value is not None]
        if len(known) < len(values):
            raise HarnessError(f"{self.system} did not report {name}")
        return max(known)

    def percentile(self, name: str) -> str:
        """As tables show it; nothing was measured in a run that was given up before its warm-up was over."""
        return milliseconds(self.latency.figures()[name]) if self.latency.total else NOT_MEASURED

    def tail_row(self, what: str) -> Row:
        """The 99th percentile for orientation, with the figures around it."""
        if not self.latency.total:
            return Row.shown(f"{what}: p99", NOT_MEASURED, note=GIVEN_UP)
        names = {"p50": "p50", "p99.9": "p999", "max": "max"}
        note = ", ".join(f"{shown} {self.percentile(name)}" for shown, name in names.items())
        return Row.shown(
            f"{what}: p99", self.percentile("p99"), note=note + ("" if self.sustained else "; not sustained")
        )

    def latency_row(self, what: str, name: str, limit_milliseconds: float, note: str = "") -> Row:
        """A percentile against its limit; lost where nothing was measured, or the rate was not sustained.

        It depends on the machine and does not gate.
        """
        value = self.latency.figures()[name] / 1e6
        if not self.latency.total:
            limit = f"≤ {quantity(limit_milliseconds, 'ms')}"
            return Row(
                what, NOT_MEASURED, limit, False, "; ".join(filter(None, (note, GIVEN_UP))), gates=False
            )
        row = Row.at_most(what, value, limit_milliseconds, "ms", note=note, gates=False)
        if self.sustained:
            return row
        note = "; ".join(filter(None, (note, "the rate is not sustained")))
        return replace(row, holds=False, note=note)

    def cells(self) -> list[str]:
        """A row of the table of systems."""
        hiccup = max(document["disturbance"]["hiccups"]["p999"] for document in self.documents)
        return [
            self.system,
            quantity(self.offered_per_second, ""),
            quantity(self.achieved_per_second, ""),
            "yes" if self.sustained else "no",
            *(self.percentile(name) for name in ("p50", "p99", "p999", "max")),
            megabytes(self.most("peak_rss_bytes")),
            span(self.round_trips_nanoseconds, "ns"),
            milliseconds(hiccup) + ("" if self.quiet else " (disturbed)"),
            str(len(self.documents)),
        ]

    def data(self) -> dict[str, Any]:
        """For the JSON result."""
        return {"system": self.system, "sustained": self.sustained, "runs": list(self.documents)}


def engine_files(folder: Path, chunks: int | None, executor: str = "pinned") -> list[str | Path]:
    """Configuration and identity of the measured engine, written in the form that the native half reads."""
    config = load_engine_config(ENGINE.read_text(), ENGINE.name).model_copy(update={"executor": executor})
    if chunks is not None:
        pool = config.buffer_pool.model_copy(update={"chunks": chunks})
        config = config.model_copy(update={"buffer_pool": pool})
    identity = read_identity({well_known.ENV_PINNING: "Required"}, config)
    files = {"config": json.dumps(config.to_native()), "identity": identity.to_native()}
    words: list[str | Path] = []
    for name, text in files.items():
        path = folder / f"{name}-{executor}-{config.buffer_pool.chunks}.json"
        path.write_text(text)
        words += [f"--{name}", path]
    return words


def achieved(document: Mapping[str, Any]) -> float:
    """Events that came out per second, from the begin of the phase to the last of them."""
    return float(document["completed"]) * 1e9 / max(int(document["elapsed_nanoseconds"]), 1)


def keeps_up(document: Mapping[str, Any]) -> bool:
    """Whether a run sustained its rate."""
    if document["overrun"] or document["completed"] < document["offered"] or not document["offered"]:
        return False
    return achieved(document) >= SUSTAINED * float(document["offered"]) / float(document["seconds"])


def counts(document: Mapping[str, Any], rate: int, *, for_rate_alone: bool) -> bool:
    """Whether a run need not be repeated: the platform didn't stall beside it.

    Where the rate alone is asked for, one that was sustained in spite of a stall will do, and so will a first look at
    the capacity (rate 0).
    """
    is_quiet = bool(document["disturbance"]["quiet"])
    return is_quiet or (for_rate_alone and (rate == 0 or keeps_up(document)))


class Systems:
    """The systems that can run here, by name, ours first; and those that can't, with the reason.

    `chunks` is the size of our pool, where the configuration's own isn't meant; `executors` adds our other executor,
    `floor` the machine's floor.
    """

    def __init__(
        self, context: Context, chunks: int | None = None, *, executors: bool = False, floor: bool = False
    ) -> None:
        self.commands: dict[str, list[str | Path]] = {
            OURS: [context.program("engine"), *engine_files(context.folder, chunks)]
        }
        if executors:
            files = engine_files(context.folder, chunks, "work-stealing")
            self.commands[WORK_STEALING] = [context.program("engine"), *files]
        if floor:
            self.commands[FLOOR] = [context.program("floor")]
        self.absent: dict[str, str] = {}
        for peer in peers.ALL:
            try:
                self.commands[peer.name] = peer.command()
            except Exception as error:  # noqa: BLE001 - whatever keeps a peer from being built, the row names it
                self.absent[peer.name] = str(error).splitlines()[0]
                context.say(f"{peer.name} can't run here: {self.absent[peer.name]}")

    @property
    def peers(self) -> list[str]:
        """All but ours and the floor."""
        return [name for name in self.commands if name not in (*OWN, FLOOR)]

    def run(
        self, context: Context, system: str, load: Load, *more: str, for_rate_alone: bool = False
    ) -> Result:
        """One run; repeated while the platform stalled beside it, and kept as disturbed if it always did."""
        command = [*self.commands[system], *load.arguments(), *more]
        document = context.undisturbed(
            system,
            lambda: programs.measured(command),
            lambda document: counts(document, load.rate, for_rate_alone=for_rate_alone),
        )
        result = Result(system, [{**document, "rate": load.rate, "burst": load.burst}])
        context.say(
            f"{system}: {quantity(result.offered_per_second, '')}/s offered, "
            f"{quantity(result.achieved_per_second, '')}/s achieved, p99 {result.percentile('p99')}"
        )
        return result


def highest_sustained(
    run: Callable[[int, bool], Result], shares: Sequence[float]
) -> tuple[Result, Result | None]:
    """The capacity (as many events as are taken), and the highest of its shares that is sustained.

    `run(rate, short)` measures one rate; rate 0 measures the capacity. A queue that is always full may slow a system
    down, so that it sustains more than it takes then: shares above 1 are tried from the lowest until one fails, those
    below only if 1 itself, or the lowest above, fails.
    """
    capacity = run(0, True)
    best: Result | None = None

    def sustains(share: float) -> Result | None:
        rate = int(capacity.achieved_per_second * share) // RATE_STEP * RATE_STEP
        result = run(rate, False) if rate > 0 else None
        return result if result is not None and result.sustained else None

    for share in sorted(share for share in shares if share >= 1):
        found = sustains(share)
        if found is None:
            break
        best = found
    for share in sorted((share for share in shares if share < 1), reverse=True):
        if best is not None:
            break
        best = sustains(share)
    return capacity, best
