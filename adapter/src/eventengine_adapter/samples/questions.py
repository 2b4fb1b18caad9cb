"""A question about a metric, and the shape of its answer.

Owns what every kind of metric shares: which conditions of a selector concern
the engine or the pod, and how an answer that can't be given is worded.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from eventengine_contract.metric_names import Aggregation, Metric

from .fleets import Engine, EnginePod
from .freshness import describe_age, oldest_servable_second
from .label_selectors import Operator, Selector, SelectorError
from .store import SampleStore

AGGREGATION_LABEL: Final = "aggregation"
POD_KEYS: Final = frozenset({"engine", "pod"})
_PODS_NAMED_MAX: Final = 3
_RANGES_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Value:
    """One value, as of `sampled_at_seconds`, over the `window_seconds` before it (0: of that instant)."""

    millis: int
    sampled_at_seconds: int
    window_seconds: int = 0
    labels: dict[str, str] = field(default_factory=dict)


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

    @property
    def oldest_second(self) -> int:
        """The earliest second that may be served."""
        return oldest_servable_second(self.now_seconds, self.metric.age_seconds_max)

    def could_concern(self, engine: Engine) -> bool:
        """Whether the conditions on the engine's name leave this engine in."""
        return self.selector.only({"engine"}).matches({"engine": engine.name})


def take_aggregation(question: Question) -> tuple[bool, Question]:
    """Whether the mean is asked for, and the question without that condition.

    Raises:
        SelectorError: the label is used with anything but `=maximum` or `=average`, or on another metric.
    """
    metric, selector = question.metric, question.selector
    if not selector.mentions(AGGREGATION_LABEL):
        return False, question
    if metric.aggregation is not Aggregation.MAXIMUM:
        raise SelectorError(
            f"metric {metric.name} has no label {AGGREGATION_LABEL}: it is no ratio or percentile"
        )
    wishes = selector.only({AGGREGATION_LABEL}).requirements
    values = wishes[0].values
    if len(wishes) > 1 or wishes[0].operator is not Operator.IN or values not in {("average",), ("maximum",)}:
        raise SelectorError(f"the label {AGGREGATION_LABEL} selects one of: average, maximum")
    narrowed = replace(question, selector=selector.without({AGGREGATION_LABEL}))
    return values == ("average",), narrowed


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
