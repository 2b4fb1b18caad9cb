"""Answers about a lag to come, and the observation of the trends that they are made from.

Owns the rule that a forecast is of a whole source over whole minutes: it needs
`TREND_SECONDS` of lags that were each known whole, so that a replica that began
later answers 503 rather than something else.
"""

from __future__ import annotations

import math
from typing import Final

from eventengine_contract.metric_names import METRICS

from . import holt, lag
from .fleets import Engine, Fleet
from .freshness import NotFresh
from .label_selectors import EVERYTHING
from .ownership import SourceKey
from .quantities import bounded_millis
from .questions import HORIZON_LABEL, Question, Value, take_parameters
from .store import SampleStore
from .trends import TREND_SECONDS

_OBSERVED: Final = METRICS["consumer_lag"]
_OBSERVED_SECONDS: Final = 3
"""How long a second is looked at again while its lag is not known: samples arrive late, but not for ever."""


def forget(fleet: Fleet, store: SampleStore, second: int) -> None:
    """Forget the trends of engines that are gone, and what is too long past on `second`."""
    store.trends.retain({engine.uid for engine in fleet.all_engines()}, second - TREND_SECONDS)


def observe(engine: Engine, store: SampleStore, second: int) -> None:
    """Keep what the lag of an engine was on the seconds before `second`, where it is known by now."""
    if not engine.pods:
        return
    for past in range(second - 1, second - 1 - _OBSERVED_SECONDS, -1):
        if store.trends.knows(engine.uid, past):
            break
        _observe_second(engine, store, past)


def _observe_second(engine: Engine, store: SampleStore, second: int) -> None:
    question = Question(_OBSERVED, EVERYTHING, float(second)).at(second)
    try:
        _, lags = lag.source_lags(question, engine, store)
    except NotFresh:
        return
    for source, lag_events in lags.items():
        if lag_events is not None:
            store.trends.record(engine.uid, _key(source), second, lag_events)


def _key(source: SourceKey) -> str:
    return f"{source.type}/{source.name}/{source.topic}"


def source_forecasts(question: Question, engine: Engine, store: SampleStore) -> list[Value]:
    """One value per source of `engine` that the selector leaves: its lag, `horizon_seconds` from now.

    Raises:
        NotFresh: a lag of the last `TREND_SECONDS` is not known.
    """
    parameters, question = take_parameters(question)
    newest, lags = lag.source_lags(question, engine, store)
    values = []
    for source in sorted(lags):
        labels = {"engine": engine.name, "source": source.name}
        if source.topic:
            labels["topic"] = source.topic
        if not question.selector.matches(labels):
            continue
        second, lags_before = _lags_before(question, engine, source, store, newest)
        lag_events = math.ceil(holt.forecast(lags_before, parameters.horizon_seconds))
        millis = bounded_millis(lag_events * 1000)
        if millis is None:
            raise NotFresh(
                f"metric {question.metric.name} is not known: the forecast is too large to be served"
            )
        labels[HORIZON_LABEL] = str(parameters.horizon_seconds)
        values.append(Value(millis, second, TREND_SECONDS, labels))
    return values


def _lags_before(
    question: Question, engine: Engine, source: SourceKey, store: SampleStore, newest: int
) -> tuple[int, list[float]]:
    """The newest second that is known and fresh, and the lag on every second that leads up to it."""
    where = f"metric {question.metric.name} is not known: {source.describe()} of engine {engine.name}"
    points = store.trends.points(engine.uid, _key(source), newest)
    if not points or points[-1][0] < question.oldest_second:
        raise NotFresh(f"{where} has had no known lag for {question.metric.age_seconds_max} s")
    second = points[-1][0]
    points = store.trends.points(engine.uid, _key(source), second)
    known_seconds = second - points[0][0]
    if known_seconds < TREND_SECONDS - holt.GAP_SECONDS_MAX:
        raise NotFresh(f"{where} has a known lag for {known_seconds} s, a forecast needs {TREND_SECONDS} s")
    try:
        return second, holt.every_second(points)
    except holt.GapError as error:
        raise NotFresh(f"{where} has a gap in its lags: {error}") from error
