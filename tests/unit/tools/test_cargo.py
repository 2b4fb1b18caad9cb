"""The target folder that checkouts share: none of them ever runs what another one compiled."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import cargo

MANIFEST = '[package]\nname = "speaker"\nversion = "0.1.0"\nedition = "2024"\n'


def checkout(folder: Path, word: str) -> Path:
    crate = folder / "crates" / "speaker"
    (crate / "src").mkdir(parents=True)
    (crate / "Cargo.toml").write_text(MANIFEST)
    (crate / "src" / "main.rs").write_text(f'fn main() {{ println!("{word}"); }}\n')
    (folder / "Cargo.toml").write_text('[workspace]\nresolver = "3"\nmembers = ["crates/*"]\n')
    (folder / "Cargo.lock").write_text('version = 4\n\n[[package]]\nname = "speaker"\nversion = "0.1.0"\n')
    return folder


def says(workspace: Path, cache: Path) -> str:
    with cargo.shared_target(workspace, cache) as environment:
        command = ["cargo", "run", "--quiet", "--locked", "--offline"]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=workspace, env=environment
        ).stdout.strip()


def test_each_checkout_gets_its_own_crates_also_when_another_built_since(tmp_path):
    first, second = checkout(tmp_path / "first", "one"), checkout(tmp_path / "second", "two")
    cache = tmp_path / "cache"
    assert [says(first, cache), says(second, cache), says(first, cache)] == ["one", "two", "one"]
    assert len(list((cache / "cargo").iterdir())) == 1


def test_a_workspace_that_builds_into_the_folder_of_another_is_kept_apart_by_checkout_as_well(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(cargo, "FELLOWS", (Path("../fellow"),))
    cache = tmp_path / "cache"
    said = []
    for name, word in (("first", "one"), ("second", "two")):
        engine = checkout(tmp_path / name / "engine", "engine")
        fellow = checkout(tmp_path / name / "fellow", word)
        with cargo.shared_target(engine, cache) as environment:
            command = ["cargo", "run", "--quiet", "--locked", "--offline"]
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, cwd=fellow, env=environment
            )
        said.append(done.stdout.strip())
    assert said == ["one", "two"]


def test_the_folder_has_one_user_at_a_time(tmp_path):
    workspace = checkout(tmp_path / "checkout", "one")
    with cargo.shared_target(workspace, tmp_path) as environment:
        lock = Path(environment["CARGO_TARGET_DIR"]) / "lock"
        with lock.open("w") as other:
            try:
                fcntl.flock(other.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = False
            except BlockingIOError:
                held = True
    assert held


def test_folders_that_were_not_used_for_long_are_removed_but_not_from_under_their_user(tmp_path):
    workspace = checkout(tmp_path / "checkout", "one")
    shelf = tmp_path / "cargo"
    for age, name in enumerate(["recent", "older", "used", "oldest"]):
        (shelf / name).mkdir(parents=True)
        os.utime(shelf / name, (1_000_000 - age, 1_000_000 - age))
    with (shelf / "used" / "lock").open("w") as lock:
        os.utime(shelf / "used", (999_998, 999_998))
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
        with cargo.shared_target(workspace, tmp_path):
            names = {path.name for path in shelf.iterdir()}
    assert {"recent", "older", "used"} <= names
    assert "oldest" not in names
