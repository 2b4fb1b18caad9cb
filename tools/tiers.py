"""Run the test tiers, and say plainly which of them ran.

A tier is a folder under tests/. All tiers run on a machine with root rights;
where one can't (no root, no namespaces), it is named with the reason and the
run fails if EVENTENGINE_ALL_TIERS=1, as continuous integration sets it. A tier
that collected no test counts as a failure, never as a pass.

Tiers of one step run side by side: the first one's output is shown as it comes,
another's when it has ended.

Usage: python tools/tiers.py [--tier NAME ...] [--junit FOLDER] [-- PYTEST ARGUMENTS]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
TIERS = ("unit", "controlplane", "kafka", "cluster")
# Kafka's sessions and Kubernetes' leases and sync periods are waited for, and that costs no CPU. A cluster pins
# pods to cores and measures how fast others scale: it is alone.
STEPS = (("unit",), ("kafka", "controlplane"), ("cluster",))
NEED_ROOT = frozenset({"cluster"})
# Built beforehand, because a first build takes longer than any test may.
NEEDED_BUILDS = {
    "unit": (),
    "controlplane": (
        *("kubernetes", "helm", "helm3", "kwok", "karpenter", "cert-manager"),
        *("kafka", "metrics-decoder"),
    ),
    "kafka": ("kafka",),
    "cluster": ("all",),
}


@dataclass(frozen=True)
class Outcome:
    """What one tier did."""

    tier: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    absent_because: str | None = None


def steps(wanted: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """What is run one after the other; the tiers of one step side by side."""
    for step in STEPS:
        chosen = tuple(tier for tier in step if tier in wanted)
        if chosen:
            yield chosen


def run_rust_tests() -> tuple[int, int]:
    """Run the native crates' own tests, which belong to the unit tier; returns (passed, failed)."""
    packages = ("--package", "eventengine-core", "--package", "eventengine-io")
    engine = run_cargo_tests(*packages)
    # The core once more, under the model checker.
    checked = run_cargo_tests(workspace="engine/loom")
    return engine[0] + checked[0], engine[1] + checked[1]


def run_cargo_tests(*arguments: str, workspace: str | None = None) -> tuple[int, int]:
    """Run the tests of a cargo workspace; returns (passed, failed)."""
    place = ("--in", workspace) if workspace else ()
    command = [sys.executable, "tools/cargo.py", *place, "test", "--locked", *arguments, "--quiet"]
    process = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    sys.stdout.write(process.stdout[-6000:])
    passed = failed = 0
    for line in process.stdout.splitlines():
        if line.startswith("test result:"):
            words = line.replace(";", "").split()
            passed += int(words[words.index("passed") - 1])
            failed += int(words[words.index("failed") - 1])
    if process.returncode and not failed:
        sys.stderr.write(process.stderr[-6000:])
        failed = 1
    return passed, failed


def run_step(tiers: Sequence[str], junit_folder: Path, arguments: list[str]) -> list[Outcome]:
    """Build what the tiers need, then run them side by side."""
    print(f"\n=== tier {' and tier '.join(tiers)} ===", flush=True)
    unbuilt = {tier for tier in tiers if may_run(tier) and not has_builds(tier)}
    first, *others = tiers
    with ThreadPoolExecutor(max_workers=len(tiers)) as beside, tempfile.TemporaryDirectory() as scratch:
        outputs = {tier: Path(scratch) / f"{tier}.txt" for tier in others}
        running = [
            beside.submit(run_tier, tier, junit_folder, arguments, outputs[tier], tier in unbuilt)
            for tier in others
        ]
        outcomes = [run_tier(first, junit_folder, arguments, None, first in unbuilt)]
        for tier, outcome in zip(others, running, strict=True):
            outcomes.append(outcome.result())
            if outputs[tier].exists():
                print(f"\n=== tier {tier}, which ran beside ===\n{outputs[tier].read_text()}", flush=True)
    return outcomes


def may_run(tier: str) -> bool:
    """Whether the rights suffice."""
    return tier not in NEED_ROOT or os.geteuid() == 0


