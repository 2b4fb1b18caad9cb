"""OpenAPI of the three group versions, as version 2 and version 3 documents.

The aggregation layer fetches them again and again; without them it logs an
error a minute for ever, and where version 3 is missing it gives up on it.
"""

from __future__ import annotations

from typing import Any, Final

from .discovery import Document
from .negotiation import JSON, PROTOBUF
from .routing import CUSTOM_GROUP, EXTERNAL_GROUP, VERSIONS

_INFO: Final = {"title": "EventEngine metrics adapter", "version": "v1"}
_PACKAGES: Final = {EXTERNAL_GROUP: "external_metrics", CUSTOM_GROUP: "custom_metrics"}
_KINDS: Final[dict[str, tuple[str, str]]] = {
    EXTERNAL_GROUP: ("ExternalMetricValueList", "ExternalMetricValue"),
    CUSTOM_GROUP: ("MetricValueList", "MetricValue"),
}
_TIMESTAMP: Final = {
    "type": "string",
    "format": "date-time",
    "description": "Second on which the sample was closed, in the engine.",
}
_QUANTITY: Final = {"type": "string", "description": "The value, as a quantity."}
_WINDOW: Final = {
    "type": "integer",
    "format": "int64",
    "description": "Seconds before the timestamp that the value covers; 0 for that instant.",
}
_TEXT_MAP: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_PATHS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    EXTERNAL_GROUP: {"namespaces/{namespace}/{metric}": ("namespace", "metric")},
    CUSTOM_GROUP: {
        "namespaces/{namespace}/{resource}/{name}/{metric}": ("namespace", "resource", "name", "metric"),
        "namespaces/{namespace}/metrics/{metric}": ("namespace", "metric"),
    },
}


def _item_properties(group: str, version: str) -> dict[str, Any]:
    if group == EXTERNAL_GROUP:
        return {
            "metricName": {"type": "string", "description": "Name of the metric."},
            "metricLabels": {**_TEXT_MAP, "description": "Labels of this item."},
            "timestamp": _TIMESTAMP,
            "window": _WINDOW,
            "value": _QUANTITY,
        }
    described = {**_TEXT_MAP, "description": "The object that the value is about."}
    selector = {
        "type": "object",
        "nullable": True,
        "description": "The selector over the metric's labels that was asked with; null for none.",
    }
    if version == "v1beta1":
        return {
            "describedObject": described,
            "metricName": {"type": "string", "description": "Name of the metric."},
            "timestamp": _TIMESTAMP,
            "window": _WINDOW,
            "value": _QUANTITY,
            "selector": selector,
        }
    metric = {
        "type": "object",
        "description": "The metric.",
        "properties": {"name": {"type": "string"}, "selector": selector},
    }
    return {
        "describedObject": described,
        "metric": metric,
        "timestamp": _TIMESTAMP,
        "windowSeconds": _WINDOW,
        "value": _QUANTITY,
    }


def _schemas(group: str, version: str, reference_prefix: str) -> dict[str, Any]:
    list_kind, item_kind = _KINDS[group]
    package = f"io.k8s.metrics.pkg.apis.{_PACKAGES[group]}.{version}"
    return {
        f"{package}.{item_kind}": {
            "type": "object",
            "description": "One value of a metric.",
            "required": ["timestamp", "value"],
            "properties": _item_properties(group, version),
            "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": item_kind}],
        },
        f"{package}.{list_kind}": {
            "type": "object",
            "description": "Values of a metric.",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string", "description": "Group and version."},
                "kind": {"type": "string", "description": "Kind of this object."},
                "metadata": {"type": "object", "description": "Always empty."},
                "items": {
                    "type": "array",
                    "description": "The values.",
                    "items": {"$ref": f"{reference_prefix}{package}.{item_kind}"},
                },
            },
            "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": list_kind}],
        },
    }


def _operation(group: str, version: str, names: tuple[str, ...]) -> dict[str, Any]:
    camel = _PACKAGES[group].title().replace("_", "") + version.title()
    of_namespace = group == CUSTOM_GROUP and "resource" not in names
    return {
        "description": "Read the values of one metric.",
        "operationId": f"list{camel}{'OfNamespace' if of_namespace else ''}",
        "tags": [camel],
        "x-kubernetes-action": "list",
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": _KINDS[group][1]},
    }


def _queries(group: str) -> list[str]:
    return ["labelSelector"] if group == EXTERNAL_GROUP else ["labelSelector", "metricLabelSelector"]


def _list_reference(group: str, version: str, prefix: str) -> dict[str, str]:
    return {"$ref": f"{prefix}io.k8s.metrics.pkg.apis.{_PACKAGES[group]}.{version}.{_KINDS[group][0]}"}


def version_2() -> Document:
    """`GET /openapi/v2`: all group versions in one document."""
    prefix = "#/definitions/"
    paths: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for group, versions in VERSIONS.items():
        for version in versions:
            definitions |= _schemas(group, version, prefix)
            for path, names in _PATHS[group].items():
                paths[f"/apis/{group}/{version}/{path}"] = {
                    "get": {
                        **_operation(group, version, names),
                        "produces": [JSON, PROTOBUF],
                        "schemes": ["https"],
                        "responses": {
                            "200": {"description": "OK", "schema": _list_reference(group, version, prefix)},
                            "401": {"description": "Unauthorized"},
                        },
                    },
                    "parameters": [
                        *({"name": n, "in": "path", "type": "string", "required": True} for n in names),
                        *({"name": n, "in": "query", "type": "string"} for n in _queries(group)),
                    ],
                }
    return Document.of({"swagger": "2.0", "info": _INFO, "paths": paths, "definitions": definitions})


def version_3(group: str, version: str) -> Document:
    """`GET /openapi/v3/apis/<group>/<version>`."""
    prefix = "#/components/schemas/"
    paths: dict[str, Any] = {
        f"/apis/{group}/{version}/{path}": {
            "get": {
                **_operation(group, version, names),
                "responses": {
                    "200": {
                        "description": "OK",
                        "content": {
                            media_type: {"schema": _list_reference(group, version, prefix)}
                            for media_type in (JSON, PROTOBUF)
                        },
                    },
                    "401": {"description": "Unauthorized"},
                },
            },
            "parameters": [
                *(
                    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                    for name in names
                ),
                *({"name": name, "in": "query", "schema": {"type": "string"}} for name in _queries(group)),
            ],
        }
        for path, names in _PATHS[group].items()
    }
    schemas = _schemas(group, version, prefix)
    return Document.of(
        {"openapi": "3.0.0", "info": _INFO, "paths": paths, "components": {"schemas": schemas}}
    )


def version_3_root() -> Document:
    """`GET /openapi/v3`: where the documents of the group versions are, with the hash of each."""
    paths = {
        f"apis/{group}/{version}": {
            "serverRelativeURL": f"/openapi/v3/apis/{group}/{version}?hash={version_3(group, version).etag}"
        }
        for group, versions in VERSIONS.items()
        for version in versions
    }
    return Document.of({"paths": paths})
