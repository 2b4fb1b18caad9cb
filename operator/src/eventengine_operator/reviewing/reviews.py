"""AdmissionReview: what the API server asks, and what it is told. Pure.

Refused is a spec with a fault, unless the stored one has the very same: whoever finds an EventEngine broken must be
able to mend it in steps. A warning never stands in the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eventengine_contract.well_known import API_GROUP, PLURAL

from eventengine_operator.resources.engines import Engine, read_engine
from eventengine_operator.resources.objects import Object, mapping_at, text_at

REVIEW_VERSION: Final = "admission.k8s.io/v1"
UNPROCESSABLE: Final = 422
WARNINGS_MAX: Final = 8
WARNING_CHARACTERS_MAX: Final = 250
"""The API server cuts warnings off at 256 bytes once there are many of them."""
MESSAGE_CHARACTERS_MAX: Final = 4096


class ReviewError(ValueError):
    """What was sent is no question that could be answered."""


@dataclass(frozen=True)
class Review:
    """One question."""

    uid: str
    engine: Engine
    stored: Engine | None
    """What an update would replace; None for a new one."""

    @property
    def faults(self) -> tuple[str, ...]:
        """What the stored EventEngine didn't have wrong before."""
        known = set(self.stored.faults) if self.stored is not None else set()
        return tuple(str(fault) for fault in self.engine.faults if fault not in known)

    @property
    def old_faults(self) -> tuple[str, ...]:
        """What it has wrong as before."""
        fresh = set(self.faults)
        return tuple(text for text in map(str, self.engine.faults) if text not in fresh)


def read_review(document: object) -> Review:
    """The question in an AdmissionReview.

    Raises:
        ReviewError: it is none, or about something else.
    """
    source = document if isinstance(document, dict) else {}
    request = mapping_at(source, "request")
    resource = mapping_at(request, "resource")
    uid, new = text_at(request, "uid"), mapping_at(request, "object")
    if text_at(source, "apiVersion") != REVIEW_VERSION or not uid:
        raise ReviewError(f"this is no AdmissionReview of {REVIEW_VERSION}")
    if (text_at(resource, "group"), text_at(resource, "resource")) != (API_GROUP, PLURAL) or not new:
        raise ReviewError(f"only {PLURAL}.{API_GROUP} are reviewed here")
    old = mapping_at(request, "oldObject")
    return Review(
        uid, read_engine(_placed(new, request)), read_engine(_placed(old, request)) if old else None
    )


def _placed(item: Object, request: Object) -> Object:
    """With the namespace, which an object that isn't stored yet may leave out."""
    metadata = mapping_at(item, "metadata")
    return item | {"metadata": {"namespace": text_at(request, "namespace")} | metadata}


def answer(uid: str, faults: Sequence[str], warnings: Sequence[str]) -> Object:
    """The AdmissionReview that answers."""
    response: Object = {"uid": uid, "allowed": not faults}
    if faults:
        message = "; ".join(faults)[:MESSAGE_CHARACTERS_MAX]
        response["status"] = {"code": UNPROCESSABLE, "reason": "Invalid", "message": message}
    shown = [text[:WARNING_CHARACTERS_MAX] for text in warnings[:WARNINGS_MAX]]
    if shown:
        response["warnings"] = shown
    return {"apiVersion": REVIEW_VERSION, "kind": "AdmissionReview", "response": response}
