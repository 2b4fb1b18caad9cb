"""Findings as text for a terminal: the value, who it comes from, how old it is, what follows from it."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from eventengine_contract.metric_names import METRICS
from eventengine_contract.quantities import parse_quantity_millis

from .asking import Answer, Findings, Use
from .replica_calculator import TOLERANCE, Wish, from_average, from_pods, from_value

_NO_CHANGE: Final = (
    "replicas stay: an autoscaler that can't read a metric scales up on its others, and never down"
)


def describe(findings: Findings, now_seconds: float) -> str:
    """The whole explanation."""
    lines = [f"{findings.metric} in namespace {findings.namespace}"]
    metric = METRICS.get(findings.metric.lower())
    if metric is not None:
        lines.append(f"  {metric.description} Unit: {metric.unit}. At most {metric.age_seconds_max} s old.")
    lines += ["", "External metric", *_items(findings.external, now_seconds)]
    if metric is None or metric.of_pods:
        lines += ["", "By pod", *_by_pod(findings.by_pod, now_seconds)]
    lines += ["", "HorizontalPodAutoscalers that read it"]
    if not findings.uses:
        lines.append("  none in this namespace")
    for use in findings.uses:
        lines += _use(use)
    return "\n".join(lines) + "\n"


def _items(answer: Answer, now_seconds: float) -> Iterable[str]:
    if answer.refusal:
        yield f"  no value: {answer.refusal}"
        return
    if not answer.items:
        yield "  no items: the selector matches nothing"
        return
    total = sum(_millis(item) for item in answer.items)
    rows = [("VALUE", "SHARE", "AGE", "OF", "FROM")]
    for item in answer.items:
        labels = dict(item.get("metricLabels") or {})
        came_from = f"pod {labels.pop('pod')}" if "pod" in labels else _without_pod(labels)
        if labels.pop("last_known_good", "") == "true":
            came_from += ", last known good"
        what = " ".join(f"{key}={labels[key]}" for key in sorted(labels))
        rows.append((item["value"], _share(_millis(item), total), _age(item, now_seconds), what, came_from))
    yield from _table(rows)
    yield f"  together {_text(total)}, which is what an autoscaler sees"


def _without_pod(labels: Mapping[str, str]) -> str:
    return "the brokers: no pod owns it" if "partition" in labels else "several pods"


def _by_pod(answer: Answer, now_seconds: float) -> Iterable[str]:
    if answer.refusal:
        yield f"  no value: {answer.refusal}"
        return
    if not answer.items:
        yield "  no pod has it"
        return
    total = sum(_millis(item) for item in answer.items)
    rows = [("POD", "VALUE", "SHARE", "AGE")]
    rows += [
        (
            item["describedObject"]["name"],
            item["value"],
            _share(_millis(item), total),
            _age(item, now_seconds),
        )
        for item in answer.items
    ]
    yield from _table(rows)


def _use(use: Use) -> Iterable[str]:
    spec, status = use.autoscaler["spec"], use.autoscaler.get("status") or {}
    target = spec["scaleTargetRef"]
    replicas = int(status.get("currentReplicas") or 0)
    yield (
        f"  {use.autoscaler['metadata']['name']}: {use.kind} metric for {target['kind']} {target['name']}, "
        f"{replicas} replicas now"
    )
    if use.answer.refusal:
        yield f"    no value: {use.answer.refusal}"
        yield f"    {_NO_CHANGE}"
        return
    wish = _wish(use, replicas)
    if wish is None:
        yield "    no value: the answer has no items"
        yield f"    {_NO_CHANGE}"
        return
    low, high = int(spec.get("minReplicas") or 1), int(spec["maxReplicas"])
    bounded = min(max(wish.replicas, low), high)
    bound = f", bounded to {low}-{high}" if bounded != wish.replicas else ""
    yield f"    asks for {bounded} replicas: {wish.because}{bound}"


def _wish(use: Use, replicas: int) -> Wish | None:
    if not use.answer.items:
        return None
    values = {
        str((item.get("describedObject") or {}).get("name", number)): _millis(item)
        for number, item in enumerate(use.answer.items)
    }
    total = sum(values.values())
    target = use.target
    tolerance = _tolerance(use)
    ready = sum(_is_ready(pod) for pod in use.pods)
    if use.kind == "Pods":
        counted = {str(pod["metadata"]["name"]) for pod in use.pods if _counts(pod)}
        held = {name: value for name, value in values.items() if not use.pods or name in counted}
        missing = len(counted - set(values))
        pending = sum((pod.get("status") or {}).get("phase") == "Pending" for pod in use.pods)
        return from_pods(
            held, parse_quantity_millis(target["averageValue"]), replicas, missing, pending, tolerance
        )
    if target.get("averageValue"):
        return from_average(total, parse_quantity_millis(target["averageValue"]), replicas, tolerance)
    return from_value(total, parse_quantity_millis(target["value"]), replicas, ready, tolerance)


def _tolerance(use: Use) -> Fraction:
    """The tolerance in both directions; where they differ, the smaller one, so that no change goes unmentioned."""
    behavior = use.autoscaler["spec"].get("behavior") or {}
    texts = [(behavior.get(rules) or {}).get("tolerance") for rules in ("scaleUp", "scaleDown")]
    return min(Fraction(parse_quantity_millis(text), 1000) if text else TOLERANCE for text in texts)


def _counts(pod: Mapping[str, Any]) -> bool:
    return (
        not pod["metadata"].get("deletionTimestamp") and (pod.get("status") or {}).get("phase") == "Running"
    )


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return _counts(pod) and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _millis(item: Mapping[str, Any]) -> int:
    return parse_quantity_millis(item["value"])


def _text(millis: int) -> str:
    return f"{millis / 1000:g}" if millis % 1000 else str(millis // 1000)


def _share(part: int, total: int) -> str:
    return f"{part * 100 / total:.0f} %" if total else "-"


def _age(item: Mapping[str, Any], now_seconds: float) -> str:
    sampled = calendar.timegm(time.strptime(item["timestamp"], "%Y-%m-%dT%H:%M:%SZ"))
    return f"{max(0.0, now_seconds - sampled):.1f} s"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
