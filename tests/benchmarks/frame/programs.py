"""The native programs of the benchmarks: built in release, run with the disturbance measured beside them.

Owns the cargo build of tests/benchmarks/native (its target folder lies in the user's cache and is shared with the
engine's, so that dependencies are compiled once) and the one rule for results: a program prints one JSON document
on standard output, and one that was not built in release is refused.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from cargo import shared_target, user_cache
from eventengine_harness.exceptions import HarnessError
from eventengine_harness.locations import REPOSITORY, TESTS
from eventengine_harness.running import run, run_showing_progress
from native import ENGINE, install_system_packages

from frame.pressure import Disturbance
from frame.priorities import foremost

NATIVE: Final = TESTS / "benchmarks" / "native"
PROGRAMS: Final = REPOSITORY / "build" / "benchmarks" / "programs"
RUN_DEADLINE_SECONDS: Final = 1800.0
METER: Final = "hiccups"


@cache
def program(name: str) -> Path:
    """A program of ours, built in release; cargo builds it anew only if something changed."""
    return built(name, name)


@cache
def program_with_vectors(name: str) -> Path:
    """A program that needs the core alone, compiled for machines with AVX2: what some libraries ask for.

    Not for this machine's own kind: with AVX-512 the compiler makes other code of the engine's vectors than it makes
    for the engine's images, and the libraries gain nothing by it.
    """
    return built(name, f"{name} with vectors", "--no-default-features", RUSTFLAGS="-C target-cpu=x86-64-v3")


def built(name: str, what: str, *options: str, **variables: str) -> Path:
    """A program as cargo builds it with some options, under variables of the environment.

    It is copied into this checkout's build folder while the target folder is held: another checkout may build its
    own there at any later moment.
    """
    install_system_packages()
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    with shared_target(ENGINE, user_cache()) as environment:
        command = ["cargo", "build", "--locked", "--release", "--quiet", *options, "--bin", name]
        run_showing_progress(
            command, f"building {what}", environment={**environment, **variables}, folder=NATIVE
        )
        target = Path(environment["CARGO_TARGET_DIR"])
        return Path(shutil.copy2(target / "release" / name, PROGRAMS / what.replace(" ", "-")))


def document_of(output: str, command: Sequence[str | Path]) -> dict[str, Any]:
    """The JSON document that a program printed; HarnessError if there is none or it is of a debug build."""
    try:
        document = json.loads(output)
    except json.JSONDecodeError as error:
        tail = output[-400:]
        raise HarnessError(f"{Path(command[0]).name} printed no JSON document ({error}): {tail!r}") from error
    if not isinstance(document, dict):
        raise HarnessError(f"{Path(command[0]).name} printed no JSON object")
    if document.get("profile") not in (None, "release"):
        raise HarnessError(
            f"{Path(command[0]).name} is a {document['profile']} build; only release is measured"
        )
    return document


def measured(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    deadline_seconds: float = RUN_DEADLINE_SECONDS,
) -> dict[str, Any]:
    """Run a program alone, and put what disturbed it into its document as `disturbance`.

    It gets the highest ordinary priority where the user may give that (root), and `niceness` says whether it did: a
    service of the machine that wakes up must not take its CPU.
    """
    with Disturbance(program(METER)) as disturbance, foremost() as (niceness, prefix):
        output = run([*prefix, *command], environment=environment, timeout_seconds=deadline_seconds)
    return {**document_of(output, command), "niceness": niceness, "disturbance": disturbance.report}


def instructions_per_event(
    command: Sequence[str | Path], count_flag: str, few: int, many: int, folder: Path
) -> dict[str, float]:
    """Instructions and last-level cache misses per event, by cachegrind.

    The program is run with two counts of events and the difference taken, so that its start counts for nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    totals = []
    for count in (few, many):
        out = folder / f"cachegrind-{count}.out"
        words = ["valgrind", "--tool=cachegrind", "--cache-sim=yes", f"--cachegrind-out-file={out}"]
        words += ["--error-exitcode=99", *(str(word) for word in command), count_flag, str(count)]
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            text=True,
            timeout=RUN_DEADLINE_SECONDS,
        )
        if done.returncode:
            raise HarnessError(f"cachegrind failed on {Path(command[0]).name}: {done.stderr[-1000:]}")
        totals.append(cachegrind_totals(out.read_text()))
    span = many - few
    return {name: (totals[1][name] - totals[0][name]) / span for name in totals[0]}


def cachegrind_totals(text: str) -> dict[str, int]:
    """Totals from a cachegrind output file; ValueError if it has no summary."""
    events: list[str] = []
    for line in text.splitlines():
        if line.startswith("events:"):
            events = line.split()[1:]
        elif line.startswith("summary:"):
            values = dict(zip(events, (int(word) for word in line.split()[1:]), strict=True))
            return {
                "instructions": values["Ir"],
                "first_level_misses": values["I1mr"] + values["D1mr"] + values["D1mw"],
                "last_level_misses": values["ILmr"] + values["DLmr"] + values["DLmw"],
            }
    raise ValueError("the cachegrind output has no summary line")
