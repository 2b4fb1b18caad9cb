"""Listening: one port, and what a request may cost before anybody knows who it is from.

Bounds on one request are here: the request line, each header, their number. Bounds on connections and on
time are those of `connection_limits`.
"""

from __future__ import annotations

import asyncio
from asyncio.sslproto import SSLProtocol
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from .connection_limits import ConnectionLimiter, ConnectionLimits, LimitedListener, listen
from .security.serving_tls import ServingTls
from .settings import Address

LINE_BYTES_MAX: Final = 1 << 16
"""Twice the longest query that is read; label selectors are long."""

HEADER_BYTES_MAX: Final = 1 << 14
"""Room for a bearer token with many claims."""

HEADERS_MAX: Final = 512
"""The front proxy forwards each group of a user as a header of its own."""

TLS_BUFFER_BYTES: Final = 1 << 15
"""What asyncio keeps for each TLS connection, and reads at a time; a quarter of a megabyte if nobody says otherwise."""

IDLE_SECONDS_MAX: Final = 180.0
"""Longer than the API server keeps an idle connection: the client closes first, and no request is lost."""

_SHUTDOWN_SECONDS_MAX: Final = 5.0
_BACKLOG: Final = 128


async def serve(
    application: web.Application,
    address: Address,
    tls: ServingTls | None = None,
    *,
    idle_seconds_max: float = IDLE_SECONDS_MAX,
    limits: ConnectionLimits | None = None,
    on_refused: Callable[[str], None] = lambda _reason: None,
) -> Callable[[], Awaitable[None]]:
    """Listen on `address`, and give back what ends it again.

    Raises:
        OSError: the address is taken or not ours.
    """
    SSLProtocol.max_size = TLS_BUFFER_BYTES
    limiter = ConnectionLimiter(limits or ConnectionLimits(), on_refused)
    application.middlewares.insert(0, limiter.note_head)
    runner = web.AppRunner(
        application,
        access_log=None,
        keepalive_timeout=idle_seconds_max,
        max_line_size=LINE_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        max_headers=HEADERS_MAX,
        shutdown_timeout=_SHUTDOWN_SECONDS_MAX,
    )
    await runner.setup()
    try:
        for listener in listen(address.host, address.port, limiter):
            await _LimitedSite(runner, listener, limiter, tls).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner.cleanup


class _LimitedSite(web.BaseSite):
    """One listening socket, served within its limiter's bounds."""

    def __init__(
        self,
        runner: web.AppRunner,
        listener: LimitedListener,
        limiter: ConnectionLimiter,
        tls: ServingTls | None,
    ) -> None:
        super().__init__(runner, ssl_context=tls.context if tls else None, backlog=_BACKLOG)
        self._listener = listener
        self._limiter = limiter

    @property
    def name(self) -> str:
        """Where it listens."""
        return str(self._listener.getsockname())

    async def start(self) -> None:
        """Begin to accept connections."""
        await super().start()
        server = self._runner.server
        if server is None:
            raise RuntimeError("the runner has not been set up")
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._limiter.guard(server()),
            sock=self._listener,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=self._limiter.limits.handshake_seconds_max if self._ssl_context else None,
        )
