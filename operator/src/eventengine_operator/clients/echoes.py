"""The operator's own writes, as the watches will tell of them: no news, and no reason to reconcile.

An object's version is new with each write, so an event that carries the version which a write of ours was answered
with tells of that very write. Whatever anybody writes afterwards has another one. An event that comes before the answer
isn't recognised; it costs one reconcile.

Rule: only writes whose outcome a reconcile has taken into account are expected. Writing the replicas of an EventEngine
is none: it changes what is declared.
"""

from __future__ import annotations

from typing import Final

from eventengine_operator.resources.objects import Object, resource_version_of, uid_of

EXPECTED_MAX: Final = 10_000
Version = tuple[str, str]
"""An object's UID, and its resource version."""
NOBODYS: Final[Version] = ("", "")
"""Of an object that is gone."""


def version_of(source: Object) -> Version:
    """Which state of which object this is."""
    return uid_of(source), resource_version_of(source)


class Echoes:
    """The newest writes, up to a bound. Belongs to one event loop."""

    def __init__(self, expected_max: int = EXPECTED_MAX) -> None:
        self._expected_max = expected_max
        self._expected: dict[Version, None] = {}

    def expect(self, written: Object) -> None:
        """A write was answered with this object."""
        if len(self._expected) >= self._expected_max:
            del self._expected[next(iter(self._expected))]
        self._expected[version_of(written)] = None

    def is_echo(self, version: Version) -> bool:
        """Whether this is the state after a write of ours. It stays known: a watch may tell twice."""
        return version in self._expected
