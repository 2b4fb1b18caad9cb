"""Looking around an EventEngine that is about to be stored, for the webhook's warnings.

Each look has its own right and its own failure: what can't be looked at is left out, for nobody may be kept from
declaring an EventEngine by a warning that couldn't be worked out. Nodes are remembered for a while: a cluster has
thousands of them, and a size that none has today none has a minute later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from eventengine_contract.event_engine import EventEngineSpec

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.mounted_secrets import referenced_secrets, version_of
from eventengine_operator.resources.neighbourhoods import Neighbourhood, Node, node_of
from eventengine_operator.resources.objects import Object

from .errors import ApiError, NotFoundError
from .kubernetes_api import (
    AUTOSCALERS,
    NODES,
    PRIORITY_CLASSES,
    SCALED_OBJECTS,
    SECRETS,
    STORAGE_CLASSES,
    KubernetesApi,
    ResourceType,
)

NODES_SECONDS: Final = 60.0
Found = TypeVar("Found")
_log = logging.getLogger(__name__)


class Neighbourhoods:
    """See the module. `with_secrets`: whether Secrets may be asked for (their metadata alone)."""

    def __init__(
        self, api: KubernetesApi, *, with_secrets: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._with_secrets = with_secrets
        self._clock = clock
        self._nodes: tuple[Node, ...] = ()
        self._nodes_until = -1.0

    async def look(self, engine: Engine, spec: EventEngineSpec) -> Neighbourhood:
        """What is there now."""
        names = [item.name for item in referenced_secrets(spec)] if self._with_secrets else []
        classes = _classes_of(spec)
        autoscalers, scaled_objects, nodes, secrets, absent = await asyncio.gather(
            _known(self._api.list(AUTOSCALERS, engine.namespace), []),
            _known(self._scaled_objects(engine.namespace), []),
            _known(self._all_nodes(), ()),
            asyncio.gather(*(_known(self._version(engine.namespace, name), None) for name in names)),
            asyncio.gather(*(_known(self._is_absent(kind, name), False) for _, kind, name in classes)),
        )
        return Neighbourhood(
            dict(zip(names, secrets, strict=True)),
            tuple(autoscalers),
            tuple(scaled_objects),
            nodes,
            tuple(
                (path, f"{kind.kind} {name}")
                for (path, kind, name), is_absent in zip(classes, absent, strict=True)
                if is_absent
            ),
        )

    async def _scaled_objects(self, namespace: str) -> list[Object]:
        try:
            return await self._api.list(SCALED_OBJECTS, namespace)
        except NotFoundError:
            return []  # KEDA isn't installed

    async def _all_nodes(self) -> tuple[Node, ...]:
        if self._clock() >= self._nodes_until:
            self._nodes = tuple(map(node_of, await self._api.list(NODES, "")))
            self._nodes_until = self._clock() + NODES_SECONDS
        return self._nodes

    async def _version(self, namespace: str, name: str) -> str:
        return version_of(await self._api.get_metadata(SECRETS, namespace, name))

    async def _is_absent(self, kind: ResourceType, name: str) -> bool:
        return await self._api.get(kind, "", name) is None


def _classes_of(spec: EventEngineSpec) -> list[tuple[str, ResourceType, str]]:
    """(path, kind, name) of every class that the pods or their volumes ask for by name."""
    template, headroom = spec.pod.template, spec.autoscaling.headroom
    storage = spec.storage
    asked = [
        ("spec.pod.template.priorityClassName", PRIORITY_CLASSES, template.priority_class_name),
        (
            "spec.autoscaling.headroom.priorityClassName",
            PRIORITY_CLASSES,
            headroom.priority_class_name if headroom is not None else None,
        ),
        (
            "spec.storage.storageClassName",
            STORAGE_CLASSES,
            storage.storage_class_name if storage is not None else None,
        ),
    ]
    return [(path, kind, name) for path, kind, name in asked if name]


async def _known(look: Awaitable[Found], otherwise: Found) -> Found:
    try:
        return await look
    except ApiError as error:
        _log.warning("left out of the advice: %s", error)
        return otherwise
