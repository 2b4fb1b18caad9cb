"""What the answers of all metric APIs have in common: names, selectors, timestamps, errors.

Owns the step from a request's words to a `Question`, and from what can't be
answered to the Status that says so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from eventengine_contract.metric_names import METRICS, Metric

from eventengine_adapter.samples.fleets import Engine, Fleet
from eventengine_adapter.samples.freshness import NotFresh
from eventengine_adapter.samples.label_selectors import Selector, SelectorError, parse_selector
from eventengine_adapter.samples.last_known_good import MARK_LABEL, LastKnownGood
from eventengine_adapter.samples.questions import Value
from eventengine_adapter.samples.store import SampleStore

from . import statuses

_REFUSALS_MAX: Final = 3
_TIMESTAMPS_REMEMBERED: Final = 64


@dataclass(slots=True)
class MetricView:
    """What answers are made from: the fleet and its samples, as of one moment.

    What is served collects here, for the adapter's own metrics: how many values
    of which second, and how many were not fresh.
    """

    fleet: Fleet
    store: SampleStore
    now_seconds: float
    last_known_good: LastKnownGood = field(default_factory=LastKnownGood)
    served_seconds: Counter[int] = field(default_factory=Counter)
    served_last_known_good: int = 0
    endpoint_store: SampleStore = field(default_factory=SampleStore)
    """What the users' own endpoints said."""

    def note_served(self, values: Iterable[Value]) -> None:
        """Remember of when the values are that are about to be served, and which were fresh once."""
        for value in values:
            self.served_seconds[value.sampled_at_seconds] += 1
            self.served_last_known_good += MARK_LABEL in value.labels

    def served_ages_seconds(self) -> list[tuple[float, int]]:
        """The ages of the values that were served, each with how many there were."""
        return [(max(0.0, self.now_seconds - second), count) for second, count in self.served_seconds.items()]


@dataclass(frozen=True, slots=True)
class Subject:
    """A metric, the engines of a namespace that have it, and the samples that it is answered from."""

    metric: Metric
    engines: Sequence[Engine]
    store: SampleStore

    def is_of(self, engine: Engine) -> bool:
        """Whether an engine of that namespace has the metric."""
        name = self.metric.name
        return name in METRICS or (engine.endpoint is not None and engine.endpoint.find(name) is not None)


def find_subject(view: MetricView, namespace: str, name: str) -> Subject | None:
    """What a name means in a namespace: a metric that every engine has, or one of the endpoints there."""
    engines = view.fleet.engines(namespace)
    metric = METRICS.get(name)
    if metric is not None:
        return Subject(metric, engines, view.store)
    having = [engine for engine in engines if engine.endpoint and engine.endpoint.find(name)]
    endpoint = having[0].endpoint if having else None
    metric = endpoint.find(name) if endpoint is not None else None
    return Subject(metric, having, view.endpoint_store) if metric is not None else None


def describe_refusals(view: MetricView, namespace: str) -> str:
    """What to add to `not found`: engines whose annotations are refused may be why."""
    refusals = [
        f"; engine {engine.name}: {engine.endpoint_refusal}"
        for engine in view.fleet.engines(namespace)
        if engine.endpoint_refusal
    ]
    return "".join(refusals[:_REFUSALS_MAX])


def read_selector(text: str | None, parameter: str) -> Selector:
    """The selector in a query parameter.

    Raises:
        ApiError: 400, with the parameter's name.
    """
    try:
        return parse_selector(text)
    except SelectorError as error:
        raise statuses.bad_request(f"{parameter}: {error}") from error


@contextmanager
def answering(where: str) -> Iterator[None]:
    """Turn what the samples can't answer into the Status that the client gets."""
    try:
        yield
    except NotFresh as error:
        raise statuses.unavailable(f"{error} ({where})") from error
    except SelectorError as error:
        raise statuses.bad_request(str(error)) from error


@lru_cache(_TIMESTAMPS_REMEMBERED)
def format_timestamp(seconds: int) -> str:
    """RFC 3339 in UTC and whole seconds, as `metav1.Time` is."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
