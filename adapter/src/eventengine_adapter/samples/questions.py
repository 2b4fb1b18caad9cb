"""A question about a metric, and the shape of its answer.

Owns what every kind of metric shares: which conditions of a selector concern
the engine or the pod, and how an answer that can't be given is worded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import msgspec
from eventengine_contract.metric_names import Aggregation, Metric

from .fleets import Engine, EnginePod
from .folding import Statistic
from .freshness import describe_age, oldest_servable_second
from .label_selectors import Operator, Selector, SelectorError
from .store import SampleStore

AGGREGATION_LABEL: Final = "aggregation"
WINDOW_LABEL: Final = "window_seconds"
HORIZON_LABEL: Final = "horizon_seconds"
CAP_LABEL: Final = "cap_events"
STUCK_LABEL: Final = "exclude_stuck_seconds"
CAP_EVENTS_MAX: Final = 10**12
STUCK_SECONDS_MIN: Final = 5
WINDOW_SECONDS_MAX: Final = 15
"""The autoscaler asks every fifteen seconds: with such a window it misses no second."""

HORIZON_SECONDS: Final = 60
HORIZON_SECONDS_MAX: Final = 600
_DIGITS_MAX: Final = 13
_RATE: Final = "shed_events_per_second"
"""A rate covers a window of its own."""

_VALUES: Final = frozenset({Aggregation.MAXIMUM, Aggregation.SUM, Aggregation.PER_PARTITION})
_PARAMETERS: Final[dict[str, frozenset[Aggregation]]] = {
    AGGREGATION_LABEL: _VALUES,
    WINDOW_LABEL: _VALUES,
    HORIZON_LABEL: frozenset({Aggregation.PER_SOURCE}),
    CAP_LABEL: frozenset({Aggregation.PER_PARTITION}),
    STUCK_LABEL: frozenset({Aggregation.PER_PARTITION}),
}
"""Labels that say how to answer rather than which items, and for which metrics."""

POD_KEYS: Final = frozenset({"engine", "pod"})
_PODS_NAMED_MAX: Final = 3
_RANGES_MAX: Final = 16


class Value(msgspec.Struct, frozen=True, gc=False):
    """One value, as of `sampled_at_seconds`, over the `window_seconds` before it (0: of that instant)."""

    millis: int
    sampled_at_seconds: int
    window_seconds: int = 0
    labels: dict[str, str] = {}
    from_pods: bool = True
    """Whether it was sampled by pods, on their common second, rather than told by brokers on one of their own."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """How to answer: a statistic over pods or partitions, seconds that it covers, and how far ahead to look.

    Of a lag also the most that one partition may count for, and after how many
    seconds without progress a partition is left out; 0 for neither.
    """

    statistic: Statistic | None
    window_seconds: int
    horizon_seconds: int
    cap_events: int = 0
    exclude_stuck_seconds: int = 0

    @property
    def any_of_lag(self) -> bool:
        """Whether anything is asked for that changes how a lag is answered."""
        return self.statistic is not None or self.window_seconds > 1 or self.shapes_partitions

    @property
    def shapes_partitions(self) -> bool:
        """Whether single partitions are capped or left out."""
        return bool(self.cap_events or self.exclude_stuck_seconds)


_NO_PARAMETERS: Final = Parameters(statistic=None, window_seconds=1, horizon_seconds=HORIZON_SECONDS)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a metric, a selector over its labels, and when.

    `newest_second` holds an answer back to that second, so that it can be added
    to answers about other engines.
    """

    metric: Metric
    selector: Selector
    now_seconds: float
    newest_second: int | None = None
    exactly: bool = False
    """Whether `newest_second` is the only one that will do, however old: a part of a window, not an answer."""

    def at(self, second: int) -> Question:
        """The same about one second only."""
        return replace(self, newest_second=second, exactly=True)

    @property
    def oldest_second(self) -> int:
        """The earliest second that may be served."""
        if self.exactly and self.newest_second is not None:
            return self.newest_second
        return oldest_servable_second(self.now_seconds, self.metric.age_seconds_max)

    def concerned(self, engines: Iterable[Engine]) -> list[Engine]:
        """The engines that the conditions on the engine's name leave in."""
        conditions = self.selector.only({"engine"})
        return [engine for engine in engines if conditions.matches({"engine": engine.name})]


def take_parameters(question: Question) -> tuple[Parameters, Question]:
    """What the selector asks for besides selecting, and the question without that.

    Raises:
        SelectorError: a parameter has a value that it can't have, or the metric doesn't take it.
    """
    metric, selector = question.metric, question.selector
    if not selector.requirements:
        return _NO_PARAMETERS, question
    chosen = {key: _equal_to(selector, key) for key in _PARAMETERS if selector.mentions(key)}
    for key in chosen:
        if metric.aggregation not in _PARAMETERS[key] or (key == WINDOW_LABEL and metric.name == _RATE):
            raise SelectorError(f"metric {metric.name} does not take the label {key}")
    statistic = None
    if AGGREGATION_LABEL in chosen:
        try:
            statistic = Statistic(chosen[AGGREGATION_LABEL])
        except ValueError as error:
            raise SelectorError(
                f"the label {AGGREGATION_LABEL} selects one of: {', '.join(Statistic)}"
            ) from error
    parameters = Parameters(
        statistic,
        _whole_number(chosen, WINDOW_LABEL, 1, 1, WINDOW_SECONDS_MAX),
        _whole_number(chosen, HORIZON_LABEL, HORIZON_SECONDS, 1, HORIZON_SECONDS_MAX),
        _whole_number(chosen, CAP_LABEL, 0, 1, CAP_EVENTS_MAX),
        _whole_number(chosen, STUCK_LABEL, 0, STUCK_SECONDS_MIN, WINDOW_SECONDS_MAX),
    )
    return parameters, replace(question, selector=selector.without(_PARAMETERS))


def _equal_to(selector: Selector, key: str) -> str:
    """The one value that the selector wants of a parameter."""
    wishes = selector.only({key}).requirements
    if len(wishes) > 1 or wishes[0].operator is not Operator.IN or len(wishes[0].values) != 1:
        raise SelectorError(f"the label {key} is a parameter: write {key}=value, once")
    return wishes[0].values[0]


def _whole_number(chosen: dict[str, str], key: str, default: int, low: int, high: int) -> int:
    text = chosen.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX and low <= int(text) <= high):
        raise SelectorError(f"the label {key} selects a whole number from {low} to {high}")
    return int(text)


def not_fresh(question: Question, pods: list[EnginePod], store: SampleStore) -> str:
    """The message for pods whose newest sample can't be served: metric, pods, ages, limit."""
    limit = question.metric.age_seconds_max
    parts = [
        f"pod {pod.name}: {describe_age(store.history(pod.uid), question.now_seconds, limit)}"
        for pod in pods[:_PODS_NAMED_MAX]
    ]
    if len(pods) > _PODS_NAMED_MAX:
        parts.append(f"and {len(pods) - _PODS_NAMED_MAX} more pods")
    return f"metric {question.metric.name} is not fresh: " + "; ".join(parts)


def describe_ranges(numbers: list[int]) -> str:
    """Sorted numbers as ranges: `3, 7-9`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:_RANGES_MAX]]
    if len(ranges) > _RANGES_MAX:
        texts.append("…")
    return ", ".join(texts)
