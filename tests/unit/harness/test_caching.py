"""Cache keys change with every input, and an entry is complete or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from eventengine_harness import caching
from eventengine_harness.caching import cached, key_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "eventengine"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def build_nothing(folder: Path) -> None:
    """An entry may be empty."""


def test_the_key_depends_on_content_name_mode_and_words(tmp_path: Path) -> None:
    first = write(tmp_path / "a" / "go.mod", "module x")
    key = key_of(files=[first], folder=tmp_path, words=["go1.26"])
    assert key == key_of(files=[first], folder=tmp_path, words=["go1.26"])
    assert key != key_of(files=[first], folder=tmp_path, words=["go1.27"])
    assert key != key_of(files=[first], folder=tmp_path / "a", words=["go1.26"])
    first.chmod(0o755)
    assert key != key_of(files=[first], folder=tmp_path, words=["go1.26"])
    first.chmod(0o644)
    write(first, "module y")
    assert key != key_of(files=[first], folder=tmp_path, words=["go1.26"])


def test_the_key_is_the_same_in_another_clone(tmp_path: Path) -> None:
    clones = [tmp_path / "one", tmp_path / "two"]
    keys = {
        key_of(files=[write(clone / "m" / "go.mod", "module x")], folder=clone, words=[]) for clone in clones
    }
    assert len(keys) == 1


def test_words_do_not_run_into_each_other() -> None:
    assert key_of(words=["ab", "c"]) != key_of(words=["a", "bc"])


def test_an_entry_is_built_once() -> None:
    calls: list[Path] = []

    def build(folder: Path) -> None:
        calls.append(folder)
        write(folder / "program", "x")

    assert cached("things", "k1", build) == cached("things", "k1", build)
    assert len(calls) == 1
    assert (cached("things", "k1", build) / "program").read_text() == "x"


def test_a_failed_build_leaves_no_entry_and_the_next_one_starts_afresh(cache: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder / "half", "x")
        raise RuntimeError("the compiler gave up")

    with pytest.raises(RuntimeError, match="gave up"):
        cached("things", "k1", fail)
    assert [path.name for path in (cache / "things").iterdir()] == ["lock"]
    entry = cached("things", "k1", lambda folder: write(folder / "whole", "x") and None)
    assert [path.name for path in entry.iterdir()] == ["whole"]


def test_what_a_killed_builder_left_is_removed_by_the_next_build(cache: Path) -> None:
    write(cache / "things" / f"{caching.UNFINISHED_PREFIX}abc" / "half", "x")
    cached("things", "k1", build_nothing)
    assert sorted(path.name for path in (cache / "things").iterdir()) == ["k1", "lock"]


def test_only_the_entries_used_last_are_kept(cache: Path) -> None:
    for number in range(caching.ENTRIES_MAX):
        entry = cached("things", f"k{number}", build_nothing)
        os.utime(entry, (number, number))
    cached("things", "newest", build_nothing)
    names = {path.name for path in (cache / "things").iterdir() if path.is_dir()}
    assert len(names) == caching.ENTRIES_MAX
    assert "newest" in names
    assert "k0" not in names
