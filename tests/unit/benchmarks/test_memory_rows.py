"""What the memory's rows say of measured runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from frame.tables import Table
from rows.memory import Run, bursts_after, cpu_row, rows_of

FLAT = [60_000_000] * 20
PROFILES = [{"read": 1_000}] * 3


def run(resident_bytes: Sequence[int] = FLAT, **differences: Any) -> Run:
    figures: dict[str, Any] = {
        "players": 6_000,
        "seconds": 20,
        "warm_at_seconds": 1_800_000_000,
        "applied": 200_000,
        "resident_bytes": resident_bytes,
        "allocated_bytes": [10_000_000] * len(resident_bytes),
        "peak_resident_bytes": 61_000_000,
        "native_resident_bytes": 20_000_000,
        "cpu_shares": [0.6] * 4,
        "sender_cpu_shares": [0.1, 0.14],
        "sent": 200_000,
        "dropped": 0,
        "core_thread_bytes": 0,
        "threads": [],
        "profiles": PROFILES,
    }
    return Run(**(figures | differences))


def lost(usual: Run | None = None, more: Run | None = None, sized: Run | None = None) -> list[str]:
    """The rows that fail the command."""
    rows = rows_of(usual or run(), more or run(players=48_000), sized or run(profiles=()))
    table = Table("Memory", rows, [], {})
    assert table.holds is all(row.holds is not False for row in rows)
    return [row.what for row in rows if row.holds is False]


def test_a_process_that_stays_as_it_is_loses_nothing() -> None:
    assert lost() == []


def test_memory_that_grows_for_two_tenths_of_the_time_and_stays_there_is_lost() -> None:
    assert lost(usual=run([60_000_000] * 16 + [61_000_000] * 4)) == [
        "growth of resident memory over 20 s at steady load"
    ]


def test_a_peak_between_the_first_and_the_last_tenth_is_no_growth() -> None:
    assert lost(usual=run([60_000_000] * 9 + [70_000_000] + [60_000_000] * 10)) == []


@pytest.mark.parametrize(
    ("sized", "row"),
    [
        (run(peak_resident_bytes=96_500_000), "sized for the hunt: whole process"),
        (run(native_resident_bytes=32_500_000), "sized for the hunt: native memory"),
        (run(core_thread_bytes=64), "allocated by the core thread after warm-up"),
        (run(core_thread_bytes=None), "allocated by the core thread after warm-up"),
    ],
)
def test_the_engine_of_the_hunts_size_has_limits_of_its_own(sized: Run, row: str) -> None:
    assert lost(sized=sized) == [row]


def test_players_that_cost_memory_are_lost() -> None:
    assert lost(more=run([61_500_000] * 20)) == ["growth of resident memory at 8 times the players"]


@pytest.mark.parametrize(
    ("cpu_shares", "reached", "holds"),
    [
        ([0.585, 0.6, 0.615], "1.5%", True),
        ([0.6] * 9 + [0.64], "3.6%", False),
        ([0.6], "not measured", False),
    ],
)
def test_the_cpu_is_steady_if_no_window_is_three_points_off_their_mean(
    cpu_shares: Sequence[float], reached: str, *, holds: bool
) -> None:
    row = cpu_row(run(cpu_shares=cpu_shares))
    assert (row.reached, row.holds) == (reached, holds)


def test_how_steady_the_sender_was_stands_beside_how_steady_the_engine_was() -> None:
    assert "the sender beside it: mean 12.0%, farthest off 2.00%" in cpu_row(run()).note


def test_one_event_that_was_dropped_in_any_run_is_lost() -> None:
    assert lost(sized=run(dropped=1)) == ["events dropped"]


def test_bursts_lie_within_the_measured_part_of_a_run() -> None:
    words = bursts_after(60, 60)
    assert words[1::2] == [f"at={begin}s,duration=1s,rate=110000" for begin in (75, 90, 105)]
