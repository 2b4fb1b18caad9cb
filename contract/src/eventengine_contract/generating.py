"""Generated files: the CRD and the JSON Schema of engine.yaml, out of the pydantic models.

Owns the translation of pydantic's JSON Schema into a structural CRD schema: references
resolved, nulls dropped, only keywords that Kubernetes knows, and below `spec.engine` both
spellings of every key. Pure: returns texts; `__main__` writes or compares them.
"""

from __future__ import annotations

import json
from typing import Any, Final

import yaml
from pydantic.alias_generators import to_snake

from .alerts import ALERTS
from .engine_config import EngineConfig
from .event_engine import ENGINE_NAME_LENGTH_MAX, EventEngineSpec, EventEngineStatus
from .metric_names import METRICS
from .modelling import validation
from .well_known import API_GROUP, API_VERSION, KIND, PLURAL, SHORT_NAME

KEPT_KEYWORDS: Final = frozenset(
    {
        "additionalProperties",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "multipleOf",
        "pattern",
        "properties",
        "required",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
    }
)
NOTICE: Final = "Generated from contract/ by `make update`. Do not edit."
CRD_PATH: Final = "charts/eventengine/templates/crds/eventengines.yaml"
SCHEMA_PATH: Final = "docs/reference/engine.schema.json"
METRICS_PATH: Final = "docs/reference/metrics.md"


def generated_files() -> dict[str, str]:
    """Path relative to the repository's root → content, of every generated file."""
    return {CRD_PATH: crd_template(), SCHEMA_PATH: engine_schema(), METRICS_PATH: metrics_page()}


def engine_schema() -> str:
    """The JSON Schema of engine.yaml, for editors."""
    schema = EngineConfig.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$comment"] = NOTICE
    return json.dumps(_without_kubernetes(schema), indent=2, sort_keys=True) + "\n"


def metrics_page() -> str:
    """The tables of metrics in the Kubernetes APIs and of alerts."""
    rows = [
        f"| `{metric.name}` | {metric.unit} | {metric.aggregation.value} | {metric.age_seconds_max} s "
        f"| {metric.description} |"
        for metric in METRICS.values()
    ]
    head = ["| metric | unit | external answer | maximum age | meaning |", "|---|---|---|---|---|"]
    alerts = [f"| `{alert.name}` | `{alert.key}` | {alert.description} |" for alert in ALERTS.values()]
    return "\n".join(
        [
            f"<!-- {NOTICE} -->",
            "# Metrics in the Kubernetes APIs",
            "",
            *head,
            *rows,
            "",
            "## Alerts",
            "Counted by each engine as `eventengine_alerts_total{alert=…}`, logged, and shown in its snapshot.",
            "",
            "| alert | limit | meaning |",
            "|---|---|---|",
            *alerts,
            "",
        ]
    )


