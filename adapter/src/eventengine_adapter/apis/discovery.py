"""What the adapter serves, told to the aggregation layer: legacy lists and aggregated discovery.

The documents depend on nothing but metric names: the contract's, those of the users' own endpoints (`further`), and the
external ones that are another adapter's (`others`). They never list no resources, because clients take an empty list
for a broken server.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from eventengine_contract.metric_names import METRICS

from .custom import ENGINES, NAMESPACES, PODS
from .negotiation import AGGREGATED_DISCOVERY, JSON
from .routing import CUSTOM_GROUP, EXTERNAL_GROUP, VERSIONS

_LIST_KINDS: Final = {EXTERNAL_GROUP: "ExternalMetricValueList", CUSTOM_GROUP: "MetricValueList"}
_DESCRIBED: Final = (PODS, ENGINES, NAMESPACES)
_CLUSTER_SCOPED: Final = frozenset({NAMESPACES})
_DOCUMENTS_REMEMBERED: Final = 8


@dataclass(frozen=True, slots=True)
class Document:
    """A body that seldom changes, and the hash that says when it did."""

    body: bytes
    etag: str
    content_type: str = JSON

    @classmethod
    def of(cls, content: dict[str, Any], content_type: str = JSON) -> Document:
        """The document with this content."""
        body = json.dumps(content, separators=(",", ":")).encode()
        return cls(body, hashlib.sha512(body).hexdigest().upper(), content_type)


def _group_object(group: str) -> dict[str, Any]:
    versions = [{"groupVersion": f"{group}/{version}", "version": version} for version in VERSIONS[group]]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def groups() -> Document:
    """`GET /apis`: the groups, without their resources."""
    return Document.of(
        {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group_object(group) for group in VERSIONS]}
    )


def group(name: str) -> Document:
    """`GET /apis/<group>`."""
    return Document.of({"kind": "APIGroup", "apiVersion": "v1", **_group_object(name)})


@lru_cache(_DOCUMENTS_REMEMBERED)
def resources(
    group_name: str, version: str, further: tuple[str, ...] = (), others: tuple[str, ...] = ()
) -> Document:
    """`GET /apis/<group>/<version>`: one entry per metric, those named besides among them; never one per series."""
    names = [("", name) for name in sorted({*METRICS, *further, *others})]
    if group_name == CUSTOM_GROUP:
        names = [
            (described, f"{described}/{name}")
            for described in _DESCRIBED
            for name in _metrics_of(described, further)
        ]
    return Document.of(
        {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group_name}/{version}",
            "resources": [
                {
                    "name": name,
                    "singularName": "",
                    "namespaced": described not in _CLUSTER_SCOPED,
                    "kind": _LIST_KINDS[group_name],
                    "verbs": ["get"],
                }
                for described, name in names
            ],
        }
    )


def _metrics_of(described: str, further: tuple[str, ...]) -> list[str]:
    ours = (name for name, metric in METRICS.items() if metric.of_pods or described != PODS)
    return sorted({*ours, *further})


@lru_cache(_DOCUMENTS_REMEMBERED)
def aggregated(further: tuple[str, ...] = (), others: tuple[str, ...] = ()) -> Document:
    """`GET /apis` as APIGroupDiscoveryList: every group, version and metric in one document."""
    return Document.of(
        {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": [
                {
                    "metadata": {"name": group_name},
                    "versions": [
                        {
                            "version": version,
                            "freshness": "Current",
                            "resources": _aggregated_resources(group_name, version, further, others),
                        }
                        for version in versions
                    ],
                }
                for group_name, versions in VERSIONS.items()
            ],
        },
        AGGREGATED_DISCOVERY,
    )


def _aggregated_resources(
    group_name: str, version: str, further: tuple[str, ...], others: tuple[str, ...]
) -> list[dict[str, Any]]:
    response = {"group": group_name, "version": version, "kind": _LIST_KINDS[group_name]}
    if group_name == EXTERNAL_GROUP:
        return [
            {
                "resource": name,
                "scope": "Namespaced",
                "singularResource": "",
                "verbs": ["get"],
                "responseKind": response,
            }
            for name in sorted({*METRICS, *further, *others})
        ]
    return [
        {
            "resource": described,
            "scope": "Cluster" if described in _CLUSTER_SCOPED else "Namespaced",
            "singularResource": "",
            "verbs": [],
            "responseKind": {"group": "", "version": "", "kind": ""},
            "subresources": [
                {"subresource": name, "verbs": ["get"], "responseKind": response}
                for name in _metrics_of(described, further)
            ],
        }
        for described in _DESCRIBED
    ]
