"""What disturbed a run: pressure stall information, stolen time and the hiccup meter; and how near the CPUs were.

Owns the readings before and after a run and their difference. The meter is a program of ours: two threads, one bound
to each of two CPUs, that sleep a millisecond over and over and record by how much they woke late. They run at
real-time priority where that is allowed, so that they see what the platform does to a thread, not what the measured
program does. Before and after the run, while the CPUs have nothing else to do, it measures how long a cache line takes
from one to the other and back: a virtual machine may be moved at any moment, to CPUs that share a cache or do not.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from eventengine_harness.running import run

from frame.histograms import Histogram

PRESSURE: Final = Path("/proc/pressure")
RESOURCES: Final = ("cpu", "memory", "io")
STATISTICS: Final = Path("/proc/stat")
METER_DEADLINE_SECONDS: Final = 10.0
QUIET_HICCUP_NANOSECONDS: Final = 1_000_000
"""With a hiccup p99.9 above this, the tails of a run are the platform's."""


def stalled_microseconds(text: str) -> int:
    """Total time in which some task waited, from a PSI file; ValueError if there is none."""
    for line in text.splitlines():
        if line.startswith("some "):
            fields = dict(part.split("=", 1) for part in line.split()[1:])
            return int(fields["total"])
    raise ValueError(f"no `some` line in the pressure file: {text!r}")


def stolen_ticks(text: str) -> int:
    """Ticks that the hypervisor took from all CPUs, from /proc/stat."""
    return int(text.splitlines()[0].split()[8])


def reading() -> dict[str, float]:
    """Totals of now; a resource that the kernel doesn't report is left out."""
    totals: dict[str, float] = {"at_seconds": time.monotonic()}
    for resource in RESOURCES:
        path = PRESSURE / resource
        if path.exists():
            totals[f"{resource}_stall_microseconds"] = stalled_microseconds(path.read_text())
    ticks = os.sysconf("SC_CLK_TCK")
    totals["steal_microseconds"] = stolen_ticks(STATISTICS.read_text()) * 1_000_000 // ticks
    return totals


def shares(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Shares of the time between two readings, in percent."""
    elapsed = max(after["at_seconds"] - before["at_seconds"], 1e-9) * 1e6
    return {
        name.replace("_microseconds", "_percent"): round(100 * (after[name] - before[name]) / elapsed, 3)
        for name in before
        if name.endswith("_microseconds") and name in after
    }


class Disturbance:
    """Measures beside a run: `with Disturbance(meter) as disturbance: …`, then `disturbance.report`.

    A run that failed or was interrupted has no report: the meter may have been ended with it, and the error of the
    run is the one to see.
    """

    def __init__(self, meter: Path) -> None:
        self._meter = meter
        self._process: subprocess.Popen[bytes] | None = None
        self._before: dict[str, float] = {}
        self._round_trips: list[int] = []
        self.report: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._round_trips = self._round_trip()
        self._before = reading()
        self._process = subprocess.Popen([self._meter], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._process
        if process is None:
            return
        try:
            # The meter ends with its input.
            output, _ = process.communicate(timeout=METER_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        if error is not None:
            return
        during = shares(self._before, reading())
        document = json.loads(output)
        hiccups = Histogram.read(document["hiccups"])
        self.report = {
            **during,
            "hiccups": hiccups.figures(),
            "hiccup_meter_real_time": document["real_time"],
            "round_trip_nanoseconds": [*self._round_trips, *self._round_trip()],
            # A meter that never had a turn has seen no quiet machine.
            "quiet": hiccups.total > 0 and hiccups.quantile(0.999) <= QUIET_HICCUP_NANOSECONDS,
        }

    def _round_trip(self) -> list[int]:
        """In nanoseconds; none with one CPU. While the run lasts the two threads that measure it would disturb it."""
        output = run([self._meter, "--round-trip"], timeout_seconds=METER_DEADLINE_SECONDS)
        trip = json.loads(output)["round_trip_nanoseconds"]
        return [] if trip is None else [trip]
