"""The queue between the watches and the reconciles.

Rules:
- A key waits at most once, however many events push it.
- A key is worked on by one worker at a time; pushed meanwhile, it is worked on once more afterwards.
- A failed key comes back after a delay that doubles, with jitter, up to a bound; success resets it.
- The queue has a bound. A key that finds it full is counted and dropped: the resync, which lists
  everything, brings it back.

All of it belongs to one event loop; other threads use `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from eventengine_operator.measuring import Measurements

KEYS_MAX: Final = 20_000
BACKOFF_FIRST_SECONDS: Final = 0.5
BACKOFF_SECONDS_MAX: Final = 60.0
JITTER: Final = 0.2

Key = TypeVar("Key", bound=Hashable)


class KeyQueue(Generic[Key]):
    """See the module."""

    def __init__(self, measurements: Measurements, keys_max: int = KEYS_MAX, seed: int | None = None) -> None:
        self._measurements = measurements
        self._keys_max = keys_max
        self._random = random.Random(seed)  # noqa: S311 - spreads retries, guards nothing
        self._waiting: deque[Key] = deque()
        self._waiting_since: dict[Key, float] = {}
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._arrived = asyncio.Event()

    def push(self, key: Key) -> None:
        """Have `key` worked on as soon as possible."""
        self._cancel_timer(key)
        if key in self._working:
            self._again.add(key)
            return
        if key in self._waiting_since:
            return
        if len(self._waiting) >= self._keys_max:
            self._measurements.queue_overflows.inc()
            return
        self._waiting.append(key)
        self._waiting_since[key] = asyncio.get_running_loop().time()
        self._measurements.queue_depth.set(len(self._waiting))
        self._arrived.set()

    def push_after(self, key: Key, seconds: float) -> None:
        """Have `key` worked on in `seconds`; an earlier date that is already set stays."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        timer = self._timers.get(key)
        if key in self._waiting_since or (timer is not None and timer.when() <= due):
            return
        if timer is None and len(self._timers) >= self._keys_max:
            self._measurements.queue_overflows.inc()
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_at(due, self._timer_fired, key)

    async def take(self) -> Key:
        """The next key; the caller owes `done` or `failed`."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        key = self._waiting.popleft()
        since = self._waiting_since.pop(key)
        self._measurements.queue_seconds.observe(asyncio.get_running_loop().time() - since)
        self._working.add(key)
        self._measurements.queue_depth.set(len(self._waiting))
        return key

    def done(self, key: Key) -> None:
        """The work on `key` went well."""
        self._failures.pop(key, None)
        self._finish(key)

    def failed(self, key: Key, retry_after_seconds: float = 0.0) -> float:
        """The work on `key` failed; returns in how many seconds it comes back."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(BACKOFF_FIRST_SECONDS * 2.0 ** min(failures, 16), BACKOFF_SECONDS_MAX)
        delay = max(delay * self._random.uniform(1 - JITTER, 1 + JITTER), retry_after_seconds)
        # What was pushed during the failed work is old news by then; only a later event shortens the delay.
        self._again.discard(key)
        self._working.discard(key)
        self.push_after(key, delay)
        return delay

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is worked on."""
        return not self._waiting and not self._working

    def close(self) -> None:
        """Forget all dates."""
        for key in list(self._timers):
            self._cancel_timer(key)

    def _finish(self, key: Key) -> None:
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.push(key)

    def _timer_fired(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.push(key)

    def _cancel_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
