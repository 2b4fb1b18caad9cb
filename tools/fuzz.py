"""Fuzz the parsers against serde_json, one target after the other.

Owns how cargo-fuzz is run: pinned, installed once into the user's cache, with the compiler of the engine itself (its
sanitizers are unlocked for this build alone, so that no second compiler is needed). Inputs that are found go to
build/fuzz/TARGET; with --keep the smallest set that reaches as much replaces engine/fuzz/corpus/TARGET. A fault's
input is left beside them and the status is not 0.

Usage: python tools/fuzz.py [--seconds N] [--target NAME ...] [--keep]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from cargo import user_cache

ROOT = Path(__file__).resolve().parent.parent
FUZZ = ROOT / "engine" / "fuzz"
FOUND = ROOT / "build" / "fuzz"
VERSION = "0.13.2"
INPUT_BYTES_MAX = 2048
INPUT_SECONDS_MAX = 60


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


def run(target: str, environment: dict[str, str], flags: list[str], corpora: list[Path]) -> int:
    """Run one target with libFuzzer's flags; its status."""
    command = ["cargo", "fuzz", "run", "--fuzz-dir", str(FUZZ), target, *map(str, corpora), "--", *flags]
    return subprocess.run(command, check=False, cwd=ROOT / "engine", env=environment).returncode


def main() -> int:
    """Fuzz what was asked for."""
    parser = argparse.ArgumentParser(description="Fuzz the parsers against serde_json.")
    parser.add_argument("--seconds", type=int, default=1800, help="how long each target is fuzzed")
    parser.add_argument(
        "--target", action="append", choices=targets(), help="fuzz this one only (repeatable)"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the smallest set of inputs that reaches as much"
    )
    options = parser.parse_args()
    environment = {
        **os.environ,
        "PATH": f"{cargo_fuzz()}{os.pathsep}{os.environ['PATH']}",
        "RUSTC_BOOTSTRAP": "1",
        "CARGO_TARGET_DIR": str(ROOT / "build" / "fuzz-target"),
    }
    failed = []
    for target in options.target or targets():
        found, kept = FOUND / target, FUZZ / "corpus" / target
        found.mkdir(parents=True, exist_ok=True)
        flags = [
            f"-max_total_time={options.seconds}",
            f"-max_len={INPUT_BYTES_MAX}",
            f"-timeout={INPUT_SECONDS_MAX}",
            f"-dict={FUZZ / 'json.dict'}",
            f"-artifact_prefix={found.parent}/{target}-",
            "-print_final_stats=1",
        ]
        print(f"fuzz: {target} for {options.seconds} s", flush=True)
        if run(target, environment, flags, [found, kept]):
            failed.append(target)
        elif options.keep:
            smallest = FOUND / f"{target}-smallest"
            smallest.mkdir(exist_ok=True)
            if (
                run(target, environment, ["-merge=1", f"-max_len={INPUT_BYTES_MAX}"], [smallest, found, kept])
                == 0
            ):
                for path in kept.iterdir():
                    path.unlink()
                for path in smallest.iterdir():
                    path.rename(kept / path.name)
    for target in failed:
        print(f"fuzz: {target} found a fault; its input is in {FOUND.relative_to(ROOT)}, named {target}-…")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
