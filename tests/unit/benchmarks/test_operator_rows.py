"""The operator's rows: what gates, what is lost and still shown, and that the peer makes the same children."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from frame.operators import peer_templates
from frame.tables import Row
from rows.operator import Passage, Sizes, rows_of

SIZES = Sizes(first=100, many=1000, resync_seconds=300, rest_seconds=300)
GOOD = Passage(
    change_p50_seconds=0.1,
    change_p99_seconds=0.4,
    ready_seconds=90,
    create_seconds=100,
    busy_cores={"operator": 0.6, "kube-apiserver": 0.9},
    children=5000,
    restored=5000,
    restore_seconds=40,
    restart_seconds=30,
    restart_writes=0,
    rest_cores=0.03,
    rest_writes=0,
    peak_bytes=180_000_000,
)


def lost(passage: Passage) -> list[Row]:
    return [row for row in rows_of(SIZES, [passage], [GOOD]) if row.holds is False]


def test_good_passage_loses_no_row() -> None:
    assert lost(GOOD) == []


@pytest.mark.parametrize(
    ("changed", "what", "gates"),
    [
        ({"restart_writes": 1}, "writes to EventEngines and children by a restart with 1,100", True),
        ({"rest_writes": 2}, "writes at rest, the Lease's aside", True),
        ({"peak_bytes": 251_000_000}, "resident memory, peak", True),
        ({"ready_seconds": 121.0}, "1,000 EventEngines at once, last create to all Ready", False),
        ({"rest_cores": 0.06}, "CPU at rest with 1,100", False),
        ({"change_p99_seconds": 1.1}, "spec change to Deployment, p99 at 100", False),
    ],
)
def test_row_that_is_lost_says_so(changed: dict[str, float], what: str, gates: bool) -> None:
    (row,) = lost(replace(GOOD, **changed))  # type: ignore[arg-type]
    assert (row.what, row.gates) == (what, gates)


def test_children_that_stay_changed_are_counted_and_their_time_is_not_measured() -> None:
    rows = lost(replace(GOOD, restored=4999, restore_seconds=math.inf))
    assert [row.reached for row in rows] == ["not measured", "1"]
    assert all(row.gates for row in rows)


def test_the_machines_share_stands_beside_the_time() -> None:
    (row,) = lost(replace(GOOD, ready_seconds=200.0))
    assert row.note == "1.50 cores in use, 0.60 of them the operator's"


def test_peer_gets_the_same_children_with_places_for_what_differs() -> None:
    templates = peer_templates()
    assert [item["kind"] for item in templates] == [
        "ConfigMap",
        "Service",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Deployment",
    ]
    for item in templates:
        assert item["metadata"]["namespace"] == "engine-namespace-here"
        assert item["metadata"]["ownerReferences"][0]["uid"] == "engine-uid-here"
    text = json.dumps(templates)
    assert '"engine-yaml-here"' in text
    assert '"engine-hash-here"' in text