def crd_template() -> str:
    """The CRD as a template of the chart, kept over uninstalls where the values say so."""
    document = yaml.safe_dump(crd(), sort_keys=False, width=110, allow_unicode=True)
    annotations = (
        "  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n"
    )
    head, marker, tail = document.partition(f"  name: {PLURAL}.{API_GROUP}\n")
    escaped = tail.replace("{{", "{{ `{{` }}")
    return f"# {NOTICE}\n{{{{- if .Values.crds.enabled }}}}\n{head}{marker}{annotations}{escaped}{{{{- end }}}}\n"


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition of EventEngine."""
    columns = [
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
        ("Replicas", "integer", ".status.readyReplicas", 0),
        ("Desired", "integer", ".status.replicas", 0),
        ("CPUs", "string", ".spec.pod.cpus", 0),
        ("Pinned", "integer", ".status.pinning.satisfied", 0),
        ("Status", "string", ".status.message", 0),
        ("Image", "string", ".spec.image", 1),
        ("Age", "date", ".metadata.creationTimestamp", 0),
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{API_GROUP}"},
        "spec": {
            "group": API_GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": [SHORT_NAME],
                "categories": ["eventengine"],
            },
            "versions": [
                {
                    "name": API_VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path}
                        | ({"priority": priority} if priority else {})
                        for name, kind, path, priority in columns
                    ],
                    "schema": {"openAPIV3Schema": _resource_schema()},
                }
            ],
        },
    }


def _resource_schema() -> dict[str, Any]:
    spec = _structural(EventEngineSpec.model_json_schema(by_alias=True))
    spec["properties"]["engine"] = _with_both_spellings(spec["properties"]["engine"])
    status = _structural(EventEngineStatus.model_json_schema(by_alias=True, mode="validation"))
    conditions = status["properties"]["conditions"]
    conditions["x-kubernetes-list-type"] = "map"
    conditions["x-kubernetes-list-map-keys"] = ["type"]
    return {
        "type": "object",
        "description": "A low-latency event engine: what it consumes, computes and emits, and the pods that run it.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": [
            validation(
                f"size(self.metadata.name) <= {ENGINE_NAME_LENGTH_MAX}",
                f"the name may have at most {ENGINE_NAME_LENGTH_MAX} characters",
            ),
            validation(
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "the name must begin with a letter and hold only lower-case letters, digits and dashes: "
                "Services are called after it",
            ),
        ],
    }


def _structural(schema: dict[str, Any]) -> dict[str, Any]:
    definitions = schema.get("$defs", {})

    def convert(node: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in node:
            referred = definitions[node["$ref"].rsplit("/", 1)[1]]
            node = referred | {key: value for key, value in node.items() if key != "$ref"}
        if "anyOf" in node:
            (only,) = (option for option in node["anyOf"] if option.get("type") != "null")
            outer = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
            return convert(only | outer)
        node = dict(node)
        if "const" in node:
            node["enum"] = [node.pop("const")]
            node.setdefault("type", {str: "string", int: "integer", bool: "boolean"}[type(node["enum"][0])])
        result = {key: value for key, value in node.items() if key in KEPT_KEYWORDS}
        if "properties" in node:
            result["properties"] = {name: convert(child) for name, child in node["properties"].items()}
            result.pop("additionalProperties", None)
        elif isinstance(node.get("additionalProperties"), dict):
            result["additionalProperties"] = convert(node["additionalProperties"])
        elif node.get("x-kubernetes-preserve-unknown-fields"):
            result.pop("additionalProperties", None)
        if "items" in node:
            result["items"] = convert(node["items"])
        if result.get("default") in ({}, [], None) or result.get("type") == "object":
            result.pop("default", None)
        return result

    return convert(schema)


def _with_both_spellings(node: dict[str, Any]) -> dict[str, Any]:
    """Below `spec.engine`: accept snake_case beside camelCase, and leave all defaults to the engine."""
    node = {key: value for key, value in node.items() if key != "default"}
    if isinstance(node.get("additionalProperties"), dict):
        node["additionalProperties"] = _with_both_spellings(node["additionalProperties"])
    if "items" in node:
        node["items"] = _with_both_spellings(node["items"])
    if "properties" not in node:
        return node
    properties: dict[str, Any] = {}
    rules = list(node.get("x-kubernetes-validations", []))
    required = []
    for name, child in node["properties"].items():
        properties[name] = _with_both_spellings(child)
        snake = to_snake(name)
        if snake == name:
            required += [name] if name in node.get("required", []) else []
            continue
        properties[snake] = properties[name] | {"description": f"The same as {name}."}
        if name in node.get("required", []):
            rules.append(validation(f"has(self.{name}) || has(self.{snake})", f"{name} is required"))
    node["properties"] = properties
    node.pop("required", None)
    if required:
        node["required"] = required
    if rules:
        node["x-kubernetes-validations"] = rules
    return node


def _without_kubernetes(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _without_kubernetes(value)
            for key, value in node.items()
            if not key.startswith("x-kubernetes")
        }
    return [_without_kubernetes(item) for item in node] if isinstance(node, list) else node
