"""The chart as the real Helm renders it, and ways to find things in that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from eventengine_contract import well_known
from eventengine_harness import builds
from eventengine_harness.running import run

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "eventengine"
EVERYTHING = (
    "{adapter: {replicas: 2}, operator: {replicas: 2, canarySeconds: 60}, networkPolicy: {enabled: true}, "
    "webhook: {enabled: true, replicas: 2}}"
)
"""Values that turn everything on."""


def template(*, major: int = 4, values: str = "") -> str:
    command = [
        builds.helm(major),
        *("template", "eventengine", CHART, "--namespace", well_known.SYSTEM_NAMESPACE),
        *("--kube-version", "1.29.0", "--values", "-"),
    ]
    return run(command, stdin=values or "{}")


def render(*, major: int = 4, values: str = "") -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all(template(major=major, values=values)) if item]


def nested(path: str, value: str) -> str:
    """YAML that sets the value at a dotted path."""
    keys = path.split(".")
    lines = ["  " * depth + f"{key}:" for depth, key in enumerate(keys)]
    return "\n".join(lines) + f" {value}\n"


def merged(settings: Mapping[str, str]) -> str:
    result: dict[str, Any] = {}
    for path, value in settings.items():
        here = result
        *parents, last = path.split(".")
        for key in parents:
            here = here.setdefault(key, {})
        here[last] = yaml.safe_load(value)
    return yaml.safe_dump(result)


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pod templates by the name of their owner."""
    return {
        item["metadata"]["name"]: item["spec"]["template"]
        for item in objects
        if item["kind"] in {"Deployment", "Job"}
    }


def environment(objects: list[dict[str, Any]], owner: str) -> dict[str, str]:
    """The variables of a component's container; those that the pod fills in have one stand-in value."""
    (container,) = pods(objects)[owner]["spec"]["containers"]
    return {item["name"]: item.get("value", "from-the-pod") for item in container["env"]}


def rules(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in objects:
        if item["kind"] in {"ClusterRole", "Role"}:
            for rule in item["rules"]:
                yield f"{item['kind']} {item['metadata']['name']}", rule
