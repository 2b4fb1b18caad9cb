"""Listening: one port, and what a client may cost before anybody knows who it is.

Every bound is on one connection: the request line, each header, their number,
and the time that a connection may be open without a whole request on it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from .security.serving_tls import ServingTls
from .settings import Address

LINE_BYTES_MAX: Final = 1 << 16
"""Twice the longest query that is read; label selectors are long."""

HEADER_BYTES_MAX: Final = 1 << 14
"""Room for a bearer token with many claims."""

HEADERS_MAX: Final = 512
"""The front proxy forwards each group of a user as a header of its own."""

IDLE_SECONDS_MAX: Final = 180.0
"""Longer than the API server keeps an idle connection: the client closes first, and no request is lost."""

_SHUTDOWN_SECONDS_MAX: Final = 5.0


async def serve(
    application: web.Application,
    address: Address,
    tls: ServingTls | None = None,
    idle_seconds_max: float = IDLE_SECONDS_MAX,
) -> Callable[[], Awaitable[None]]:
    """Listen on `address`, and give back what ends it again.

    Raises:
        OSError: the address is taken or not ours.
    """
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
    site = web.TCPSite(
        runner, address.host, address.port, ssl_context=tls.context if tls else None, reuse_address=True
    )
    await site.start()
    return runner.cleanup
