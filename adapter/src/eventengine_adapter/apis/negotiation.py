"""Which representation a client takes: JSON, or nothing.

Owns the reading of Accept headers. The autoscaler asks for
`application/vnd.kubernetes.protobuf, */*` and is content with JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

JSON: Final = "application/json"
AGGREGATED_DISCOVERY: Final = f"{JSON};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_DISCOVERY_PARAMETERS: Final = {"g": "apidiscovery.k8s.io", "v": "v2", "as": "APIGroupDiscoveryList"}
_RANGES_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One alternative of an Accept header."""

    type: str
    parameters: dict[str, str]
    refused: bool


def parse_accept(header: str) -> list[MediaRange]:
    """The alternatives in the order given; further ones than a client ever sends are ignored."""
    ranges = []
    for text in header.split(",")[:_RANGES_MAX]:
        name, *settings = [part.strip() for part in text.split(";")]
        parameters = {}
        for setting in settings:
            key, _, value = setting.partition("=")
            parameters[key.strip().lower()] = value.strip().strip('"')
        quality = parameters.pop("q", "1")
        ranges.append(MediaRange(name.lower(), parameters, _is_zero(quality)))
    return ranges


def _is_zero(quality: str) -> bool:
    return quality.strip("0") in {"", "."} and quality != ""


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
