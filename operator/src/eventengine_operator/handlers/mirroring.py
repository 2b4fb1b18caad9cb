"""Keeping the mirror: each kind is listed, then watched for a while, then listed again, and so on.

A list repairs whatever a watch lost. It begins each watch, so that what to go on from is always known, and a version
that has become too old needs no care of its own. What changed is told as a watch would have told it.

One kind is listed at a time: what a list takes of memory while it is read is many times what is kept of it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from eventengine_contract.well_known import LABEL_MANAGED_BY, MANAGED_BY

from eventengine_operator.clients.errors import ApiError, UnavailableError
from eventengine_operator.clients.kubernetes_api import WATCH_SECONDS, KubernetesApi, ResourceType
from eventengine_operator.clients.mirrors import Collection, Kept, Mirror, Place
from eventengine_operator.measuring import Measurements
from eventengine_operator.resources.objects import Object

from .object_watches import BOOKMARK, PAUSE_SECONDS_MAX, pause_seconds

WhenChanged = Callable[[ResourceType, str, Object], None]
"""Called with kind, type and object of every change that may matter to an EventEngine."""
_log = logging.getLogger(__name__)


async def keep_mirror(
    api: KubernetesApi,
    mirror: Mirror,
    when_changed: WhenChanged,
    measurements: Measurements,
    resync_seconds: float,
) -> None:
    """Keep all of it. Never returns in order."""
    listing = asyncio.Lock()
    async with asyncio.TaskGroup() as group:
        for collection in mirror.collections.values():
            following = follow(api, collection, when_changed, measurements, resync_seconds, listing)
            group.create_task(following, name=f"{collection.resource.plural} {collection.namespace}")


async def follow(
    api: KubernetesApi,
    collection: Collection,
    when_changed: WhenChanged,
    measurements: Measurements,
    resync_seconds: float,
    listing: asyncio.Lock,
) -> None:
    """Keep one collection. Never returns. Whoever lists holds the lock."""
    failures = 0
    while True:
        began = time.monotonic()
        try:
            await _watch_once(api, collection, when_changed, measurements, resync_seconds, listing)
            failures = 0
        except ApiError as error:
            lasted_seconds = time.monotonic() - began
            failures = failures + 1 if lasted_seconds < PAUSE_SECONDS_MAX else 1
            _log.warning("watching %s: %s", collection.resource.plural, error)
        finally:
            collection.is_current = False
        await asyncio.sleep(pause_seconds(failures) * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load


async def _watch_once(
    api: KubernetesApi,
    collection: Collection,
    when_changed: WhenChanged,
    measurements: Measurements,
    resync_seconds: float,
    listing: asyncio.Lock,
) -> None:
    resource = collection.resource
    labels = {LABEL_MANAGED_BY: MANAGED_BY} if collection.is_by_engine else None
    async with listing:
        version, found = await _list(api, collection, labels)
    try:
        changes = collection.replace(version, found)
    except ValueError as error:
        raise UnavailableError(0, f"list {resource.plural}", str(error)) from None
    measurements.watch_told(resource.plural)
    for kind, item in changes:
        when_changed(resource, kind, item)
    counter = measurements.watch_events.labels(resource.plural)
    # Not all kinds at the same time.
    seconds = min(WATCH_SECONDS, resync_seconds) * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load
    async for kind, item in api.watch(
        resource, collection.namespace, str(version), labels=labels, with_content=True, seconds=seconds
    ):
        measurements.watch_told(resource.plural)
        if kind != BOOKMARK:
            counter.inc()
            if collection.hear(kind, item):
                when_changed(resource, kind, item)


async def _list(
    api: KubernetesApi, collection: Collection, labels: dict[str, str] | None
) -> tuple[int, dict[Place, Kept]]:
    found: dict[Place, Kept] = {}
    version = 0
    async for told, items in api.pages(collection.resource, collection.namespace, labels):
        version = int(told) if told.isdecimal() else 0
        found.update(collection.kept_of(items))
    return version, found
