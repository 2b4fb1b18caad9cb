"""HTTP requests to the Kubernetes API: get, create, and the stream of a watch.

Owns limits and errors: every request has a deadline, every body a bound, no
redirect is followed, and credentials are never part of a message.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Self

import aiohttp

from .connections import Connection

REQUEST_SECONDS_MAX: Final = 30.0
WATCH_SILENCE_SECONDS_MAX: Final = 150.0
"""A watch with bookmarks says something about once a minute; longer silence is a dead connection."""

OBJECT_BYTES_MAX: Final = 8 << 20
LIST_BYTES_MAX: Final = 64 << 20
_CHUNK_BYTES: Final = 1 << 16
_CONNECTIONS_MAX: Final = 64
_USER_AGENT: Final = "eventengine-adapter"


class KubernetesError(Exception):
    """A request that the Kubernetes API refused, or that never got an answer (`code` is 0 then)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class KubernetesClient:
    """One connection pool to one API server. Use as an async context manager."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS_MAX, ssl=self._connection.tls or False)
        self._session = aiohttp.ClientSession(
            connector=connector, trust_env=False, headers={"User-Agent": _USER_AGENT}
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = "application/json"
    ) -> dict[str, Any]:
        """One object or list.

        Raises:
            KubernetesError: refused, unreachable, too slow or too large.
        """
        return await self._exchange("GET", path, query=query, accept=accept)

    async def create(self, path: str, body: Mapping[str, Any], seconds_max: float) -> dict[str, Any]:
        """Post an object, and the object that comes back.

        Raises:
            KubernetesError: refused, unreachable or too slow.
        """
        return await self._exchange("POST", path, body=body, seconds_max=seconds_max)

    async def watch(
        self, path: str, query: Mapping[str, str], seconds_max: int, accept: str = "application/json"
    ) -> AsyncIterator[dict[str, Any]]:
        """The events of a watch, until the server ends it.

        Raises:
            KubernetesError: refused (410: the position is too old), broken, or silent for too long.
        """
        timeout = aiohttp.ClientTimeout(
            total=seconds_max + REQUEST_SECONDS_MAX,
            sock_connect=REQUEST_SECONDS_MAX,
            sock_read=WATCH_SILENCE_SECONDS_MAX,
        )
        try:
            async with self._request(
                "GET", path, {**query, "watch": "true", "timeoutSeconds": str(seconds_max)}, accept, timeout
            ) as response:
                if response.status != 200:
                    raise await _refusal(response)
                async for line in _lines(response):
                    yield _parse(line)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubernetesError(0, f"watch of {path}: {_describe(error)}") from error

    async def _exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: str = "application/json",
        seconds_max: float = REQUEST_SECONDS_MAX,
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=seconds_max)
        try:
            async with self._request(method, path, query or {}, accept, timeout, body) as response:
                if not 200 <= response.status < 300:
                    raise await _refusal(response)
                return _parse(await _read(response, LIST_BYTES_MAX))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubernetesError(0, f"{method} {path}: {_describe(error)}") from error

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        accept: str,
        timeout: aiohttp.ClientTimeout,
        body: Mapping[str, Any] | None = None,
    ) -> aiohttp.client._RequestContextManager:
        if self._session is None:
            raise RuntimeError("the client is used outside of its context")
        headers = {"Accept": accept}
        authorization = self._connection.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        return self._session.request(
            method,
            self._connection.server + path,
            params=dict(query),
            json=body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
        )


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > bytes_max:
            raise KubernetesError(0, f"{response.url.path} answered with more than {bytes_max} bytes")
    return bytes(body)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        rest += chunk
        while (end := rest.find(b"\n")) >= 0:
            line = bytes(rest[:end])
            del rest[: end + 1]
            if line.strip():
                yield line
        if len(rest) > OBJECT_BYTES_MAX:
            raise KubernetesError(0, f"the watch of {response.url.path} sent an object that is too large")


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise KubernetesError(0, "the Kubernetes API answered with something that is not JSON") from error
    if not isinstance(document, dict):
        raise KubernetesError(0, "the Kubernetes API answered with something that is no object")
    return document


async def _refusal(response: aiohttp.ClientResponse) -> KubernetesError:
    body = await _read(response, OBJECT_BYTES_MAX)
    try:
        message = str(_parse(body).get("message") or response.reason)
    except KubernetesError:
        message = str(response.reason)
    return KubernetesError(response.status, f"{response.url.path}: {response.status} {message[:512]}")


def _describe(error: BaseException) -> str:
    return str(error) or type(error).__name__
