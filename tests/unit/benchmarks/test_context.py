"""How often a group repeats runs that were disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from frame.context import REPETITIONS_MAX, Context

QUIET, DISTURBED = {"quiet": True}, {"quiet": False}


def is_quiet(document: Any) -> bool:
    return bool(document["quiet"])


def context(tmp_path: Path, *, long: bool) -> Context:
    return Context("latency", long, tmp_path, tmp_path)


def test_a_disturbed_run_is_repeated_until_one_is_quiet(tmp_path: Path) -> None:
    runs = [QUIET, DISTURBED, DISTURBED]
    assert context(tmp_path, long=True).undisturbed("engine", runs.pop, is_quiet) is QUIET
    assert runs == []


@pytest.mark.parametrize(("long", "tries"), [(False, 2), (True, 3)])
def test_the_last_run_is_kept_if_all_were_disturbed(tmp_path: Path, *, long: bool, tries: int) -> None:
    runs = [{**DISTURBED, "number": number} for number in (3, 2, 1)]
    kept = context(tmp_path, long=long).undisturbed("engine", runs.pop, is_quiet)
    assert kept["number"] == tries


@pytest.mark.parametrize("long", [False, True])
def test_a_machine_that_never_is_quiet_does_not_measure_for_ever(tmp_path: Path, *, long: bool) -> None:
    runs = 0

    def measure() -> dict[str, Any]:
        nonlocal runs
        runs += 1
        return DISTURBED

    group, wanted = context(tmp_path, long=long), 40
    for _ in range(wanted):
        group.undisturbed("engine", measure, is_quiet)
    assert runs == wanted + REPETITIONS_MAX[long]
