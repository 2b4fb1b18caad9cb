"""The adapter as a process: puts the parts together, starts them in order, ends them in order.

Start: follow the cluster's authentication settings and its engine pods, wait
for the certificate, then open the port. Stop, on SIGTERM: /readyz fails first
and everything is still answered while the endpoints change; after the drain
time the ports close, then what follows the cluster ends.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from . import __version__
from .apis.health import Health
from .apis.metric_values import MetricView
from .app import Draining, MetricsApi, telemetry_application
from .chaining.asking import ChainedAdapter
from .cluster.client import KubernetesClient, KubernetesError
from .cluster.connections import Connection, ConnectionSettingsError, connection
from .cluster.mirrors import Mirror
from .explaining.asking import find
from .explaining.report import describe
from .monitoring import Monitoring
from .samples.last_known_good import LastKnownGood
from .samples.store import SampleStore
from .security.access_reviews import AccessReviews
from .security.authentication import Authenticator
from .security.request_headers import CONFIG_MAP, NAMESPACE, TrustedProxies, trusted_proxies
from .security.serving_tls import ServingTls
from .security.tokens import TokenReviews
from .serving import serve
from .settings import Address, Settings, SettingsError, describe_settings, read_settings
from .sources.broker_sampling import BrokerSampling
from .sources.broker_secrets import BrokerSecrets
from .sources.endpoint_reading import EndpointReader
from .sources.engine_pods import EnginePods
from .sources.kafka_brokers import KafkaBrokers
from .sources.sampling import Sampling
from .sources.snapshot_reading import Outcome, SnapshotReader

_log = logging.getLogger("eventengine_adapter")

_WAITING_LOG_SECONDS: Final = 30.0


class Adapter:
    """All parts of one adapter process."""

    def __init__(
        self,
        settings: Settings,
        client: KubernetesClient,
        own: Connection,
        reader: SnapshotReader,
        endpoint_reader: EndpointReader,
    ) -> None:
        self._settings = settings
        self._chained = self._chained_adapter(own)
        self._monitoring = Monitoring()
        self._store = SampleStore()
        self._tls = ServingTls(settings.certificate_folder)
        self._draining = Draining()
        self._proxies = TrustedProxies()
        self._pods = EnginePods(client, self._note_restart)
        self._authentication = Mirror(
            client,
            f"/api/v1/namespaces/{NAMESPACE}/configmaps",
            self._keep_proxies,
            query={"fieldSelector": f"metadata.name={CONFIG_MAP}"},
            on_restart=lambda reason: self._note_restart("configmaps", reason),
        )
        self._sampling = Sampling(
            self._pods.fleet,
            self._pods.synced,
            reader,
            self._store,
            time.time,
            settings.reads_max,
            self._note_read,
        )
        endpoint_store = SampleStore()
        self._endpoint_sampling = Sampling(
            lambda: self._pods.fleet().with_endpoints(),
            self._pods.synced,
            endpoint_reader,
            endpoint_store,
            time.time,
            settings.reads_max,
            self._note_endpoint_read,
        )
        self._broker_sampling = BrokerSampling(
            self._pods.fleet,
            KafkaBrokers(),
            BrokerSecrets(client, time.monotonic),
            self._store,
            time.time,
            self._note_broker_read,
        )
        self._health = self._checks()
        self._api = MetricsApi(
            self._pods.fleet,
            self._store,
            Authenticator(
                lambda: self._proxies,
                TokenReviews(client, time.monotonic, partial(self._note_question, "token")),
                anonymous=settings.anonymous,
                on_front_proxy=self._monitoring.front_proxy_expiry.set,
            ),
            AccessReviews(client, time.monotonic, self._note_review, partial(self._note_question, "access")),
            self._health,
            self._monitoring,
            self._draining,
            time.time,
            endpoint_store,
            self._chained,
        )
        self._last_known_good_of_keda = LastKnownGood()
        self._monitoring.watch_samples(self._pods.fleet, self._store, self._tls)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain."""
        async with AsyncExitStack() as stack:
            if self._chained is not None:
                await stack.enter_async_context(self._chained)
            stack.push_async_callback(
                await serve(
                    telemetry_application(self._health, self._monitoring),
                    self._settings.telemetry_listen,
                    on_refused=self._note_refused,
                )
            )
            background = [
                asyncio.create_task(work)
                for work in (
                    self._authentication.run(),
                    *(mirror.run() for mirror in self._pods.mirrors),
                    self._sampling.run(),
                    self._endpoint_sampling.run(),
                    *([self._broker_sampling.run()] if self._settings.broker_lag else []),
                    *([self._chained.run()] if self._chained is not None else []),
                )
            ]
            stack.push_async_callback(_cancel, background)
            starting = asyncio.create_task(self._start(stack, background))
            await _first(stop.wait(), starting, *background)
            self._draining.begun = True
            self._monitoring.draining.set(1)
            if stop.is_set():
                _log.info("told to stop: draining for %g s", self._settings.drain_seconds)
                await _first(asyncio.sleep(self._settings.drain_seconds), *background)
            await _cancel([starting])
        _log.info("stopped")

    async def _start(self, stack: AsyncExitStack, background: list[asyncio.Task[None]]) -> None:
        """Open the port of the metrics APIs once there is what it needs; then stay until cancelled."""
        await self._wait_for_authentication()
        await self._tls.wait()
        background.append(asyncio.create_task(self._tls.run()))
        stack.push_async_callback(
            await serve(
                self._api.application(), self._settings.listen, self._tls, on_refused=self._note_refused
            )
        )
        address = self._settings.listen
        _log.info("serving the metrics APIs on %s port %d", address.host, address.port)
        if self._settings.keda_listen is not None:
            stack.push_async_callback(await self._serve_keda(self._settings.keda_listen))
        await self._settle()
        await asyncio.Event().wait()

    async def _settle(self) -> None:
        """Once everything was read, take what is there by then out of the sight of the collector of cycles.

        It stays for as long as the adapter runs. Looking through it again and again would make the slowest answers.
        """
        await self._sampling.caught_up.wait()
        await self._endpoint_sampling.caught_up.wait()
        gc.collect()
        gc.freeze()

    async def _serve_keda(self, address: Address) -> Callable[[], Awaitable[None]]:
        """Open the port that KEDA asks, and give back what closes it."""
        # Not at the top: an adapter that isn't asked by KEDA need not hold gRPC in memory.
        from .keda.service import ExternalScaler
        from .keda.serving import KedaServer, KedaTls

        scaler = ExternalScaler(self._view_of_keda, self._monitoring, lambda: self._draining.begun)
        tls = KedaTls(self._settings.certificate_folder, self._settings.keda_client_authority)
        server = KedaServer(scaler, address, tls)
        await server.start()
        _log.info("serving KEDA on %s port %d", address.host, address.port)
        return server.stop

    def _checks(self) -> Health:
        """What liveness and readiness rest on; the chained adapter is none of it."""
        return Health(
            live={
                "sampling-timely": self._sampling.is_timely,
                "endpoint-sampling-timely": self._endpoint_sampling.is_timely,
            },
            ready={
                "authentication-known": self._authentication.synced.is_set,
                "certificate-loaded": lambda: self._tls.loaded,
                "engine-pods-known": self._pods.synced,
                "samples-read": self._sampling.caught_up.is_set,
                "endpoints-read": self._endpoint_sampling.caught_up.is_set,
                "not-draining": lambda: not self._draining.begun,
            },
        )

    def _chained_adapter(self, own: Connection) -> ChainedAdapter | None:
        """The adapter to ask for what is not EventEngine's; it is shown who we are as the Kubernetes API is."""
        server, authority = self._settings.chained_adapter, self._settings.chained_authority
        if not server or authority is None:
            return None
        return ChainedAdapter(server, authority, own.authorization, self._note_chained)

    def _view_of_keda(self) -> MetricView:
        return MetricView(self._pods.fleet(), self._store, time.time(), self._last_known_good_of_keda)

    async def _wait_for_authentication(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._authentication.synced.wait(), _WAITING_LOG_SECONDS)
                break
            except TimeoutError:
                _log.warning("waiting for the ConfigMap %s/%s", NAMESPACE, CONFIG_MAP)
        if not self._proxies.proxy_authorities:
            _log.warning(
                "the ConfigMap %s/%s names no request-header authority: requests through the "
                "aggregation layer will be taken as anonymous",
                NAMESPACE,
                CONFIG_MAP,
            )

    def _keep_proxies(self, config_map: dict[str, Any]) -> bool:
        found = trusted_proxies(config_map)
        if found is not None:
            self._proxies = found
            self._tls.trust((*found.client_authorities, *found.proxy_authorities))
        return True

    def _note_restart(self, kind: str, reason: str) -> None:
        self._monitoring.watch_restarts.labels(kind, reason).inc()

    def _note_review(self, outcome: str, seconds: float) -> None:
        self._monitoring.access_review_seconds.labels(outcome).observe(max(0.0, seconds))

    def _note_question(self, kind: str, remembered: bool) -> None:
        self._monitoring.review_questions.labels(kind, str(remembered).lower()).inc()

    def _note_refused(self, reason: str) -> None:
        self._monitoring.connections_refused.labels(reason).inc()

    def _note_broker_read(self, succeeded: bool) -> None:
        self._monitoring.broker_reads.labels("answered" if succeeded else "failed").inc()

    def _note_chained(self, code: int, seconds: float) -> None:
        self._monitoring.chained_seconds.labels(str(code)).observe(seconds)

    def _note_endpoint_read(self, outcome: Outcome, seconds: float) -> None:
        del seconds
        self._monitoring.endpoint_reads.labels(outcome.value).inc()

    def _note_read(self, outcome: Outcome, seconds: float) -> None:
        self._monitoring.sample_reads.labels(outcome.value).inc()
        self._monitoring.sample_read_seconds.observe(max(0.0, seconds))


