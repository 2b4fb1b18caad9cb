"""The warden: a process that cleans up after an owner that was killed.

It is a child of the owner in a session of its own and reads a pipe that only the
owner can write to. The pipe's end means that the owner is gone, however it
ended; then the warden sweeps the instance. After an orderly end there is nothing
left to sweep; when the owner detaches the instance, it is a detached one and
stays. If the warden is killed too, the next start sweeps.
"""

from __future__ import annotations

import os
import subprocess
import sys

from eventengine_harness.exceptions import HarnessError
from eventengine_harness.ledgers import Instance

EXIT_DEADLINE_SECONDS = 30.0


class Warden:
    """The owner's side: starts the warden, and lets it go when the owner is done."""

    def __init__(self, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "eventengine_harness.warden", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            # Python finds this package in the same places as its parent does.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )

    @property
    def pid(self) -> int:
        """The warden's process."""
        return self._process.pid

    def dismiss(self) -> None:
        """Close the pipe and wait for the warden's end; call it after the instance has ended."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(EXIT_DEADLINE_SECONDS)


def main() -> int:
    """Wait for the owner's end, then remove what it left."""
    name = sys.argv[1]
    while os.read(sys.stdin.fileno(), 4096):
        pass
    try:
        instance = Instance.take_over(name)
    except HarnessError:
        # A new owner was quicker: it has swept, or will.
        return 0
    if instance is None:
        return 0
    if instance.ledger.detached:
        instance.detach()
        return 0
    instance.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
