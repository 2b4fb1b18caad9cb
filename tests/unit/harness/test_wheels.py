"""The build contexts of the images: what goes in, and that equal sources give equal bytes."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest
from eventengine_harness import wheels

NAME = "eventengine-0.1.0-cp311-abi3-linux_x86_64.whl"
METADATA = "eventengine-0.1.0.dist-info"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A wheel as the native build leaves it, with an older Python face."""
    wheel = tmp_path / "built" / NAME
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("eventengine/_native.abi3.so", b"\x7fELF native")
        archive.writestr("eventengine/running.py", "old = True\n")
        archive.writestr("eventengine/removed.py", "gone = True\n")
        archive.writestr(f"{METADATA}/METADATA", "Name: eventengine\n")
        archive.writestr(f"{METADATA}/RECORD", "stale\n")
    return wheel


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    package = tmp_path / "src" / "eventengine"
    (package / "cli").mkdir(parents=True)
    (package / "running.py").write_text("new = True\n")
    (package / "py.typed").write_text("")
    (package / "cli" / "__init__.py").write_text("main = None\n")
    (package / "_native.abi3.so").write_bytes(b"a library built for something else")
    return tmp_path / "src"


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_engine_wheel_holds_the_python_files_of_the_checkout_and_the_library_of_the_build(
    built: Path, sources: Path, tmp_path: Path
) -> None:
    members = contents(wheels.repack_engine_wheel(built, sources, tmp_path))
    assert members["eventengine/running.py"] == b"new = True\n"
    assert members["eventengine/cli/__init__.py"] == b"main = None\n"
    assert members["eventengine/_native.abi3.so"] == b"\x7fELF native"
    assert "eventengine/removed.py" not in members


def test_engine_wheel_records_every_file_with_its_hash_and_size(
    built: Path, sources: Path, tmp_path: Path
) -> None:
    members = contents(wheels.repack_engine_wheel(built, sources, tmp_path))
    record = members.pop(f"{METADATA}/RECORD").decode().splitlines()
    expected = {f"{METADATA}/RECORD,,"}
    for name, content in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        expected.add(f"{name},sha256={digest},{len(content)}")
    assert set(record) == expected


def test_engine_wheel_is_the_same_bytes_for_the_same_sources(
    built: Path, sources: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    assert (
        wheels.repack_engine_wheel(built, sources, first).read_bytes()
        == wheels.repack_engine_wheel(built, sources, second).read_bytes()
    )


def test_context_digest_changes_with_a_name_or_a_byte_and_not_with_time(tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    file = context / "Dockerfile"
    file.write_text("FROM scratch\n")
    before = wheels.context_digest(context)
    file.touch()
    assert wheels.context_digest(context) == before
    file.write_text("FROM scratch \n")
    assert wheels.context_digest(context) != before
    file.write_text("FROM scratch\n")
    file.rename(context / "Containerfile")
    assert wheels.context_digest(context) != before


def test_unknown_part_is_refused_with_those_that_have_an_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'contract' has no image; those that have are operator, adapter"):
        wheels.prepare_context("contract", tmp_path)
