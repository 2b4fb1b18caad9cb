"""Following the lag of engines that may be scaled to zero, and waking the queue when that changes something.

Thin: `reconciling.idling` decides, here is only asked every few seconds and remembered. A reconcile says whom
to follow and reads what is known; a key is handed on when the number of pods or what the status says would be
another one. Nothing survives a restart: a new leader begins every wait anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from eventengine_contract.event_engine import ScaleToZero

from eventengine_operator.clients.backlogs import read_lag
from eventengine_operator.clients.engine_reports import EngineReports
from eventengine_operator.clients.kubernetes_api import KubernetesApi
from eventengine_operator.reconciling.idling import Idleness, Reading, next_replicas
from eventengine_operator.resources.engines import EngineKey
from eventengine_operator.resources.pods import Pod

READ_SECONDS: Final = 3.0
"""Between two readings of an engine; as often as the adapter asks brokers. Longer where there are very many."""
READS_AT_ONCE_MAX: Final = 8


@dataclass(frozen=True)
class Followed:
    """What a reconcile knows of an engine that may be scaled to zero."""

    declared: ScaleToZero
    replicas: int
    replicas_min: int
    may_rest: bool
    may_wake: bool
    pods: tuple[Pod, ...]


class IdleWatch:
    """See the module."""

    def __init__(
        self, api: KubernetesApi, reports: EngineReports, when_due: Callable[[EngineKey], None]
    ) -> None:
        self._api = api
        self._reports = reports
        self._when_due = when_due
        self._followed: dict[EngineKey, Followed] = {}
        self._idleness: dict[EngineKey, Idleness] = {}

    def follow(self, key: EngineKey, followed: Followed) -> None:
        """Read this engine's lag from now on; at rest and not are two different waits."""
        before = self._followed.get(key)
        if before is None or (before.replicas == 0) != (followed.replicas == 0):
            self._idleness[key] = Idleness()
        self._followed[key] = followed

    def forget(self, key: EngineKey) -> None:
        """Read it no more."""
        self._followed.pop(key, None)
        self._idleness.pop(key, None)

    def known(self, key: EngineKey) -> Idleness:
        """What all readings so far amount to."""
        return self._idleness.get(key, Idleness())

    async def run(self) -> None:
        """Read everything that is followed, every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(READ_SECONDS)
            await self.read_all()

    async def read_all(self) -> None:
        """Read everything that is followed, once."""
        slots = asyncio.Semaphore(READS_AT_ONCE_MAX)

        async def read(key: EngineKey) -> None:
            async with slots:
                await self._read(key)

        await asyncio.gather(*map(read, list(self._followed)))

    async def _read(self, key: EngineKey) -> None:
        followed = self._followed.get(key)
        if followed is None:
            return
        lag_events, failure = await read_lag(self._api, key.namespace, key.name)
        events_taken: Mapping[str, int] | None = {}
        silence = ""
        if lag_events == 0 and followed.replicas:
            events_taken, silence = await self._reports.events_taken(followed.pods)
        if self._followed.get(key) != followed:
            return  # it was reconciled meanwhile: the answer is of another state
        now = datetime.now(UTC)
        before = self._idleness[key]
        after = before.after(Reading(now, lag_events, events_taken, failure or silence))
        self._idleness[key] = after
        following = next_replicas(
            followed.declared,
            followed.replicas,
            followed.replicas_min,
            after,
            now,
            may_rest=followed.may_rest,
            may_wake=followed.may_wake,
        )
        was_unknown = before.last is not None and before.is_unknown(before.last.at)
        if following is not None or was_unknown != after.is_unknown(now):
            self._when_due(key)
