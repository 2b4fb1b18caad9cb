"""What a cluster may or may not have: noticed when it comes and goes, and watched while it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from eventengine_operator.clients.kubernetes_api import SCALED_OBJECTS, SERVICE_MONITORS, ResourceType
from eventengine_operator.handlers.features import Features
from eventengine_operator.manifests.children import TOLERANCE
from eventengine_operator.measuring import Measurements
from eventengine_operator.resources.engines import EngineKey
from eventengine_operator.resources.objects import Object

HUNT, RACE = EngineKey("games", "hunt"), EngineKey("games", "race")


class Api:
    """A cluster that serves `served`, and tells watches what is put into `events`."""

    def __init__(self) -> None:
        self.served: set[ResourceType] = set()
        self.minor = 34
        self.events: dict[ResourceType, asyncio.Queue[tuple[str, Object]]] = {
            SERVICE_MONITORS: asyncio.Queue(),
            SCALED_OBJECTS: asyncio.Queue(),
        }
        self.watching: set[ResourceType] = set()

    async def serves(self, resource: ResourceType) -> bool:
        return resource in self.served

    async def version(self) -> tuple[int, int]:
        return (1, self.minor)

    async def newest_version(self, *_: Any) -> str:
        return "1"

    async def watch(self, resource: ResourceType, *_: Any, **__: Any) -> AsyncIterator[tuple[str, Object]]:
        self.watching.add(resource)
        try:
            while True:
                yield await self.events[resource].get()
        finally:
            self.watching.discard(resource)


class World:
    """Features of a cluster, and what they tell."""

    def __init__(self) -> None:
        self.api = Api()
        self.told: asyncio.Queue[EngineKey] = asyncio.Queue()
        self.unsure = asyncio.Event()
        api: Any = self.api
        self.features = Features(
            api, (), lambda key, _: self.told.put_nowait(key), self.unsure.set, Measurements()
        )

    async def next_told(self) -> EngineKey:
        return await asyncio.wait_for(self.told.get(), 5)


def scaled_object(target: str) -> Object:
    metadata = {"name": "mine", "namespace": "games", "uid": "so", "resourceVersion": "2"}
    return {"metadata": metadata, "spec": {"scaleTargetRef": {"name": target}}}


async def test_kind_that_comes_is_watched_and_one_that_goes_no_longer() -> None:
    world = World()
    assert not await world.features.look()
    assert world.features.present == frozenset()
    world.api.served = {SERVICE_MONITORS}
    assert await world.features.look()
    await asyncio.wait_for(world.unsure.wait(), 5)
    monitor = {
        "metadata": {
            "name": "hunt",
            "namespace": "games",
            "labels": {"eventengine.dev/engine": "hunt"},
            "resourceVersion": "2",
        }
    }
    world.api.events[SERVICE_MONITORS].put_nowait(("DELETED", monitor))
    assert await world.next_told() == HUNT
    assert not await world.features.look(), "nothing came or went"
    world.api.served = set()
    assert await world.features.look()
    await asyncio.sleep(0)
    assert world.api.watching == set()
    await world.features.close()


async def test_scaled_object_concerns_whom_it_scaled_before_and_whom_it_scales_now() -> None:
    world = World()
    world.api.served = {SCALED_OBJECTS}
    await world.features.look()
    events = world.api.events[SCALED_OBJECTS]
    events.put_nowait(("ADDED", scaled_object("hunt")))
    assert await world.next_told() == HUNT
    events.put_nowait(("MODIFIED", scaled_object("race")))
    assert {await world.next_told(), await world.next_told()} == {HUNT, RACE}
    await world.features.close()
    assert world.api.watching == set()


async def test_tolerance_is_of_the_version() -> None:
    world = World()
    world.api.minor = 35
    assert await world.features.look()
    assert world.features.present == {TOLERANCE}
    await world.features.close()
