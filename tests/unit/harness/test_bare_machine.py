"""What the harness finds missing is installed where it may be, and named with its remedy where not."""

from __future__ import annotations

from pathlib import Path

import pytest
from eventengine_harness import builds, debian_packages, locations
from eventengine_harness.exceptions import HarnessError


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, with a dpkg-query that knows of `present` alone."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script(folder, "dpkg-query", 'case "$3" in present) echo "install ok installed";; *) exit 1;; esac')
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def script(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_a_package_that_is_there_is_not_installed_again(programs: Path) -> None:
    debian_packages.ensure_installed(["present"])


def test_without_root_missing_packages_are_named_with_the_command(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(HarnessError, match=r"as root: apt-get install absent$"):
        debian_packages.ensure_installed(["present", "absent"])


def test_an_index_that_is_too_old_is_fetched_again_after_what_was_broken_off(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    calls = programs / "calls"
    # The installation works once the index was fetched.
    script(
        programs,
        "apt-get",
        f'echo "$1" >> {calls}; case "$1" in install) [ "$(/bin/grep -c update {calls})" != 0 ];; esac',
    )
    script(programs, "dpkg", f'echo "$1" >> {calls}')
    debian_packages.ensure_installed(["absent"])
    assert calls.read_text().split() == ["install", "--configure", "update", "install"]


def test_without_go_the_message_says_which_and_from_where(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(HarnessError, match=r"Go is missing \(1\.26 or newer\): install it from"):
        builds.kubernetes()


def test_everything_lies_below_the_cache_that_the_user_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert locations.user_cache() == tmp_path / "elsewhere" / "eventengine"
    assert locations.run_folder().is_relative_to(locations.user_cache())


def test_without_a_choice_it_lies_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locations.user_cache() == tmp_path / ".cache" / "eventengine"
