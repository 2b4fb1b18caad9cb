"""What the answers of all metric APIs have in common: names, selectors, timestamps, errors.

Owns the step from a request's words to a `Question`, and from what can't be
answered to the Status that says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class MetricView:
    """What answers are made from: the fleet and its samples, as of one moment.

    What is served collects here, for the adapter's own metrics: the age of each
    value, and how many were not fresh.
    """

    fleet: Fleet
    store: SampleStore
    now_seconds: float
    last_known_good: LastKnownGood = field(default_factory=LastKnownGood)
    served_ages_seconds: list[float] = field(default_factory=list)
    served_last_known_good: int = 0
    endpoint_store: SampleStore = field(default_factory=SampleStore)
    """What the users' own endpoints said."""

    def note_served(self, value: Value) -> None:
        """Remember the age of a value that is about to be served, and whether it is one that was fresh once."""
        self.served_ages_seconds.append(max(0.0, self.now_seconds - value.sampled_at_seconds))
        self.served_last_known_good += MARK_LABEL in value.labels


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


def format_timestamp(seconds: int) -> str:
    """RFC 3339 in UTC and whole seconds, as `metav1.Time` is."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
