"""The watches of EventEngines and metrics APIs: kopf tells that something changed, and a key goes into the queue.

Rules: nothing but `on.event` is used, so kopf writes no annotation, no finalizer and no Event, and
keeps no peering; the content of an event is used for its key only. Objects around EventEngines are the mirror's.
kopf owns the event loop it runs in and ends every task there, so it gets a thread of its own. A watch
that dies for good ends that thread, and with it the process: a restart beats silence.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import kopf
from eventengine_contract.well_known import (
    API_GROUP,
    API_VERSION,
    KIND,
    LABEL_ENGINE,
    PLURAL,
)

from eventengine_operator.clients.connections import log_in_to_watch
from eventengine_operator.clients.echoes import NOBODYS, Version, version_of
from eventengine_operator.clients.kubernetes_api import PAGE_OBJECTS
from eventengine_operator.measuring import Measurements
from eventengine_operator.reconciling.canary import beat_of, is_canary
from eventengine_operator.resources.engines import EngineKey
from eventengine_operator.resources.objects import Object, labels_of, name_of, namespace_of, text_at

API_SERVICES: Final = ("apiregistration.k8s.io", "v1", "apiservices")
METRICS_GROUPS: Final = frozenset({"custom.metrics.k8s.io", "external.metrics.k8s.io"})
STOP_SECONDS_MAX: Final = 10.0
WORKER_IDLE_SECONDS: Final = 0.2
_log = logging.getLogger(__name__)

WhenEngine = Callable[[EngineKey, Version], None]
"""Called with the EventEngine that an object concerns, and the object's version."""
WhenMetrics = Callable[[], None]


def key_of_engine(source: Object) -> EngineKey:
    """The EventEngine itself."""
    return EngineKey(namespace_of(source), name_of(source))


def key_of_owned(source: Object) -> EngineKey | None:
    """The EventEngine that an object carries the label of."""
    engine = labels_of(source).get(LABEL_ENGINE, "")
    return EngineKey(namespace_of(source), engine) if engine else None


def key_of_autoscaler(source: Object) -> EngineKey | None:
    """The EventEngine that an autoscaler, ours or another's, may act on."""
    target = text_at(source, "spec", "scaleTargetRef", "name")
    if text_at(source, "spec", "scaleTargetRef", "kind") not in (KIND, "Deployment", "StatefulSet"):
        return None
    return EngineKey(namespace_of(source), target) if target else None


def _state(event: Mapping[str, Any]) -> Version:
    """Which state an event tells of; an end is nobody's state."""
    return NOBODYS if event.get("type") == "DELETED" else version_of(dict(event["object"]))


class Watches:
    """kopf in a thread; see the module. The callbacks run in that thread."""

    def __init__(
        self,
        identity: str,
        namespaces: tuple[str, ...],
        when_engine: WhenEngine,
        when_metrics: WhenMetrics,
        measurements: Measurements,
        with_metrics: bool,
        when_canary: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._identity = identity
        self._namespaces = namespaces
        self._when_engine = when_engine
        self._when_metrics = when_metrics
        self._measurements = measurements
        self._with_metrics = with_metrics
        self._when_canary = when_canary
        self._engines: set[EngineKey] = set()
        """As the watch knows them; one whose end was missed costs a reconcile now and then, no more."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="watches", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the watches still run."""
        return self._thread.is_alive()

    @property
    def has_started(self) -> bool:
        """Whether they came up."""
        return self._started is not None and self._started.is_set()

    def knows(self, key: EngineKey) -> bool:
        """Whether the watch has told of this EventEngine."""
        return key in self._engines

    def known(self) -> frozenset[EngineKey]:
        """All EventEngines that the watch takes to exist."""
        return frozenset(self._engines)

    def forget(self, key: EngineKey) -> None:
        """The API server has no such EventEngine: its deletion was missed."""
        self._engines.discard(key)

    def stop(self) -> None:
        """End the watches, waiting a bounded time for it."""
        if self._loop is not None and self._stop is not None and self.is_alive:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(STOP_SECONDS_MAX)

    def _run(self) -> None:
        try:
            asyncio.run(self._watch_all())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends this thread alone
            _log.error("the watches ended: %s: %s", type(error).__name__, error)

    async def _watch_all(self) -> None:
        # kopf waits for flags of the threading module in a thread that outlives it; these end with the loop.
        self._stop, self._started = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # Left to itself kopf asks for the name of the user, and a container's has none.
        identity: Any = self._identity
        await kopf.operator(
            registry=self._registry(),
            settings=self._settings(),
            identity=identity,
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=self._stop,
            ready_flag=self._started,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry, id="credentials")(log_in_to_watch)
        self._watch_engines(registry)
        if self._with_metrics:
            self._watch_metrics_apis(registry)
        return registry

    def _watch_engines(self, registry: kopf.OperatorRegistry) -> None:
        counter = self._measurements.watch_events.labels(PLURAL)

        async def changed(event: Mapping[str, Any], **_: Any) -> None:
            counter.inc()
            self._measurements.watch_told(PLURAL)
            source = dict(event["object"])
            key = key_of_engine(source)
            if is_canary(source):
                self._when_canary(beat_of(source))
            if event.get("type") == "DELETED":
                self._engines.discard(key)
            else:
                self._engines.add(key)
            self._when_engine(key, _state(event))

        kopf.on.event(API_GROUP, API_VERSION, PLURAL, registry=registry, id=PLURAL)(changed)

    def _watch_metrics_apis(self, registry: kopf.OperatorRegistry) -> None:
        counter = self._measurements.watch_events.labels("apiservices")

        async def changed(event: Mapping[str, Any], **_: Any) -> None:
            counter.inc()
            self._measurements.watch_told("apiservices")
            if text_at(dict(event["object"]), "spec", "group") in METRICS_GROUPS:
                self._when_metrics()

        kopf.on.event(*API_SERVICES, registry=registry, id="apiservices")(changed)

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.peering.standalone = True
        settings.scanning.disabled = True
        settings.posting.enabled = False
        settings.watching.connect_timeout = 5
        settings.watching.server_timeout = 300
        settings.watching.client_timeout = 330
        settings.watching.chunk_size = PAGE_OBJECTS
        # A worker holds what it was told last until it has idled for so long; at a start each object has one.
        settings.queueing.idle_timeout = WORKER_IDLE_SECONDS
        settings.networking.request_timeout = 15
        settings.networking.connect_timeout = 5
        settings.networking.enforce_retry_after = True
        settings.execution.default_backoff = 10
        return settings
