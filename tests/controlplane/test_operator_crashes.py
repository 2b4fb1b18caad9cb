"""The operator dies after its k-th write, for every k; whoever comes next finishes the work.

A crash is the loss of everything in memory: the reconcile is broken off right after a write, and a new reconciler
without a memory goes on. All writes go to a real API server, and what there is in the end is compared, object
by object, with what a run without a crash leads to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from .operators import OperatorPlane
from .spaces import HPA, KAFKA, SHARED
from .worlds import WRITES_MAX, CrashError, World, client_of

TCP = {"name": "direct", "type": "tcp", "tcp": {"insecure": True}}
FULL = {"pod": SHARED, "autoscaling": HPA, "engine": {"sources": [KAFKA, TCP]}}
STORED = FULL | {"storage": {"size": "1Gi"}}
PLAIN = {
    "pod": SHARED | {"memory": "96Mi"},
    "autoscaling": {"driver": "none"},
    "engine": {"sources": [KAFKA]},
}


@pytest.fixture(scope="module")
def rights(operator_plane: OperatorPlane) -> Path:
    return operator_plane.install_rights("eventengine-crashes")


@pytest.fixture
async def world(operator_plane: OperatorPlane, rights: Path) -> AsyncIterator[World]:
    world = World(await client_of(rights), await client_of(operator_plane.access.kubeconfig))
    operator_plane.access.kubectl("create", "namespace", world.namespace)
    yield world
    await world.close()
    operator_plane.access.delete("namespace", world.namespace, wait=False)


async def every_crash(world: World, prepare: Callable[[str], Any], change: Callable[[str], Any]) -> int:
    """Have each write of a change be the last one, until one run has fewer; returns how many crashed.

    How many writes there are isn't known beforehand: the controllers beside it decide how often a status changes.
    """
    await prepare("whole")
    await change("whole")
    await world.operate("whole")
    expected = await world.children("whole")
    for last_write in range(1, WRITES_MAX):
        name = f"crash-{last_write}"
        await prepare(name)
        await change(name)
        try:
            await world.operate(name, last_write)
        except CrashError:
            await world.operate(name)
            assert await world.children(name) == expected, f"after a crash at write {last_write}"
        else:
            return last_write - 1
    raise AssertionError(f"still writing after {WRITES_MAX} writes")


@pytest.mark.parametrize("spec", [FULL, STORED], ids=["shared", "stored"])
async def test_creation_survives_a_crash_after_every_write(world: World, spec: dict[str, Any]) -> None:
    async def nothing(_: str) -> None:
        """There is nothing before."""

    total = await every_crash(world, nothing, lambda name: world.declare(name, spec))
    assert total >= 9, "seven children, the first number of replicas, the status"


async def test_change_survives_a_crash_after_every_write(world: World) -> None:
    async def settled(name: str) -> None:
        await world.declare(name, FULL)
        await world.operate(name)

    total = await every_crash(world, settled, lambda name: world.declare(name, PLAIN))
    assert total >= 4, "two deletions, the Deployment, the status"


async def test_deletion_after_every_write_of_a_creation_leaves_nothing_and_is_not_written_to(
    world: World,
) -> None:
    last_write, has_crashed = 0, True
    while has_crashed:
        last_write += 1
        assert last_write < WRITES_MAX
        name = f"deleted-{last_write}"
        await world.declare(name, FULL)
        try:
            await world.operate(name, last_write)
        except CrashError:
            await world.remove(name)
        else:
            has_crashed = False
            await world.remove(name)
        assert await world.operate(name) == 0, f"written to what was deleted after write {last_write}"
    assert last_write >= 9, "seven children, the first number of replicas, the status"
    for number in range(1, last_write + 1):
        await world.until_nothing_is_left_of(f"deleted-{number}")


async def test_there_and_back_again_is_as_if_never_gone(world: World) -> None:
    await world.declare("fresh", FULL)
    await world.operate("fresh")
    for spec in (FULL, PLAIN, FULL):
        await world.declare("returned", spec)
        await world.operate("returned")
    assert await world.children("returned") == await world.children("fresh")


async def test_good_spec_after_a_bad_one_is_as_if_there_had_been_no_bad_one(world: World) -> None:
    twins = {"engine": {"sources": [KAFKA, TCP, TCP]}}
    await world.declare("fresh", FULL)
    await world.operate("fresh")
    for spec in (FULL, FULL | twins, FULL):
        await world.declare("returned", spec)
        await world.operate("returned")
    assert await world.children("returned") == await world.children("fresh")
