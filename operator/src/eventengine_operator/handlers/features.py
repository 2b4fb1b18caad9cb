"""What a cluster may or may not have: kinds that others install, and fields of newer versions.

A watch on a kind that isn't there can't be had, and its definition may come and go. So these are
looked at every few seconds instead, with one list for all EventEngines, and a key is handed on for
every object that changed, came or went since the last look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from eventengine_contract.well_known import LABEL_MANAGED_BY, MANAGED_BY

from eventengine_operator.clients.kubernetes_api import (
    SCALED_OBJECTS,
    SERVICE_MONITORS,
    TRIGGER_AUTHENTICATIONS,
    KubernetesApi,
    ResourceType,
)
from eventengine_operator.manifests.children import TOLERANCE
from eventengine_operator.resources.engines import EngineKey
from eventengine_operator.resources.objects import Object, resource_version_of, text_at, uid_of

from .watching import key_of_owned

TOLERANCE_SINCE: Final = (1, 35)
"""Before, the field is unknown to the API server or behind a gate, and it refuses or drops it."""
LOOKED_AT: Final = (SERVICE_MONITORS, SCALED_OBJECTS, TRIGGER_AUTHENTICATIONS)
Versions = dict[tuple[EngineKey, str], str]
_log = logging.getLogger(__name__)


class Features:
    """See the module."""

    def __init__(self, api: KubernetesApi, namespaces: tuple[str, ...]) -> None:
        self._api = api
        self._namespaces = namespaces
        self._versions: dict[str, Versions] = {}
        self.present: frozenset[str] = frozenset()
        """What the cluster had at the last look."""

    async def look(self, when_engine: Callable[[EngineKey], None]) -> bool:
        """Look once; True where something came or went, which is for every EventEngine to know.

        Raises:
            ApiError: it could not be looked at; what was known stays.
        """
        present = {item.kind for item in LOOKED_AT if await self._api.serves(item)}
        if await self._api.version() >= TOLERANCE_SINCE:
            present.add(TOLERANCE)
        has_changed = present != self.present
        if has_changed:
            _log.info("this cluster has %s", ", ".join(sorted(present)) or "nothing that others lack")
        self.present = frozenset(present)
        for item in LOOKED_AT:
            before = self._versions.get(item.kind, {})
            now = await self._versions_of(item) if item.kind in present else {}
            for key in {key for (key, _), _ in before.items() ^ now.items()}:
                when_engine(key)
            self._versions[item.kind] = now
        return has_changed

    async def _versions_of(self, resource: ResourceType) -> Versions:
        """Version of every object that may concern an EventEngine; of ScaledObjects, others' above all."""
        is_anybodys = resource is SCALED_OBJECTS
        labels = None if is_anybodys else {LABEL_MANAGED_BY: MANAGED_BY}
        key_of = key_of_scaled_object if is_anybodys else key_of_owned
        versions: Versions = {}
        for namespace in self._namespaces or ("",):
            for item in await self._api.list(resource, namespace, labels):
                key = key_of(item)
                if key is not None:
                    versions[(key, uid_of(item))] = resource_version_of(item)
        return versions


def key_of_scaled_object(source: Object) -> EngineKey | None:
    """The EventEngine that a ScaledObject may act on, if there is one of that name."""
    name = text_at(source, "spec", "scaleTargetRef", "name")
    return EngineKey(text_at(source, "metadata", "namespace"), name) if name else None
