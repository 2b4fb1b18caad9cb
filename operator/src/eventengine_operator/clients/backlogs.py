"""The lag of an engine as the metrics API tells it: over all partitions, whoever owns them, pods or none.

One question to `external.metrics.k8s.io`, as the autoscaler asks it. What is no fresh number is no number:
an error, an empty answer and a value that the adapter only remembers are all "not known", with the reason.
"""

from __future__ import annotations

from typing import Final

from eventengine_contract.quantities import parse_quantity_millis

from eventengine_operator.resources.objects import Object, list_at, mapping_at

from .errors import ApiError
from .kubernetes_api import KubernetesApi

LAG: Final = "kafka_consumer_lag"
REMEMBERED: Final = "last_known_good"
"""Label of values that the adapter remembers from better days."""


async def read_lag(api: KubernetesApi, namespace: str, engine: str) -> tuple[int | None, str]:
    """Events behind, or None and why."""
    try:
        answer = await api.external_metric(namespace, LAG, {"engine": engine})
    except ApiError as error:
        return None, str(error)
    return sum_of(answer)


def sum_of(answer: Object) -> tuple[int | None, str]:
    """The sum over the items of an ExternalMetricValueList, rounded up, or None and why."""
    items = list_at(answer, "items")
    if not items:
        return None, f"{LAG} has no partitions"
    millis = 0
    for item in items:
        if REMEMBERED in mapping_at(item, "metricLabels"):
            return None, f"{LAG} is remembered, not measured"
        try:
            value = parse_quantity_millis(item.get("value"))
        except ValueError as error:
            return None, f"{LAG}: {error}"
        if value < 0:
            return None, f"{LAG} is negative"
        millis += value
    return -(-millis // 1000), ""
