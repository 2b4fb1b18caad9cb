"""Values as the Kubernetes metrics APIs write them: exact quantities of thousandths.

Owns the conversion of ratios and durations to millis and the printing of millis.
It never makes a number up: what is not finite, negative or too large for a
HorizontalPodAutoscaler to multiply is no value (None).
"""

from __future__ import annotations

import math
from typing import Final

MILLIS_MAX: Final = 2**63 - 1
"""The autoscaler reads every value in thousandths as a signed 64-bit integer; more overflows there."""

_RATIO_DUST: Final = 1e-9
"""Less than this above a thousandth is the float's own error, not a measurement."""


def bounded_millis(millis: int) -> int | None:
    """`millis`, or None where the number can't be a measurement that an autoscaler understands."""
    return millis if 0 <= millis <= MILLIS_MAX else None


def millis_from_ratio(ratio: float) -> int | None:
    """A ratio in thousandths, rounded up as Kubernetes rounds, so that pressure never reads as none."""
    if not math.isfinite(ratio) or ratio < 0:
        return None
    return bounded_millis(math.ceil(ratio * 1000 - _RATIO_DUST))


def millis_from_count(count: int) -> int | None:
    """A count of things in thousandths."""
    return bounded_millis(count * 1000)


def format_millis(millis: int) -> str:
    """The quantity as text: whole numbers plain, fractions in thousandths (`730m`)."""
    if not 0 <= millis <= MILLIS_MAX:
        raise ValueError(f"{millis} thousandths are no quantity that can be served")
    whole, rest = divmod(millis, 1000)
    return f"{millis}m" if rest else str(whole)
