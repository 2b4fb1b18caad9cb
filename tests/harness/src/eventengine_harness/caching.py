"""The user's cache of built things, each keyed by a hash of what it was built from.

An entry is built in a temporary folder beside its final place and renamed, so
it is complete or absent. A file lock per kind keeps two callers from building
the same thing twice; the second one waits and takes the first one's result.
The cache is bounded: only the entries used last are kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from eventengine_harness.locations import user_cache
from eventengine_harness.running import say

ENTRIES_MAX = 6
KEY_LENGTH = 16
UNFINISHED_PREFIX = "building-"


def key_of(*, files: Iterable[Path] = (), folder: Path | None = None, words: Iterable[str]) -> str:
    """Hash file contents (named relative to `folder`) and plain words into a cache key.

    The words hold what is no file: tool versions, flags, the machine type. Order
    of files does not matter, order of words does.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        name = path.relative_to(folder) if folder else Path(path.name)
        digest.update(b"file\0" + str(name).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
        digest.update(b"x" if os.access(path, os.X_OK) else b"-")
    for word in words:
        digest.update(b"word\0" + word.encode() + b"\0")
    return digest.hexdigest()[:KEY_LENGTH]


@contextlib.contextmanager
def locked(path: Path, waiting_for: str) -> Iterator[None]:
    """Hold an exclusive lock on a file; say so when another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{waiting_for}: another process is at it, waiting")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def cached(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the folder of an entry, building it by `build(empty folder)` if it is absent."""
    shelf = user_cache() / kind
    entry = shelf / key
    if entry.is_dir():
        os.utime(entry)
        return entry
    with locked(shelf / "lock", f"{kind} {key}"):
        if not entry.is_dir():
            _remove_unfinished(shelf)
            scratch = Path(tempfile.mkdtemp(dir=shelf, prefix=UNFINISHED_PREFIX))
            scratch.chmod(0o755)
            try:
                build(scratch)
                scratch.rename(entry)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        os.utime(entry)
        _remove_oldest(shelf)
    return entry


def _remove_unfinished(shelf: Path) -> None:
    # The lock is held, so whatever is unfinished belongs to a builder that was killed.
    for path in shelf.glob(f"{UNFINISHED_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def _remove_oldest(shelf: Path) -> None:
    entries = [path for path in shelf.iterdir() if path.is_dir()]
    entries.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in entries[ENTRIES_MAX:]:
        shutil.rmtree(path, ignore_errors=True)
