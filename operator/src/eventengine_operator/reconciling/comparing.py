"""Whether a live object still is what its manifest says.

The live object has more fields than the manifest (defaults, status, other managers'),
so the manifest has to be contained in it. A field that left the manifest shows in the
hash annotation. An unnecessary "differs" costs one apply that changes nothing; a missed one
would leave drift in place, so doubt counts as different.

What users write in pods' own words the API server may store in others: 1024Mi as 1Gi, an empty text not at all. That
shows when its answer to an apply still differs, and is remembered for as long as the operator lives.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from eventengine_operator.manifests.metadata import content_hash
from eventengine_operator.resources.objects import Object

LIST_KEYS: Final = ("uid", "name", "mountPath")
"""By which the API server merges the lists in our manifests, first that fits."""

SPELLINGS_MAX: Final = 10_000


class Spellings:
    """What the API server made of manifests that it stores in other words."""

    def __init__(self, kept_max: int = SPELLINGS_MAX) -> None:
        self._kept_max = kept_max
        self._known: OrderedDict[str, None] = OrderedDict()

    def learn(self, manifest: Object, answer: Object) -> None:
        """The manifest was applied, and this is what it is stored as."""
        if differs(manifest, answer):
            self._known[_spelling(manifest, answer)] = None
            if len(self._known) > self._kept_max:
                self._known.popitem(last=False)

    def cover(self, manifest: Object, live: Object) -> bool:
        """Whether applying the manifest once led to just what there is."""
        return _spelling(manifest, live) in self._known


def differs(manifest: Object, live: Object) -> bool:
    """Whether the manifest has to be applied."""
    return not _contains(live, manifest)


def _spelling(manifest: Object, live: Object) -> str:
    return content_hash([manifest, _at_the_places_of(manifest, live)])


def _at_the_places_of(wanted: Any, live: Any) -> Any:
    """What the live object has where the manifest says something. Lists are taken whole."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return {key: _at_the_places_of(value, live.get(key)) for key, value in wanted.items()}
    return live


def _contains(live: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            _contains(live.get(key), value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(live, list) and _contains_list(live, wanted)
    return type(live) is type(wanted) and bool(live == wanted)


def _contains_list(live: list[Any], wanted: list[Any]) -> bool:
    for key in LIST_KEYS:
        if wanted and all(isinstance(item, dict) and key in item for item in wanted):
            by_key = {item.get(key): item for item in live if isinstance(item, dict)}
            return all(_contains(by_key.get(item[key]), item) for item in wanted)
    return len(live) == len(wanted) and all(map(_contains, live, wanted))
