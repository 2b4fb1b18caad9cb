"""Run the test tiers, and say plainly which of them ran.

A tier is a folder under tests/. All tiers run on a machine with root rights;
where one can't (no root, no namespaces), it is named with the reason and the
run fails if EVENTENGINE_ALL_TIERS=1, as continuous integration sets it. A tier
that collected no test counts as a failure, never as a pass.

Usage: python tools/tiers.py [--tier NAME ...] [--junit FOLDER] [-- PYTEST ARGUMENTS]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
TIERS = ("unit", "controlplane", "kafka", "cluster")
NEED_ROOT = frozenset({"cluster"})
# Built beforehand, because a first build takes longer than any test may.
NEEDED_BUILDS = {
    "unit": (),
    "controlplane": ("kubernetes", "helm", "helm3"),
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


def run_tier(tier: str, junit_folder: Path, arguments: list[str]) -> Outcome:
    """Run one tier in a pytest process of its own and read its report."""
    started = time.monotonic()
    if tier in NEED_ROOT and os.geteuid() != 0:
        return Outcome(tier, 0, 0, 0, 0.0, absent_because="it makes network namespaces and needs root")
    print(f"\n=== tier {tier} ===", flush=True)
    if NEEDED_BUILDS[tier]:
        build = [sys.executable, "-m", "eventengine_harness", "build", *NEEDED_BUILDS[tier]]
        if subprocess.run(build, check=False, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
            print(f"tier {tier}: a component that it runs on could not be built")
            return Outcome(tier, 0, 1, 0, time.monotonic() - started)
    passed = failed = skipped = 0
    if tier == "unit":
        passed, failed = run_rust_tests()
    report = junit_folder / f"{tier}.xml"
    command = [sys.executable, "-m", "pytest", f"tests/{tier}", f"--junitxml={report}", *arguments]
    status = subprocess.run(command, check=False, cwd=ROOT).returncode
    if report.exists():
        suite = ET.parse(report).getroot().find("testsuite")  # noqa: S314 - our own file
        if suite is not None:
            count = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
            failed += count["failures"] + count["errors"]
            skipped += count["skipped"]
            passed += count["tests"] - count["failures"] - count["errors"] - count["skipped"]
    if status and not failed:
        failed += 1
    return Outcome(tier, passed, failed, skipped, time.monotonic() - started)


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
        outcomes = [run_tier(tier, folder, options.arguments) for tier in options.tier or TIERS]
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
