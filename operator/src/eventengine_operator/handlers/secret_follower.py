"""Whom a change of a Secret concerns, and the watch that tells of it.

Only metadata is read. The content of a Secret never reaches this process, so that it can't be logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from eventengine_operator.clients.kubernetes_api import SECRETS, KubernetesApi
from eventengine_operator.measuring import Measurements
from eventengine_operator.resources.engines import EngineKey
from eventengine_operator.resources.objects import Object, name_of, namespace_of

from .object_watches import Watched, watch_objects

FIELDS: Final = "type!=helm.sh/release.v1"
"""Helm keeps a Secret for each release's history, often most of a cluster's; no pod mounts them."""


class SecretReferences:
    """Which EventEngines mount which Secrets, as each one's last reconcile found."""

    def __init__(self) -> None:
        self._names_by_key: dict[EngineKey, frozenset[str]] = {}
        self._keys_by_secret: dict[tuple[str, str], set[EngineKey]] = {}

    def remember(self, key: EngineKey, names: frozenset[str]) -> None:
        """Replace what is known of one EventEngine."""
        before = self._names_by_key.get(key, frozenset())
        if names == before:
            return
        for name in before - names:
            keys = self._keys_by_secret[key.namespace, name]
            keys.discard(key)
            if not keys:
                del self._keys_by_secret[key.namespace, name]
        for name in names - before:
            self._keys_by_secret.setdefault((key.namespace, name), set()).add(key)
        if names:
            self._names_by_key[key] = names
        else:
            del self._names_by_key[key]

    def concerned(self, namespace: str, name: str) -> frozenset[EngineKey]:
        """The EventEngines that mount this Secret."""
        return frozenset(self._keys_by_secret.get((namespace, name), ()))

    def everybody(self) -> frozenset[EngineKey]:
        """The EventEngines that mount any."""
        return frozenset(self._names_by_key)


async def follow_secrets(
    api: KubernetesApi,
    namespaces: tuple[str, ...],
    references: SecretReferences,
    when_engine: Callable[[EngineKey], None],
    measurements: Measurements,
) -> None:
    """Hand on the key of every EventEngine whose Secrets may have changed. Never returns in order."""

    def when_unsure() -> None:
        for key in references.everybody():
            when_engine(key)

    def when_changed(_: str, item: Object) -> None:
        for key in references.concerned(namespace_of(item), name_of(item)):
            when_engine(key)

    async with asyncio.TaskGroup() as group:
        for namespace in namespaces or ("",):
            watch = watch_objects(
                api,
                Watched(SECRETS, namespace, fields=FIELDS),
                when_changed,
                when_unsure,
                measurements,
            )
            group.create_task(watch, name=f"secrets {namespace}")
