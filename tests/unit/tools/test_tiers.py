"""Which tiers run side by side, and what a report counts for."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import pytest
import tiers


def titles(wanted: Sequence[str]) -> list[list[str]]:
    return [[lane.title for lane in step] for step in tiers.steps(wanted)]


def files_of(lane: tiers.Lane) -> list[Path]:
    """The test files that its arguments name, or leave of its folder."""
    paths = [tiers.ROOT / word for word in tiers.selection(lane) if not word.startswith("--")]
    ignored = [word.partition("=")[2] for word in tiers.selection(lane) if word.startswith("--ignore-glob=")]
    found = [file for path in paths for file in (path.rglob("test_*.py") if path.is_dir() else [path])]
    return [file for file in found if not any(fnmatch(str(file), pattern) for pattern in ignored)]


@pytest.mark.parametrize("tier", tiers.TIERS)
def test_every_test_file_is_in_exactly_one_lane(tier: str) -> None:
    lanes = [lane for lane in tiers.LANES if lane.tier == tier and not lane.is_rust]
    in_lanes = [file for lane in lanes for file in files_of(lane)]
    assert all(files_of(lane) for lane in lanes)
    assert sorted(in_lanes) == sorted((tiers.ROOT / "tests" / tier).rglob("test_*.py"))


def test_without_a_tier_all_of_them_run() -> None:
    assert {lane.tier for step in tiers.steps(tiers.TIERS) for lane in step} == set(tiers.TIERS)


def test_a_step_holds_the_lanes_of_the_tiers_that_were_asked_for() -> None:
    assert titles(["kafka"]) == [["kafka", "kafka/engine"]]
    assert titles(["cluster", "unit"]) == [
        ["unit", "unit/rust"],
        ["cluster/teardown", "cluster/keda"],
        ["cluster"],
    ]
    assert "controlplane/adapter" in titles(["kafka", "controlplane"])[0]


def test_errors_count_as_failures(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text('<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>')
    assert tiers.read_report(report) == (3, 3, 3)


def test_a_report_that_was_never_written_counts_nothing(tmp_path: Path) -> None:
    assert tiers.read_report(tmp_path / "absent.xml") == (0, 0, 0)


def test_what_could_not_be_built_is_a_failure(tmp_path: Path) -> None:
    outcome = tiers.run_lane(tiers.Lane("kafka", ""), tmp_path, [], None, is_unbuilt=True)
    assert (outcome.passed, outcome.failed) == (0, 1)


def test_without_root_the_cluster_tier_is_absent_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    outcome = tiers.run_lane(tiers.Lane("cluster", ""), tmp_path, [], None, is_unbuilt=False)
    assert outcome.absent_because == "it makes network namespaces and needs root"
