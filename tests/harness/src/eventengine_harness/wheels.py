"""Everything an image build needs, gathered beforehand, so that the build itself needs no network.

Owns the build context of an image: `wheels/` (the locked dependencies, our own packages, and pip to
install them with), `requirements/<part>.txt` (whose hashes the build checks again) and the Dockerfile. The
Dockerfiles take their wheels from there when they are built with `--build-arg WHEELS=prepared`; without
it they make the same wheels themselves.

Downloaded wheels are kept in the user's cache, keyed by the lock file they come from. Wheels of our own
packages are made anew each time from the sources of this checkout, and are the same bytes for the same
sources, so that a context's digest says whether an image has to be built again.

Never does: run a container tool (that is the caller's), or install anything.

Usage: python -m eventengine_harness.wheels operator|adapter|engine FOLDER
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import platform
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Final

from eventengine_harness.caching import cached, key_of
from eventengine_harness.locations import REPOSITORY
from eventengine_harness.running import run, run_fetching, run_showing_progress

PARTS: Final = ("operator", "adapter", "engine")
COMMAND_SECONDS_MAX: Final = 900
NATIVE_BUILD_SECONDS_MAX: Final = 3600
PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check")
ARCHIVE_TIME: Final = (2020, 2, 2, 0, 0, 0)
"""Time stamp of every file in a wheel that is packed here: equal sources give equal bytes."""


def prepare_context(part: str, context: Path) -> str:
    """Fill the empty folder `context` with what the image of `part` is built from; returns its digest."""
    if part not in PARTS:
        raise ValueError(f"{part!r} has no image; those that have are {', '.join(PARTS)}")
    wheels = context / "wheels"
    requirements = context / "requirements"
    for folder in (wheels, requirements):
        folder.mkdir(parents=True)
    for wheel in sorted(_downloaded(part).glob("*.whl")):
        shutil.copy2(wheel, wheels)
    (pip,) = _downloaded("build").glob("pip-*.whl")
    shutil.copy2(pip, wheels)
    _build_wheel(REPOSITORY / "contract", wheels)
    if part == "engine":
        repack_engine_wheel(_native_wheel(), REPOSITORY / "engine" / "src", wheels)
    else:
        _build_wheel(REPOSITORY / part, wheels)
    shutil.copyfile(REPOSITORY / "requirements" / f"{part}.txt", requirements / f"{part}.txt")
    shutil.copyfile(REPOSITORY / part / "Dockerfile", context / "Dockerfile")
    return context_digest(context)


def context_digest(context: Path) -> str:
    """Hash of all that a build context holds: names and contents, not times."""
    digest = hashlib.sha256()
    for path in sorted(path for path in context.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(context)).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _downloaded(part: str) -> Path:
    """The cache folder with the wheels that `requirements/<part>.txt` locks, hashes checked."""
    lock_file = REPOSITORY / "requirements" / f"{part}.txt"
    words = [sys.implementation.cache_tag or "", platform.machine(), platform.libc_ver()[1]]

    def download(folder: Path) -> None:
        arguments: list[str | Path] = ["--require-hashes", "--only-binary", ":all:", "--dest", folder]
        run_fetching(
            [*PIP, "download", *arguments, "--requirement", lock_file],
            f"fetching the wheels of requirements/{part}.txt",
            timeout_seconds=COMMAND_SECONDS_MAX,
        )

    return cached("wheels", key_of(files=[lock_file], words=words), download)


def _build_wheel(project: Path, destination: Path) -> None:
    """Make the wheel of one of our pure Python packages with the environment's own build backend."""
    arguments: list[str | Path] = [
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        destination,
    ]
    run([*PIP, "--quiet", "wheel", *arguments, project], timeout_seconds=COMMAND_SECONDS_MAX)


def _native_wheel() -> Path:
    """The wheel of the cached native build, made first if need be."""
    command = [sys.executable, str(REPOSITORY / "tools" / "native.py"), "--print-entry"]
    # The first time takes minutes and is shown; the second finds the entry in the cache.
    title = "taking the native module, or building it"
    run_showing_progress(command, title, timeout_seconds=NATIVE_BUILD_SECONDS_MAX)
    output = run(command)
    (built,) = Path(output.splitlines()[-1]).glob("*.whl")
    return built


def repack_engine_wheel(built: Path, sources: Path, destination: Path) -> Path:
    """Write into `destination` the wheel `built`, with its Python files replaced by those of `sources`.

    The native build is cached by the Rust sources alone, so the Python files in its wheel may be older
    than this checkout's. The wheel's record is written anew.
    """
    members: dict[str, bytes] = {}
    with zipfile.ZipFile(built) as archive:
        for name in archive.namelist():
            is_python_face = name.startswith("eventengine/") and not name.endswith(".so")
            if not is_python_face and not name.endswith(("/", ".dist-info/RECORD")):
                members[name] = archive.read(name)
    for path in sorted((sources / "eventengine").rglob("*")):
        if path.is_file() and path.suffix not in {".so", ".pyc"}:
            members[str(path.relative_to(sources))] = path.read_bytes()
    (metadata,) = {name.split("/")[0] for name in members if ".dist-info/" in name}
    record = f"{metadata}/RECORD"
    lines = [f"{name},{_record_hash(content)},{len(content)}" for name, content in sorted(members.items())]
    members[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    wheel = destination / built.name
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in sorted(members.items()):
            entry = zipfile.ZipInfo(name, date_time=ARCHIVE_TIME)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, compress_type=zipfile.ZIP_DEFLATED)
    return wheel


def _record_hash(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def main() -> None:
    """Prepare the build context of one image in a new folder."""
    parser = argparse.ArgumentParser(
        description="Prepare an image's build context for a build without network."
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("folder", type=Path, help="a folder that does not exist yet")
    options = parser.parse_args()
    print(f"{options.folder}: {prepare_context(options.part, options.folder)}")


if __name__ == "__main__":
    main()
