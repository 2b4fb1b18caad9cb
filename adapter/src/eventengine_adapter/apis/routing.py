"""What a request is about, read from its path once.

The same `Route` decides who may ask (security.access_reviews) and what is
answered (app), so that the two can't understand a path differently. Segments
are decoded one by one after splitting: an encoded slash never makes a segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

EXTERNAL_GROUP: Final = "external.metrics.k8s.io"
CUSTOM_GROUP: Final = "custom.metrics.k8s.io"
VERSIONS: Final[dict[str, tuple[str, ...]]] = {
    EXTERNAL_GROUP: ("v1beta1",),
    CUSTOM_GROUP: ("v1beta2", "v1beta1"),
}
"""Groups and their versions, the preferred one first."""

_PATH_LENGTH_MAX: Final = 4096


class RouteKind(StrEnum):
    """What is asked for."""

    HEALTH = "health"
    VERSION = "version"
    GROUPS = "groups"
    GROUP = "group"
    RESOURCES = "resources"
    OPENAPI_V2 = "openapi-v2"
    OPENAPI_V3_ROOT = "openapi-v3-root"
    OPENAPI_V3 = "openapi-v3"
    EXTERNAL = "external"
    CUSTOM = "custom"
    NAMESPACE_METRIC = "namespace-metric"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Route:
    """One request's subject. Fields that its kind doesn't have are empty."""

    kind: RouteKind
    path: str
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    name: str = ""
    metric: str = ""

    @property
    def is_metric(self) -> bool:
        """Whether a metric is asked for, which is a resource of a group; all else is a plain path."""
        return self.kind in {RouteKind.EXTERNAL, RouteKind.CUSTOM, RouteKind.NAMESPACE_METRIC}


def resolve(raw_path: str) -> Route:
    """The subject of the path as it was sent, still percent-encoded and without its query."""
    segments = _decode(raw_path)
    if segments is None:
        return Route(RouteKind.UNKNOWN, raw_path[:_PATH_LENGTH_MAX])
    path = "/" + "/".join(segments)
    match segments:
        case ["healthz" | "livez" | "readyz"] | ["healthz" | "livez" | "readyz", _]:
            return Route(RouteKind.HEALTH, path)
        case ["openapi", *rest]:
            return _resolve_openapi(path, rest)
        case ["version"]:
            return Route(RouteKind.VERSION, path)
        case ["apis"]:
            return Route(RouteKind.GROUPS, path)
        case ["apis", group] if group in VERSIONS:
            return Route(RouteKind.GROUP, path, group)
        case ["apis", group, version, *rest] if version in VERSIONS.get(group, ()):
            return _resolve_in_group(path, group, version, rest)
    return Route(RouteKind.UNKNOWN, path)


def _decode(raw_path: str) -> list[str] | None:
    """The segments, or None where no name of Kubernetes could be meant by one of them."""
    if len(raw_path) > _PATH_LENGTH_MAX or not raw_path.startswith("/"):
        return None
    segments = []
    for raw in raw_path.strip("/").split("/"):
        try:
            segment = unquote(raw, errors="strict")
        except UnicodeDecodeError:
            return None
        if segment in {"", ".", ".."} or "/" in segment or "%" in segment or not segment.isprintable():
            return None
        segments.append(segment)
    return segments


def _resolve_openapi(path: str, rest: list[str]) -> Route:
    match rest:
        case ["v2"]:
            return Route(RouteKind.OPENAPI_V2, path)
        case ["v3"]:
            return Route(RouteKind.OPENAPI_V3_ROOT, path)
        case ["v3", "apis", group, version] if version in VERSIONS.get(group, ()):
            return Route(RouteKind.OPENAPI_V3, path, group, version)
    return Route(RouteKind.UNKNOWN, path)


def _resolve_in_group(path: str, group: str, version: str, rest: list[str]) -> Route:
    if not rest:
        return Route(RouteKind.RESOURCES, path, group, version)
    if group == EXTERNAL_GROUP:
        match rest:
            case ["namespaces", namespace, metric]:
                # The autoscaler's client writes external names in lower case, whatever the manifest says.
                name = metric.lower()
                return Route(RouteKind.EXTERNAL, path, group, version, namespace, resource=name, metric=name)
        return Route(RouteKind.UNKNOWN, path, group, version)
    match rest:
        case ["namespaces", namespace, "metrics", metric]:
            return Route(
                RouteKind.NAMESPACE_METRIC, path, group, version, namespace, "metrics", metric, metric
            )
        case ["namespaces", namespace, resource, name, metric]:
            return Route(RouteKind.CUSTOM, path, group, version, namespace, resource.lower(), name, metric)
        case [resource, name, metric]:
            return Route(RouteKind.CUSTOM, path, group, version, "", resource.lower(), name, metric)
    return Route(RouteKind.UNKNOWN, path, group, version)
