"""Fuzz the parsers against serde_json, one target after the other.

Owns how cargo-fuzz is run: pinned, installed once into the user's cache, with the compiler of the engine itself (its
sanitizers are unlocked for this build alone, so that no second compiler is needed). Inputs that are found go to
build/fuzz/TARGET; with --keep a small set that covers as much replaces engine/fuzz/corpus/TARGET. Whatever the fuzzer
says is in build/fuzz/TARGET.log; what it did, and each finding with the byte position it is about, is printed at the
end. A finding's input is left in build/fuzz, and the status is not 0.

Usage: python tools/fuzz.py [--seconds N] [--target NAME ...] [--keep]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cargo import user_cache

ROOT = Path(__file__).resolve().parent.parent
FUZZ = ROOT / "engine" / "fuzz"
FOUND = ROOT / "build" / "fuzz"
VERSION = "0.13.2"
INPUT_BYTES_MAX = 2048
INPUT_SECONDS_MAX = 60
PROGRESS_SECONDS = 60
"""How often a running target says how far it is."""
KEPT_INPUTS_MAX = 96
"""Inputs that are kept of those that were found, for each target: the unit tier reads all of them."""
FOUND_NAME = re.compile(r"[0-9a-f]{40}")
"""What the fuzzer calls an input; the seeds have names of their own and stay."""

EXECUTIONS = re.compile(r"^stat::number_of_executed_units:\s*(\d+)")
COVERAGE = re.compile(r"^#(\d+)\s+\w+\s+cov: (\d+)")
PANIC = re.compile(r"^thread .* panicked at (.*):$")
SANITIZER = re.compile(r"^(?:==\d+==\s*)?(?:ERROR|SUMMARY): (.*)")


@dataclass(frozen=True)
class Report:
    """What one target did."""

    executions: int
    coverage: int
    findings: tuple[str, ...]


def report_of(lines: Iterable[str]) -> Report:
    """What the lines that a fuzzer printed say, also before it is done.

    A panic's message, which names the byte, is the line after it.
    """
    executions = coverage = 0
    findings = []
    is_message = False
    for line in lines:
        if is_message:
            findings.append(line)
        is_message = PANIC.match(line) is not None
        if found := EXECUTIONS.match(line):
            executions = int(found[1])
        elif found := COVERAGE.match(line):
            executions, coverage = int(found[1]), int(found[2])
        elif found := SANITIZER.match(line):
            findings.append(found[1])
    return Report(executions, coverage, tuple(dict.fromkeys(findings)))


def targets() -> list[str]:
    """The fuzz targets, by their files."""
    return sorted(path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs"))


def cargo_fuzz() -> Path:
    """The folder of cargo-fuzz' binary; installs it where it is missing."""
    home = user_cache() / "cargo-fuzz" / VERSION
    if not (home / "bin" / "cargo-fuzz").exists():
        print(f"fuzz: installing cargo-fuzz {VERSION}", flush=True)
        command = ["cargo", "install", "--quiet", "--locked", "--root", str(home), "--version", VERSION]
        subprocess.run([*command, "cargo-fuzz"], check=True, cwd=ROOT / "engine")
    return home / "bin"


def report_in(log: Path) -> Report:
    """What a target's log says so far."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        return report_of(line.rstrip("\n") for line in lines)


def run(target: str, flags: list[str], corpora: list[Path], log: Path) -> int:
    """Run one target with libFuzzer's flags; its status. What it prints goes into the log; how far it is is printed."""
    environment = {
        **os.environ,
        "PATH": f"{cargo_fuzz()}{os.pathsep}{os.environ['PATH']}",
        "RUSTC_BOOTSTRAP": "1",
        "CARGO_TARGET_DIR": str(ROOT / "build" / "fuzz-target"),
    }
    command = ["cargo", "fuzz", "run", "--fuzz-dir", str(FUZZ), target, *map(str, corpora), "--", *flags]
    with (
        log.open("w", encoding="utf-8") as output,
        subprocess.Popen(
            command, cwd=ROOT / "engine", env=environment, stdout=output, stderr=output
        ) as process,
    ):
        while True:
            try:
                return process.wait(timeout=PROGRESS_SECONDS)
            except subprocess.TimeoutExpired:
                report = report_in(log)
                done = f"{report.executions:,} executions, {report.coverage:,} edges covered"
                print(f"fuzz: {target}: {done if report.executions else 'being built'}", flush=True)


def keep(target: str, found: Path, kept: Path) -> bool:
    """Replace what was kept of earlier finds by few inputs that cover as much as all, as far as they are few enough.

    False if that failed.
    """
    smallest = FOUND / f"{target}-smallest"
    smallest.mkdir(exist_ok=True)
    for path in smallest.iterdir():
        path.unlink()
    flags = ["-set_cover_merge=1", "-use_counters=0", f"-max_len={INPUT_BYTES_MAX}"]
    if run(target, flags, [smallest, kept, found], FOUND / f"{target}-merge.log"):
        return False
    for path in kept.iterdir():
        if FOUND_NAME.fullmatch(path.name):
            path.unlink()
    # Names are hashes, so the first ones are any; a seed is kept already.
    seeds = {path.read_bytes() for path in kept.iterdir()}
    chosen = [path for path in sorted(smallest.iterdir()) if path.read_bytes() not in seeds]
    for path in chosen[:KEPT_INPUTS_MAX]:
        path.rename(kept / path.name)
    return True


def sizes(folder: Path) -> str:
    """How many inputs a folder holds, and how long they are together."""
    lengths = [path.stat().st_size for path in folder.iterdir()]
    return f"{len(lengths):,} inputs of {sum(lengths):,} bytes"


def fuzz(target: str, seconds: int, *, keeps: bool) -> bool:
    """Fuzz one target and say what it did; False if something was found."""
    found, kept, log = FOUND / target, FUZZ / "corpus" / target, FOUND / f"{target}.log"
    found.mkdir(parents=True, exist_ok=True)
    flags = [
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-dict={FUZZ / 'json.dict'}",
        f"-artifact_prefix={FOUND}/{target}-",
        "-print_final_stats=1",
    ]
    print(f"fuzz: {target} for {seconds} s", flush=True)
    status = run(target, flags, [found, kept], log)
    report = report_in(log)
    print(
        f"fuzz: {target}: {report.executions:,} executions, {report.coverage:,} edges covered, "
        f"{sizes(found)} in build, {sizes(kept)} kept, {len(report.findings)} findings",
        flush=True,
    )
    for finding in report.findings:
        print(f"fuzz: {target}: {finding}")
    if status:
        print(f"fuzz: {target} failed: see {log.relative_to(ROOT)}; inputs are named {target}-… beside it")
    elif keeps:
        status = 0 if keep(target, found, kept) else 1
        print(f"fuzz: {target}: {sizes(kept)} kept now")
    return status == 0


def main() -> int:
    """Fuzz what was asked for."""
    parser = argparse.ArgumentParser(description="Fuzz the parsers against serde_json.")
    parser.add_argument("--seconds", type=int, default=600, help="how long each target is fuzzed")
    parser.add_argument(
        "--target", action="append", choices=targets(), help="fuzz this one only (repeatable)"
    )
    parser.add_argument("--keep", action="store_true", help="keep few inputs that cover as much as all found")
    options = parser.parse_args()
    succeeded = [fuzz(target, options.seconds, keeps=options.keep) for target in options.target or targets()]
    return 0 if all(succeeded) else 1


if __name__ == "__main__":
    sys.exit(main())
