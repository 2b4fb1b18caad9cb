"""Break things on purpose, in the long form: `make chaos`, `make chaos ONLY=operator SEED=7`.

A group is some test files of the tiers. Run here, they try every kill instead of some, and hundreds of states by chance
instead of a few that are always the same. The chance comes from a seed, which is printed and repeats the run.

Usage: python tools/chaos.py [--only GROUP] [--seed NUMBER] [-- PYTEST ARGUMENTS]
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHAOS_VARIABLE = "EVENTENGINE_CHAOS"
SEEDS = 1_000_000
GROUPS = {
    "operator": (
        "tests/controlplane/test_operator_admission.py",
        "tests/controlplane/test_operator_canary.py",
        "tests/controlplane/test_operator_crashes.py",
        "tests/controlplane/test_operator_disasters.py",
        "tests/controlplane/test_operator_faults.py",
        "tests/controlplane/test_operator_headroom.py",
        "tests/controlplane/test_operator_leadership.py",
        "tests/controlplane/test_operator_properties.py",
        "tests/controlplane/test_operator_refusing_nodes.py",
        "tests/controlplane/test_webhook.py",
    ),
}


def main() -> int:
    """Run what was asked for; the status is pytest's."""
    parser = argparse.ArgumentParser(description="Break things on purpose.")
    parser.add_argument("--only", choices=sorted(GROUPS), help="this group only")
    parser.add_argument("--seed", type=int, help="the seed of the run to repeat")
    parser.add_argument("arguments", nargs="*", help="passed on to pytest")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else secrets.randbelow(SEEDS)
    failed = []
    for name in [options.only] if options.only else sorted(GROUPS):
        again = f"make chaos ONLY={name} SEED={seed}"
        print(f"chaos: {name}, seed {seed}; to repeat: {again}", flush=True)
        command = [
            sys.executable,
            "-m",
            "pytest",
            *GROUPS[name],
            f"--hypothesis-seed={seed}",
        ]
        environment = {**os.environ, CHAOS_VARIABLE: "1"}
        if subprocess.run([*command, *options.arguments], check=False, cwd=ROOT, env=environment).returncode:
            failed.append(again)
    for again in failed:
        print(f"chaos: FAILED; to repeat: {again}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
