"""The figures of the demo's summary are drawn from what was seen, and a fault is never hidden."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from eventengine_harness.demo.observing import EngineObserver, KubernetesReader
from eventengine_harness.demo.reporting import (
    PinnedOutcome,
    PinningProof,
    ScalingOutcome,
    Summary,
    parse_cores,
    table_line,
)
from eventengine_harness.demo.timelines import Observation, scaling_figures, sustained_rate

QUIET = Observation(0.0, 100.0, 100.0, 0, 0.01, 1, 1, 0)
STORY = [
    QUIET,
    replace(QUIET, at_seconds=2.0),
    replace(QUIET, at_seconds=4.0, lag_events=1500),
    replace(QUIET, at_seconds=6.0, lag_events=9000, replicas_desired=5),
    replace(QUIET, at_seconds=8.0, lag_events=12_000, replicas_desired=5, replicas_ready=3),
    replace(QUIET, at_seconds=10.0, lag_events=None, replicas_desired=5, replicas_ready=5),
    replace(QUIET, at_seconds=12.0, lag_events=40, replicas_desired=5, replicas_ready=5),
    replace(QUIET, at_seconds=14.0, lag_events=0, replicas_desired=1, replicas_ready=1),
]
EXACT = {
    "exact": True,
    "unique": 10,
    "expected": 10,
    "missing": {"count": 0},
    "duplicates": {"count": 0},
    "out_of_order": {"count": 0},
}
PROOF = PinningProof("node-1", "1", "0", "1", snapshot_exclusive=True, status_cores="1")
PINNED = PinnedOutcome(PROOF, EXACT)
SCALING = ScalingOutcome(500.0, "a declared service time", 1100.0, scaling_figures(STORY, 3.0), EXACT)


def test_times_count_from_the_burst() -> None:
    figures = scaling_figures(STORY, burst_at_seconds=3.0)
    assert figures.burst_to_desired_seconds == 3.0
    assert figures.burst_to_ready_seconds == 5.0
    assert figures.burst_to_drained_seconds == 9.0


def test_the_height_is_the_highest_seen_and_gaps_are_no_zeroes() -> None:
    figures = scaling_figures(STORY, burst_at_seconds=3.0)
    assert figures.lag_events_max == 12_000
    assert figures.replicas_ready_max == 5
    assert figures.scaled_up
    assert figures.scaled_down


def test_a_lag_that_never_fell_again_is_not_called_drained() -> None:
    assert scaling_figures(STORY[:5], burst_at_seconds=3.0).burst_to_drained_seconds is None


def test_capacity_counts_only_seconds_in_which_work_was_left() -> None:
    applied = [(1, 0), (2, 100), (3, 600), (4, 1100), (5, 1600), (6, 1800)]
    assert sustained_rate(applied, [1800, 1700, 1200, 700, 200, 0]) == 500.0
    assert sustained_rate([(1, 0), (2, 1800)], [1800, 0]) is None


class LateReader(KubernetesReader):
    """An API whose first answer comes when the backlog is gone; the pod keeps the seconds before."""

    kept: Mapping[int, tuple[int, int]] = MappingProxyType({7: (300, 1500), 8: (800, 1000), 9: (1300, 500)})

    def __init__(self) -> None:
        """Ask nobody."""

    def get(self, path: str, **query: str) -> Any | None:
        if path.endswith("/pods"):
            return {"items": [{"metadata": {"name": "one"}, "status": {"phase": "Running"}}]}
        second = int(query.get("at", "10"))
        if second != 10 and second not in self.kept:
            return None
        applied, lag = self.kept.get(second, (1800, 0))
        return {
            "sampled_at_seconds": second,
            "counters": {"events_applied": applied},
            "sources": [{"partitions": [{"lag_events": lag}]}],
        }


def test_capacity_is_known_though_the_first_look_came_after_the_backlog() -> None:
    observer = EngineObserver(LateReader(), "demo", "hunt", time.monotonic)
    try:
        assert observer.capacity_events_per_second(1800, print) == 500.0
    finally:
        observer.close()


def test_a_complete_story_has_no_faults() -> None:
    assert Summary(PINNED, SCALING, 200.0).faults() == []


@pytest.mark.parametrize(
    ("scaling", "fault"),
    [
        (replace(SCALING, audit={**EXACT, "exact": False}), "hunt: not every event was applied exactly once"),
        (replace(SCALING, load_events_per_second=700.0), "the load was below 1.5 times one pod's capacity"),
        (
            replace(SCALING, figures=scaling_figures(STORY[:2], 3.0)),
            "no further pod became ready under the burst",
        ),
        (replace(SCALING, figures=scaling_figures(STORY[:7], 3.0)), "the pods did not scale in again"),
    ],
)
def test_what_scaling_did_not_show_is_named(scaling: ScalingOutcome, fault: str) -> None:
    assert fault in Summary(PINNED, scaling, 200.0).faults()


@pytest.mark.parametrize(
    "proof",
    [
        replace(PROOF, best_effort_pod_cores="0-1"),
        replace(PROOF, pinned_pod_cores="0-1", snapshot_cores="0-1", status_cores="0-1"),
        replace(PROOF, snapshot_exclusive=False),
        replace(PROOF, snapshot_cores="0"),
        replace(PROOF, status_cores="0"),
    ],
)
def test_a_core_counts_as_owned_only_if_pod_neighbour_snapshot_and_status_agree(proof: PinningProof) -> None:
    assert not proof.holds
    assert PinnedOutcome(proof, EXACT).faults() == ["the pinned pod did not show a core of its own"]


@pytest.mark.parametrize(("text", "cores"), [("0-2,5", {0, 1, 2, 5}), ("1", {1}), ("", set())])
def test_kernel_lists_are_read(text: str, cores: set[int]) -> None:
    assert parse_cores(text) == cores


def test_a_missing_figure_is_a_dash_and_a_measured_zero_a_zero() -> None:
    line = table_line(replace(QUIET, lag_events=None, events_in_per_second=0.0))
    assert "-" in line.split()
    assert "0" in line.split()
