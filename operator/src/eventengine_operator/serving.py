"""/livez, /readyz and /metrics of the operator.

Live: the event loop answers, and the canary, where there is one, is heard of. Everything that could
hang inside it has a timeout, and whatever ends for good ends the process. Ready: a standby that can
reach the API server, so that a rollout may go on; a leader once its watches are up.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from .measuring import Measurements

SHUTDOWN_SECONDS = 2.0


class HealthServer:
    """See the module. `why_not_ready` and `why_dead` return an empty text when there is no reason."""

    def __init__(
        self,
        host: str,
        port: int,
        why_not_ready: Callable[[], str],
        why_dead: Callable[[], str],
        measurements: Measurements,
    ) -> None:
        self._host = host
        self._port = port
        self._why_not_ready = why_not_ready
        self._why_dead = why_dead
        self._measurements = measurements
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        application = web.Application()
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return _verdict(self._why_dead())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _verdict(self._why_not_ready())

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._measurements.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )


def _verdict(reason: str) -> web.Response:
    return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)
