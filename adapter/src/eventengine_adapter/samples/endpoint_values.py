"""What a Prometheus endpoint of a pod says of the configured metrics: values, and why one is not known.

Owns the step from exposition text to thousandths: gauges as they are, counters as their rate over ten
seconds, several series of a name as their sum. What is not finite, negative, old by its own timestamp, of another kind,
there twice or too much is no value. Pure: the text comes from `sources.endpoint_reading`.

The lines of the configured metrics are found first and only they are parsed: the rest of a large page costs little.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from .quantities import bounded_millis, millis_from_ratio

SERIES_MAX: Final = 100
"""Of one metric on one pod; they are added up, so that a label of high cardinality belongs elsewhere."""

LINE_LENGTH_MAX: Final = 4096
COUNTER_WINDOW_SECONDS: Final = 10
_COUNTER: Final = "counter"
_GAUGES: Final = frozenset({"gauge", "unknown", "untyped"})
_TOTAL: Final = "_total"
_PARTS: Final = ("", "_count", "_sum", "_bucket")
"""What samples of a histogram or summary add to its name."""

Series = dict[tuple[tuple[str, str], ...], float]


class ValueUnknown(Exception):  # noqa: N818 - a state of the data, not a fault of the program
    """There is no such value. The message is shown to users who ask for the metric."""


@dataclass(slots=True)
class CounterHistory:
    """What rates are made from: a counter's sum on the last seconds, and its series on the newest."""

    totals: OrderedDict[int, float] = field(default_factory=OrderedDict)
    series: Series = field(default_factory=dict)

    def rate(self, second: int, series: Series) -> float:
        """Growth per second over the window that ends on `second`, which `series` is of.

        Raises:
            ValueUnknown: the counter is not known long enough without a reset.
        """
        if any(value < self.series[key] for key, value in series.items() if key in self.series) or any(
            key not in series for key in self.series
        ):
            self.totals.clear()
        if self.totals and second <= next(reversed(self.totals)):
            # The clock went back: what is kept is of another past.
            self.totals.clear()
        self.series = series
        total = math.fsum(series.values())
        self.totals[second] = total
        while len(self.totals) > COUNTER_WINDOW_SECONDS + 1:
            self.totals.popitem(last=False)
        base = self.totals.get(second - COUNTER_WINDOW_SECONDS)
        if base is None:
            raise ValueUnknown(
                f"it is a counter, and not known for {COUNTER_WINDOW_SECONDS} s since its start"
            )
        return (total - base) / COUNTER_WINDOW_SECONDS


@dataclass(slots=True)
class EndpointValues:
    """Values in thousandths by name; None for those that are not known, and why."""

    millis: dict[str, int | None] = field(default_factory=dict)
    unknown_because: dict[str, str] = field(default_factory=dict)


def endpoint_values(
    body: bytes,
    names: Sequence[str],
    counters: Mapping[str, CounterHistory],
    second: int,
    now_seconds: float,
    age_seconds_max: int,
) -> EndpointValues:
    """The values of `names` in the text `body`, read on `second`; `counters` holds what was before, by name."""
    found = EndpointValues()
    lines, kinds = _lines(body, tuple(names))
    for name in names:
        try:
            kind, series = _series(
                name, kinds.get(name, "unknown"), lines[name], now_seconds, age_seconds_max
            )
            number = counters[name].rate(second, series) if kind == _COUNTER else math.fsum(series.values())
            millis = millis_from_ratio(number)
            if millis is None or bounded_millis(millis) is None:
                raise ValueUnknown("it is too large to be served")
            found.millis[name] = millis
        except ValueUnknown as error:
            found.millis[name] = None
            found.unknown_because[name] = str(error)
    return found


@lru_cache(maxsize=64)
def _patterns(names: tuple[str, ...]) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """What the lines of these metrics begin with, and what their kinds are said with."""
    kinds = {name.removesuffix(suffix) for name in names for suffix in (_TOTAL, *_PARTS)}
    alternatives = "|".join(sorted(map(re.escape, names)))
    of_kinds = "|".join(sorted(map(re.escape, kinds)))
    return (
        re.compile(rf"^[ \t]*({alternatives})(?=[{{ \t])[^\n]*".encode(), re.MULTILINE),
        re.compile(rf"^[ \t]*#[ \t]+TYPE[ \t]+({of_kinds})[ \t]+([a-z]+)".encode(), re.MULTILINE),
    )


def _lines(body: bytes, names: tuple[str, ...]) -> tuple[dict[str, list[bytes]], dict[str, str]]:
    """The lines of each name, and the kind of each that says it."""
    of_samples, of_kinds = _patterns(names)
    lines: dict[str, list[bytes]] = {name: [] for name in names}
    for match in of_samples.finditer(body):
        kept = lines[match[1].decode()]
        if len(kept) <= SERIES_MAX:
            kept.append(match[0])
    kinds: dict[str, str] = {}
    for match in of_kinds.finditer(body):
        said, kind = match[1].decode(), match[2].decode()
        # OpenMetrics says the kind of `orders`, of which the sample is `orders_total`.
        suffixes = ("", _TOTAL) if kind in _GAUGES or kind == _COUNTER else _PARTS
        kinds |= {said + suffix: kind for suffix in suffixes if said + suffix in lines}
    return lines, kinds


def _series(
    name: str, kind: str, lines: list[bytes], now_seconds: float, age_seconds_max: int
) -> tuple[str, Series]:
    if not lines:
        raise ValueUnknown("its endpoint does not have it")
    if kind != _COUNTER and kind not in _GAUGES:
        raise ValueUnknown(f"it is of a {kind}, and only gauges and counters can be scaled on")
    if kind != _COUNTER and name.endswith(_TOTAL):
        raise ValueUnknown("it is called like a counter, and its endpoint has no line # TYPE that says so")
    if len(lines) > SERIES_MAX:
        raise ValueUnknown(f"it has more than {SERIES_MAX} series")
    if any(len(line) > LINE_LENGTH_MAX for line in lines):
        raise ValueUnknown(f"it has a line of more than {LINE_LENGTH_MAX} bytes")
    try:
        text = f"# TYPE {name} gauge\n" + b"\n".join(lines).decode() + "\n"
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except (ValueError, KeyError, IndexError) as error:
        raise ValueUnknown("its endpoint says it in a way that is no exposition format") from error
    series: Series = {}
    for sample in samples:
        key = tuple(sorted(sample.labels.items()))
        if key in series:
            raise ValueUnknown("its endpoint has one of its series twice")
        series[key] = _checked(sample.value, sample.timestamp, now_seconds, age_seconds_max)
    return kind, series


def _checked(value: float, stamp: object, now_seconds: float, age_seconds_max: int) -> float:
    if not math.isfinite(value):
        raise ValueUnknown(f"it is {value}")
    if value < 0:
        raise ValueUnknown("it is negative")
    if stamp is not None:
        age_seconds = now_seconds - float(str(stamp))
        if age_seconds > age_seconds_max or age_seconds < -2:
            raise ValueUnknown(f"its timestamp is {age_seconds:.0f} s old, limit {age_seconds_max} s")
    return float(value)
