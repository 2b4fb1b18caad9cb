"""The operator dies after its k-th write, for every k; whoever comes next finishes the work.

A crash is the loss of everything in memory: the reconcile is broken off right after a write, and a new reconciler
without a memory goes on. All writes go to a real API server, and what there is in the end is compared, object
by object, with what a run without a crash leads to.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from eventengine_operator.clients.engine_reports import EngineReports
from eventengine_operator.clients.errors import ConflictError
from eventengine_operator.clients.event_posting import EventPoster
from eventengine_operator.clients.kubernetes_api import (
    AUTOSCALERS,
    CHILD_TYPES,
    ENGINES,
    EVENTS,
    STATEFUL_SETS,
    KubernetesApi,
    ResourceType,
)
from eventengine_operator.handlers.reconciler import Reconciler
from eventengine_operator.measuring import Measurements
from eventengine_operator.resources.engines import EngineKey
from eventengine_operator.resources.objects import Object, name_of, resource_version_of
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_kube_config

from .operators import OperatorPlane
from .spaces import HPA, KAFKA, SHARED

TCP = {"name": "direct", "type": "tcp", "tcp": {"insecure": True}}
FULL = {"pod": SHARED, "autoscaling": HPA, "engine": {"sources": [KAFKA, TCP]}}
STORED = FULL | {"storage": {"size": "1Gi"}}
PLAIN = {
    "pod": SHARED | {"memory": "96Mi"},
    "autoscaling": {"driver": "none"},
    "engine": {"sources": [KAFKA]},
}
WRITES_MAX = 40
RECONCILES_MAX = 12
NO_CRASH = WRITES_MAX + 1


class CrashError(Exception):
    """The operator is no more."""


class CrashingApi(KubernetesApi):
    """Writes for real, and after so many writes never again."""

    def __init__(self, client: ApiClient, writes_left: int) -> None:
        super().__init__(client, Measurements())
        self.writes_left = writes_left
        self.writes = 0

    async def _call(
        self, method: str, verb: str, resource: ResourceType, *arguments: Any, **options: Any
    ) -> Object:
        result = await super()._call(method, verb, resource, *arguments, **options)
        if method != "GET" and resource is not EVENTS:
            self.writes += 1
            if self.writes >= self.writes_left:
                raise CrashError
        return result


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


async def client_of(kubeconfig: Path) -> ApiClient:
    configuration = Configuration()
    await load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    return ApiClient(configuration=configuration)


class World:
    """A namespace, the operator's way to it, and a user's."""

    def __init__(self, operator: ApiClient, user: ApiClient) -> None:
        self.namespace = f"crash-{secrets.token_hex(3)}"
        self._operator = operator
        self._user_client = user
        self.user = KubernetesApi(user, Measurements())

    async def close(self) -> None:
        await self._operator.close()
        await self._user_client.close()

    async def declare(self, name: str, spec: Object) -> None:
        """As a user does with `kubectl replace`; the replicas that a scaler wrote stay."""
        manifest: Object = {
            "apiVersion": ENGINES.api_version,
            "kind": ENGINES.kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": dict(spec),
        }
        live = await self.user.get(ENGINES, self.namespace, name)
        if live is None:
            await self.user.create(ENGINES, manifest, "user")
            return
        manifest["metadata"]["resourceVersion"] = resource_version_of(live)
        if "replicas" in live["spec"]:
            manifest["spec"]["replicas"] = live["spec"]["replicas"]
        await self.user.replace(ENGINES, manifest, "user")

    async def operate(self, name: str, writes_left: int = NO_CRASH) -> int:
        """Reconcile with a fresh operator until there is nothing to write; returns how many writes it took.

        Raises:
            CrashError: after the last of `writes_left`.
        """
        api = CrashingApi(self._operator, writes_left)
        measurements = Measurements()
        reports = EngineReports(measurements)
        reconciler = Reconciler(
            api, reports, EventPoster(api, "operator"), "example.invalid/engine:1", lambda _: None
        )
        try:
            for _ in range(RECONCILES_MAX):
                before = api.writes
                try:
                    await reconciler.reconcile(EngineKey(self.namespace, name))
                except ConflictError:
                    continue  # a controller reported on an object in between: decided anew, as the queue would have it
                if api.writes == before:
                    return api.writes
        finally:
            await reports.close()
        raise AssertionError(f"still writing after {RECONCILES_MAX} reconciles")

    async def children(self, name: str) -> dict[str, Object]:
        """What the operator made, without what differs from engine to engine by its nature."""
        found: dict[str, Object] = {}
        for resource in (*CHILD_TYPES, STATEFUL_SETS, AUTOSCALERS):
            labels = {"eventengine.dev/engine": name}
            for item in await self.user.list(resource, self.namespace, labels):
                content = {key: item[key] for key in ("spec", "data") if key in item}
                for own in ("clusterIP", "clusterIPs"):
                    content.get("spec", {}).pop(own, None)
                kind = f"{resource.kind} {name_of(item).replace(name, 'X')}"
                found[kind] = _renamed(content, name)
        return found


def _renamed(content: Any, name: str) -> Any:
    """The same with X for the engine's name, and without hashes of texts that contain it."""
    if isinstance(content, dict):
        return {key: _renamed(value, name) for key, value in content.items() if not key.endswith("-hash")}
    if isinstance(content, list):
        return [_renamed(value, name) for value in content]
    return content.replace(name, "X") if isinstance(content, str) else content


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
async def test_creation_survives_a_crash_after_every_write(world: World, spec: Object) -> None:
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
