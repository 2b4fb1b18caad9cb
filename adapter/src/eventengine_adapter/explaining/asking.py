"""Everything that an explanation needs of the Kubernetes API, asked for as the user who explains.

Owns which objects those are. A metric that is refused is not an error here: the
refusal is what is to be explained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from eventengine_contract.well_known import API_GROUP, API_VERSION, KIND, PLURAL

from eventengine_adapter.apis.routing import CUSTOM_GROUP, EXTERNAL_GROUP
from eventengine_adapter.cluster.client import KubernetesError

_EXTERNAL = f"/apis/{EXTERNAL_GROUP}/v1beta1/namespaces"
_CUSTOM = f"/apis/{CUSTOM_GROUP}/v1beta2/namespaces"
_SCALED = {
    KIND: f"/apis/{API_GROUP}/{API_VERSION}/namespaces/{{}}/{PLURAL}/{{}}/scale",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments/{}/scale",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets/{}/scale",
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets/{}/scale",
}
"""Where the scale of each kind of target is; others are not followed."""


class Reader(Protocol):
    """What asking needs of the Kubernetes client."""

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """One object or list."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """Items of a metrics API, or why there are none."""

    items: tuple[dict[str, Any], ...] = ()
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """One metric of one HorizontalPodAutoscaler, and what it gets when it asks now."""

    autoscaler: dict[str, Any]
    kind: str
    """External, Pods or Object."""
    target: dict[str, str]
    answer: Answer
    pods: tuple[dict[str, Any], ...] = ()
    """The pods that it scales."""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that an explanation is made from."""

    metric: str
    namespace: str
    external: Answer
    by_pod: Answer
    uses: tuple[Use, ...] = field(default_factory=tuple)


async def find(reader: Reader, metric: str, namespace: str, selector: str) -> Findings:
    """Ask for the metric, its share of each pod, and the autoscalers that read it.

    Raises:
        KubernetesError: the autoscalers can't be listed, or the API doesn't answer.
    """
    return Findings(
        metric,
        namespace,
        await _ask(reader, f"{_EXTERNAL}/{namespace}/{metric}", {"labelSelector": selector}),
        await _ask(reader, f"{_CUSTOM}/{namespace}/pods/*/{metric}", {"metricLabelSelector": selector}),
        await _uses(reader, metric, namespace),
    )


async def _ask(reader: Reader, path: str, selectors: Mapping[str, str]) -> Answer:
    try:
        found = await reader.get(quote(path), {name: text for name, text in selectors.items() if text})
    except KubernetesError as error:
        if error.code == 0:
            raise
        return Answer(refusal=str(error))
    return Answer(tuple(found.get("items") or ()))


async def _uses(reader: Reader, metric: str, namespace: str) -> tuple[Use, ...]:
    found = await reader.get(f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers")
    uses = []
    for autoscaler in found.get("items") or ():
        for entry in autoscaler["spec"].get("metrics") or ():
            kind = entry["type"]
            section = entry.get({"External": "external", "Pods": "pods", "Object": "object"}.get(kind, ""))
            if section is None or section["metric"]["name"].lower() != metric.lower():
                continue
            uses.append(await _use(reader, namespace, autoscaler, kind, section))
    return tuple(uses)


async def _use(
    reader: Reader, namespace: str, autoscaler: dict[str, Any], kind: str, section: dict[str, Any]
) -> Use:
    name = section["metric"]["name"]
    selector = selector_text(section["metric"].get("selector"))
    pod_selector = await _pod_selector(reader, namespace, autoscaler["spec"]["scaleTargetRef"])
    pods: tuple[dict[str, Any], ...] = ()
    if pod_selector:
        found = await reader.get(f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": pod_selector})
        pods = tuple(found.get("items") or ())
    if kind == "External":
        answer = await _ask(reader, f"{_EXTERNAL}/{namespace}/{name}", {"labelSelector": selector})
    elif kind == "Pods":
        answer = await _ask(
            reader,
            f"{_CUSTOM}/{namespace}/pods/*/{name}",
            {"labelSelector": pod_selector, "metricLabelSelector": selector},
        )
    else:
        described = section["describedObject"]
        path = f"{_CUSTOM}/{namespace}/{PLURAL}.{API_GROUP}/{described['name']}/{name}"
        if described["kind"] == "Namespace":
            path = f"{_CUSTOM}/{namespace}/metrics/{name}"
        answer = await _ask(reader, path, {"metricLabelSelector": selector})
    return Use(autoscaler, kind, section["target"], answer, pods)


async def _pod_selector(reader: Reader, namespace: str, target: Mapping[str, str]) -> str:
    path = _SCALED.get(target["kind"])
    if path is None:
        return ""
    try:
        scale = await reader.get(path.format(namespace, target["name"]))
    except KubernetesError as error:
        if error.code == 0:
            raise
        return ""
    return str((scale.get("status") or {}).get("selector") or "")


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector object as the autoscaler writes it into a query."""
    if not selector:
        return ""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression["key"], ",".join(expression.get("values") or ())
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[expression["operator"]]
        )
    return ",".join(sorted(parts))
