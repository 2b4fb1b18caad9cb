"""From a trigger to its value and its activity, by the way of the external metrics API.

Pure. The value is the sum of the items that the autoscaler would have added up
there. Activity decides between no pod and one, so it is read from fresh samples
alone, whatever an EventEngine allows for its values.
"""

from __future__ import annotations

from eventengine_adapter.apis import statuses
from eventengine_adapter.apis.external import values_of
from eventengine_adapter.apis.metric_values import MetricView
from eventengine_adapter.samples.fleets import Engine
from eventengine_adapter.samples.label_selectors import Selector
from eventengine_adapter.samples.quantities import bounded_millis
from eventengine_adapter.samples.questions import Question

from .triggers import Trigger


def value_millis(view: MetricView, trigger: Trigger, namespace: str) -> int:
    """The value to compare with the trigger's target.

    Raises:
        ApiError: 404 for an engine or series that there isn't, 400 for a selector that the metric doesn't
            take, 503 for what is not fresh.
    """
    return _sum(view, trigger, namespace, trigger.capped_selector, may_be_old=True)


def is_active(view: MetricView, trigger: Trigger, namespace: str) -> bool:
    """Whether there is more to do than the trigger's activation.

    Raises:
        ApiError: as above, and 503 also where only a value is left that was fresh once.
    """
    return _sum(view, trigger, namespace, trigger.selector, may_be_old=False) > trigger.activation_millis


def _sum(view: MetricView, trigger: Trigger, namespace: str, selector: Selector, *, may_be_old: bool) -> int:
    engine = _engine(view, trigger, namespace)
    question = Question(trigger.metric, selector, view.now_seconds)
    values = values_of(view, question, [engine], f"namespace {namespace}", may_be_old=may_be_old)
    if not values:
        raise statuses.not_found(
            f"metric {trigger.metric.name} of engine {engine.name} has no series that the selector leaves "
            f"(namespace {namespace})"
        )
    millis = bounded_millis(sum(value.millis for value in values))
    if millis is None:
        raise statuses.unavailable(
            f"metric {trigger.metric.name} is not known: the sum is too large to be served (namespace {namespace})"
        )
    return millis


def _engine(view: MetricView, trigger: Trigger, namespace: str) -> Engine:
    for engine in view.fleet.engines(namespace):
        if engine.name == trigger.engine:
            return engine
    raise statuses.not_found(f"there is no EventEngine {trigger.engine} in namespace {namespace}")
