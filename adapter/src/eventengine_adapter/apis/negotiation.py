"""Which representation a client takes: JSON, protobuf, or neither.

Owns the reading of Accept headers. As in the API server the best quality wins,
and the order of the header among equals; a wildcard means JSON. The autoscaler
asks for `application/vnd.kubernetes.protobuf, */*`. Documents (discovery,
OpenAPI, version) exist in JSON only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

JSON: Final = "application/json"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
AGGREGATED_DISCOVERY: Final = f"{JSON};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_DISCOVERY_PARAMETERS: Final = {"g": "apidiscovery.k8s.io", "v": "v2", "as": "APIGroupDiscoveryList"}
_RANGES_MAX: Final = 64
_REMEMBERED_MAX: Final = 64
"""Accept headers whose meaning is remembered; clients of Kubernetes send a few different ones."""


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One alternative of an Accept header."""

    type: str
    parameters: dict[str, str]
    quality: float

    @property
    def refused(self) -> bool:
        """Whether the client says that it doesn't take this."""
        return self.quality <= 0


def parse_accept(header: str) -> list[MediaRange]:
    """The alternatives in the order given; further ones than a client ever sends are ignored."""
    ranges = []
    for text in header.split(",")[:_RANGES_MAX]:
        name, *settings = [part.strip() for part in text.split(";")]
        parameters = {}
        for setting in settings:
            key, _, value = setting.partition("=")
            parameters[key.strip().lower()] = value.strip().strip('"')
        ranges.append(MediaRange(name.lower(), parameters, _quality(parameters.pop("q", "1"))))
    return ranges


def _quality(text: str) -> float:
    """The quality from 0 to 1; what is no number counts as 1, as in the API server."""
    try:
        return min(1.0, max(0.0, float(text))) if text.strip()[:1].isdigit() or text[:1] == "." else 1.0
    except ValueError:
        return 1.0


@lru_cache(_REMEMBERED_MAX)
def metric_media_type(header: str | None) -> str | None:
    """The media type to answer a metric query in, JSON or protobuf; None if the client takes neither."""
    if header is None or not header.strip():
        return JSON
    ranges = [found for found in parse_accept(header) if "as" not in found.parameters]
    refused = {found.type for found in ranges if found.refused}
    for found in sorted(ranges, key=lambda found: -found.quality):
        if found.refused:
            continue
        if found.type in {JSON, PROTOBUF}:
            return found.type
        if found.type in {"application/*", "*/*"} and not {JSON, PROTOBUF} <= refused:
            return PROTOBUF if JSON in refused else JSON
    return None


def takes_json(header: str | None) -> bool:
    """Whether plain JSON answers the request. `as=Table` and the like are other representations."""
    if header is None or not header.strip():
        return True
    ranges = parse_accept(header)
    if any(r.type == JSON and r.refused for r in ranges):
        return False
    return any(
        r.type in {JSON, "application/*", "*/*"} and "as" not in r.parameters and not r.refused
        for r in ranges
    )


def takes_aggregated_discovery(header: str | None) -> bool:
    """Whether the client would rather have all groups in one document."""
    return header is not None and any(
        r.type == JSON
        and not r.refused
        and all(r.parameters.get(key) == value for key, value in _DISCOVERY_PARAMETERS.items())
        for r in parse_accept(header)
    )
