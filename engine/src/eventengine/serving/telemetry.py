"""The telemetry port: `/metrics`, `/snapshot`, `/livez`, `/readyz`.

Owns the translation of the native module's figures into HTTP. Computes no figure,
keeps none, and never answers with one that the native module didn't give: without
a sample the answer is an error. Every handler is one short call into the native
module, so that a probe is answered in the time that the event loop needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from eventengine.native import NativeEngine

METRICS_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SHUTDOWN_SECONDS: Final = 1.0
AT_DIGITS_MAX: Final = 12


class TelemetryUnavailableError(RuntimeError):
    """The telemetry address can't be listened on."""


@dataclass(frozen=True)
class Readiness:
    """Whether the engine takes events and whether it can still recover, with the reasons why not."""

    ready: bool
    live: bool
    reasons: tuple[str, ...]


def read_readiness(engine: NativeEngine, *, draining: bool = False) -> Readiness:
    """Ask the engine; one that drains is not ready, whatever it says itself."""
    told = json.loads(engine.readiness())
    reasons = tuple(str(reason) for reason in told["reasons"])
    if draining:
        return Readiness(False, bool(told["live"]), ("draining: the engine was told to stop", *reasons))
    return Readiness(bool(told["ready"]), bool(told["live"]), reasons)


class Telemetry:
    """The HTTP server of one engine."""

    def __init__(self, engine: NativeEngine, draining: Callable[[], bool]) -> None:
        self._engine = engine
        self._draining = draining
        self._runner: web.AppRunner | None = None

    def application(self) -> web.Application:
        """The routes, without a server around them."""
        application = web.Application(client_max_size=1024)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/snapshot", self._snapshot)
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/readyz", self._readyz)
        return application

    async def listen(self, address: str) -> tuple[str, int]:
        """Listen on `host:port`; port 0 lets the system choose. Returns the address in use.

        Raises:
            TelemetryUnavailableError: naming the address and why not.
        """
        host, port = split_address(address)
        runner = web.AppRunner(
            self.application(), access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, OverflowError) as error:
            await runner.cleanup()
            raise TelemetryUnavailableError(
                f"telemetry.listen: can't listen on {address}: {error}; free the port or name another one"
            ) from None
        self._runner = runner
        bound = runner.addresses[0]
        return str(bound[0]), int(bound[1])

    async def close(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._engine.metrics(), headers={"Content-Type": METRICS_CONTENT_TYPE})

    async def _snapshot(self, request: web.Request) -> web.Response:
        at = request.query.get("at")
        if at is None:
            sample = self._engine.snapshot()
            if sample is None:
                return web.Response(status=503, text="no sample was closed yet; ask again in a second\n")
        else:
            if not at.isascii() or not at.isdigit() or len(at) > AT_DIGITS_MAX:
                return web.Response(status=400, text="at: must be a Unix time in whole seconds\n")
            sample = self._engine.snapshot(int(at))
            if sample is None:
                return web.Response(status=404, text=f"no sample of second {at} is kept\n")
        return web.Response(body=sample, content_type="application/json")

    async def _livez(self, _request: web.Request) -> web.Response:
        readiness = read_readiness(self._engine)
        if readiness.live:
            return web.Response(text="live\n")
        return web.Response(status=503, text=_lines(readiness.reasons))

    async def _readyz(self, _request: web.Request) -> web.Response:
        readiness = read_readiness(self._engine, draining=self._draining())
        if readiness.ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=_lines(readiness.reasons))


def split_address(address: str) -> tuple[str | None, int]:
    """Host and port of `host:port`, `[v6]:port` or `:port`; an empty host means every interface."""
    host, _, port = address.rpartition(":")
    return host.strip("[]") or None, int(port)


def _lines(reasons: tuple[str, ...]) -> str:
    return "".join(f"{reason}\n" for reason in reasons) or "no reason was given\n"
