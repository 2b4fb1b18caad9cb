"""Short or long: how much of the operator's faults by chance is tried.

`make chaos ONLY=operator` sets CHAOS_VARIABLE and a seed for hypothesis; the tier's own run is short, and the same
each time, so that a change is never refused by chance.
"""

from __future__ import annotations

import os
from typing import Final, TypeVar

from hypothesis import HealthCheck, Phase, settings

CHAOS_VARIABLE: Final = "EVENTENGINE_CHAOS"
IS_LONG: Final = bool(os.environ.get(CHAOS_VARIABLE))
SECONDS_MAX: Final = 3600 if IS_LONG else 120

Thing = TypeVar("Thing")


def choose(short: Thing, long: Thing) -> Thing:
    """One of two, by the form that was asked for."""
    return long if IS_LONG else short


def tried(short: int, long: int) -> settings:
    """So many examples. Each takes seconds on an API server, so none is boiled down to a smaller one."""
    return settings(
        max_examples=choose(short, long),
        deadline=None,
        derandomize=not IS_LONG,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
