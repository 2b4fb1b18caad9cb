"""How a program that holds real components ends when it is told to: by an exception, never on the spot.

Owns the handlers of SIGINT and SIGTERM. They are set by the programs themselves, because a shell starts its
background jobs with SIGINT ignored, and a `kill -INT` of such a job has to clean up like Ctrl-C does.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType


def end_in_order() -> None:
    """From now on SIGINT raises KeyboardInterrupt and SIGTERM SystemExit, so that every `with` runs on the way out."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
