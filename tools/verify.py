"""Check, or with --update repair, everything a machine can know to be wrong.

Each check is a command that verifies and, where there is one, its twin that
repairs. All checks run even after one failed, so that one run shows all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
CODE = ["contract/src", "operator/src", "adapter/src", "engine/src", "tests", "tools"]
TYPED = [
    "contract/src",
    "operator/src",
    "adapter/src",
    "engine/src/eventengine",
    "tests/harness/src",
    "tests/benchmarks",
    "tools",
]


@dataclass(frozen=True)
class Check:
    """One thing to verify, and how to repair it where a command can."""

    name: str
    verify: list[str]
    update: list[str] | None = None
    folder: Path = ROOT


CHECKS = [
    Check(
        "lint",
        [PYTHON, "-m", "ruff", "check", "--quiet", *CODE],
        [PYTHON, "-m", "ruff", "check", "--quiet", "--fix", *CODE],
    ),
    Check(
        "format",
        [PYTHON, "-m", "ruff", "format", "--check", "--quiet", *CODE],
        [PYTHON, "-m", "ruff", "format", "--quiet", *CODE],
    ),
    Check("types", [PYTHON, "-m", "mypy", *TYPED]),
    Check("imports", [str(Path(PYTHON).with_name("lint-imports")), "--no-cache"]),
    Check(
        "generated",
        [PYTHON, "-m", "eventengine_contract", "generate", "--check", "."],
        [PYTHON, "-m", "eventengine_contract", "generate", "."],
    ),
    Check(
        "protocols",
        [PYTHON, "tools/protocol_buffers.py", "--check"],
        [PYTHON, "tools/protocol_buffers.py"],
    ),
    Check("tree", [PYTHON, "tools/tidy.py"]),
    Check(
        "rust format",
        ["cargo", "fmt", "--all", "--check"],
        ["cargo", "fmt", "--all"],
        ROOT / "engine",
    ),
    Check(
        "rust lint",
        [PYTHON, "tools/cargo.py", "clippy", "--locked", "--quiet", "--all-targets", "--", "-D", "warnings"],
    ),
    Check(
        "bench format",
        ["cargo", "fmt", "--all", "--check"],
        ["cargo", "fmt", "--all"],
        ROOT / "tests" / "benchmarks" / "native",
    ),
    Check(
        "bench lint",
        [
            *(PYTHON, "tools/cargo.py", "--in", "tests/benchmarks/native"),
            *("clippy", "--locked", "--quiet", "--all-targets", "--", "-D", "warnings"),
        ],
    ),
    Check(
        "loom format",
        ["cargo", "fmt", "--all", "--check"],
        ["cargo", "fmt", "--all"],
        ROOT / "engine" / "loom",
    ),
    Check(
        "loom lint",
        [
            *(PYTHON, "tools/cargo.py", "--in", "engine/loom"),
            *("clippy", "--locked", "--quiet", "--lib", "--test", "*", "--", "-D", "warnings"),
        ],
    ),
]


def main() -> int:
    """Run every check and name those that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="repair what can be repaired, then check")
    options = parser.parse_args()
    environment = {**os.environ, "NO_COLOR": "1"}
    if options.update:
        for check in CHECKS:
            if check.update:
                subprocess.run(check.update, check=False, cwd=check.folder, env=environment)
    failed = []
    for check in CHECKS:
        started = time.monotonic()
        status = subprocess.run(check.verify, check=False, cwd=check.folder, env=environment).returncode
        seconds = time.monotonic() - started
        print(
            f"verify: {check.name:<12} {'ok' if status == 0 else 'FAILED'}  {seconds:.0f} s",
            flush=True,
        )
        if status:
            failed.append(check)
    for check in failed:
        remedy = (
            "`make update` repairs it" if check.update else f"see the output of: {' '.join(check.verify)}"
        )
        print(f"verify: {check.name} failed; {remedy}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