def has_builds(tier: str) -> bool:
    """Build what a tier stands on; False if that failed."""
    build = [sys.executable, "-m", "eventengine_harness", "build", *NEEDED_BUILDS[tier]]
    if (
        NEEDED_BUILDS[tier]
        and subprocess.run(build, check=False, cwd=ROOT, stdout=subprocess.DEVNULL).returncode
    ):
        print(f"tier {tier}: a component that it runs on could not be built")
        return False
    return True


def run_tier(
    tier: str, junit_folder: Path, arguments: list[str], output: Path | None, is_unbuilt: bool
) -> Outcome:
    """Run one tier in a pytest process of its own and read its report.

    Args:
        tier: A folder under tests/.
        junit_folder: Where the report goes.
        arguments: For pytest.
        output: The file that gets the output; None shows it as it comes.
        is_unbuilt: Whether something that it stands on could not be built: then it fails.
    """
    started = time.monotonic()
    if not may_run(tier):
        return Outcome(tier, 0, 0, 0, 0.0, absent_because="it makes network namespaces and needs root")
    if is_unbuilt:
        return Outcome(tier, 0, 1, 0, 0.0)
    passed = failed = 0
    if tier == "unit":
        passed, failed = run_rust_tests()
    report = junit_folder / f"{tier}.xml"
    command = [sys.executable, "-m", "pytest", f"tests/{tier}", f"--junitxml={report}", *arguments]
    if output is None:
        status = subprocess.run(command, check=False, cwd=ROOT).returncode
    else:
        with output.open("wb") as file:
            status = subprocess.run(
                command, check=False, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
            ).returncode
    counts = read_report(report)
    passed, failed, skipped = passed + counts[0], failed + counts[1], counts[2]
    if status and not failed:
        failed += 1
    return Outcome(tier, passed, failed, skipped, time.monotonic() - started)


def read_report(report: Path) -> tuple[int, int, int]:
    """(passed, failed, skipped) of pytest's report; all zero where there is none."""
    suite = ET.parse(report).getroot().find("testsuite") if report.exists() else None  # noqa: S314 - our own file
    if suite is None:
        return 0, 0, 0
    count = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    return count["tests"] - failed - count["skipped"], failed, count["skipped"]


def main() -> int:
    """Run what was asked for and print one line per tier."""
    parser = argparse.ArgumentParser(description="Run the test tiers.")
    parser.add_argument("--tier", action="append", choices=TIERS, help="run this tier only (may be repeated)")
    parser.add_argument("--junit", type=Path, help="keep the reports in this folder")
    parser.add_argument("arguments", nargs="*", help="passed on to pytest")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.junit or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        outcomes = [
            outcome
            for step in steps(options.tier or TIERS)
            for outcome in run_step(step, folder, options.arguments)
        ]
    outcomes.sort(key=lambda outcome: TIERS.index(outcome.tier))
    print("\ntier          passed  failed  skipped  seconds")
    for outcome in outcomes:
        if outcome.absent_because:
            print(f"{outcome.tier:<12}  did not run: {outcome.absent_because}")
            continue
        counts = f"{outcome.passed:>6}  {outcome.failed:>6}  {outcome.skipped:>7}"
        print(f"{outcome.tier:<12}  {counts}  {outcome.seconds:>7.0f}")
    absent = [
        outcome.tier for outcome in outcomes if outcome.absent_because or not outcome.passed + outcome.failed
    ]
    ran = [outcome.tier for outcome in outcomes if outcome.tier not in absent]
    print(f"tiers that ran: {', '.join(ran) or 'none'}")
    print(f"{sum(o.passed for o in outcomes)} passed, {sum(o.failed for o in outcomes)} failed")
    all_needed = os.environ.get("EVENTENGINE_ALL_TIERS") == "1"
    if absent:
        print(f"tiers that did not run: {', '.join(absent)}")
    return 1 if any(o.failed for o in outcomes) or (absent and (all_needed or not ran)) else 0


if __name__ == "__main__":
    sys.exit(main())
