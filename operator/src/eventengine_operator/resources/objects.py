"""Plain Kubernetes objects: access to the fields that every object has.

Objects are dicts as the API server sends them. A field of the wrong shape reads as absent,
so that one odd object in a list never stops the work on all the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]


@dataclass(frozen=True, order=True)
class Reference:
    """Kind and name of an object within a namespace that is known from elsewhere."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def mapping_at(source: Object, *path: str) -> Object:
    """The mapping at `path`, or an empty one."""
    current: Any = source
    for key in path:
        current = current.get(key) if isinstance(current, dict) else None
    return current if isinstance(current, dict) else {}


def list_at(source: Object, *path: str) -> list[Object]:
    """The mappings of the list at `path`, or none."""
    current = mapping_at(source, *path[:-1]).get(path[-1])
    return [item for item in current if isinstance(item, dict)] if isinstance(current, list) else []


def text_at(source: Object, *path: str) -> str:
    """The text at `path`, or an empty one."""
    current = mapping_at(source, *path[:-1]).get(path[-1])
    return current if isinstance(current, str) else ""


def number_at(source: Object, *path: str) -> int:
    """The integer at `path`, or 0."""
    current = mapping_at(source, *path[:-1]).get(path[-1])
    return current if isinstance(current, int) else 0


def optional_number_at(source: Object, *path: str) -> int | None:
    """The integer at `path`, or None."""
    current = mapping_at(source, *path[:-1]).get(path[-1])
    return current if isinstance(current, int) and not isinstance(current, bool) else None


def name_of(source: Object) -> str:
    """metadata.name."""
    return text_at(source, "metadata", "name")


def namespace_of(source: Object) -> str:
    """metadata.namespace."""
    return text_at(source, "metadata", "namespace")


def uid_of(source: Object) -> str:
    """metadata.uid."""
    return text_at(source, "metadata", "uid")


def resource_version_of(source: Object) -> str:
    """metadata.resourceVersion."""
    return text_at(source, "metadata", "resourceVersion")


def generation_of(source: Object) -> int:
    """metadata.generation."""
    return number_at(source, "metadata", "generation")


def labels_of(source: Object) -> dict[str, str]:
    """metadata.labels."""
    return {
        key: value for key, value in mapping_at(source, "metadata", "labels").items() if value is not None
    }


def annotations_of(source: Object) -> dict[str, str]:
    """metadata.annotations."""
    return {
        key: value
        for key, value in mapping_at(source, "metadata", "annotations").items()
        if isinstance(value, str)
    }


def reference_of(source: Object) -> Reference:
    """Kind and name."""
    return Reference(text_at(source, "kind"), name_of(source))


def is_being_deleted(source: Object) -> bool:
    """Whether the API server has begun to delete the object."""
    return bool(text_at(source, "metadata", "deletionTimestamp"))


def controller_uid_of(source: Object) -> str:
    """UID of the owner that controls the object, or an empty text."""
    return text_at(controller_of(source), "uid")


def controller_of(source: Object) -> Object:
    """The reference to the owner that controls the object, or an empty mapping."""
    for owner in list_at(source, "metadata", "ownerReferences"):
        if owner.get("controller") is True:
            return owner
    return {}


def condition_of(source: Object, condition_type: str) -> Object:
    """The entry of status.conditions with that type, or an empty mapping."""
    for condition in list_at(source, "status", "conditions"):
        if condition.get("type") == condition_type:
            return condition
    return {}


def field_managers_of(source: Object, *path: str) -> set[tuple[str, str]]:
    """(manager, operation) of everyone who owns the field at `path`, by managedFields."""
    owners = set()
    for entry in list_at(source, "metadata", "managedFields"):
        current: Any = mapping_at(entry, "fieldsV1")
        for key in path:
            current = current.get(f"f:{key}") if isinstance(current, dict) else None
        if current is not None:
            owners.add((text_at(entry, "manager"), text_at(entry, "operation")))
    return owners
