"""What a cluster may or may not have: kinds that others install, and fields of newer versions.

Whether a kind is served is asked every few seconds, for its definition may come and go. While it is, a watch of its
own tells of every object that changed, came or went; the watch ends with the kind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from eventengine_contract.well_known import LABEL_MANAGED_BY, MANAGED_BY

from eventengine_operator.clients.echoes import NOBODYS, version_of
from eventengine_operator.clients.kubernetes_api import (
    OPTIONAL_TYPES,
    SCALED_OBJECTS,
    KubernetesApi,
    ResourceType,
)
from eventengine_operator.manifests.children import BROKER_CREDENTIALS, TOLERANCE
from eventengine_operator.measuring import Measurements
from eventengine_operator.resources.engines import EngineKey
from eventengine_operator.resources.objects import Object, text_at, uid_of

from .object_watches import Watched, watch_objects
from .watching import WhenEngine, key_of_owned

TOLERANCE_SINCE: Final = (1, 35)
"""Before, the field is unknown to the API server or behind a gate, and it refuses or drops it."""
LOOKED_AT: Final = (*OPTIONAL_TYPES, SCALED_OBJECTS)
OBJECTS_KEPT_MAX: Final = 20_000
_log = logging.getLogger(__name__)


class Features:
    """See the module. `when_engine` is told whom a change concerns, `when_unsure` that it may be anybody."""

    def __init__(
        self,
        api: KubernetesApi,
        namespaces: tuple[str, ...],
        when_engine: WhenEngine,
        when_unsure: Callable[[], None],
        measurements: Measurements,
        granted: frozenset[str] = frozenset(),
    ) -> None:
        """`granted` are those of BROKER_CREDENTIALS that the operator may write: every cluster has them."""
        self._api = api
        self._granted = granted
        self._namespaces = namespaces
        self._when_engine = when_engine
        self._when_unsure = when_unsure
        self._measurements = measurements
        self._watches: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._targets: dict[str, EngineKey] = {}
        """Whom each ScaledObject acted on when it was seen last, by UID: the next time it may be another."""
        self.present: frozenset[str] = frozenset()
        """What the cluster had at the last look."""

    async def look(self) -> bool:
        """Look once; True where something came or went, which is for every EventEngine to know.

        Raises:
            ApiError: it could not be looked at; what was known stays.
        """
        present = {
            item.kind
            for item in LOOKED_AT
            if item.kind in self._granted
            or (item.kind not in BROKER_CREDENTIALS and await self._api.serves(item))
        }
        if await self._api.version() >= TOLERANCE_SINCE:
            present.add(TOLERANCE)
        has_changed = present != self.present
        if has_changed:
            _log.info("this cluster has %s", ", ".join(sorted(present)) or "nothing that others lack")
        self.present = frozenset(present)
        for item in LOOKED_AT:
            for namespace in self._namespaces or ("",):
                await self._see_to_watch(item, namespace)
        return has_changed

    async def close(self) -> None:
        """End the watches."""
        for task in self._watches.values():
            task.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)

    async def _see_to_watch(self, resource: ResourceType, namespace: str) -> None:
        """One that runs where the kind is served, and none where it isn't."""
        key = (resource.kind, namespace)
        task = self._watches.get(key)
        if resource.kind not in self.present:
            if task is not None:
                task.cancel()
                del self._watches[key]
        elif task is None or task.done():
            if task is not None and not task.cancelled() and task.exception() is not None:
                _log.error("watching %s ended", resource.plural, exc_info=task.exception())
            self._watches[key] = asyncio.create_task(
                self._watch(resource, namespace), name=f"{resource.plural} {namespace}"
            )

    async def _watch(self, resource: ResourceType, namespace: str) -> None:
        if resource is not SCALED_OBJECTS:
            watched = Watched(resource, namespace, labels={LABEL_MANAGED_BY: MANAGED_BY})
            when_changed = self._owned_changed
        else:
            watched = Watched(resource, namespace, with_content=True)
            when_changed = self._scaled_object_changed
        await watch_objects(self._api, watched, when_changed, self._when_unsure, self._measurements)

    def _owned_changed(self, kind: str, source: Object) -> None:
        key = key_of_owned(source)
        if key is not None:
            self._when_engine(key, NOBODYS if kind == "DELETED" else version_of(source))

    def _scaled_object_changed(self, kind: str, source: Object) -> None:
        before, now = self._targets.pop(uid_of(source), None), key_of_scaled_object(source)
        if now is not None and len(self._targets) < OBJECTS_KEPT_MAX:
            self._targets[uid_of(source)] = now
        for key in {key for key in (before, now) if key is not None}:
            self._when_engine(key, NOBODYS if kind == "DELETED" else version_of(source))


def key_of_scaled_object(source: Object) -> EngineKey | None:
    """The EventEngine that a ScaledObject may act on, if there is one of that name."""
    name = text_at(source, "spec", "scaleTargetRef", "name")
    return EngineKey(text_at(source, "metadata", "namespace"), name) if name else None
