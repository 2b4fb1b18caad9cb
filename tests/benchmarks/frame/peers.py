"""The peers: what a user would otherwise write, built from pinned inputs and run with the arguments of ours.

Owns their builds (in the user's cache, keyed by sources, locks and tools) and the command of each. A peer that can't
be built or run on this machine is named with the reason; it doesn't vanish from the tables.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from eventengine_harness import debian_packages
from eventengine_harness.caching import cached, key_of
from eventengine_harness.exceptions import HarnessError
from eventengine_harness.locations import REPOSITORY, TESTS
from eventengine_harness.running import run, run_showing_progress

PEERS: Final = TESTS / "benchmarks" / "peers"
JAVA_HOMES: Final = Path("/usr/lib/jvm")
GENERATIONAL_SINCE: Final = 21
"""ZGC has generations from this JDK on; from 24 on it has nothing else."""
JAVA_HEAP: Final = ("-Xms512m", "-Xmx512m")
VERSION: Final = re.compile(r'version "(\d+)')


@dataclass(frozen=True)
class Peer:
    """One system to compare with: its name in tables, what it is, and how its command comes about."""

    name: str
    what: str
    build: Callable[[], Sequence[str | Path]]

    def command(self) -> list[str | Path]:
        """The command without the run's arguments, built first if need be; HarnessError if it can't be."""
        return list(self.build())


def _go_program() -> Path:
    folder = PEERS / "go"
    flags = ("-trimpath", "-mod=readonly", "-buildvcs=false")
    files = [path for path in folder.iterdir() if path.suffix in {".go", ".mod", ".sum"}]
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise HarnessError("Go is missing: the Go peer needs the version in peers/go/go.mod")

    def build(destination: Path) -> None:
        command: list[str | Path] = [go, "build", *flags, "-o", destination / "peer", "."]
        run_showing_progress(command, "building the Go peer", folder=folder)

    words = [run([go, "version"], folder=folder), *flags]
    return cached("benchmark-peer-go", key_of(files=files, folder=folder, words=words), build) / "peer"


def _rust_program() -> Path:
    folder = PEERS / "rust"
    files = [folder / "Cargo.toml", folder / "Cargo.lock", *(folder / "src").glob("*.rs")]
    words = [run(["rustc", "--version"], folder=folder), platform.machine()]

    def build(destination: Path) -> None:
        target = destination / "target"
        command = ["cargo", "build", "--locked", "--release", "--quiet"]
        environment = {"CARGO_TARGET_DIR": str(target)}
        run_showing_progress(command, "building the Rust peer", environment=environment, folder=folder)
        shutil.copy2(target / "release" / "peer-rust", destination / "peer")
        shutil.rmtree(target)

    return cached("benchmark-peer-rust", key_of(files=files, folder=folder, words=words), build) / "peer"


def _python_program() -> list[str | Path]:
    folder = PEERS / "python"
    lock = folder / "requirements.txt"
    uv = REPOSITORY / ".venv" / "bin" / "uv"

    def build(destination: Path) -> None:
        run([uv, "venv", "--quiet", "--relocatable", destination / "venv"])
        interpreter = destination / "venv" / "bin" / "python"
        command: list[str | Path] = [
            uv,
            "pip",
            "sync",
            "--quiet",
            "--require-hashes",
            "--python",
            interpreter,
            lock,
        ]
        run_showing_progress(command, "installing the Python peer's packages")

    words = [platform.python_version(), platform.machine()]
    entry = cached("benchmark-peer-python", key_of(files=[lock], words=words), build)
    return [entry / "venv" / "bin" / "python", folder / "peer.py"]


def java_version(text: str) -> int:
    """The feature release from what `java -version` prints; HarnessError if it tells none."""
    found = VERSION.search(text)
    if found is None:
        raise HarnessError(f"`java -version` names no version: {text[:200]!r}")
    return int(found[1])


@cache
def newest_jdk() -> tuple[Path, int]:
    """The newest JDK of this machine that has a compiler, and its feature release."""
    homes = [home for home in JAVA_HOMES.glob("*") if (home / "bin" / "javac").exists()]
    configured = os.environ.get("JAVA_HOME")
    if configured and (Path(configured) / "bin" / "javac").exists():
        homes.append(Path(configured))
    if not homes:
        debian_packages.ensure_installed(("openjdk-17-jdk-headless",))
        homes = [home for home in JAVA_HOMES.glob("*") if (home / "bin" / "javac").exists()]
    versions = []
    for home in homes:
        done = subprocess.run(
            [home / "bin" / "java", "-version"], check=True, capture_output=True, text=True, timeout=60
        )
        versions.append((java_version(done.stderr), home))
    if not versions:
        raise HarnessError("no JDK was found: the Java peer needs 17 or newer, with javac")
    version, home = max(versions)
    return home, version


def _checked_jars(folder: Path, sums: str) -> None:
    """Compare every jar with its pinned hash; HarnessError names the first that differs."""
    pairs = [line.split() for line in sums.splitlines() if line.strip()]
    expected = {name: digest for digest, name in pairs}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.jar")}
    if found != expected:
        wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise HarnessError(
            f"the Java peer's jars differ from peers/java/jars.sha256: {', '.join(wrong)}; "
            "if the pom was changed on purpose, write the file anew with sha256sum"
        )


def _java_classes() -> Path:
    folder = PEERS / "java"
    sums = folder / "jars.sha256"
    files = [folder / "pom.xml", sums, *folder.glob("*.java")]
    home, version = newest_jdk()

    def build(destination: Path) -> None:
        debian_packages.ensure_installed(("maven",))
        jars = destination / "jars"
        command: list[str | Path] = ["mvn", "--batch-mode", "--quiet", "--file", folder / "pom.xml"]
        command += ["dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        run_showing_progress(command, "fetching the Java peer's jars")
        _checked_jars(jars, sums.read_text())
        compiler: list[str | Path] = [home / "bin" / "javac", "--release", "17", "-Xlint:all", "-Werror"]
        run([*compiler, "-cp", f"{jars}/*", "-d", destination / "classes", *folder.glob("*.java")])

    key = key_of(files=files, folder=folder, words=[str(version)])
    return cached("benchmark-peer-java", key, build)


def _java(collector: str) -> list[str | Path]:
    built = _java_classes()
    home, version = newest_jdk()
    flags = ["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=5"]
    if collector == "zgc":
        flags = ["-XX:+UseZGC"]
        if GENERATIONAL_SINCE <= version < GENERATIONAL_SINCE + 3:
            flags.append("-XX:+ZGenerational")
    path = f"{built / 'jars'}/*:{built / 'classes'}"
    return [home / "bin" / "java", *JAVA_HEAP, *flags, "-cp", path, "Peer"]


def zgc_note() -> str:
    """What this machine's ZGC is, for the tables."""
    _, version = newest_jdk()
    kind = "generational" if version >= GENERATIONAL_SINCE else "without generations"
    return f"JDK {version}, ZGC {kind}"


ALL: Final = (
    Peer("go-std", "Go: channel, encoding/json", lambda: [_go_program(), "--json", "std"]),
    Peer("go-sonic", "Go: channel, sonic", lambda: [_go_program(), "--json", "sonic"]),
    Peer("java-g1", "Java: Disruptor, Jackson, G1", lambda: _java("g1")),
    Peer("java-zgc", "Java: Disruptor, Jackson, ZGC", lambda: _java("zgc")),
    Peer("rust-tokio", "Rust: tokio mpsc, serde_json", lambda: [_rust_program()]),
    Peer("python-asyncio", "Python: asyncio, uvloop, orjson", _python_program),
)
