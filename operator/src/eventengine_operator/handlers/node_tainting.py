"""Keeping pods away, for a while, from nodes that refused some: only where that was asked for.

Nodes are read when there is something to do about them: at the start, when one refused a pod, and when a taint ends. A
taint is never longer than its term, and there are never more than a few; those of a former leader are taken over.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from eventengine_operator.clients.errors import ApiError
from eventengine_operator.clients.kubernetes_api import NODES, KubernetesApi
from eventengine_operator.reconciling.node_taints import (
    NODES_TAINTED_MAX,
    ends_at,
    taints_with,
    taints_without,
)
from eventengine_operator.reconciling.replicas import FIELD_MANAGER
from eventengine_operator.resources.objects import Object, name_of, resource_version_of

RETRY_SECONDS: Final = 2.0
_log = logging.getLogger(__name__)


def _now_seconds() -> float:
    return datetime.now(UTC).timestamp()


class NodeTainting:
    """See the module; `seconds` is the term of a taint."""

    def __init__(self, api: KubernetesApi, seconds: float, clock: Callable[[], float] = _now_seconds) -> None:
        self._api = api
        self._seconds = seconds
        self._clock = clock
        self._ends: dict[str, float] = {}
        """When the taint of each tainted node ends."""
        self._refusing: set[str] = set()
        self._arrived = asyncio.Event()

    def refused(self, nodes: Iterable[str]) -> None:
        """These nodes refused pods just now."""
        self._refusing.update(nodes)
        self._arrived.set()

    async def run(self) -> None:
        """Taint and take taints away. Never returns."""
        while True:
            if await self._tried(self._take_over()):
                break
            await asyncio.sleep(RETRY_SECONDS)
        while True:
            pause = min(self._ends.values(), default=math.inf) - self._clock()
            try:
                timeout = None if math.isinf(pause) else max(0.0, pause)
                await asyncio.wait_for(self._arrived.wait(), timeout)
            except TimeoutError:
                pass
            self._arrived.clear()
            if not await self._tried(self.see_to_all()):
                self._arrived.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def see_to_all(self) -> None:
        """One pass over the nodes that refused pods, and over the taints that are over."""
        for name in sorted(self._refusing):
            await self._taint(name)
            self._refusing.discard(name)
        for name, end in sorted(self._ends.items()):
            if end <= self._clock():
                await self._untaint(name)

    @staticmethod
    async def _tried(work: Coroutine[Any, Any, None]) -> bool:
        try:
            await work
        except ApiError as error:
            _log.warning("taints of nodes: %s", error)
            return False
        return True

    async def _take_over(self) -> None:
        for node in await self._api.list(NODES, ""):
            end = ends_at(node)
            if end is not None:
                # Whoever made it: none lasts longer than a term from now.
                self._ends[name_of(node)] = min(float(end), self._clock() + self._seconds)

    async def _taint(self, name: str) -> None:
        if name not in self._ends and len(self._ends) >= NODES_TAINTED_MAX:
            _log.warning("node %s refuses pods, and is not tainted: %d others are", name, len(self._ends))
            return
        node = await self._api.get(NODES, "", name)
        if node is None:
            self._ends.pop(name, None)
            return
        end = math.ceil(self._clock() + self._seconds)
        _log.warning("node %s refused pods; tainted for %g s", name, self._seconds)
        await self._write(node, taints_with(node, end))
        self._ends[name] = end

    async def _untaint(self, name: str) -> None:
        node = await self._api.get(NODES, "", name)
        if node is not None and ends_at(node) is not None:
            _log.info("node %s: its taint is over", name)
            await self._write(node, taints_without(node))
        self._ends.pop(name, None)

    async def _write(self, node: Object, taints: list[Object]) -> None:
        patch: Object = {
            "metadata": {"resourceVersion": resource_version_of(node)},
            "spec": {"taints": taints or None},
        }
        await self._api.merge_patch(NODES, "", name_of(node), patch, FIELD_MANAGER)
