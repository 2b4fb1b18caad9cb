"""Asking another adapter, with our own token, for what a caller may read.

Owns the connections, their bounds, and the end of loops. The caller was
authorised before (`app`), for the very name that is asked here: this adapter's
own rights are wider than a caller's. An answer is passed on and forgotten; what can't be had
is an error each time anew. Of the names that the other adapter lists the last
ones known are kept, because discovery is answered from memory.

A request carries `Via`, as a proxy's does. One that comes in with our own name in it has
been here before, and goes no further.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp
from eventengine_contract.metric_names import METRICS

from eventengine_adapter.apis import statuses
from eventengine_adapter.apis.routing import EXTERNAL_GROUP, VERSIONS, Route
from eventengine_adapter.apis.statuses import ApiError

from .documents import AnswerError, read_names, read_refusal, read_values

_log = logging.getLogger(__name__)

VIA: Final = "eventengine-adapter"
ANSWER_SECONDS_MAX: Final = 5.0
ANSWER_BYTES_MAX: Final = 4 << 20
REQUESTS_MAX: Final = 64
"""Questions at a time; the next ones are refused, not queued: an autoscaler asks again."""

NAMES_SECONDS: Final = 60.0
_CHUNK_BYTES: Final = 1 << 16


class ChainedAdapter:
    """One other adapter. Use as an async context manager.

    Args:
        server: Its URL, without a path.
        authority: File with the authorities that may vouch for its certificate, read again as it changes.
        authorization: The Authorization header that says who we are, as of now.
        note_answer: Told the status code that a question ended with, and how long it took.
    """

    def __init__(
        self,
        server: str,
        authority: Path,
        authorization: Callable[[], str | None],
        note_answer: Callable[[int, float], None] = lambda _code, _seconds: None,
    ) -> None:
        self.server = server.rstrip("/")
        self.names: tuple[str, ...] = ()
        """Metrics that it listed last, without those that are ours."""
        self._authority = authority
        self._authorization = authorization
        self._note_answer = note_answer
        self._session: aiohttp.ClientSession | None = None
        self._tls: tuple[tuple[int, int, int], ssl.SSLContext] | None = None
        self._open = 0
        self._refusal = ""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=REQUESTS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={
                "User-Agent": VIA,
                "Via": f"1.1 {VIA}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def values(self, route: Route, label_selector: str | None, via: Iterable[str]) -> dict[str, Any]:
        """The values of the metric that a route is about. `via` is the header of the request that came in.

        Raises:
            ApiError: what the other adapter refused with, 503 where it gave no answer, 404 for a loop.
        """
        if has_been_here(via):
            raise statuses.not_found(
                f"the server could not find the external metric {route.metric}; another EventEngine adapter asked "
                "for it, and adapters that are chained in a circle would ask each other for ever"
            )
        started = time.perf_counter()
        try:
            found = await self._values(route, label_selector)
        except ApiError as error:
            self._note_answer(error.code, time.perf_counter() - started)
            raise
        self._note_answer(200, time.perf_counter() - started)
        return found

    async def run(self) -> None:
        """Follow the names that it lists, until cancelled."""
        while True:
            await self.update_names()
            await asyncio.sleep(NAMES_SECONDS)

    async def update_names(self) -> None:
        """Read which metrics it has; the names from before stay where it doesn't say."""
        try:
            code, body = await self._exchange(f"/apis/{EXTERNAL_GROUP}/{VERSIONS[EXTERNAL_GROUP][0]}", {})
            if code != 200:
                raise AnswerError(f"status {code}")
            self.names, self._refusal = read_names(body, METRICS), ""
        except (AnswerError, ApiError) as error:
            if str(error) != self._refusal:
                self._refusal = str(error)
                _log.warning("%s does not say which metrics it has: %s", self.server, error)

    async def _values(self, route: Route, label_selector: str | None) -> dict[str, Any]:
        where = f"{quote(route.namespace, safe='')}/{quote(route.metric, safe='')}"
        path = f"/apis/{route.group}/{route.version}/namespaces/{where}"
        code, body = await self._exchange(path, {"labelSelector": label_selector} if label_selector else {})
        asked = f"external metric {route.metric}: {self.server}"
        if code != 200:
            raise read_refusal(code, body, asked)
        try:
            return read_values(body, route.version)
        except AnswerError as error:
            raise statuses.unavailable(f"{asked} gave an answer that can't be passed on: {error}") from error

    async def _exchange(self, path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        """Status code and body of a GET.

        Raises:
            ApiError: 503, there is no whole answer.
        """
        if self._session is None:
            raise RuntimeError("the chained adapter is used outside of its context")
        if self._open >= REQUESTS_MAX:
            raise statuses.unavailable(f"{self.server} has yet to answer {REQUESTS_MAX} other questions")
        self._open += 1
        try:
            authorization = self._authorization()
            async with self._session.get(
                self.server + path,
                params=query,
                ssl=self._trust(),
                headers={"Authorization": authorization} if authorization else {},
                timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX),
                allow_redirects=False,
            ) as response:
                return response.status, await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            words = str(error) or f"no answer within {ANSWER_SECONDS_MAX:g} s"
            raise statuses.unavailable(f"{self.server} did not answer: {words}") from error
        finally:
            self._open -= 1

    def _trust(self) -> ssl.SSLContext:
        """What its certificate is checked with; read anew where the file changed.

        Raises:
            OSError: the file can't be used (ssl.SSLError among them), and there is nothing from before.
        """
        try:
            status = self._authority.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if self._tls is None or self._tls[0] != seen:
                self._tls = (seen, ssl.create_default_context(cafile=str(self._authority)))
        except OSError as error:
            if self._tls is None:
                raise
            _log.error("%s is trusted as before: %s: %s", self.server, self._authority, error)
        return self._tls[1]


def has_been_here(via: Iterable[str]) -> bool:
    """Whether a request passed through an adapter of ours before."""
    passages = (passage.split() for header in via for passage in header.split(","))
    return any(len(passage) >= 2 and passage[1].lower() == VIA for passage in passages)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise aiohttp.ClientPayloadError(f"more than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)
