"""What the arena's rows say of measured figures."""

from __future__ import annotations

from typing import Any

from frame.load import FLOOR
from frame.tables import Table
from rows import arena


def update(microseconds: float) -> list[dict[str, Any]]:
    value = int(microseconds * 1_000)
    latency = {"counts": [[value, 100]], "max": value}
    return [{"latency": latency, "sustained_share": 1.0, "rss_bytes": 100_000_000}]


def table(ours: float, theirs: float) -> Table:
    runs = {"engine": update(ours), "peer": update(theirs), FLOOR: update(1)}
    rows, detail = arena.update_rows(runs)
    return Table("Arena", rows, [detail], {})


def test_an_update_that_is_slow_everywhere_is_marked_but_only_the_peer_decides() -> None:
    slow_machine = table(ours=200, theirs=1000)
    assert [row.holds for row in slow_machine.rows] == [False, True, None]
    assert slow_machine.holds
    assert "| **no** |" in slow_machine.to_markdown()


def test_an_update_that_is_not_far_enough_ahead_of_the_peer_loses_the_table() -> None:
    assert not table(ours=5, theirs=15).holds
