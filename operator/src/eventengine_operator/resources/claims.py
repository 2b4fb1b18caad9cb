"""The claims that a StatefulSet made for an engine's pods, one for each ordinal that ever was."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from eventengine_contract.well_known import ANNOTATION_LOG_EMPTY

from .engines import DATA_VOLUME_NAME
from .objects import Object, annotations_of, is_being_deleted, name_of, resource_version_of, uid_of
from .pods import ordinal_of


@dataclass(frozen=True)
class Claim:
    """One PersistentVolumeClaim. `is_marked`: the last pod that used it reported an empty log as it went."""

    name: str
    ordinal: int
    uid: str
    resource_version: str
    is_marked: bool


def claims_of(engine_name: str, objects: Iterable[Object]) -> tuple[Claim, ...]:
    """The claims among these objects that are this engine's by name, in the order of their ordinals."""
    found = []
    for item in objects:
        ordinal = ordinal_of(name_of(item))
        if ordinal is None or name_of(item) != claim_name(engine_name, ordinal) or is_being_deleted(item):
            continue
        marked = bool(annotations_of(item).get(ANNOTATION_LOG_EMPTY))
        found.append(Claim(name_of(item), ordinal, uid_of(item), resource_version_of(item), marked))
    return tuple(sorted(found, key=lambda claim: claim.ordinal))


def claim_name(engine_name: str, ordinal: int) -> str:
    """As the StatefulSet controller names it."""
    return f"{DATA_VOLUME_NAME}-{engine_name}-{ordinal}"
