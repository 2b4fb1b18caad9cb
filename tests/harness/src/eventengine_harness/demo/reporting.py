"""The live table and the summary, as lines of text. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .timelines import Observation, ScalingFigures

HEADER: Final = (
    "  time   events/s in  events/s out        lag   pool  desired  ready  pinned cores",
    "  -----  -----------  ------------  ---------  -----  -------  -----  ------------",
)
BAR_WIDTH: Final = 24


def table_line(seen: Observation, lag_scale_events: int = 0) -> str:
    """One line of the live table; with a scale, a bar shows the lag."""
    bar = ""
    if lag_scale_events and seen.lag_events:
        bar = "  " + "#" * min(BAR_WIDTH, max(1, BAR_WIDTH * seen.lag_events // lag_scale_events))
    minutes, seconds = divmod(int(seen.at_seconds), 60)
    return (
        f"  {minutes:02d}:{seconds:02d}  {_rate(seen.events_in_per_second):>11}  "
        f"{_rate(seen.events_out_per_second):>12}  {_count(seen.lag_events):>9}  "
        f"{_ratio(seen.pool_utilisation):>5}  {seen.replicas_desired:>7}  {seen.replicas_ready:>5}  "
        f"{seen.cores_pinned:>12}{bar}"
    )


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


@dataclass(frozen=True)
class PinningProof:
    """What the pinned pod and a best-effort pod on the same node say of their cores."""

    node: str
    pinned_pod_cores: str
    best_effort_pod_cores: str
    snapshot_cores: str
    snapshot_exclusive: bool
    status_cores: str

    @property
    def holds(self) -> bool:
        """One core, not the best-effort pod's, and the same in pod, snapshot and status."""
        pinned = parse_cores(self.pinned_pod_cores)
        return (
            len(pinned) == 1
            and not pinned & parse_cores(self.best_effort_pod_cores)
            and self.snapshot_exclusive
            and self.pinned_pod_cores == self.snapshot_cores == self.status_cores
        )


def parse_cores(text: str) -> frozenset[int]:
    """The cores of a kernel list such as `0-2,5`."""
    cores: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return frozenset(cores)


@dataclass(frozen=True)
class Summary:
    """Everything that the demo claims. `holds` is whether all of it was shown."""

    pinning: PinningProof
    pinned_audit: dict[str, Any]
    capacity_events_per_second: float
    capacity_bound: str
    load_events_per_second: float
    scaling: ScalingFigures
    audit: dict[str, Any]
    seconds: float

    def faults(self) -> list[str]:
        """What was not shown, in words."""
        faults = []
        if not self.pinning.holds:
            faults.append("the pinned pod did not show a core of its own")
        if not self.scaling.scaled_up:
            faults.append("no further pod became ready under the burst")
        if not self.scaling.scaled_down:
            faults.append("the pods did not scale in again")
        if self.scaling.burst_to_drained_seconds is None:
            faults.append("the lag did not drain")
        if self.load_events_per_second < 1.5 * self.capacity_events_per_second:
            faults.append("the load was below 1.5 times one pod's capacity")
        faults += [
            f"{name}: not every event was applied exactly once"
            for name, audit in (("hunt", self.audit), ("hunt-pinned", self.pinned_audit))
            if not audit["exact"]
        ]
        return faults

    def lines(self) -> list[str]:
        """The summary as it is printed."""
        pinning, scaling = self.pinning, self.scaling
        return [
            "Summary",
            (
                f"  a core of its own   node {pinning.node}: the pinned pod runs on core {pinning.pinned_pod_cores}, "
                f"a best-effort pod on {pinning.best_effort_pod_cores}; snapshot says {pinning.snapshot_cores}"
                f"{' (exclusive)' if pinning.snapshot_exclusive else ' (not exclusive)'}, status {pinning.status_cores}"
            ),
            f"  one pod's capacity  {self.capacity_events_per_second:,.0f} events/s, set by {self.capacity_bound}",
            (
                f"  load                {self.load_events_per_second:,.0f} events/s, "
                f"{self.load_events_per_second / self.capacity_events_per_second:.1f} times that"
            ),
            f"  highest lag         {scaling.lag_events_max:,} events",
            (
                f"  scale-out           {_seconds(scaling.burst_to_desired_seconds)} from burst to new desired count, "
                f"{_seconds(scaling.burst_to_ready_seconds)} to the first new pod Ready, "
                f"{scaling.replicas_ready_max} pods at the height"
            ),
            (
                f"  drained             {_seconds(scaling.burst_to_drained_seconds)} after the burst began; "
                f"back to {scaling.replicas_ready_last} pods at the end"
            ),
            f"  exactly once        hunt: {_audit(self.audit)}",
            f"                      hunt-pinned: {_audit(self.pinned_audit)}",
            f"  took                {self.seconds:,.0f} s after set-up",
        ]


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} s"


def _audit(audit: dict[str, Any]) -> str:
    return (
        f"{audit['unique']:,} of {audit['expected']:,} (producer, sequence) pairs in the output, "
        f"{audit['missing']['count']:,} missing, {audit['duplicates']['count']:,} twice, "
        f"{audit['out_of_order']['count']:,} out of order (read_committed)"
    )
