"""Run the test tiers, and say plainly which of them ran.

A tier is a folder under tests/. All tiers run on a machine with root rights;
where one can't (no root, no namespaces), it is named with the reason and the
run fails if EVENTENGINE_ALL_TIERS=1, as continuous integration sets it. A tier
that collected no test counts as a failure, never as a pass.

A tier is one lane or several, each a process of its own; the Rust crates' own tests are a
lane of the unit tier. The lanes of one step run side by side, so many at once: the first one's
output is shown as it comes, another's when it has ended. A test file belongs to exactly one lane.

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
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
TIERS = ("unit", "controlplane", "kafka", "cluster")


@dataclass(frozen=True)
class Lane:
    """A part of a tier that runs in a process of its own.

    Attributes:
        tier: The tier.
        name: Of the lane, in headings and reports.
        files: Patterns of its test files in the tier's folder; without any, those that no other lane of the tier has.
        is_rust: It is cargo's tests instead.
    """

    tier: str
    name: str
    files: tuple[str, ...] = ()
    is_rust: bool = False

    @property
    def title(self) -> str:
        """What it is called where its tier is known as well."""
        return f"{self.tier}/{self.name}" if self.name else self.tier


# Kafka's sessions and Kubernetes' leases and sync periods are waited for, which costs no CPU. Each lane has control
# planes and brokers of its own. A cluster pins pods to cores and measures how fast others scale: it is alone, apart
# from the clusters that are only brought up to be ended and from KEDA, which needs no node. The longest lanes of a step
# begin first.
STEPS = (
    (Lane("unit", ""), Lane("unit", "rust", is_rust=True)),
    (
        Lane("kafka", ""),
        Lane("controlplane", ""),
        Lane("controlplane", "adapter", ("test_adapter*.py", "test_autoscaler*.py")),
        Lane("kafka", "engine", ("test_engine.py",)),
        Lane("controlplane", "chart", ("test_chart*.py", "test_control*.py", "test_node*.py")),
        Lane(
            "controlplane",
            "faults",
            (
                "test_operator_crashes.py",
                "test_operator_disasters.py",
                "test_operator_faults.py",
                "test_operator_leadership.py",
                "test_operator_properties.py",
                "test_operator_scaling_by_lag.py",
            ),
        ),
        Lane("cluster", "teardown", ("test_teardown.py",)),
        Lane("cluster", "keda", ("test_keda.py",)),
    ),
    (Lane("cluster", ""),),
)
LANES_AT_ONCE = 2
LANES = tuple(lane for step in STEPS for lane in step)
NO_TESTS_COLLECTED = 5
NEED_ROOT = frozenset({"cluster"})
# Built beforehand, because a first build takes longer than any test may.
NEEDED_BUILDS = {
    "unit": (),
    "controlplane": (
        *("kubernetes", "helm", "helm3", "kwok", "karpenter", "cert-manager"),
        *("definitions", "kafka", "metrics-decoder"),
    ),
    "kafka": ("kafka",),
    "cluster": ("all",),
}


@dataclass(frozen=True)
class Outcome:
    """What one lane did."""

    lane: Lane
    passed: int
    failed: int
    skipped: int
    seconds: float
    absent_because: str | None = None


def steps(wanted: Sequence[str]) -> Iterator[tuple[Lane, ...]]:
    """What is run one after the other; the lanes of one step side by side."""
    for step in STEPS:
        chosen = tuple(lane for lane in step if lane.tier in wanted)
        if chosen:
            yield chosen


def selection(lane: Lane) -> list[str]:
    """The arguments that have pytest collect the lane's files and no others."""
    folder = f"tests/{lane.tier}"
    if lane.files:
        found = sorted(path for pattern in lane.files for path in (ROOT / folder).glob(pattern))
        return [str(path.relative_to(ROOT)) for path in found]
    others = [pattern for other in LANES if other.tier == lane.tier for pattern in other.files]
    return [folder, *(f"--ignore-glob={ROOT / folder / pattern}" for pattern in others)]


def run_rust_tests(output: TextIO) -> tuple[int, int]:
    """Run the native crates' own tests, which belong to the unit tier; returns (passed, failed)."""
    packages = ("--package", "eventengine-core", "--package", "eventengine-io")
    engine = run_cargo_tests(output, *packages)
    # The core once more, under the model checker.
    checked = run_cargo_tests(output, workspace="engine/loom")
    return engine[0] + checked[0], engine[1] + checked[1]


