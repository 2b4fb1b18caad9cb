"""The webhook's server: HTTPS for the API server, and its certificate, which is followed while it serves.

Ordering: no port is open before there is a certificate; a new pair is tried on a context of its own first, so that a
half-written one never replaces a good one. Every question is answered within DEADLINE_SECONDS: advice that takes longer
is left out, and so it is when too many ask at once. Only what can't be read is an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from eventengine_contract.event_engine import EventEngineSpec

from eventengine_operator.measuring import Measurements
from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.neighbourhoods import Neighbourhood

from .advice import advise
from .reviews import Review, ReviewError, answer, read_review

DEADLINE_SECONDS: Final = 2.0
"""Well below the chart's shortest timeout of the API server for a webhook."""
READ_SECONDS_MAX: Final = 5.0
LOOKS_AT_ONCE_MAX: Final = 16
BODY_BYTES_MAX: Final = 8 * 1024 * 1024
"""An object has at most 1.5 MiB where it is stored, and an update carries two of them."""
POLL_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 3.0
"""Told to stop, it answers for so long: until then the API server may not have heard that it goes."""
SHUTDOWN_SECONDS: Final = 5.0
PATH: Final = "/validate"
Look = Callable[[Engine, EventEngineSpec], Awaitable[Neighbourhood]]
_log = logging.getLogger(__name__)


class Reviewer:
    """Answers one question after the other. `look` finds what advice rests on."""

    def __init__(self, look: Look, measurements: Measurements) -> None:
        self._look = look
        self._measurements = measurements
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE_MAX)

    async def review(self, request: web.Request) -> web.Response:
        """The handler of PATH."""
        try:
            async with asyncio.timeout(READ_SECONDS_MAX):
                body = await request.read()
            review = read_review(json.loads(body))
        except TimeoutError:
            self._measurements.reviews.labels("unreadable").inc()
            return web.Response(status=408, text="the question took too long to come\n")
        except (ValueError, RecursionError) as error:
            self._measurements.reviews.labels("unreadable").inc()
            reason = str(error) if isinstance(error, ReviewError) else "the body is no JSON"
            return web.Response(status=400, text=f"{reason}\n")
        warnings = [f"as before: {fault}" for fault in review.old_faults] if not review.faults else []
        warnings += await self._advice(review)
        result = "refused" if review.faults else "warned" if warnings else "accepted"
        self._measurements.reviews.labels(result).inc()
        return web.json_response(answer(review.uid, review.faults, warnings))

    async def _advice(self, review: Review) -> list[str]:
        engine = review.engine
        if engine.spec is None or self._looks.locked():
            return []
        try:
            async with self._looks, asyncio.timeout(DEADLINE_SECONDS):
                return advise(engine, await self._look(engine, engine.spec))
        except TimeoutError:
            _log.warning("%s/%s: no advice in time", engine.namespace, engine.name)
            return []


class ServingCertificate:
    """tls.crt and tls.key of a folder, as a TLS context that follows them."""

    def __init__(self, folder: Path) -> None:
        self._certificate, self._key = folder / "tls.crt", folder / "tls.key"
        self._tried = b""
        self.loaded = asyncio.Event()
        self.context = _context()

    def reload(self) -> None:
        """Load the files if they changed and fit together; what served before goes on serving otherwise."""
        try:
            digest = hashlib.sha256(self._certificate.read_bytes() + self._key.read_bytes()).digest()
        except OSError:
            return
        if digest == self._tried:
            return
        self._tried = digest
        try:
            _context().load_cert_chain(self._certificate, self._key)
            self.context.load_cert_chain(self._certificate, self._key)
        except (ssl.SSLError, OSError) as error:
            _log.error("%s and %s can't be used: %s", self._certificate, self._key, error)
            return
        self.loaded.set()
        _log.info("serving with the certificate in %s", self._certificate)

    async def follow(self) -> None:
        """Reload until cancelled."""
        while True:
            self.reload()
            await asyncio.sleep(POLL_SECONDS)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def serve(
    reviewer: Reviewer, certificate: ServingCertificate, host: str, port: int, stop: asyncio.Event
) -> None:
    """Answer until `stop` is set and DRAIN_SECONDS more, and finish what was begun by then.

    Raises:
        OSError: the port is taken.
    """
    following = asyncio.create_task(certificate.follow(), name="certificate")
    application = web.Application(client_max_size=BODY_BYTES_MAX)
    application.router.add_post(PATH, reviewer.review)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await _first_of(certificate.loaded.wait(), stop.wait())
        if stop.is_set():
            return
        await web.TCPSite(runner, host, port, ssl_context=certificate.context).start()
        await stop.wait()
        await asyncio.sleep(DRAIN_SECONDS)
    finally:
        following.cancel()
        await runner.cleanup()


async def _first_of(*awaited: Coroutine[Any, Any, Any]) -> None:
    tasks = [asyncio.ensure_future(item) for item in awaited]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
