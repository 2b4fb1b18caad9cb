"""A proxy between the operator and the real API server that can answer wrongly, late, twice or not at all.

It forwards everything as it is unless a test sets `answer` (for whole requests), `events` (for each line of a
watch) or `written` (told of each write once it is done and before the operator learns of it), or cuts the line. It
listens on loopback without TLS; towards the API server it verifies the cluster's CA.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web
from eventengine_harness.control_planes import LOOPBACK, free_port

LINE_BYTES_MAX = 8 * 1024 * 1024
START_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 5.0
CUT_POLL_SECONDS = 0.05
FORWARDED = ("Accept", "Authorization", "Content-Type")


@dataclass(frozen=True)
class Request:
    """What the operator asks for."""

    method: str
    path: str
    is_watch: bool

    @property
    def is_write(self) -> bool:
        """Whether it changes something that isn't the operator's own: the Lease and Events don't count."""
        return self.method != "GET" and not self.path.endswith(
            ("/events", "/leases", "/eventengine-operator")
        )

    @property
    def is_list(self) -> bool:
        """Whether it lists."""
        return self.method == "GET" and not self.is_watch


@dataclass(frozen=True)
class Answer:
    """What the proxy says instead of the API server."""

    status: int
    retry_after_seconds: int | None = None
    body: bytes = b""

    def to_response(self) -> web.Response:
        """As the API server would put it."""
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": "injected",
            "code": self.status,
        }
        headers = {"Retry-After": str(self.retry_after_seconds)} if self.retry_after_seconds else {}
        return web.Response(
            status=self.status,
            headers=headers,
            body=self.body or json.dumps(status).encode(),
            content_type="application/json",
        )


def faithful(_: Request, line: bytes) -> list[tuple[float, bytes]]:
    """Each event once and at once."""
    return [(0.0, line)]


GONE = json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}).encode()


def abort_unread(answer: aiohttp.ClientResponse) -> None:
    """End the connection of an answer that wasn't read to its end; of one that was, do nothing.

    Closed in order, it would stay open until the API server has said goodbye over TLS, and nothing waits for that.
    """
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()


def abort_unwanted(asked: asyncio.Future[aiohttp.ClientResponse]) -> None:
    """The same for an answer that nobody waits for any more."""
    if not asked.cancelled() and asked.exception() is None:
        abort_unread(asked.result())
        asked.result().close()


class FaultProxy:
    """See the module; use it in a `with`."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
        (cluster,) = self._config["clusters"]
        self._upstream = cluster["cluster"]["server"]
        authority = base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        self._port = free_port()
        cluster["cluster"] = {"server": f"http://{LOOPBACK}:{self._port}"}
        self.kubeconfig = folder / "through-the-proxy.kubeconfig"
        """Leads the operator through the proxy, with the rights it had."""
        self.kubeconfig.write_text(yaml.safe_dump(self._config))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="fault proxy", daemon=True
        )
        self._started = threading.Event()
        self._asking: set[asyncio.Future[aiohttp.ClientResponse]] = set()
        self._lists: dict[str, bytes] = {}
        self._passable = asyncio.Event()
        self._passable.set()
        self.answer: Callable[[Request], Answer | None]
        self.events: Callable[[Request, bytes], list[tuple[float, bytes]]]
        self.written: Callable[[Request], None]
        self.heal()

    def cut(self) -> None:
        """From now on nothing comes through in either direction, and nothing says so: a partition."""
        self._in_loop(self._passable.clear)

    def heal(self) -> None:
        """Be faithful again."""
        self._in_loop(self._passable.set)
        self.written = lambda _: None
        self.answer = lambda _: None
        self.events = faithful

    def freeze_lists(self) -> None:
        """From now on answer lists as they were answered last: what a lagging replica would say."""
        known = dict(self._lists)
        self.answer = lambda request: (
            Answer(200, body=known[request.path])
            if request.is_list and request.path in known and not request.path.endswith("/eventengines")
            else None
        )

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(START_SECONDS_MAX)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS_MAX)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        application = web.Application(client_max_size=LINE_BYTES_MAX)
        connector = aiohttp.TCPConnector(ssl=self._context, limit=0)
        async with aiohttp.ClientSession(
            connector=connector,
            read_bufsize=LINE_BYTES_MAX,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as session:

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._handle(session, request)

            application.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=1.0)
            await runner.setup()
            await web.TCPSite(runner, LOOPBACK, self._port).start()
            self._started.set()
            await self._stop.wait()
            await runner.cleanup()
            if self._asking:
                await asyncio.wait(self._asking, timeout=STOP_SECONDS_MAX)

    async def _handle(self, session: aiohttp.ClientSession, request: web.Request) -> web.StreamResponse:
        asked = Request(request.method, request.path, request.query.get("watch") == "true")
        await self._passable.wait()
        injected = self.answer(asked)
        if injected is not None:
            return injected.to_response()
        headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
        body = await request.read()
        url = self._upstream + request.path_qs
        question = session.request(request.method, url, headers=headers, data=body or None)
        async with await self._ask(question) as upstream:
            try:
                if asked.is_watch and upstream.status == 200:
                    return await self._pass_on(asked, request, upstream)
                answer = await upstream.read()
            finally:
                abort_unread(upstream)
            await self._passable.wait()
            if asked.is_write and upstream.status < 300:
                self.written(asked)
            if asked.is_list and upstream.status == 200:
                self._lists[asked.path] = answer
            return web.Response(status=upstream.status, body=answer, content_type=upstream.content_type)

    async def _ask(self, question: Awaitable[aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
        """Ask upstream, to the end even where the asker gives up: asyncio closes no connection cancelled half made."""
        asking = asyncio.ensure_future(question)
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(abort_unwanted)
            raise

    def _in_loop(self, function: Callable[[], None]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(function)

    async def _pass_on(
        self, asked: Request, request: web.Request, upstream: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        async for line in upstream.content:
            await self._passable.wait()
            for delay_seconds, sent in self.events(asked, line.rstrip(b"\n")):
                if delay_seconds:
                    await asyncio.sleep(delay_seconds)
                await response.write(sent + b"\n")
        return response
