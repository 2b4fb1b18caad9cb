"""Cargo's target folder, shared by all checkouts, so that dependencies are compiled once.

Owns `<user cache>/eventengine/cargo/<key>/`; the key is a hash of lock file and compiler. Cargo names what it makes
of a workspace's own crates without the workspace's path, and tells stale from fresh by file times: two checkouts
that share a folder would take each other's crates for their own. Therefore a folder has one user at a time, who
holds its lock for as long as cargo runs, and whoever comes from another checkout than the last one has the
workspace's own crates compiled anew.

The native programs of the benchmarks are a workspace of their own that builds into the engine's folder. Any other
workspace, such as the one that compiles the core for the model checker, has a folder of its own.

Usage: python tools/cargo.py ARGUMENTS                  runs cargo so on the engine's crates
       python tools/cargo.py --in FOLDER ARGUMENTS      the same on another workspace of this checkout
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WORKSPACE = Path(__file__).resolve().parent.parent / "engine"
FELLOWS = (Path("../tests/benchmarks/native"),)
"""Workspaces, from the one that gives a folder its key, that build into that folder, too."""

FOLDERS_MAX = 4


def user_cache() -> Path:
    """The folder that outlives clones: `$XDG_CACHE_HOME/eventengine` or `~/.cache/eventengine`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eventengine"


def compiler_version(workspace: Path) -> str:
    """What the compiler that the workspace asks for says of itself; ends the program where there is none."""
    try:
        return subprocess.run(
            ["rustc", "--version"], check=True, capture_output=True, text=True, cwd=workspace
        ).stdout
    except FileNotFoundError:
        sys.exit(
            "cargo: rustc is not on PATH: install Rust by rustup (https://rustup.rs), then open a new shell"
        )
    except subprocess.CalledProcessError as error:
        sys.exit(f"cargo: the compiler that rust-toolchain.toml names can't be used: {error.stderr.strip()}")


@contextmanager
def shared_target(workspace: Path, cache: Path) -> Iterator[dict[str, str]]:
    """Hold the target folder for a workspace; yields the environment for every cargo command meanwhile."""
    lock_file = (workspace / "Cargo.lock").read_bytes()
    key = hashlib.sha256(lock_file + compiler_version(workspace).encode()).hexdigest()[:16]
    folder = cache / "cargo" / key
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        _lock(lock.fileno())
        owner = folder / "owner"
        if not owner.exists() or owner.read_text() != str(workspace):
            _forget_members(workspace, folder)
            owner.write_text(str(workspace))
        os.utime(folder)
        _remove_old(folder)
        yield {**os.environ, "CARGO_TARGET_DIR": str(folder)}


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("cargo: waiting for another build", file=sys.stderr, flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _forget_members(workspace: Path, folder: Path) -> None:
    """Remove cargo's records of the checkout's own crates, so that it compiles them anew."""
    for lock_file in (
        path / "Cargo.lock" for path in (workspace, *(workspace / fellow for fellow in FELLOWS))
    ):
        if lock_file.exists():
            for package in tomllib.loads(lock_file.read_text())["package"]:
                # What comes from no registry is the checkout's own.
                if "source" not in package:
                    for record in folder.glob(f"*/.fingerprint/{package['name']}-*"):
                        shutil.rmtree(record, ignore_errors=True)


def _remove_old(current: Path) -> None:
    """Keep the folders that were used last; one that is in use stays."""
    folders = sorted(current.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in folders[FOLDERS_MAX:]:
        with (old / "lock").open("w") as lock:
            try:
                fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(old)


def main() -> int:
    """Run cargo with the arguments given; returns its exit status."""
    arguments = sys.argv[1:]
    workspace = WORKSPACE
    if arguments[:1] == ["--in"] and len(arguments) > 1:
        workspace = Path(arguments[1]).resolve()
        arguments = arguments[2:]
    fellow = workspace in {(WORKSPACE / path).resolve() for path in FELLOWS}
    with shared_target(WORKSPACE if fellow else workspace, user_cache()) as environment:
        return subprocess.run(["cargo", *arguments], check=False, cwd=workspace, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
