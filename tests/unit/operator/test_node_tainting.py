"""Nodes that refused pods are tainted for a while, a few at a time, and never for longer."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from eventengine_operator.clients.errors import ConflictError
from eventengine_operator.handlers import node_tainting
from eventengine_operator.handlers.node_tainting import NodeTainting
from eventengine_operator.reconciling.node_taints import (
    NODES_TAINTED_MAX,
    TAINT,
    ends_at,
    taints_with,
    taints_without,
)
from eventengine_operator.resources.objects import Object

OTHER = {"key": "dedicated", "value": "games", "effect": "NoSchedule"}


def node(name: str, *taints: Object) -> Object:
    return {"metadata": {"name": name, "resourceVersion": "1"}, "spec": {"taints": list(taints)}}


class Api:
    """A cluster of nodes that takes patches, and refuses one where a test says so."""

    def __init__(self, *nodes: Object) -> None:
        self.nodes = {item["metadata"]["name"]: item for item in nodes}
        self.refusals = 0
        self.writes = asyncio.Event()

    async def list(self, *_: Any) -> list[Object]:
        return list(self.nodes.values())

    async def get(self, _: Any, __: str, name: str) -> Object | None:
        return copy.deepcopy(self.nodes.get(name))

    async def merge_patch(self, _: Any, __: str, name: str, patch: Object, *___: Any) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ConflictError(409, "patch nodes", "changed meanwhile")
        assert patch["metadata"]["resourceVersion"] == "1"
        self.nodes[name]["spec"]["taints"] = patch["spec"]["taints"] or []
        self.writes.set()

    def keys(self, name: str) -> list[str]:
        return [taint["key"] for taint in self.nodes[name]["spec"]["taints"]]


class Clock:
    """Stands still unless told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def tainting(api: Any, clock: Clock, seconds: float = 600.0) -> NodeTainting:
    return NodeTainting(api, seconds, clock)


def test_other_taints_stay_as_they_are() -> None:
    before = node("a", OTHER)
    with_ours = node("a", *taints_with(before, 1600))
    assert with_ours["spec"]["taints"] == [OTHER, {"key": TAINT, "value": "1600", "effect": "NoSchedule"}]
    assert ends_at(with_ours) == 1600
    assert taints_with(with_ours, 1700)[1:] == [{"key": TAINT, "value": "1700", "effect": "NoSchedule"}]
    assert taints_without(with_ours) == [OTHER]
    assert ends_at(before) is None
    assert ends_at(node("a", {"key": TAINT, "value": "soon"})) == 0, "it ends at once rather than never"


async def test_node_is_tainted_for_its_term_and_no_longer() -> None:
    api, clock = Api(node("a", OTHER), node("b")), Clock()
    keeper = tainting(api, clock)
    keeper.refused({"a", "gone"})
    await keeper.see_to_all()
    assert ends_at(api.nodes["a"]) == 1600
    assert api.keys("b") == []
    clock.now = 1599.0
    await keeper.see_to_all()
    assert TAINT in api.keys("a")
    clock.now = 1600.0
    await keeper.see_to_all()
    assert api.keys("a") == ["dedicated"]


async def test_never_more_than_a_few_nodes_at_a_time() -> None:
    names = [f"node-{number}" for number in range(NODES_TAINTED_MAX + 3)]
    api, clock = Api(*map(node, names)), Clock()
    keeper = tainting(api, clock)
    keeper.refused(names)
    await keeper.see_to_all()
    assert sum(TAINT in api.keys(name) for name in names) == NODES_TAINTED_MAX


async def test_taints_of_a_former_leader_are_taken_over_and_end_within_a_term() -> None:
    late = node("late", {"key": TAINT, "value": "999999999999", "effect": "NoSchedule"})
    api, clock = (
        Api(late, node("over", {"key": TAINT, "value": "900", "effect": "NoSchedule"}), node("c")),
        Clock(),
    )
    keeper = tainting(api, clock)
    running = asyncio.create_task(keeper.run())
    await asyncio.wait_for(api.writes.wait(), 5)
    assert api.keys("over") == []
    running.cancel()
    clock.now = 1600.0
    await keeper.see_to_all()
    assert api.keys("late") == []


async def test_refused_write_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_tainting, "RETRY_SECONDS", 0.0)
    api, clock = Api(node("a")), Clock()
    api.refusals = 2
    keeper = tainting(api, clock)
    keeper.refused({"a"})
    running = asyncio.create_task(keeper.run())
    await asyncio.wait_for(api.writes.wait(), 5)
    running.cancel()
    assert api.keys("a") == [TAINT]
