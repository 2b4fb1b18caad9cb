"""What a trigger's metadata asks for, read and checked once per call.

Pure. Refuses what it doesn't know, naming the nearest key: a misspelt key that
is passed over would scale on something else than was meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from eventengine_contract.keda_triggers import (
    ACTIVATION,
    CONNECTION_KEYS,
    ENGINE,
    LIMIT_TO_PARTITIONS,
    METRIC,
    SELECTOR,
    TARGET,
    TRIGGER_KEYS,
)
from eventengine_contract.metric_names import METRICS, Aggregation, Metric
from eventengine_contract.quantities import parse_quantity_millis

from eventengine_adapter.samples.label_selectors import (
    Operator,
    Requirement,
    Selector,
    SelectorError,
    parse_selector,
)
from eventengine_adapter.samples.quantities import MILLIS_MAX
from eventengine_adapter.samples.questions import CAP_EVENTS_MAX, CAP_LABEL

ENGINE_LABEL: Final = "engine"
_KEYS_MAX: Final = 64
_SHOWN_LENGTH_MAX: Final = 64


class TriggerError(ValueError):
    """The metadata is no question that can be answered; the message names the key and what it may be."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger of a ScaledObject.

    `selector` selects the engine's series; `cap_events` is the most that one
    partition of a lag counts for, 0 for no such bound.
    """

    metric: Metric
    engine: str
    target_millis: int
    activation_millis: int
    selector: Selector
    cap_events: int

    @property
    def capped_selector(self) -> Selector:
        """The selector with the cap as the parameter that the metrics APIs know it by."""
        if not self.cap_events:
            return self.selector
        return _with(self.selector, CAP_LABEL, str(self.cap_events))


def read_trigger(metadata: Mapping[str, str]) -> Trigger:
    """The trigger that KEDA passes on.

    Raises:
        TriggerError: a key is missing, unknown, or has a value that it can't have.
    """
    if len(metadata) > _KEYS_MAX:
        raise TriggerError(f"a trigger may have {_KEYS_MAX} keys, this one has {len(metadata)}")
    for key in metadata:
        if key not in TRIGGER_KEYS and key not in CONNECTION_KEYS:
            raise TriggerError(f"{_shown(key)} is no key of a trigger{_nearest(key, TRIGGER_KEYS)}")
    metric = METRICS.get(_required(metadata, METRIC))
    if metric is None:
        name = metadata[METRIC]
        raise TriggerError(f"{METRIC}: there is no metric {_shown(name)}{_nearest(name, METRICS)}")
    engine = _required(metadata, ENGINE)
    target_millis = _millis(metadata, TARGET)
    if target_millis == 0:
        raise TriggerError(f"{TARGET}: must be greater than 0")
    try:
        selector = parse_selector(metadata.get(SELECTOR))
        if selector.mentions(ENGINE_LABEL):
            raise TriggerError(f"{SELECTOR}: says nothing of {ENGINE_LABEL}; that has a key of its own")
        selector = _with(selector, ENGINE_LABEL, engine)
    except SelectorError as error:
        raise TriggerError(f"{SELECTOR}: {error}") from error
    return Trigger(
        metric,
        engine,
        target_millis,
        _millis(metadata, ACTIVATION) if ACTIVATION in metadata else 0,
        selector,
        _cap_events(metadata, metric, selector, target_millis),
    )


def _cap_events(metadata: Mapping[str, str], metric: Metric, selector: Selector, target_millis: int) -> int:
    """The most that one partition may count for: as much as keeps one pod busy."""
    wanted = metadata.get(LIMIT_TO_PARTITIONS)
    if wanted not in {None, "true", "false"}:
        raise TriggerError(f"{LIMIT_TO_PARTITIONS}: must be true or false")
    if metric.aggregation is not Aggregation.PER_PARTITION:
        if wanted == "true":
            raise TriggerError(f"{LIMIT_TO_PARTITIONS}: metric {metric.name} has no partitions")
        return 0
    if wanted == "false" or selector.mentions(CAP_LABEL):
        return 0
    if not 1000 <= target_millis <= CAP_EVENTS_MAX * 1000:
        raise TriggerError(
            f"{TARGET}: a lag that is limited to partitions needs a target from 1 to {CAP_EVENTS_MAX} events; "
            f"set {LIMIT_TO_PARTITIONS} to false for another one"
        )
    return target_millis // 1000


def _with(selector: Selector, key: str, value: str) -> Selector:
    return Selector((*selector.requirements, Requirement(key, Operator.IN, (value,))))


def _required(metadata: Mapping[str, str], key: str) -> str:
    value = metadata.get(key, "")
    if not value:
        raise TriggerError(f"{key}: is missing")
    return value


def _millis(metadata: Mapping[str, str], key: str) -> int:
    try:
        millis = parse_quantity_millis(_required(metadata, key))
    except TriggerError:
        raise
    except ValueError as error:
        raise TriggerError(f"{key}: {error}") from error
    if millis > MILLIS_MAX:
        raise TriggerError(f"{key}: is more than an autoscaler can count")
    return millis


def _nearest(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    found = difflib.get_close_matches(word[:_SHOWN_LENGTH_MAX], list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""


def _shown(word: str) -> str:
    return repr(word if len(word) <= _SHOWN_LENGTH_MAX else word[:_SHOWN_LENGTH_MAX] + "…")
