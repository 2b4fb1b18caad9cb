"""A mirror holds what the API server holds: no ghosts, whatever happens to the watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from eventengine_adapter.cluster import mirrors
from eventengine_adapter.cluster.client import KubernetesError
from eventengine_adapter.cluster.mirrors import Mirror


def item(name: str, version: int = 1) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "a", "resourceVersion": str(version)}}


def event(kind: str, name: str, version: int = 1) -> dict[str, Any]:
    return {"type": kind, "object": item(name, version)}


class Script:
    """An API server that plays a script: pages for lists, event sequences for watches, errors for both."""

    def __init__(self, lists: list[Any], watches: list[Any]) -> None:
        self.lists = lists
        self.watches = watches
        self.positions: list[str] = []
        self.list_queries: list[dict[str, str]] = []
        self.over = asyncio.Event()

    async def get(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = "application/json"
    ) -> dict[str, Any]:
        self.list_queries.append(dict(query or {}))
        answer = self.lists.pop(0)
        if isinstance(answer, KubernetesError):
            raise answer
        names, version, further = answer
        return {
            "items": [item(name) for name in names],
            "metadata": {"resourceVersion": version, "continue": further},
        }

    async def watch(
        self, path: str, query: Mapping[str, str], seconds_max: int, accept: str = "application/json"
    ) -> AsyncIterator[dict[str, Any]]:
        self.positions.append(query["resourceVersion"])
        if not self.watches:
            self.over.set()
            await asyncio.Event().wait()
        for step in self.watches.pop(0):
            if isinstance(step, KubernetesError):
                raise step
            yield step


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "RETRY_SECONDS_FIRST", 0.0)


async def play(script: Script, **settings: Any) -> Mirror[str]:
    """Run a mirror until the script is over."""
    mirror: Mirror[str] = Mirror(script, "/things", lambda found: str(found["metadata"]["name"]), **settings)
    running = asyncio.create_task(mirror.run())
    over = asyncio.create_task(script.over.wait())
    done, _ = await asyncio.wait({running, over}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    assert over in done, "the script did not end"
    return mirror


async def test_events_change_the_copy_one_by_one() -> None:
    script = Script(
        [(["x", "y"], "5", None)],
        [[event("ADDED", "z", 6), event("MODIFIED", "x", 7), event("DELETED", "y", 8)]],
    )

    mirror = await play(script)

    assert sorted(mirror.objects) == ["x", "z"]
    assert script.positions == ["5", "8"]


async def test_a_list_comes_in_pages() -> None:
    script = Script([(["x"], "5", "more"), (["y"], "5", None)], [])

    mirror = await play(script)

    assert sorted(mirror.objects) == ["x", "y"]
    assert script.list_queries[1]["continue"] == "more"


@pytest.mark.parametrize(
    "end",
    [
        {"type": "ERROR", "object": {"kind": "Status", "code": 410}},
        KubernetesError(410, "too old"),
    ],
)
async def test_an_expired_position_is_followed_by_a_new_list_without_ghosts(end: Any) -> None:
    script = Script([(["gone", "kept"], "5", None), (["kept", "new"], "9", None)], [[end]])

    mirror = await play(script)

    assert sorted(mirror.objects) == ["kept", "new"]
    assert script.positions == ["5", "9"]


async def test_a_broken_watch_is_taken_up_where_it_broke() -> None:
    script = Script([(["x"], "5", None)], [[event("ADDED", "y", 6), KubernetesError(0, "reset")]])

    mirror = await play(script)

    assert sorted(mirror.objects) == ["x", "y"]
    assert script.positions == ["5", "6"]


async def test_a_bookmark_moves_the_position_and_nothing_else() -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "99"}}}
    script = Script([(["x"], "5", None)], [[bookmark, KubernetesError(0, "reset")]])

    mirror = await play(script)

    assert list(mirror.objects) == ["x"]
    assert script.positions == ["5", "99"]


async def test_the_old_copy_stays_while_the_list_fails() -> None:
    script = Script(
        [(["x"], "5", None), KubernetesError(403, "no"), (["x", "y"], "7", None)],
        [[KubernetesError(410, "old")]],
    )

    mirror = await play(script)

    assert sorted(mirror.objects) == ["x", "y"]


async def test_what_is_no_longer_kept_is_dropped() -> None:
    script = Script([(["x"], "5", None)], [[event("MODIFIED", "x", 6)]])
    seen: list[str] = []

    def keep(found: dict[str, Any]) -> str | None:
        seen.append(found["metadata"]["name"])
        return "x" if len(seen) == 1 else None

    mirror: Mirror[str] = Mirror(script, "/things", keep)
    running = asyncio.create_task(mirror.run())
    await asyncio.wait_for(script.over.wait(), 5)
    running.cancel()

    assert list(mirror.objects) == []


async def test_a_kind_that_does_not_exist_yet_is_empty_only_where_that_is_allowed() -> None:
    script = Script([KubernetesError(404, "no such kind"), (["x"], "5", None)], [])
    mirror = await play(script, absent_is_empty=True)
    assert list(mirror.objects) == ["x"]

    other = Script([KubernetesError(404, "no such kind")], [])
    strict: Mirror[str] = Mirror(other, "/things", lambda _: "x")
    running = asyncio.create_task(strict.run())
    await asyncio.wait({running}, timeout=0.05)
    running.cancel()
    assert not strict.synced.is_set()
