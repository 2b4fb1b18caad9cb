"""What a watch tells of many objects: the value that matters of each, and when it came to be that.

Owns the clock of the operator's rows: an instant is when the watch's event was read, on the monotonic clock.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.exceptions import DeadlineError, RequestError
from eventengine_harness.waiting import wait_for

Object = Mapping[str, Any]
Key = tuple[str, str]
"""Namespace and name."""
PAGE_OBJECTS: Final = 500


@dataclass(frozen=True)
class Sighting:
    """The latest state of an object: its version, the value, and since when that is the value."""

    version: int
    value: object
    since_seconds: float


@dataclass(frozen=True)
class Wanted:
    """A value, in this version of the object or a later one."""

    value: object
    version: int = 0


class Sightings:
    """The objects of one kind in all namespaces. Ends with the process, or with the API server."""

    def __init__(
        self, access: KubernetesAccess, kind: str, selector: str, value_of: Callable[[Object], object]
    ) -> None:
        self._access = access
        self._path = access.requests.type_of(kind).path()
        self._query = {"labelSelector": selector} if selector else {}
        self._value_of = value_of
        self._seen: dict[Key, Sighting] = {}
        version = self._list()
        self._thread = threading.Thread(
            target=self._watch, args=(version,), name=f"watch {kind}", daemon=True
        )
        self._thread.start()

    def until(self, wanted: Mapping[Key, Wanted], seconds: float) -> dict[Key, float]:
        """Wait for these values; the instants of those that came within so many seconds."""

        def all_there() -> bool:
            return all(self._has(key, what) for key, what in wanted.items())

        with contextlib.suppress(DeadlineError):
            wait_for(all_there, "the values", seconds, poll_seconds_max=0.25)
        return {key: self._seen[key].since_seconds for key, what in wanted.items() if self._has(key, what)}

    def _has(self, key: Key, what: Wanted) -> bool:
        seen = self._seen.get(key)
        return seen is not None and seen.value == what.value and seen.version >= what.version

    def _list(self) -> str:
        query = {**self._query, "limit": str(PAGE_OBJECTS)}
        while True:
            page = self._access.requests.send("GET", self._path, query=query)
            for item in page["items"]:
                self._see(item)
            if not page["metadata"].get("continue"):
                return str(page["metadata"]["resourceVersion"])
            query["continue"] = page["metadata"]["continue"]

    def _watch(self, version: str) -> None:
        try:
            for event in self._access.requests.watch(
                self._path, query={**self._query, "resourceVersion": version}
            ):
                if event["type"] in ("ADDED", "MODIFIED"):
                    self._see(event["object"])
        except RequestError:
            return  # what was awaited doesn't come, and that is reported

    def _see(self, item: Object) -> None:
        metadata = item["metadata"]
        key, value, now = (metadata["namespace"], metadata["name"]), self._value_of(item), time.monotonic()
        before = self._seen.get(key)
        since = before.since_seconds if before is not None and before.value == value else now
        self._seen[key] = Sighting(int(metadata["resourceVersion"]), value, since)
