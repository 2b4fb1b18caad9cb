"""A local copy of one kind of object, kept by list and watch.

Ordering: a list replaces the whole copy, so that what was deleted while we
looked away is gone; the events of the watch then change it one by one; a watch
that breaks is taken up at its last position, and one that can't be is followed
by a new list. Waits between attempts are bounded; a success resets them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from .client import KubernetesError

_log = logging.getLogger(__name__)

Object = dict[str, Any]
Kept = TypeVar("Kept")

PAGE_SIZE: Final = 500
PAGES_MAX: Final = 1000
WATCH_SECONDS_MAX: Final = 300
RETRY_SECONDS_FIRST: Final = 0.5
RETRY_SECONDS_MAX: Final = 15.0
METADATA_LIST: Final = (
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;q=0.9"
)
METADATA_EVENT: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;q=0.9"


class Reader(Protocol):
    """What a mirror needs of the Kubernetes client."""

    async def get(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = "application/json"
    ) -> Object:
        """One object or list."""
        ...

    def watch(
        self, path: str, query: Mapping[str, str], seconds_max: int, accept: str = "application/json"
    ) -> AsyncIterator[Object]:
        """The events of one watch."""
        ...


class _Relist(Exception):  # noqa: N818 - control flow between watch and list
    """The position is too old: list again."""


class Mirror(Generic[Kept]):
    """The objects at `path`, each reduced by `keep` to what is needed of it (None: not at all)."""

    def __init__(
        self,
        reader: Reader,
        path: str,
        keep: Callable[[Object], Kept | None],
        *,
        query: Mapping[str, str] | None = None,
        metadata_only: bool = False,
        absent_is_empty: bool = False,
        on_restart: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._reader = reader
        self._path = path
        self._keep = keep
        self._query = dict(query or {})
        self._list_accept = METADATA_LIST if metadata_only else "application/json"
        self._event_accept = METADATA_EVENT if metadata_only else "application/json"
        self._absent_is_empty = absent_is_empty
        self._on_restart = on_restart
        self._objects: dict[tuple[str, str], Kept] = {}
        self._position: str | None = None
        self._failing = False
        self.generation = 0
        """Grows with every change of what is kept."""
        self.synced = asyncio.Event()
        """Set once the first list has arrived."""

    @property
    def objects(self) -> Sequence[Kept]:
        """What is kept of each object."""
        return tuple(self._objects.values())

    async def run(self) -> None:
        """Keep the copy up to date until cancelled."""
        wait_seconds = RETRY_SECONDS_FIRST
        while True:
            try:
                if self._position is None:
                    await self._list()
                if await self._watch():
                    wait_seconds = RETRY_SECONDS_FIRST
                    continue
            except _Relist:
                self._position = None
                self._on_restart("expired")
            except KubernetesError as error:
                if error.code == 404 and self._absent_is_empty:
                    self._replace({})
                if error.code not in {0, 429} and error.code < 500:
                    self._position = None
                self._note_failure(error)
                self._on_restart("refused" if error.code else "broken")
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(wait_seconds * 2, RETRY_SECONDS_MAX)

    async def _list(self) -> None:
        objects: dict[tuple[str, str], Kept] = {}
        query = {**self._query, "limit": str(PAGE_SIZE)}
        for _ in range(PAGES_MAX):
            page = await self._reader.get(self._path, query, self._list_accept)
            for item in page.get("items") or []:
                kept = self._keep(item)
                if kept is not None:
                    objects[_key(item)] = kept
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                self._position = str(metadata.get("resourceVersion", ""))
                self._replace(objects)
                return
            query["continue"] = str(metadata["continue"])
        raise KubernetesError(0, f"{self._path} has more than {PAGES_MAX * PAGE_SIZE} objects")

    def _replace(self, objects: dict[tuple[str, str], Kept]) -> None:
        self._objects = objects
        self.generation += 1
        self.synced.set()

    async def _watch(self) -> bool:
        """Apply the events of one watch until the server ends it; whether there were any."""
        query = {**self._query, "resourceVersion": self._position or "", "allowWatchBookmarks": "true"}
        any_event = False
        async for event in self._reader.watch(self._path, query, WATCH_SECONDS_MAX, self._event_accept):
            self._apply(event)
            any_event = True
            self._note_success()
        return any_event

    def _apply(self, event: Object) -> None:
        kind, item = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            if item.get("code") == 410:
                raise _Relist
            raise KubernetesError(
                int(item.get("code") or 500), f"watch of {self._path}: {item.get('message')}"
            )
        metadata = item.get("metadata") or {}
        if metadata.get("resourceVersion"):
            self._position = str(metadata["resourceVersion"])
        if kind == "BOOKMARK":
            return
        kept = self._keep(item) if kind in {"ADDED", "MODIFIED"} else None
        if kept == self._objects.get(_key(item)):
            # Most changes of an object, such as those of a Deployment's status, change nothing that is kept of it.
            return
        if kept is None:
            del self._objects[_key(item)]
        else:
            self._objects[_key(item)] = kept
        self.generation += 1

    def _note_failure(self, error: KubernetesError) -> None:
        """Say once that it fails, not at every attempt."""
        if not self._failing:
            _log.warning("can't follow %s, trying again until it works: %s", self._path, error)
        self._failing = True

    def _note_success(self) -> None:
        if self._failing:
            _log.info("following %s again", self._path)
        self._failing = False


def _key(item: Object) -> tuple[str, str]:
    metadata = item.get("metadata") or {}
    return str(metadata.get("namespace", "")), str(metadata.get("name", ""))
