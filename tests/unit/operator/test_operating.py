"""Watches are believed only as long as they tell of what there is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eventengine_operator import operating
from eventengine_operator.clients.errors import UnavailableError
from eventengine_operator.handlers.queueing import JITTER
from eventengine_operator.handlers.reconciler import BLOCKED, Outlook
from eventengine_operator.measuring import Measurements
from eventengine_operator.operating import Operator
from eventengine_operator.resources.engines import EngineKey
from eventengine_operator.settings import Settings

HUNT = {"metadata": {"namespace": "default", "name": "hunt"}}


class Api:
    """Lists EventEngines, or can't."""

    def __init__(self, *items: Any, error: Exception | None = None) -> None:
        self.items = list(items)
        self.error = error

    async def list_metadata(self, *_: Any) -> list[Any]:
        if self.error is not None:
            raise self.error
        return self.items


class Watches:
    """Watches that know some keys and end after some looks at them."""

    has_started = True

    def __init__(self, *known: EngineKey, looks: int = 1) -> None:
        self._known = set(known)
        self.looks = looks

    def known(self) -> frozenset[EngineKey]:
        return frozenset(self._known)

    @property
    def is_alive(self) -> bool:
        self.looks -= 1
        return self.looks >= 0

    def knows(self, key: EngineKey) -> bool:
        return key in self._known

    def forget(self, key: EngineKey) -> None:
        self._known.discard(key)


async def attend(monkeypatch: pytest.MonkeyPatch, api: Any, watches: Any) -> tuple[str, list[EngineKey], str]:
    """(state, keys that were pushed, why it ended)."""
    monkeypatch.setattr(operating, "WATCH_CHECK_SECONDS", 0.0)
    operator = Operator(Settings(), api, api, Measurements())
    operator._state = "the watches are starting"
    pushed: list[EngineKey] = []
    monkeypatch.setattr(operator._queue, "push_after", lambda key, _: pushed.append(key))
    with pytest.raises(RuntimeError) as ended:
        await operator._attend_watches(watches)
    return operator._state, pushed, str(ended.value)


async def test_watches_that_know_all_engines_make_a_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    state, pushed, _ = await attend(monkeypatch, Api(HUNT), Watches(EngineKey("default", "hunt")))
    assert (state, pushed) == ("leading", [])


async def test_missed_engine_is_worked_on_and_keeps_the_operator_from_being_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state, pushed, _ = await attend(monkeypatch, Api(HUNT), Watches())
    assert (state, pushed) == ("the watches are starting", [EngineKey("default", "hunt")])


async def test_watches_that_stay_blind_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operating, "WATCH_SILENT_SECONDS_MAX", -1.0)
    _, _, reason = await attend(monkeypatch, Api(HUNT), Watches(looks=5))
    assert reason == "the watches don't see default/hunt"


async def test_unreachable_api_server_is_no_proof_either_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operating, "WATCH_SILENT_SECONDS_MAX", -1.0)
    api = Api(error=UnavailableError(503, "list eventengines", "no"))
    state, _, reason = await attend(monkeypatch, api, Watches(looks=3))
    assert (state, reason) == ("the watches are starting", "the watches ended")


async def test_watches_that_end_because_the_operator_does_are_no_fault() -> None:
    unused: Any = Api()
    operator = Operator(Settings(), unused, unused, Measurements())
    operator._state = "stopping"
    ended: Any = Watches(looks=0)
    await operator._attend_watches(ended)


async def test_engine_whose_deletion_was_missed_is_a_ghost_at_the_second_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = EngineKey("default", "gone")
    watches: Any = Watches(gone)
    api: Any = Api()
    operator = Operator(Settings(), api, api, Measurements())
    pushed: list[EngineKey] = []
    monkeypatch.setattr(operator, "_push", pushed.append)
    await operator._missed_by(watches)
    assert watches.knows(gone), "word of the deletion may be on its way"
    await operator._missed_by(watches)
    assert not watches.knows(gone)
    assert pushed == [gone], "what was remembered of it has to go, too"
    assert b"eventengine_operator_ghosts_total 1.0" in operator._measurements.exposition()


async def test_engine_that_is_made_during_the_look_is_no_ghost() -> None:
    watches: Any = Watches()

    class Lagging(Api):
        async def list_metadata(self, *_: Any) -> list[Any]:
            watches._known.add(EngineKey("default", "new"))
            return []

    api: Any = Lagging()
    operator = Operator(Settings(), api, api, Measurements())
    await operator._missed_by(watches)
    assert operator._suspects == frozenset()


class Reconciler:
    """Can't do its work, for example for a quota, until somebody makes room."""

    def __init__(self) -> None:
        self.outlooks = [BLOCKED] * 4 + [Outlook()]
        self.has_worked = asyncio.Event()

    async def reconcile(self, _: EngineKey) -> Outlook:
        outlook = self.outlooks.pop(0)
        if not outlook.is_blocked:
            self.has_worked.set()
        return outlook


async def test_blocked_engine_is_tried_again_with_backoff_rather_than_in_a_loop() -> None:
    unused: Any = Api()
    operator = Operator(Settings(), unused, unused, Measurements())
    reconciler: Any = Reconciler()
    operator._reconciler = reconciler
    delays: list[float] = []
    failed = operator._queue.failed

    def fail_now(key: EngineKey, _: float = 0.0) -> float:
        delays.append(failed(key))
        operator._queue.push(key)
        return delays[-1]

    operator._queue.failed = fail_now  # type: ignore[method-assign]
    operator._queue.push(EngineKey("default", "hunt"))
    work = asyncio.create_task(operator._work())
    await asyncio.wait_for(reconciler.has_worked.wait(), 5)
    work.cancel()
    operator._queue.close()
    assert delays == pytest.approx([0.5, 1, 2, 4], rel=JITTER)
    assert b'reconciles_total{result="blocked"} 4.0' in operator._measurements.exposition()
