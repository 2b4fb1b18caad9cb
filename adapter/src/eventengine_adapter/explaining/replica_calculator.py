"""How many replicas the HorizontalPodAutoscaler asks for, from one metric.

The arithmetic of `pkg/controller/podautoscaler/replica_calculator.go` in
Kubernetes 1.36, in whole thousandths. Left out is what doesn't depend on the
metric: stabilisation windows, rate policies, and the choice among several
metrics (the largest wish wins).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

TOLERANCE: Final = Fraction(1, 10)
"""Default of --horizontal-pod-autoscaler-tolerance."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Replicas that one metric asks for, before they are bounded, and how that came about."""

    replicas: int
    because: str


def from_average(
    total_millis: int, target_millis: int, replicas: int, tolerance: Fraction = TOLERANCE
) -> Wish:
    """External or Object metric with `averageValue`: the total is shared by the replicas."""
    share = f"{_text(total_millis)} / {_text(target_millis)}"
    if replicas:
        ratio = Fraction(total_millis, target_millis * replicas)
        if abs(ratio - 1) <= tolerance:
            return Wish(replicas, f"{share} is within {_percent(tolerance)} of {replicas}")
    wanted = -(-total_millis // target_millis)
    return Wish(wanted, f"{share}, rounded up")


def from_value(
    total_millis: int, target_millis: int, replicas: int, ready: int, tolerance: Fraction = TOLERANCE
) -> Wish:
    """External or Object metric with `value`: the ready pods grow with the ratio of total to target."""
    ratio = Fraction(total_millis, target_millis)
    share = f"{_text(total_millis)} / {_text(target_millis)}"
    if replicas and abs(ratio - 1) <= tolerance:
        return Wish(replicas, f"{share} is within {_percent(tolerance)} of 1")
    factor = ready if replicas else 1
    return Wish(_ceiling(ratio * factor), f"{share} x {factor} ready, rounded up")


def from_pods(
    values_millis: dict[str, int],
    target_millis: int,
    replicas: int,
    missing: int,
    pending: int = 0,
    tolerance: Fraction = TOLERANCE,
) -> Wish | None:
    """Pods metric with `averageValue`; None if no pod has a value.

    Running pods without a value count as at the target when the others say to
    shrink, and as idle when they say to grow; pending ones only as the latter.
    """
    if not values_millis:
        return None
    count = len(values_millis)
    total = sum(values_millis.values())
    # As the controller does: the average is cut off to whole thousandths.
    ratio = Fraction(total // count, target_millis)
    average = f"average {_text(total // count)} / {_text(target_millis)}"
    if ratio > 1:
        missing += pending
    if not missing:
        if abs(ratio - 1) <= tolerance:
            return Wish(replicas, f"{average} is within {_percent(tolerance)} of 1")
        return Wish(_ceiling(ratio * count), f"{average} x {count} pods, rounded up")
    assumed = target_millis if ratio < 1 else 0
    with_missing = Fraction((total + assumed * missing) // (count + missing), target_millis)
    average += f", {missing} pods without a value taken as {_text(assumed)}"
    turned = (ratio < 1 < with_missing) or (ratio > 1 > with_missing)
    if abs(with_missing - 1) <= tolerance or turned:
        return Wish(replicas, f"{average}: no change")
    wanted = _ceiling(with_missing * (count + missing))
    if (with_missing < 1 and wanted > replicas) or (with_missing > 1 and wanted < replicas):
        return Wish(replicas, f"{average}: no change")
    return Wish(wanted, f"{average}, rounded up")


def _ceiling(number: Fraction) -> int:
    return -(-number.numerator // number.denominator)


def _text(millis: int) -> str:
    return f"{millis / 1000:g}" if millis % 1000 else str(millis // 1000)


def _percent(tolerance: Fraction) -> str:
    return f"{float(tolerance) * 100:g} %"
