"""The cache of native builds never holds a module under the name of other sources."""

from __future__ import annotations

from pathlib import Path

import native
import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(native, "user_cache", lambda: tmp_path)
    return tmp_path / "native"


def compile_into(_profile: str, destination: Path) -> None:
    (destination / native.TARGET.name).write_text("module")


def test_a_build_is_kept_under_its_key(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "cache_key", lambda _: "key")
    monkeypatch.setattr(native, "build", compile_into)
    assert native.ensure("dev") == cache / "key"


def test_a_build_whose_sources_changed_meanwhile_is_thrown_away(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = iter(["before", "after"])
    monkeypatch.setattr(native, "cache_key", lambda _: next(keys))
    monkeypatch.setattr(native, "build", compile_into)
    with pytest.raises(SystemExit, match="sources changed while they were compiled"):
        native.ensure("dev")
    assert [path for path in cache.iterdir() if path.is_dir()] == []
