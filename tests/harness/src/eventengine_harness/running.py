"""Running commands that end by themselves.

Owns: quiet commands with their output captured, and long commands whose
progress is shown as one line every few seconds; those that fetch from package
registries are begun again a few times when they fail. Long-running components
belong to `processes`. A command gets an argument list, never a shell line.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from eventengine_harness.exceptions import CommandError

PROGRESS_INTERVAL_SECONDS = 5.0
OUTPUT_TAIL_BYTES = 6000
FETCH_ATTEMPTS = 3


def say(line: str) -> None:
    """Print one line of progress at once; standard error keeps standard output for results."""
    print(line, file=sys.stderr, flush=True)


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | bytes | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout_seconds: float = 120.0,
) -> str:
    """Run a command to its end and return its standard output; CommandError if it fails."""
    words = [str(word) for word in command]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            input=data if data is not None else b"",
            env={**os.environ, **(environment or {})},
            cwd=folder,
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired as error:
        seen = ((error.stdout or b"") + (error.stderr or b"")).decode(errors="replace")
        message = f"{seen[-OUTPUT_TAIL_BYTES:]}\n(stopped: over {timeout_seconds:.0f} s)"
        raise CommandError(words, -9, message) from error
    if done.returncode:
        output = (done.stderr + done.stdout).decode(errors="replace")
        raise CommandError(words, done.returncode, output[-OUTPUT_TAIL_BYTES:])
    return done.stdout.decode(errors="replace")


def run_showing_progress(
    command: Sequence[str | Path],
    title: str,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout_seconds: float = 3600.0,
) -> None:
    """Run a long command; every few seconds a line tells the elapsed time and its last output."""
    words = [str(word) for word in command]
    started = time.monotonic()
    say(f"{title} …")
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=folder,
        ) as process:
            expired = threading.Event()

            def stop_when_late() -> None:
                expired.set()
                process.kill()

            timer = threading.Timer(timeout_seconds, stop_when_late)
            timer.daemon = True
            timer.start()
            try:
                while True:
                    try:
                        process.wait(PROGRESS_INTERVAL_SECONDS)
                        break
                    except subprocess.TimeoutExpired:
                        elapsed = time.monotonic() - started
                        say(f"{title}: {elapsed:.0f} s  {_last_line(output.fileno())}".rstrip())
            except BaseException:
                process.terminate()
                raise
            finally:
                timer.cancel()
        if process.returncode:
            tail = _tail(output.fileno(), OUTPUT_TAIL_BYTES)
            late = f"\n(stopped: over {timeout_seconds:.0f} s)" if expired.is_set() else ""
            raise CommandError(words, process.returncode, tail + late)
    say(f"{title}: done in {time.monotonic() - started:.0f} s")


def run_fetching(
    command: Sequence[str | Path],
    title: str,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout_seconds: float,
) -> None:
    """Run a long command that fetches from package registries, and that goes on where it was when it is repeated."""
    for attempt in range(1, FETCH_ATTEMPTS + 1):
        try:
            run_showing_progress(
                command, title, environment=environment, folder=folder, timeout_seconds=timeout_seconds
            )
        except CommandError as error:
            if attempt == FETCH_ATTEMPTS:
                raise
            say(f"{title}: attempt {attempt} of {FETCH_ATTEMPTS} failed: {error}")
        else:
            return


def _tail(descriptor: int, length: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, length, max(0, size - length)).decode(errors="replace")


def _last_line(descriptor: int) -> str:
    lines = _tail(descriptor, 400).strip().splitlines()
    return lines[-1].strip()[-100:] if lines else ""
