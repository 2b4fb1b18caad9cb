"""Which tiers run side by side, and what a report counts for."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiers


def test_every_tier_has_its_step() -> None:
    assert sorted(tier for step in tiers.STEPS for tier in step) == sorted(tiers.TIERS)


@pytest.mark.parametrize(
    ("wanted", "steps"),
    [
        (tiers.TIERS, [("unit",), ("kafka", "controlplane"), ("cluster",)]),
        (["kafka"], [("kafka",)]),
        (["cluster", "unit"], [("unit",), ("cluster",)]),
    ],
)
def test_a_step_holds_what_was_asked_for(wanted: list[str], steps: list[tuple[str, ...]]) -> None:
    assert list(tiers.steps(wanted)) == steps


def test_errors_count_as_failures(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text('<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>')
    assert tiers.read_report(report) == (3, 3, 3)


def test_a_report_that_was_never_written_counts_nothing(tmp_path: Path) -> None:
    assert tiers.read_report(tmp_path / "absent.xml") == (0, 0, 0)


def test_what_could_not_be_built_is_a_failure(tmp_path: Path) -> None:
    outcome = tiers.run_tier("kafka", tmp_path, [], None, is_unbuilt=True)
    assert (outcome.passed, outcome.failed) == (0, 1)


def test_without_root_the_cluster_tier_is_absent_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    outcome = tiers.run_tier("cluster", tmp_path, [], None, is_unbuilt=False)
    assert outcome.absent_because == "it makes network namespaces and needs root"
