"""Build the native module `eventengine._native`, or take it from the user's cache.

Owns the cache `<user cache>/eventengine/native/<key>/`. The key is a hash of
everything the build reads (sources, lock file, toolchain, profile), so that a
stale module can't be used by mistake and a fresh clone reuses a former build.
Entries are made in a temporary folder and renamed, never written in place. What was
compiled while the sources changed is thrown away.

Usage: python tools/native.py [--profile release|dev] [--print-entry]
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cargo import compiler_version, shared_target, user_cache

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "engine"
TARGET = ENGINE / "src" / "eventengine" / "_native.abi3.so"
SYSTEM_PACKAGES = (
    "cmake",
    "gcc",
    "g++",
    "libcurl4-openssl-dev",
    "libsasl2-dev",
    "libssl-dev",
    "make",
    "pkg-config",
    "zlib1g-dev",
)
CACHE_ENTRIES_MAX = 6


def inputs() -> list[Path]:
    """Every file whose content the native build depends on, in a stable order."""
    files = [
        ENGINE / "Cargo.toml",
        ENGINE / "Cargo.lock",
        ENGINE / "pyproject.toml",
        ROOT / "rust-toolchain.toml",
    ]
    files += [
        path for path in (ENGINE / "crates").rglob("*") if path.is_file() and "target" not in path.parts
    ]
    cargo_configuration = ENGINE / ".cargo" / "config.toml"
    if cargo_configuration.exists():
        files.append(cargo_configuration)
    return sorted(files)


def source_hash() -> str:
    """Hash of the native sources alone; the module reports it as `build_info()["source_hash"]`."""
    digest = hashlib.sha256()
    for path in inputs():
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def cache_key(profile: str) -> str:
    """Name of the cache entry: sources, profile, compiler and machine type."""
    text = "\n".join(
        [source_hash(), profile, compiler_version(ENGINE), platform.machine(), platform.libc_ver()[1]]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def install_system_packages() -> None:
    """Install the headers that librdkafka's build asks for, where they are missing."""
    missing = [
        package
        for package in SYSTEM_PACKAGES
        if "install ok installed"
        not in subprocess.run(
            ["dpkg-query", "-W", "-f=${Status}", package],
            check=False,
            capture_output=True,
            text=True,
        ).stdout
    ]
    if not missing:
        return
    if os.geteuid() != 0:
        sys.exit(f"native: Debian packages are missing; as root: apt-get install {' '.join(missing)}")
    print(f"native: installing {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    subprocess.run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
        check=True,
        env=environment,
    )


def build(profile: str, destination: Path) -> None:
    """Compile the module with maturin and put the shared library into `destination`."""
    install_system_packages()
    started = time.monotonic()
    print(f"native: building the {profile} module (a few minutes the first time)", flush=True)
    with shared_target(ENGINE, user_cache()) as cargo, tempfile.TemporaryDirectory() as scratch:
        environment = {**cargo, "EVENTENGINE_SOURCE_HASH": source_hash()}
        command = [sys.executable, "-m", "maturin", "build", "--profile", profile, "--out", scratch]
        command += ["--compatibility", "linux"]  # links this machine's libraries, as its other programs do
        subprocess.run(command, check=True, env=environment, cwd=ENGINE)
        wheel = next(Path(scratch).glob("*.whl"))
        shutil.unpack_archive(wheel, scratch, format="zip")
        library = next((Path(scratch) / "eventengine").glob("_native*.so"))
        shutil.copy2(library, destination / TARGET.name)
        shutil.copy2(wheel, destination / wheel.name)
    print(f"native: built in {time.monotonic() - started:.0f} s", flush=True)


def ensure(profile: str) -> Path:
    """Return the cache entry that holds the module and its wheel, building them if need be."""
    cache = user_cache() / "native"
    cache.mkdir(parents=True, exist_ok=True)
    entry = cache / cache_key(profile)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (entry / TARGET.name).exists():
            scratch = Path(tempfile.mkdtemp(dir=cache, prefix="building-"))
            try:
                build(profile, scratch)
                if cache_key(profile) != entry.name:
                    sys.exit("native: the sources changed while they were compiled; run it again")
                scratch.rename(entry)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        os.utime(entry)
        kept = sorted(
            (path for path in cache.iterdir() if path.is_dir() and not path.name.startswith("building-")),
            key=lambda path: path.stat().st_mtime,
            reverse=True,
        )
        for old in kept[CACHE_ENTRIES_MAX:]:
            shutil.rmtree(old, ignore_errors=True)
    return entry


def main() -> None:
    """Put the module of the asked profile beside the Python package."""
    parser = argparse.ArgumentParser(description="Build eventengine._native or take it from the cache.")
    parser.add_argument("--profile", choices=("release", "dev"), default="release")
    parser.add_argument(
        "--print-entry",
        action="store_true",
        help="print the cache entry's folder (it also holds the wheel)",
    )
    arguments = parser.parse_args()
    entry = ensure(arguments.profile)
    if arguments.print_entry:
        print(entry)
        return
    library = entry / TARGET.name
    if TARGET.exists() and TARGET.read_bytes() == library.read_bytes():
        return
    scratch = TARGET.with_suffix(".new")
    shutil.copy2(library, scratch)
    scratch.rename(TARGET)


if __name__ == "__main__":
    main()
