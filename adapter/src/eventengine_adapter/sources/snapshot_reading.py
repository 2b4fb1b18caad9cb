"""One HTTP request to one pod for one sample, and everything that can be wrong with the answer.

The pod's address is dialled directly: no proxy, no redirect, no cookie, a bound
on time and size. What answers must be that pod of that engine, in a version
that is known, with a clock that agrees; anything else is no sample.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Final, Self

import aiohttp
from eventengine_contract.snapshots import SNAPSHOT_VERSION, Snapshot
from pydantic import ValidationError

from eventengine_adapter.samples.fleets import EnginePod
from eventengine_adapter.samples.freshness import CLOCK_AHEAD_SECONDS_MAX
from eventengine_adapter.samples.pod_samples import PodSample, pod_sample

SNAPSHOT_BYTES_MAX: Final = 4 << 20
_CHUNK_BYTES: Final = 1 << 16


class Outcome(StrEnum):
    """How an attempt ended."""

    SAMPLED = "sampled"
    NOT_KEPT = "not-kept"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    TOO_LARGE = "too-large"
    INVALID = "invalid"
    VERSION = "version"
    STRANGER = "stranger"
    CLOCK = "clock"


class ReadError(Exception):
    """No sample. The reason is shown to users who ask for a metric of this pod."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


class SnapshotReader:
    """Reads samples of pods. Use as an async context manager."""

    def __init__(self, port: int, timeout_seconds: float, connections_max: int) -> None:
        self._port = port
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._connections_max = connections_max
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections_max, limit_per_host=1, use_dns_cache=False, keepalive_timeout=15.0
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": "eventengine-adapter", "Accept": "application/json"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, pod: EnginePod, second: int | None, now_seconds: float) -> PodSample:
        """The sample of `second`, or the newest if None.

        Raises:
            ReadError: there is none that counts.
        """
        body = await self._fetch(pod, second)
        return interpret(body, pod, second, now_seconds)

    async def _fetch(self, pod: EnginePod, second: int | None) -> bytes:
        if self._session is None:
            raise RuntimeError("the reader is used outside of its context")
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        url = f"http://{host}:{self._port}/snapshot"
        query = {} if second is None else {"at": str(second)}
        try:
            async with self._session.get(
                url, params=query, timeout=self._timeout, allow_redirects=False
            ) as response:
                if response.status == 404:
                    raise ReadError(Outcome.NOT_KEPT, "it has no sample to give")
                if response.status != 200:
                    raise ReadError(Outcome.REFUSED, f"it answered with status {response.status}")
                body = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    body += chunk
                    if len(body) > SNAPSHOT_BYTES_MAX:
                        raise ReadError(
                            Outcome.TOO_LARGE, f"its sample has more than {SNAPSHOT_BYTES_MAX} bytes"
                        )
                return bytes(body)
        except TimeoutError as error:
            raise ReadError(Outcome.TIMEOUT, f"it did not answer within {self._timeout.total:g} s") from error
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or type(error.os_error).__name__
            raise ReadError(Outcome.UNREACHABLE, f"it can't be reached: {reason}") from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise ReadError(Outcome.UNREACHABLE, f"reading it failed: {type(error).__name__}") from error


def interpret(body: bytes, pod: EnginePod, second: int | None, now_seconds: float) -> PodSample:
    """The sample in `body`, if it is one of `pod`.

    Raises:
        ReadError: it is not.
    """
    try:
        snapshot = Snapshot.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "its sample"
        if first["loc"] == ("version",):
            raise ReadError(
                Outcome.VERSION,
                f"its sample is not of version {SNAPSHOT_VERSION}, the one that is understood",
            ) from error
        raise ReadError(Outcome.INVALID, f"its sample is invalid at {where}: {first['msg']}"[:256]) from error
    identity = snapshot.identity
    if (identity.namespace, identity.engine, identity.pod) != (pod.namespace, pod.engine, pod.name):
        raise ReadError(Outcome.STRANGER, "another engine or pod answers at its address")
    if second is not None and snapshot.sampled_at_seconds != second:
        raise ReadError(Outcome.INVALID, "its sample is of another second than was asked for")
    ahead_seconds = snapshot.sampled_at_seconds - now_seconds
    if ahead_seconds > CLOCK_AHEAD_SECONDS_MAX:
        raise ReadError(Outcome.CLOCK, f"its clock is {ahead_seconds:.0f} s ahead of the adapter's")
    try:
        return pod_sample(snapshot)
    except ValueError as error:
        raise ReadError(Outcome.INVALID, f"its sample can't be true: {error}"[:256]) from error
