"""What the program can be asked to do: operate, answer as the webhook, and clean up before an uninstallation."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import Final

from .clients.connections import open_api_client
from .clients.kubernetes_api import KubernetesApi
from .clients.leases import Leadership, LeaseTimes
from .clients.neighbourhoods import Neighbourhoods
from .clients.pacing import Pace
from .handlers.metrics_apis import delete_api_services
from .measuring import Measurements
from .operating import Operator
from .reviewing.answering import Reviewer, ServingCertificate, serve
from .serving import HealthServer
from .settings import Settings

SEIZE_SECONDS: Final = 120.0
"""How long a clean-up keeps operators away: enough for the rest of an uninstallation."""
CLEANUP_HOLDER: Final = "eventengine-operator-cleanup"
_log = logging.getLogger(__name__)


async def run_operator(settings: Settings) -> int:
    """Run an operator until SIGTERM or SIGINT; returns the exit code."""
    stop = _until_told_to_stop()
    measurements = Measurements()
    client = await open_api_client()
    pace = Pace(settings.calls_per_second, settings.calls_burst)
    api = KubernetesApi(client, measurements, pace, write_seconds=settings.write_seconds)
    try:
        return await Operator(settings, api, KubernetesApi(client, measurements), measurements).run(stop)
    finally:
        await api.close()


async def run_webhook(settings: Settings) -> int:
    """Answer the API server's questions about EventEngines until SIGTERM or SIGINT; returns the exit code."""
    stop = _until_told_to_stop()
    measurements = Measurements()
    pace = Pace(settings.calls_per_second, settings.calls_burst)
    api = KubernetesApi(await open_api_client(), measurements, pace)
    neighbourhoods = Neighbourhoods(api, with_secrets=settings.follow_secrets)
    certificate = ServingCertificate(Path(settings.webhook_certificates))
    health = HealthServer(
        settings.listen_host,
        settings.listen_port,
        lambda: (
            "stopping"
            if stop.is_set()
            else ""
            if certificate.loaded.is_set()
            else "there is no certificate yet"
        ),
        lambda: "",
        measurements,
    )
    try:
        await health.start()
        reviewer = Reviewer(neighbourhoods.look, measurements)
        await serve(reviewer, certificate, settings.listen_host, settings.webhook_port, stop)
    finally:
        await health.stop()
        await api.close()
    return 0


async def clean_up(settings: Settings) -> int:
    """Delete the APIServices of this installation, for good.

    A running operator would make them again. So the Lease is taken from it first: it notices within
    its renewal deadline, ends, and comes back as a standby until the clean-up's term is over.
    """
    api = KubernetesApi(await open_api_client(), Measurements())
    times = LeaseTimes(settings.lease_seconds, settings.renew_deadline_seconds, settings.retry_seconds)
    try:
        await Leadership(api, settings.namespace, CLEANUP_HOLDER, times).seize(SEIZE_SECONDS)
        await asyncio.sleep(settings.renew_deadline_seconds)
        deleted = await delete_api_services(api, settings.namespace)
        _log.info("deleted %s", ", ".join(deleted) or "nothing; there was none")
    finally:
        await api.close()
    return 0


def _until_told_to_stop() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
