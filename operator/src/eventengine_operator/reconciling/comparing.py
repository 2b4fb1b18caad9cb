"""Whether a live object still is what its manifest says.

The live object has more fields than the manifest (defaults, status, other managers'),
so the manifest has to be contained in it. A field that left the manifest shows in the
hash annotation. An unnecessary "differs" costs one apply that changes nothing; a missed one
would leave drift in place, so doubt counts as different.
"""

from __future__ import annotations

from typing import Any, Final

from eventengine_operator.resources.objects import Object

LIST_KEYS: Final = ("uid", "name", "mountPath")
"""By which the API server merges the lists in our manifests, first that fits."""


def differs(manifest: Object, live: Object) -> bool:
    """Whether the manifest has to be applied."""
    return not _contains(live, manifest)


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
