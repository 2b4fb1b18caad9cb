"""What was seen over time, and the figures that the summary draws from it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Observation:
    """One look at an engine. Figures are None where the metrics API or a pod gave no answer.

    `at_seconds` counts from the start of the phase; rates are events per second over the last
    whole second, lag is in events, utilisation a ratio of 0 to 1.
    """

    at_seconds: float
    events_in_per_second: float | None
    events_out_per_second: float | None
    lag_events: int | None
    pool_utilisation: float | None
    replicas_desired: int
    replicas_ready: int
    cores_pinned: int


@dataclass(frozen=True)
class ScalingFigures:
    """What the scaling phase showed; times in seconds from the start of the burst, None if it never happened."""

    lag_events_max: int
    burst_to_desired_seconds: float | None
    burst_to_ready_seconds: float | None
    burst_to_drained_seconds: float | None
    replicas_desired_max: int
    replicas_ready_max: int
    replicas_ready_last: int

    @property
    def scaled_up(self) -> bool:
        """Whether more pods became ready than at the start of the burst."""
        return self.burst_to_ready_seconds is not None

    @property
    def scaled_down(self) -> bool:
        """Whether fewer pods are ready at the end than at the height."""
        return self.replicas_ready_last < self.replicas_ready_max


def scaling_figures(observations: Sequence[Observation], burst_at_seconds: float) -> ScalingFigures:
    """The figures of a phase whose burst began at `burst_at_seconds`."""
    before = [o for o in observations if o.at_seconds < burst_at_seconds] or list(observations[:1])
    after = [o for o in observations if o.at_seconds >= burst_at_seconds]
    desired = before[-1].replicas_desired if before else 0
    ready = before[-1].replicas_ready if before else 0
    lag_peak = max((o.lag_events or 0 for o in observations), default=0)
    peak_at = next((o.at_seconds for o in after if (o.lag_events or 0) == lag_peak), None)

    def since_burst(moment: float | None) -> float | None:
        return None if moment is None else moment - burst_at_seconds

    return ScalingFigures(
        lag_events_max=lag_peak,
        burst_to_desired_seconds=since_burst(
            next((o.at_seconds for o in after if o.replicas_desired > desired), None)
        ),
        burst_to_ready_seconds=since_burst(
            next((o.at_seconds for o in after if o.replicas_ready > ready), None)
        ),
        burst_to_drained_seconds=since_burst(
            next(
                (
                    o.at_seconds
                    for o in after
                    if peak_at is not None
                    and o.at_seconds > peak_at
                    and o.lag_events is not None
                    and o.lag_events <= max(lag_peak // 100, DRAINED_LAG_EVENTS)
                ),
                None,
            )
        ),
        replicas_desired_max=max((o.replicas_desired for o in observations), default=0),
        replicas_ready_max=max((o.replicas_ready for o in observations), default=0),
        replicas_ready_last=observations[-1].replicas_ready if observations else 0,
    )


DRAINED_LAG_EVENTS = 50
"""A lag of at most this counts as drained while a trickle of load goes on."""


def sustained_rate(
    events_applied: Sequence[tuple[int, int]], lag_events: Sequence[int | None]
) -> float | None:
    """Events per second of an engine that was never idle: the median of its whole seconds with lag.

    `events_applied` are (Unix second, total) pairs of consecutive samples, `lag_events` the lag at each.
    Returns None where no two consecutive samples both had lag left.
    """
    rates = sorted(
        (later - earlier) / (second_later - second_earlier)
        for (second_earlier, earlier), (second_later, later), lag in zip(
            events_applied, events_applied[1:], lag_events[1:], strict=False
        )
        if lag and second_later > second_earlier and later > earlier
    )
    return rates[len(rates) // 2] if rates else None