async def _first(*works: Coroutine[Any, Any, Any] | asyncio.Task[Any]) -> None:
    """Wait until one of these ends, and raise what it raises."""
    tasks = [work if isinstance(work, asyncio.Task) else asyncio.create_task(work) for work in works]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task, work in zip(tasks, works, strict=True):
        if task is not work and not task.done():
            task.cancel()
    for task in done:
        task.result()


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def run(settings: Settings) -> None:
    """Run an adapter until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    own = connection(settings.kubeconfig)
    async with (
        KubernetesClient(own) as client,
        SnapshotReader(settings.snapshot_port, settings.read_timeout_seconds) as reader,
        EndpointReader(settings.read_timeout_seconds, settings.reads_max) as endpoint_reader,
    ):
        await Adapter(settings, client, own, reader, endpoint_reader).run(stop)


async def explain(options: argparse.Namespace) -> str:
    """What `eventengine-adapter explain` prints."""
    async with KubernetesClient(connection(_kubeconfig(options.kubeconfig))) as client:
        found = await find(client, options.metric, options.namespace, options.selector)
        return describe(found, time.time())


def _kubeconfig(given: str | None) -> Path | None:
    """The kubeconfig as kubectl finds it; None inside of a pod."""
    if given:
        return Path(given)
    default = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    return default if default.exists() else None


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="eventengine-adapter",
        description="Serves the measurements of event engines to the Kubernetes metrics APIs.",
        epilog="environment:\n" + describe_settings(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="{explain}")
    explaining = commands.add_parser(
        "explain",
        help="print where a metric's value comes from and what an autoscaler makes of it",
        description="Asks the metrics APIs of a cluster, as the user of the kubeconfig. It changes nothing.",
    )
    explaining.add_argument("metric", help="name of the metric, such as kafka_consumer_lag")
    explaining.add_argument("-n", "--namespace", default="default", help="namespace (default: default)")
    explaining.add_argument("-l", "--selector", default="", help="label selector over the metric's labels")
    explaining.add_argument(
        "--kubeconfig", help="kubeconfig (default: $KUBECONFIG, ~/.kube/config, the pod's)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line."""
    options = _parse(arguments)
    try:
        if options.command == "explain":
            print(asyncio.run(explain(options)), end="")
            return 0
        settings = read_settings(os.environ)
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        asyncio.run(run(settings))
    except (SettingsError, ConnectionSettingsError) as error:
        print(f"eventengine-adapter: {error}", file=sys.stderr)
        return 2
    except (OSError, KubernetesError) as error:
        print(f"eventengine-adapter: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
