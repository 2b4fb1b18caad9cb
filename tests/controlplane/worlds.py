"""A namespace, an operator's reconciler within this process, and a user: what is written is written for real.

The reconciler is made anew for every `operate`, so that nothing is remembered between two of them, and it can be made
to crash right after a write. What comes of it can be compared with what came of another EventEngine.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any

from eventengine_contract.well_known import SYSTEM_NAMESPACE
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
from eventengine_operator.resources.objects import Object, name_of, resource_version_of, uid_of
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_kube_config

WRITES_MAX = 40
RECONCILES_MAX = 12
GARBAGE_LOOKS_MAX = 300
NO_CRASH = WRITES_MAX + 1


class CrashError(Exception):
    """The operator is no more."""


class CrashingApi(KubernetesApi):
    """Writes for real, and after so many writes never again."""

    def __init__(self, client: ApiClient, writes_left: int) -> None:
        super().__init__(client, Measurements())
        self.writes_left = writes_left
        self.writes = 0
        self.child_writes = 0

    async def _call(
        self, method: str, verb: str, resource: ResourceType, *arguments: Any, **options: Any
    ) -> Object:
        result = await super()._call(method, verb, resource, *arguments, **options)
        if method != "GET" and resource is not EVENTS:
            self.writes += 1
            self.child_writes += resource is not ENGINES
            if self.writes >= self.writes_left:
                raise CrashError
        return result


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
        if "replicas" in live["spec"] and "replicas" not in spec:
            manifest["spec"]["replicas"] = live["spec"]["replicas"]
        await self.user.replace(ENGINES, manifest, "user")

    async def remove(self, name: str) -> None:
        """Delete an EventEngine; what belongs to it follows in time."""
        live = await self.user.get(ENGINES, self.namespace, name)
        if live is not None:
            await self.user.delete(ENGINES, self.namespace, name, uid_of(live))

    async def until_nothing_is_left_of(self, name: str) -> None:
        """Wait for the garbage collector."""
        for _ in range(GARBAGE_LOOKS_MAX):
            if not await self.children(name):
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"still there: {sorted(await self.children(name))}")

    async def operate(self, name: str, writes_left: int = NO_CRASH) -> int:
        """Reconcile with a fresh operator until there is nothing to write; returns how many writes it took.

        Raises:
            CrashError: after the last of `writes_left`.
        """
        return (await self._operate(name, writes_left)).writes

    async def child_writes(self, name: str) -> int:
        """Operate as before; returns how many writes were to children, for controllers move the status meanwhile."""
        return (await self._operate(name, NO_CRASH)).child_writes

    async def _operate(self, name: str, writes_left: int) -> CrashingApi:
        api = CrashingApi(self._operator, writes_left)
        measurements = Measurements()
        reports = EngineReports(measurements)
        reconciler = Reconciler(
            api,
            reports,
            EventPoster(api, "operator"),
            default_image="example.invalid/engine:1",
            adapter_namespace=SYSTEM_NAMESPACE,
            when_read=lambda _: None,
        )
        try:
            for _ in range(RECONCILES_MAX):
                before = api.writes
                try:
                    await reconciler.reconcile(EngineKey(self.namespace, name))
                except ConflictError:
                    continue  # a controller reported on an object in between: decided anew, as the queue would have it
                if api.writes == before:
                    return api
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
