"""On a machine where something is missing, the tools name it and the remedy; nothing ends in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """An empty folder to be the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def script(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def run(*command: str | Path, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(path), "HOME": str(path), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment)


def test_without_python_the_set_up_says_which_one(programs: Path) -> None:
    done = run("/bin/bash", "tools/bootstrap.sh", programs / "venv", path=programs)
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed" in done.stderr


def test_without_venv_and_without_rights_the_set_up_names_the_package(programs: Path) -> None:
    # It is new enough, and has neither venv nor ensurepip.
    script(programs, "python3", 'case "$*" in *version_info*) exit 0;; *) exit 1;; esac')
    script(programs, "id", "echo 1000")
    done = run("/bin/bash", "tools/bootstrap.sh", programs / "venv", path=programs)
    assert done.returncode == 2
    assert "apt-get install python3-venv" in done.stderr


def test_without_a_compiler_the_native_build_says_where_it_comes_from(programs: Path) -> None:
    done = run(sys.executable, "tools/native.py", "--print-entry", path=programs)
    assert done.returncode == 1
    assert "rustc is not on PATH: install Rust by rustup" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_toolchain_that_is_not_there_is_reported_in_rustups_words(programs: Path) -> None:
    script(programs, "rustc", "echo 'error: toolchain 1.95.0 is not installed' >&2; exit 1")
    done = run(sys.executable, "tools/native.py", "--print-entry", path=programs)
    assert done.returncode == 1
    assert "toolchain 1.95.0 is not installed" in done.stderr
    assert "Traceback" not in done.stderr
