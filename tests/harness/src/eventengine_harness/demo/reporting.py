"""The live table and the summary, as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .timelines import Observation, ScalingFigures

HEADER: Final = (
    "  time   events/s in  events/s out        lag   pool  desired  ready  pinned cores",
    "  -----  -----------  ------------  ---------  -----  -------  -----  ------------",
)
BAR_WIDTH: Final = 24
LOAD_OVER_CAPACITY_MIN: Final = 1.5


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
class PinnedOutcome:
    """What the phase with the exclusive core showed."""

    proof: PinningProof
    audit: Mapping[str, Any]

    def faults(self) -> list[str]:
        """What was not shown, in words."""
        faults = [] if self.proof.holds else ["the pinned pod did not show a core of its own"]
        return faults + _audit_faults("hunt-pinned", self.audit)


@dataclass(frozen=True)
class ScalingOutcome:
    """What the phase with the burst showed."""

    capacity_events_per_second: float
    capacity_bound: str
    load_events_per_second: float
    figures: ScalingFigures
    audit: Mapping[str, Any]

    def faults(self) -> list[str]:
        """What was not shown, in words."""
        claims = {
            "no further pod became ready under the burst": self.figures.scaled_up,
            "the pods did not scale in again": self.figures.scaled_down,
            "the lag did not drain": self.figures.burst_to_drained_seconds is not None,
            "the load was below 1.5 times one pod's capacity": self.load_events_per_second
            >= LOAD_OVER_CAPACITY_MIN * self.capacity_events_per_second,
        }
        return [fault for fault, shown in claims.items() if not shown] + _audit_faults("hunt", self.audit)


@dataclass(frozen=True)
class Summary:
    """Everything that the demo claims."""

    pinned: PinnedOutcome
    scaling: ScalingOutcome
    seconds: float

    def faults(self) -> list[str]:
        """What was not shown, in words; empty when all of it was."""
        return self.pinned.faults() + self.scaling.faults()

    def lines(self) -> list[str]:
        """The summary as it is printed."""
        proof, scaling, figures = self.pinned.proof, self.scaling, self.scaling.figures
        exclusive = "exclusive" if proof.snapshot_exclusive else "not exclusive"
        ratio = scaling.load_events_per_second / scaling.capacity_events_per_second
        rows = [
            (
                "a core of its own",
                f"on node {proof.node} the pinned pod runs on core {proof.pinned_pod_cores}, a best-effort pod on "
                f"{proof.best_effort_pod_cores}",
            ),
            (
                "",
                f"snapshot: {proof.snapshot_cores} ({exclusive}), status: {proof.status_cores}",
            ),
            (
                "one pod's capacity",
                f"{scaling.capacity_events_per_second:,.0f} events/s, set by {scaling.capacity_bound}",
            ),
            ("load", f"{scaling.load_events_per_second:,.0f} events/s, {ratio:.1f} times that"),
            ("highest lag", f"{figures.lag_events_max:,} events"),
            (
                "scale-out",
                f"{_seconds(figures.burst_to_desired_seconds)} from burst to new desired count, "
                f"{_seconds(figures.burst_to_ready_seconds)} to the first new pod Ready, "
                f"{figures.replicas_ready_max} pods at the height",
            ),
            (
                "drained",
                f"{_seconds(figures.burst_to_drained_seconds)} after the burst began; "
                f"{figures.replicas_ready_last} ready at the end",
            ),
            ("exactly once", f"hunt: {_audit(scaling.audit)}"),
            ("", f"hunt-pinned: {_audit(self.pinned.audit)}"),
            ("took", f"{self.seconds:,.0f} s after set-up"),
        ]
        return ["Summary", *(f"  {name:<18}  {text}" for name, text in rows)]


def _audit_faults(engine: str, audit: Mapping[str, Any]) -> list[str]:
    return [] if audit["exact"] else [f"{engine}: not every event was applied exactly once"]


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} s"


def _audit(audit: Mapping[str, Any]) -> str:
    return (
        f"{audit['unique']:,} of {audit['expected']:,} (producer, sequence) pairs in the output, "
        f"{audit['missing']['count']:,} missing, {audit['duplicates']['count']:,} twice, "
        f"{audit['out_of_order']['count']:,} out of order (read_committed)"
    )
