"""The first thing that the command `eventengine` runs.

Owns what has to be in place before anything that takes time is imported. As
process 1 of a container a process has no default action: a SIGTERM that comes
before there is a handler is ignored, and the container is killed at the end of
its grace period. Until the engine takes the signals over, SIGTERM ends it.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final

FIRST_PROCESS: Final = 1


def main() -> int:
    """Run the command; returns its exit status."""
    if os.getpid() == FIRST_PROCESS:
        signal.signal(signal.SIGTERM, _end)
    # Imported here, because it takes its time.
    from eventengine import cli

    return cli.main()


def _end(number: int, _frame: FrameType | None) -> None:
    # Nothing was begun that would have to be ended in order.
    os._exit(128 + number)
