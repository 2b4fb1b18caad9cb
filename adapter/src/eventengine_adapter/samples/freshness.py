"""Whether a sample may still be served, and on which second several pods are compared.

A sample older than its metric's limit is no answer; nor is one from the future,
which only a wrong clock can make. The value of several pods is computed from
samples of one and the same second: two adapters that answer with the same
timestamp then answer with the same number, whatever each of them missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from .store import History

CLOCK_AHEAD_SECONDS_MAX: Final = 2
"""How far a pod's clock may be ahead of this one before its samples are refused."""


class NotFresh(Exception):  # noqa: N818 - a state of the data, not a fault of the program
    """The metric is not known to be fresh. The message names metric, age and limit."""


def oldest_servable_second(now_seconds: float, age_seconds_max: int) -> int:
    """The earliest whole second whose samples may be served at `now_seconds`."""
    return math.ceil(now_seconds - age_seconds_max)


def is_fresh(history: History, now_seconds: float, age_seconds_max: int) -> bool:
    """Whether the newest sample may be served."""
    newest = history.newest_second
    return newest is not None and newest >= oldest_servable_second(now_seconds, age_seconds_max)


def describe_age(history: History, now_seconds: float, age_seconds_max: int) -> str:
    """What is wrong with a history that is not fresh, in words for the user who waits for the metric."""
    newest = history.newest_second
    because = f" ({history.failure})" if history.failure else ""
    if newest is None:
        return f"no sample yet, limit {age_seconds_max} s{because}"
    return f"the newest sample is {now_seconds - newest:.0f} s old, limit {age_seconds_max} s{because}"


Usable = Callable[[History, int], bool]


def _has_sample(history: History, second: int) -> bool:
    return history.has(second)


def newest_common_second(
    histories: Sequence[History],
    oldest_second: int,
    usable: Usable = _has_sample,
    *,
    latecomers: bool = False,
    newest_second: int | None = None,
) -> int | None:
    """The newest second, from `oldest_second` to `newest_second`, for which all these pods have a usable sample.

    With `latecomers` a pod whose first sample is younger than that second does
    not hold the others up. That is safe only where the caller notices what such
    a pod would have added, as lag does by counting partitions.
    """
    known = [history.newest_second for history in histories if history.newest_second is not None]
    if not known or (len(known) < len(histories) and not latecomers):
        return None
    first = min(known) if newest_second is None else min(*known, newest_second)
    for second in range(first, oldest_second - 1, -1):
        counted = [h for h in histories if _reported_by(h, second)] if latecomers else histories
        if counted and all(usable(history, second) for history in counted):
            return second
    return None


def _reported_by(history: History, second: int) -> bool:
    return history.oldest_second is not None and history.oldest_second <= second
