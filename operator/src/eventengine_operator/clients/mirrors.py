"""What the watches told last of the objects around EventEngines, so that a reconcile need not ask for it again.

Owns the newest known state of each object, as JSON text: read into objects, the same takes several times the memory.

Rules:
- A list replaces all that was known, so that no object outlives its end. A list from before what is known is refused.
- Nothing is taken back: an event or an answer counts only if it is newer than what is known of its object, and than
  what the watch has told of the kind. The API server orders the changes of a kind by their resource versions.
- A kind is answered for from the end of its list to the end of its watch. At any other time whoever asks has to list.
- What is known here is at most as old as the watch is late. It is good enough to see that nothing is to be done, and to
  apply what is declared. What takes anything away is decided on lists made for it (see `handlers/reconciler.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from eventengine_contract.well_known import LABEL_ENGINE

from eventengine_operator.resources.objects import (
    Object,
    labels_of,
    name_of,
    namespace_of,
    resource_version_of,
    text_at,
)

from .kubernetes_api import (
    AUTOSCALERS,
    CHILD_TYPES,
    PODS,
    REPLICA_SETS,
    STATEFUL_SETS,
    ResourceType,
)

MIRRORED: Final = (*CHILD_TYPES, STATEFUL_SETS, REPLICA_SETS, PODS, AUTOSCALERS)
"""Autoscalers whatever their labels, for others' count, too."""
OBJECTS_MAX: Final = 100_000
"""Of one kind. Where there are more the kind isn't answered for."""
WITHOUT_STATUS: Final = frozenset(
    {
        "configmaps",
        "services",
        "networkpolicies",
        "poddisruptionbudgets",
        "replicasets",
    }
)
"""Kinds of whose status nothing depends, so that a change of it alone is no news."""
DELETED: Final = "DELETED"
Place: TypeAlias = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One object: its version, the EventEngine whose label it carries, and itself."""

    version: int
    engine: str
    text: bytes


class Collection:
    """The objects of one kind, of one namespace or (empty) of all, as one watch tells of them."""

    def __init__(self, resource: ResourceType, namespace: str, objects_max: int = OBJECTS_MAX) -> None:
        self.resource = resource
        self.namespace = namespace
        self.is_by_engine = resource is not AUTOSCALERS
        self.version = 0
        """How far the watch has told."""
        self.is_current = False
        """Whether a watch runs that would have told of anything newer."""
        self._objects_max = objects_max
        self._kept: dict[Place, Kept] = {}
        self._names: dict[tuple[str, str], set[str]] = {}
        """By namespace and EventEngine; of kinds that aren't by EventEngine, by namespace."""

    def replace(self, version: int, found: dict[Place, Kept]) -> Iterator[tuple[str, Object]]:
        """Know what was listed, and only that; (type, object) of what the watch should have told of before.

        The objects are read one by one, when they are asked for.

        Raises:
            ValueError: the list is older than what is known already.
        """
        if version < self.version:
            raise ValueError(f"version {version} is older than {self.version}")
        is_first = self.version == 0
        changes: list[tuple[str, Kept]] = []
        for place in [*self._kept]:
            kept = self._kept[place]
            if place not in found and kept.version <= version:
                self._forget(place)
                changes.append((DELETED, kept))
        for place, kept in found.items():
            known = self._kept.get(place)
            if known is None or known.version < kept.version:
                self._keep(place, kept)
                changes.append(("MODIFIED", kept))
        self.version = version
        self.is_current = len(self._kept) <= self._objects_max
        return ((kind, json.loads(kept.text)) for kind, kept in changes if not is_first)

    def kept_of(self, items: Iterable[Object]) -> Iterator[tuple[Place, Kept]]:
        """Objects of a list, ready to be kept. What is known already isn't written down anew."""
        for item in items:
            place, version = (namespace_of(item), name_of(item)), _version_of(item)
            known = self._kept.get(place)
            yield place, known if known is not None and known.version == version else self._kept_of(item)

    def hear(self, kind: str, item: Object) -> bool:
        """A watch told of this; whether it is news to a reconcile."""
        version = _version_of(item)
        if version <= self.version:
            return False  # told before
        self.version = version
        place = (namespace_of(item), name_of(item))
        known = self._kept.get(place)
        if known is not None and known.version >= version:
            return False  # an answer said so before: it was the operator itself that wrote it
        if kind == DELETED:
            self._forget(place)
            return True
        self._keep(place, self._kept_of(item))
        if known is None or self.resource.plural not in WITHOUT_STATUS:
            return True
        return _without_status(json.loads(known.text)) != _without_status(item)

    def learn(self, item: Object) -> None:
        """A write was answered with this object. What the watch is past was told by it, maybe the object's end."""
        place, version = (namespace_of(item), name_of(item)), _version_of(item)
        known = self._kept.get(place)
        if version > self.version and (known is None or known.version < version):
            self._keep(place, self._kept_of(item))

    def list(self, namespace: str, engine: str | None) -> list[Object] | None:
        """The objects of an EventEngine (None: of the namespace); None where the answer has to be asked for."""
        if not self.is_current or (engine is not None) != self.is_by_engine:
            return None
        names = self._names.get((namespace, engine or ""), ())
        return [json.loads(self._kept[namespace, name].text) for name in sorted(names)]

    def _kept_of(self, item: Object) -> Kept:
        engine = labels_of(item).get(LABEL_ENGINE, "") if self.is_by_engine else ""
        return Kept(_version_of(item), engine, json.dumps(item, separators=(",", ":")).encode())

    def _keep(self, place: Place, kept: Kept) -> None:
        self._forget(place)
        self._kept[place] = kept
        self._names.setdefault((place[0], kept.engine), set()).add(place[1])
        if len(self._kept) > self._objects_max:
            self.is_current = False

    def _forget(self, place: Place) -> None:
        known = self._kept.pop(place, None)
        if known is None:
            return
        names = self._names[place[0], known.engine]
        names.discard(place[1])
        if not names:
            del self._names[place[0], known.engine]


class Mirror:
    """All collections of an operator."""

    def __init__(self, namespaces: tuple[str, ...] = ()) -> None:
        self.collections = {
            (resource.kind, namespace): Collection(resource, namespace)
            for resource in MIRRORED
            for namespace in namespaces or ("",)
        }
        self._is_of_all = not namespaces

    def list(self, resource: ResourceType, namespace: str, engine: str | None = None) -> list[Object] | None:
        """The objects of an EventEngine (None: of the namespace); None where the answer has to be asked for."""
        collection = self._collection(resource.kind, namespace)
        return collection.list(namespace, engine) if collection is not None else None

    def learn(self, written: Object) -> None:
        """A write was answered with this object."""
        collection = self._collection(text_at(written, "kind"), namespace_of(written))
        if collection is not None:
            collection.learn(written)

    def _collection(self, kind: str, namespace: str) -> Collection | None:
        return self.collections.get((kind, "" if self._is_of_all else namespace))


def _version_of(item: Object) -> int:
    """Resource versions are numbers, and grow: the Kubernetes API promises so since 1.35, and never did otherwise."""
    version = resource_version_of(item)
    return int(version) if version.isdecimal() else 0


def _without_status(item: Object) -> Object:
    told = ("resourceVersion", "managedFields")
    metadata = {key: value for key, value in item["metadata"].items() if key not in told}
    return {key: value for key, value in item.items() if key != "status"} | {"metadata": metadata}
