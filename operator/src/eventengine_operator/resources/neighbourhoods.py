"""What an EventEngine would meet in its cluster, as far as it was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eventengine_contract.quantities import parse_quantity_millis

from .objects import Object, labels_of, mapping_at


@dataclass(frozen=True)
class Node:
    """What a node has to give."""

    labels: Mapping[str, str]
    cpus_millis: int
    memory_millibytes: int


@dataclass(frozen=True)
class Neighbourhood:
    """What was found; empty where nothing was, or nobody could look."""

    secrets: Mapping[str, str | None]
    """Versions by name, as `missing_secrets` reads them; None where one could not be looked at."""
    autoscalers: tuple[Object, ...] = ()
    scaled_objects: tuple[Object, ...] = ()
    nodes: tuple[Node, ...] = ()
    missing_classes: tuple[tuple[str, str], ...] = ()
    """(path in the spec, kind and name) of each class that is named and doesn't exist."""


def node_of(source: Object) -> Node:
    """Read a Node; what can't be read is nothing to give."""
    allocatable = mapping_at(source, "status", "allocatable")
    return Node(labels_of(source), _millis(allocatable.get("cpu")), _millis(allocatable.get("memory")))


def _millis(quantity: object) -> int:
    try:
        return parse_quantity_millis(quantity)
    except ValueError:
        return 0
