"""The operator as a whole: lead, watch, work, and end.

Order of a start: health port, Lease, CRD, watches, workers. Only the leader watches and
writes. Order of an orderly end: watches, workers, Lease, health port. A lost Lease ends the
process at once, without any of it: somebody else may be acting already.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import secrets
import time
from collections.abc import Awaitable, Iterable
from typing import Any, Final

from eventengine_contract.well_known import CANARY, PORT_KEDA_SCALER, WEBHOOK_SERVICE

from .clients.echoes import NOBODYS, Version, version_of
from .clients.engine_reports import EngineReports
from .clients.errors import ApiError
from .clients.event_posting import EventPoster
from .clients.kubernetes_api import AUTOSCALERS, DEPLOYMENTS, ENGINES, KubernetesApi, ResourceType
from .clients.leases import Leadership, LeaseTimes
from .clients.mirrors import DELETED, Mirror
from .handlers.canary import keep_canary
from .handlers.certificates import CertificateKeeper, CertificateReader, make_policy
from .handlers.features import Features
from .handlers.metrics_apis import MetricsApiKeeper, delete_api_services
from .handlers.mirroring import keep_mirror
from .handlers.node_tainting import NodeTainting
from .handlers.queueing import KeyQueue
from .handlers.reconciler import Reconciler
from .handlers.secret_follower import SecretReferences, follow_secrets
from .handlers.watching import Watches, key_of_autoscaler, key_of_owned
from .handlers.webhook_configuration import WebhookKeeper
from .manifests.certificates import ADAPTER, WEBHOOK, CertificateOwner, ServicePlace
from .manifests.children import BROKER_CREDENTIALS
from .manifests.scaled_objects import KedaScaler
from .measuring import Measurements
from .reconciling.canary import Beats
from .reconciling.observations import MetricsApi, MetricsApis
from .resources.engines import EngineKey
from .resources.objects import Object, name_of, namespace_of, uid_of
from .serving import HealthServer
from .settings import Settings

COALESCE_SECONDS: Final = 0.1
"""Events about one EventEngine within this time lead to one reconcile."""
RECONCILE_SECONDS_MAX: Final = 60.0
CRD_RETRY_SECONDS: Final = 2.0
FEATURES_SECONDS: Final = 5.0
METRICS_RETRY_SECONDS: Final = 2.0
WATCH_CHECK_SECONDS: Final = 1.0
WATCH_AUDIT_SECONDS: Final = 30.0
WATCH_SILENT_SECONDS_MAX: Final = 90.0
DRAIN_SECONDS: Final = 5.0
METRICS_OFF: Final = MetricsApi("metrics APIs", "Absent", "the operator runs with its metrics mode off")
_log = logging.getLogger(__name__)


class Operator:
    """One operator process."""

    def __init__(
        self, settings: Settings, api: KubernetesApi, lease_api: KubernetesApi, measurements: Measurements
    ) -> None:
        self._settings = settings
        self._api = api
        self._lease_api = lease_api
        """Calls for the Lease never queue behind others: leadership must not be lost to a busy day."""
        self._measurements = measurements
        self._queue: KeyQueue[EngineKey] = KeyQueue(measurements)
        self._reports = EngineReports(measurements)
        self._secrets = SecretReferences()
        self._tainting = NodeTainting(api, settings.taint_seconds)
        self._beats = Beats(f"{settings.holder}.{secrets.token_hex(4)}")
        self._mirror = Mirror(settings.watch_namespaces)
        self._reconciler = Reconciler(
            api,
            self._reports,
            EventPoster(api, settings.holder),
            settings.default_image,
            settings.namespace,
            when_read=self._push,
            when_mounting=self._secrets.remember if settings.follow_secrets else None,
            when_canary=self._canary_reconciled,
            when_refused=self._tainting.refused if settings.taint_seconds else lambda _: None,
            mirror=self._mirror,
        )
        self._suspects: frozenset[EngineKey] = frozenset()
        """EventEngines that the watch knew and the API server did not list at the last look."""
        self._watches: Watches | None = None
        self._metrics_wanted = asyncio.Event()
        self._everybody = asyncio.Event()
        """Set when a change may concern any EventEngine."""
        self._state = "starting"

    async def run(self, stop: asyncio.Event) -> int:
        """Run until `stop` is set (returns 0) or something ended that must not (returns 1)."""
        settings = self._settings
        server = HealthServer(
            settings.listen_host,
            settings.listen_port,
            self._why_not_ready,
            self._why_dead,
            self._measurements,
        )
        await server.start()
        owner = await self._until(stop, self._own_deployment())
        times = LeaseTimes(settings.lease_seconds, settings.renew_deadline_seconds, settings.retry_seconds)
        leadership = Leadership(self._lease_api, settings.namespace, settings.holder, times, owner)
        self._state = "standby"
        try:
            await self._until(stop, leadership.acquire())
            if stop.is_set():
                return 0
            self._measurements.leader.set(1)
            return await self._lead(stop, leadership, owner)
        finally:
            await server.stop()

    def _push(self, key: EngineKey) -> None:
        self._queue.push_after(key, COALESCE_SECONDS)

    def _why_not_ready(self) -> str:
        if self._state in ("standby", "leading"):
            return ""
        return self._state

    def _why_dead(self) -> str:
        if not self._beats.are_dead:
            return ""
        return f"{self._beats.unanswered} changes of the canary in a row were not heard of"

    def _canary_reconciled(self, beat: str) -> None:
        self._beats.reconciled(beat, time.monotonic())
        self._measurements.canary_unanswered.set(self._beats.unanswered)
        if self._beats.last_seconds is not None:
            self._measurements.canary_seconds.set(self._beats.last_seconds)

    async def _lead(self, stop: asyncio.Event, leadership: Leadership, owner: Object | None) -> int:
        lost = asyncio.create_task(leadership.keep(), name="lease")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        tasks = {asyncio.create_task(self._serve(owner), name="serve")}
        done, _ = await asyncio.wait({lost, stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        if lost in done:
            # Nothing may be tidied up: another leader may be at work already.
            logging.shutdown()
            os._exit(1)
        for task in done - {stopping}:
            _log.error("%s ended", task.get_name(), exc_info=task.exception())
        self._state = "stopping"
        if self._watches is not None:
            await asyncio.to_thread(self._watches.stop)
        await _cancelled(tasks)
        self._queue.close()
        await self._reports.close()
        await _cancelled({lost, stopping})
        try:
            await leadership.release()
        except ApiError as error:
            _log.warning("the lease was not released: %s", error)
        self._measurements.leader.set(0)
        return 0 if stopping in done else 1

    async def _serve(self, owner: Object | None) -> None:
        """Everything that only a leader does. Never returns in order."""
        self._state = "the EventEngine CRD isn't served"
        await self._await_crd()
        self._state = "the watches are starting"
        granted = BROKER_CREDENTIALS if self._settings.broker_credentials else frozenset[str]()
        features = Features(
            self._api,
            self._settings.watch_namespaces,
            self._hear,
            self._everybody.set,
            self._measurements,
            granted,
        )
        await self._look_at(features)
        loop = asyncio.get_running_loop()
        self._watches = Watches(
            self._settings.holder,
            self._settings.watch_namespaces,
            when_engine=lambda key, version: _to_loop(loop, self._hear, key, version),
            when_metrics=lambda: _to_loop(loop, self._metrics_wanted.set),
            measurements=self._measurements,
            with_metrics=self._settings.metrics_mode != "off",
            when_canary=lambda beat: _to_loop(loop, self._beats.told, beat),
        )
        self._watches.start()
        self._api.when_applied = self._mirror.learn
        try:
            await self._serve_all(features, owner, self._watches)
        finally:
            await features.close()

    async def _serve_all(self, features: Features, owner: Object | None, watches: Watches) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._settings.workers):
                group.create_task(self._work(), name=f"worker {number}")
            group.create_task(self._resync(), name="resync")
            group.create_task(self._reconciler.idle_watch.run(), name="idle watch")
            group.create_task(self._keep_looking_at(features), name="features")
            group.create_task(self._keep_metrics_apis(owner), name="metrics APIs")
            group.create_task(self._attend_watches(watches), name="watches")
            keeping = keep_mirror(
                self._api, self._mirror, self._hear_of, self._measurements, self._settings.resync_seconds
            )
            group.create_task(keeping, name="mirror")
            group.create_task(self._push_all_when_unsure(), name="everybody")
            if self._settings.webhook:
                group.create_task(self._keep_webhook(owner), name="webhook")
            if self._settings.taint_seconds:
                group.create_task(self._tainting.run(), name="taints")
            if self._settings.canary_seconds:
                group.create_task(self._keep_canary(owner), name="canary")
            if self._settings.follow_secrets:
                following = follow_secrets(
                    self._api, self._settings.watch_namespaces, self._secrets, self._push, self._measurements
                )
                group.create_task(following, name="secrets")

    async def _await_crd(self) -> None:
        while True:
            try:
                if await self._api.serves(ENGINES):
                    return
                _log.warning("the EventEngine CRD isn't installed; waiting")
            except ApiError as error:
                _log.warning("%s", error)
            await asyncio.sleep(CRD_RETRY_SECONDS)

    async def _keep_looking_at(self, features: Features) -> None:
        while True:
            await asyncio.sleep(FEATURES_SECONDS)
            await self._look_at(features)

    async def _look_at(self, features: Features) -> None:
        try:
            has_changed = await features.look()
            self._reconciler.features = features.present
            if has_changed:
                await self._push_all(spread_seconds=1.0)
        except ApiError as error:
            _log.warning("features: %s", error)

    async def _attend_watches(self, watches: Watches) -> None:
        """Watches that ended or fell silent can't be revived; the process is.

        Proof that they see is that they have told of every EventEngine there is. Whatever they miss is
        worked on all the same.
        """
        audit_at, missed_since = 0.0, math.inf
        while watches.is_alive and self._state != "stopping":
            now = time.monotonic()
            if now >= audit_at:
                missed = await self._missed_by(watches)
                if missed is not None:
                    missed_since = min(missed_since, now) if missed else math.inf
                if missed == [] and watches.has_started and self._state != "leading":
                    self._state = "leading"
                    _log.info("watching")
                if missed and now - missed_since > WATCH_SILENT_SECONDS_MAX:
                    raise RuntimeError(f"the watches don't see {missed[0].namespace}/{missed[0].name}")
                audit_at = now + (WATCH_AUDIT_SECONDS if self._state == "leading" else WATCH_CHECK_SECONDS)
            await asyncio.sleep(WATCH_CHECK_SECONDS)
        if self._state != "stopping":
            raise RuntimeError("the watches ended")

    async def _keep_canary(self, owner: Object | None) -> None:
        settings, namespace = self._settings, self._settings.canary_namespace
        local_owner = owner if namespace == settings.namespace else None  # owners work within a namespace
        await keep_canary(
            self._api, namespace, settings.canary_seconds, local_owner, self._beats, self._measurements
        )

    def _hear(self, key: EngineKey, version: Version) -> None:
        """A watch told of something about this EventEngine."""
        is_beat = key == EngineKey(self._settings.canary_namespace, CANARY)  # written to be heard of
        if is_beat or not self._api.echoes.is_echo(version):
            self._queue.push_after(key, COALESCE_SECONDS)

    def _hear_of(self, resource: ResourceType, kind: str, item: Object) -> None:
        """The mirror learnt something about an object around an EventEngine."""
        if resource is AUTOSCALERS:
            key = key_of_autoscaler(item)
            # They report every few seconds, and most of a cluster's have nothing to do with us.
            if key is None or self._watches is None or not self._watches.knows(key):
                return
        else:
            key = key_of_owned(item)
        if key is not None:
            self._hear(key, NOBODYS if kind == DELETED else version_of(item))

    async def _missed_by(self, watches: Watches) -> list[EngineKey] | None:
        """EventEngines that the watches have yet to tell of; None where the API server can't be asked."""
        believed = watches.known()  # before the list: what is made meanwhile is no ghost
        try:
            listed = await self._all_keys()
        except ApiError as error:
            _log.warning("can't compare with the watches: %s", error)
            return None
        self._lay_ghosts(watches, believed - frozenset(listed))
        missed = [key for key in listed if not watches.knows(key)]
        for key in missed:
            self._push(key)
        return missed

    def _lay_ghosts(self, watches: Watches, unlisted: frozenset[EngineKey]) -> None:
        """Forget EventEngines that weren't listed twice in a row: the first time word may be on its way."""
        ghosts = unlisted & self._suspects
        for key in ghosts:
            _log.warning("%s/%s is gone, and the watch didn't tell", key.namespace, key.name)
            self._measurements.ghosts.inc()
            watches.forget(key)
            self._push(key)
        self._suspects = unlisted - ghosts

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            try:
                with self._measurements.reconcile_seconds.time():
                    async with asyncio.timeout(RECONCILE_SECONDS_MAX):
                        outlook = await self._reconciler.reconcile(key)
            except (ApiError, TimeoutError) as error:
                retry_after = error.retry_after_seconds if isinstance(error, ApiError) else 0.0
                delay = self._queue.failed(key, retry_after)
                self._measurements.reconciles.labels("error").inc()
                _log.warning("%s/%s: %s; again in %.1f s", key.namespace, key.name, error, delay)
            except Exception:  # noqa: BLE001 - see the comment
                # A fault of ours in one EventEngine must not stop the work on all others.
                delay = self._queue.failed(key)
                self._measurements.reconciles.labels("fault").inc()
                _log.exception("%s/%s: again in %.1f s", key.namespace, key.name, delay)
            else:
                self._measurements.reconciles.labels("blocked" if outlook.is_blocked else "ok").inc()
                if outlook.is_blocked:
                    self._queue.failed(key)
                else:
                    self._queue.done(key)
                if outlook.seconds is not None:
                    self._queue.push_after(key, outlook.seconds)

    async def _resync(self) -> None:
        """Reconcile everything now and then, spread over the interval: watches may lose events."""
        interval = self._settings.resync_seconds
        while True:
            await asyncio.sleep(interval * random.uniform(0.9, 1.1))  # noqa: S311 - spreads load
            try:
                await self._push_all(spread_seconds=interval / 2)
            except ApiError as error:
                _log.warning("resync: %s", error)

    async def _push_all_when_unsure(self) -> None:
        while True:
            await self._everybody.wait()
            self._everybody.clear()
            try:
                await self._push_all(spread_seconds=1.0)
            except ApiError as error:
                _log.warning("can't list what may have changed: %s", error)
                self._everybody.set()
            await asyncio.sleep(FEATURES_SECONDS)

    async def _push_all(self, spread_seconds: float) -> None:
        for key in await self._all_keys():
            self._queue.push_after(key, random.uniform(0, spread_seconds))  # noqa: S311 - spreads load

    async def _all_keys(self) -> list[EngineKey]:
        """Every EventEngine that is served, listed afresh."""
        found: list[EngineKey] = []
        for namespace in self._settings.watch_namespaces or ("",):
            items = await self._api.list_metadata(ENGINES, namespace)
            found += [EngineKey(namespace_of(item), name_of(item)) for item in items]
        return found

    async def _keep_metrics_apis(self, owner: Object | None) -> None:
        settings = self._settings
        if settings.metrics_mode == "off":
            self._reconciler.metrics_apis = MetricsApis(METRICS_OFF, METRICS_OFF)
            self._reconciler.keda_scaler = self._keda_scaler()
            await self._give_up_metrics_apis()
            return
        place = ServicePlace(settings.namespace, settings.adapter_service, settings.adapter_service_port)
        certificates = self._certificates(place, ADAPTER, owner)
        keeper = MetricsApiKeeper(self._api, place, settings.metrics_mode, certificates)
        while True:
            pause = settings.metrics_resync_seconds
            try:
                async with asyncio.timeout(RECONCILE_SECONDS_MAX):
                    found = await keeper.reconcile()
                    scaler = self._keda_scaler(keeper.bundle) if keeper.bundle else None
                    known = (self._reconciler.metrics_apis, self._reconciler.keda_scaler)
                    if (found, scaler) != known:
                        self._reconciler.metrics_apis, self._reconciler.keda_scaler = found, scaler
                        await self._push_all(spread_seconds=1.0)
            except (ApiError, TimeoutError) as error:
                _log.warning("metrics APIs: %s", error)
                pause = min(pause, METRICS_RETRY_SECONDS)
            except Exception:  # noqa: BLE001 - a fault here must not stop the work on EventEngines
                _log.exception("metrics APIs")
            await _sleep_unless(self._metrics_wanted, pause)

    def _certificates(
        self, place: ServicePlace, of: CertificateOwner, owner: Object | None
    ) -> CertificateKeeper | CertificateReader:
        settings = self._settings
        if settings.certificates != "operator":
            return CertificateReader(self._api, place, self._measurements, of)
        policy = make_policy(place, settings.authority_lifetime, settings.certificate_lifetime, of)
        return CertificateKeeper(self._api, place, policy, owner, self._measurements, of)

    async def _keep_webhook(self, owner: Object | None) -> None:
        settings = self._settings
        place = ServicePlace(settings.namespace, WEBHOOK_SERVICE, 443)
        keeper = WebhookKeeper(self._api, self._certificates(place, WEBHOOK, owner))
        while True:
            pause = settings.metrics_resync_seconds
            try:
                async with asyncio.timeout(RECONCILE_SECONDS_MAX):
                    await keeper.reconcile()
            except (ApiError, TimeoutError) as error:
                _log.warning("webhook: %s", error)
                pause = min(pause, METRICS_RETRY_SECONDS)
            except Exception:  # noqa: BLE001 - a fault here must not stop the work on EventEngines
                _log.exception("webhook")
            await asyncio.sleep(pause)

    def _keda_scaler(self, bundle: bytes = b"") -> KedaScaler:
        settings = self._settings
        host = f"{settings.adapter_service}.{settings.namespace}.svc"
        return KedaScaler(f"{host}:{PORT_KEDA_SCALER}", bundle)

    async def _give_up_metrics_apis(self) -> None:
        """Delete what an earlier mode made; needed once, as nothing makes it again."""
        while True:
            try:
                deleted = await delete_api_services(self._api, self._settings.namespace)
            except ApiError as error:
                _log.warning("metrics APIs: %s", error)
                await asyncio.sleep(METRICS_RETRY_SECONDS)
                continue
            if deleted:
                _log.info("deleted %s: the metrics mode is off", ", ".join(deleted))
            return

    async def _own_deployment(self) -> Object | None:
        """The reference that makes the Lease and the Secrets go with the operator's Deployment."""
        settings = self._settings
        while settings.deployment:
            try:
                live = await self._api.get(DEPLOYMENTS, settings.namespace, settings.deployment)
            except ApiError as error:
                _log.warning("%s", error)
                await asyncio.sleep(settings.retry_seconds)
                continue
            if live is None:
                _log.warning("there is no Deployment %s/%s", settings.namespace, settings.deployment)
                return None
            return {
                "apiVersion": DEPLOYMENTS.api_version,
                "kind": DEPLOYMENTS.kind,
                "name": settings.deployment,
                "uid": uid_of(live),
            }
        return None

    async def _until(self, stop: asyncio.Event, work: Awaitable[Object | None]) -> Object | None:
        """The result of `work`, or None when `stop` came first."""
        stopping = asyncio.ensure_future(stop.wait())
        working = asyncio.ensure_future(work)
        await asyncio.wait({stopping, working}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if working.done():
            return working.result()
        await _cancelled({working})
        return None


def _to_loop(loop: asyncio.AbstractEventLoop, function: object, *arguments: object) -> None:
    """Call a function of the main loop from the thread of the watches, as long as there is one."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *arguments)  # type: ignore[arg-type]


async def _sleep_unless(event: asyncio.Event, seconds: float) -> None:
    """Sleep, shorter if the event comes; an event costs one second at least, so that none makes a storm."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
        await asyncio.sleep(min(1.0, seconds))
    except TimeoutError:
        pass
    event.clear()


async def _cancelled(tasks: Iterable[asyncio.Future[Any]]) -> None:
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    await asyncio.wait(cancelled, timeout=DRAIN_SECONDS)
