"""The pace of calls to the API server: so many a second, and none while it asks to be left alone.

Rules: calls go out in the order they came; a burst is allowed after a rest; an answer 429 holds every
call back for as long as the server said, up to a bound, rather than only the one that was refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

HOLD_SECONDS_MAX: Final = 60.0
HOLD_SECONDS_WHERE_UNSAID: Final = 1.0


class Pace:
    """A token bucket, kept as the time at which the next call would be due at an even pace."""

    def __init__(
        self,
        calls_per_second: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._interval_seconds = 1.0 / calls_per_second
        self._ahead_seconds = (burst - 1) * self._interval_seconds
        self._clock = clock
        self._sleep = sleep
        self._due = clock()
        self._held_until = self._due
        self._in_order = asyncio.Lock()

    async def turn(self) -> float:
        """Return when a call may go out; the result is how many seconds it had to wait."""
        started = self._clock()
        async with self._in_order:
            due = max(self._due, self._clock())
            may_go_at = due - self._ahead_seconds
            while (left := max(may_go_at, self._held_until) - self._clock()) > 0:
                await self._sleep(left)
            self._due = due + self._interval_seconds
        return self._clock() - started

    def hold(self, seconds: float) -> None:
        """The API server asked for a pause."""
        pause = min(seconds or HOLD_SECONDS_WHERE_UNSAID, HOLD_SECONDS_MAX)
        self._held_until = max(self._held_until, self._clock() + pause)
