"""Waiting on conditions, always with a deadline.

The only place of this package that sleeps. A wait polls a condition, backs off
a little, and ends in a DeadlineError that says what was awaited and what was
last seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from eventengine_harness.exceptions import DeadlineError

Result = TypeVar("Result")

POLL_SECONDS_MIN = 0.02
POLL_SECONDS_MAX = 0.1
"""Most conditions cost a request or a look at a file; a condition that starts a process says otherwise."""


def wait_for(
    condition: Callable[[], Result | None],
    what: str,
    deadline_seconds: float,
    *,
    last_seen: Callable[[], str] | None = None,
    poll_seconds_max: float = POLL_SECONDS_MAX,
) -> Result:
    """Return the condition's first result that is neither None nor False.

    Args:
        condition: Called again and again; an exception of it is not caught.
        what: What is awaited, for the message ("node Ready").
        deadline_seconds: How long to wait at most.
        last_seen: Describes the present state, for the message.
        poll_seconds_max: The longest pause between two calls.
    """
    started = time.monotonic()
    pause_seconds = POLL_SECONDS_MIN
    while True:
        result = condition()
        if result is not None and result is not False:
            return result
        elapsed = time.monotonic() - started
        if elapsed >= deadline_seconds:
            seen = f"; last seen: {last_seen()}" if last_seen else ""
            raise DeadlineError(f"waited {elapsed:.0f} s in vain for {what}{seen}")
        time.sleep(min(pause_seconds, poll_seconds_max, deadline_seconds - elapsed))
        pause_seconds = min(pause_seconds * 1.5, poll_seconds_max)