def run_cargo_tests(output: TextIO, *arguments: str, workspace: str | None = None) -> tuple[int, int]:
    """Run the tests of a cargo workspace; returns (passed, failed)."""
    place = ("--in", workspace) if workspace else ()
    command = [sys.executable, "tools/cargo.py", *place, "test", "--locked", *arguments, "--quiet"]
    process = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    output.write(process.stdout[-6000:])
    passed = failed = 0
    for line in process.stdout.splitlines():
        if line.startswith("test result:"):
            words = line.replace(";", "").split()
            passed += int(words[words.index("passed") - 1])
            failed += int(words[words.index("failed") - 1])
    if process.returncode and not failed:
        output.write(process.stderr[-6000:])
        failed = 1
    return passed, failed


def run_step(lanes: Sequence[Lane], junit_folder: Path, arguments: list[str]) -> list[Outcome]:
    """Build what the lanes need, then run them side by side."""
    print(f"\n=== {', '.join(lane.title for lane in lanes)} ===", flush=True)
    tiers = dict.fromkeys(lane.tier for lane in lanes)
    unbuilt = {tier for tier in tiers if may_run(tier) and not has_builds(tier)}
    with ThreadPoolExecutor(max_workers=LANES_AT_ONCE) as beside, tempfile.TemporaryDirectory() as scratch:
        outputs = [None, *(Path(scratch) / f"{number}.txt" for number in range(1, len(lanes)))]
        running = [
            beside.submit(run_lane, lane, junit_folder, arguments, output, lane.tier in unbuilt)
            for lane, output in zip(lanes, outputs, strict=True)
        ]
        outcomes = []
        for lane, outcome, output in zip(lanes, running, outputs, strict=True):
            outcomes.append(outcome.result())
            if output is not None and output.exists():
                print(f"\n=== {lane.title}, which ran beside ===\n{output.read_text()}", flush=True)
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


def run_lane(
    lane: Lane, junit_folder: Path, arguments: list[str], output: Path | None, is_unbuilt: bool
) -> Outcome:
    """Run one lane in a process of its own and read its report.

    Args:
        lane: What to run.
        junit_folder: Where the report goes.
        arguments: For pytest.
        output: The file that gets the output; None shows it as it comes.
        is_unbuilt: Whether something that it stands on could not be built: then it fails.
    """
    started = time.monotonic()
    if not may_run(lane.tier):
        return Outcome(lane, 0, 0, 0, 0.0, absent_because="it makes network namespaces and needs root")
    if is_unbuilt:
        return Outcome(lane, 0, 1, 0, 0.0)
    with output.open("w") if output else nullcontext() as file:
        if lane.is_rust:
            passed, failed = run_rust_tests(file or sys.stdout)
            return Outcome(lane, passed, failed, 0, time.monotonic() - started)
        report = junit_folder / f"{lane.title.replace('/', '-')}.xml"
        command = [sys.executable, "-m", "pytest", *selection(lane), f"--junitxml={report}", *arguments]
        errors = subprocess.STDOUT if file else None
        status = subprocess.run(command, check=False, cwd=ROOT, stdout=file, stderr=errors).returncode
    passed, failed, skipped = read_report(report)
    # What the arguments leave out of one lane may be in another.
    if status and not failed and not (status == NO_TESTS_COLLECTED and arguments):
        failed = 1
    return Outcome(lane, passed, failed, skipped, time.monotonic() - started)


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
    outcomes.sort(key=lambda outcome: (TIERS.index(outcome.lane.tier), outcome.lane.name))
    print("\ntier                   passed  failed  skipped  seconds")
    for outcome in outcomes:
        if outcome.absent_because:
            print(f"{outcome.lane.title:<21}  did not run: {outcome.absent_because}")
            continue
        counts = f"{outcome.passed:>6}  {outcome.failed:>6}  {outcome.skipped:>7}"
        print(f"{outcome.lane.title:<21}  {counts}  {outcome.seconds:>7.0f}")
    ran = [tier for tier in TIERS if any(o.passed + o.failed for o in outcomes if o.lane.tier == tier)]
    absent = [tier for tier in options.tier or TIERS if tier not in ran]
    print(f"tiers that ran: {', '.join(ran) or 'none'}")
    print(f"{sum(o.passed for o in outcomes)} passed, {sum(o.failed for o in outcomes)} failed")
    all_needed = os.environ.get("EVENTENGINE_ALL_TIERS") == "1"
    if absent:
        print(f"tiers that did not run: {', '.join(absent)}")
    return 1 if any(o.failed for o in outcomes) or (absent and (all_needed or not ran)) else 0


if __name__ == "__main__":
    sys.exit(main())
