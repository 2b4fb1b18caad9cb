"""Kinds that a cluster may or may not serve, such as ServiceMonitor.

A watch on a kind that isn't there can't be had, and its definition may come and go. So these are
looked at every few seconds instead, with one list for all EventEngines, and a key is handed on for
every object that changed, came or went since the last look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from eventengine_contract.well_known import LABEL_MANAGED_BY, MANAGED_BY

from eventengine_operator.clients.kubernetes_api import OPTIONAL_TYPES, KubernetesApi, ResourceType
from eventengine_operator.resources.objects import resource_version_of, uid_of

from .reconciler import EngineKey
from .watching import key_of_owned

Versions = dict[tuple[EngineKey, str], str]
_log = logging.getLogger(__name__)


class OptionalKinds:
    """See the module."""

    def __init__(self, api: KubernetesApi, namespaces: tuple[str, ...]) -> None:
        self._api = api
        self._namespaces = namespaces
        self._versions: dict[str, Versions] = {}
        self.served: frozenset[str] = frozenset()
        """Kinds that the cluster knew at the last look."""

    async def look(self, when_engine: Callable[[EngineKey], None]) -> bool:
        """Look once; True where a kind came or went, which is for every EventEngine to know.

        Raises:
            ApiError: it could not be looked at; what was known stays.
        """
        served = frozenset([item.kind for item in OPTIONAL_TYPES if await self._api.serves(item)])
        has_changed = served != self.served
        if has_changed:
            _log.info("optional kinds served: %s", ", ".join(sorted(served)) or "none")
        self.served = served
        for item in OPTIONAL_TYPES:
            before = self._versions.get(item.kind, {})
            now = await self._versions_of(item) if item.kind in served else {}
            for key, _ in {key for key, version in before.items() ^ now.items()}:
                when_engine(key)
            self._versions[item.kind] = now
        return has_changed

    async def _versions_of(self, resource: ResourceType) -> Versions:
        versions: Versions = {}
        for namespace in self._namespaces or ("",):
            for item in await self._api.list(resource, namespace, {LABEL_MANAGED_BY: MANAGED_BY}):
                key = key_of_owned(item)
                if key is not None:
                    versions[(key, uid_of(item))] = resource_version_of(item)
        return versions
