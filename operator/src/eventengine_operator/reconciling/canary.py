"""The canary's beats: written to an EventEngine that means nothing, and heard of again or not. Pure.

A beat is answered once a watch told of it and a reconcile read it afterwards, be it this one or a later one: an
operator with much to do answers late, and is alive. A beat that couldn't be written counts for nothing, for then it
is the API server that is out of reach, which a new process wouldn't change.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from eventengine_contract.well_known import (
    ANNOTATION_CANARY_BEAT,
    API_GROUP,
    API_VERSION,
    CANARY,
    KIND,
    LABEL_CANARY,
    LABEL_COMPONENT,
    LABEL_NAME,
    PART_NAME,
)

from eventengine_operator.resources.objects import Object, annotations_of, labels_of, name_of

UNANSWERED_MAX: Final = 5
"""With more beats in a row unanswered the path from watch to reconcile is dead."""
BEATS_KEPT_MAX: Final = 64


def canary(namespace: str, beat: str, owner: Object | None) -> Object:
    """The EventEngine `eventengine-canary`, of which nothing is made."""
    return {
        "apiVersion": f"{API_GROUP}/{API_VERSION}",
        "kind": KIND,
        "metadata": {
            "name": CANARY,
            "namespace": namespace,
            "labels": {LABEL_NAME: PART_NAME, LABEL_COMPONENT: "canary", LABEL_CANARY: "true"},
            "annotations": {ANNOTATION_CANARY_BEAT: beat},
            **({"ownerReferences": [owner]} if owner is not None else {}),
        },
        "spec": {"replicas": 0, "pod": {"pinning": "Off"}, "autoscaling": {"driver": "none"}},
    }


def is_canary(source: Object) -> bool:
    """Whether this EventEngine is an operator's canary, ours or a former one's."""
    return name_of(source) == CANARY and labels_of(source).get(LABEL_CANARY) == "true"


def beat_of(source: Object) -> str:
    """The beat that the canary carries."""
    return annotations_of(source).get(ANNOTATION_CANARY_BEAT, "")


class Beats:
    """The beats of one process. Not for use by several threads."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._count = 0
        self._written: OrderedDict[str, float] = OrderedDict()
        """Unanswered beats and when they were written, oldest first."""
        self._told = 0
        """Number of the last beat that a watch told of."""
        self.last_seconds: float | None = None
        """How long the last answered beat took."""

    def next(self, now_seconds: float) -> str:
        """A new beat, about to be written."""
        self._count += 1
        beat = f"{self._process}-{self._count}"
        self._written[beat] = now_seconds
        while len(self._written) > BEATS_KEPT_MAX:
            self._written.popitem(last=False)
        return beat

    def not_written(self, beat: str) -> None:
        """The API server didn't take it."""
        self._written.pop(beat, None)

    def told(self, beat: str) -> None:
        """A watch told of it."""
        self._told = max(self._told, self._number_of(beat))

    def reconciled(self, beat: str, now_seconds: float) -> None:
        """A reconcile read it."""
        number = self._number_of(beat)
        if not number or not self._told:
            return
        for written in list(self._written):
            if self._number_of(written) <= min(number, self._told):
                self.last_seconds = now_seconds - self._written.pop(written)

    @property
    def unanswered(self) -> int:
        """Beats in a row that were written and not heard of again."""
        return len(self._written)

    @property
    def are_dead(self) -> bool:
        """Whether the path from watch to reconcile is."""
        return self.unanswered > UNANSWERED_MAX

    def _number_of(self, beat: str) -> int:
        process, _, number = beat.rpartition("-")
        return int(number) if process == self._process and number.isdecimal() else 0
