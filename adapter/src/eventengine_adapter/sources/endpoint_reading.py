"""One HTTP request to the user's own Prometheus endpoint in one pod, with a bound on everything.

The pod's address is dialled directly: no proxy, no redirect, no cookie, no compression. A pod gets here only from the
fleet, so that its chain of owners ends in the EventEngine that names the endpoint. An endpoint keeps no past: what
is read is of the second on which it is read, by this adapter's clock.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, Self

import aiohttp

from eventengine_adapter.samples.endpoint_values import CounterHistory, endpoint_values
from eventengine_adapter.samples.fleets import EnginePod
from eventengine_adapter.samples.pod_samples import PodSample

from .snapshot_reading import Outcome, ReadError

BODY_BYTES_MAX: Final = 1 << 20
FORGOTTEN_SECONDS: Final = 60
_CHUNK_BYTES: Final = 1 << 16
_PAST_SECONDS: Final = 2


class _Known:
    """What is kept of one pod between two reads."""

    def __init__(self, second: int) -> None:
        self.first_second = self.last_second = second
        self.counters: defaultdict[str, CounterHistory] = defaultdict(CounterHistory)


class EndpointReader:
    """Reads the users' endpoints. Use as an async context manager."""

    def __init__(self, timeout_seconds: float, connections_max: int) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._connections_max = connections_max
        self._session: aiohttp.ClientSession | None = None
        self._known: dict[str, _Known] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections_max, limit_per_host=1, use_dns_cache=False, keepalive_timeout=15.0
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={
                "User-Agent": "eventengine-adapter",
                "Accept": "text/plain;version=0.0.4",
                "Accept-Encoding": "identity",
            },
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, pod: EnginePod, second: int | None, now_seconds: float) -> PodSample:
        """What the endpoint says now, as the sample of `second`.

        Raises:
            ReadError: it says nothing that counts, or `second` is long past.
        """
        at = int(now_seconds) if second is None else second
        if now_seconds - at >= _PAST_SECONDS:
            raise ReadError(Outcome.NOT_KEPT, "an endpoint keeps nothing of the past")
        endpoint = pod.endpoint
        if endpoint is None:
            raise ReadError(Outcome.NOT_KEPT, "its engine names no endpoint")
        body = await self._fetch(pod, endpoint.port, endpoint.path)
        known = self._remember(pod.uid, at)
        names = [metric.name for metric in endpoint.metrics]
        age_seconds_max = min(metric.age_seconds_max for metric in endpoint.metrics)
        for name in names:
            known.counters[name]
        values = endpoint_values(body, names, known.counters, at, now_seconds, age_seconds_max)
        return PodSample(
            sampled_at_seconds=at,
            incarnation="",
            started_at_seconds=known.first_second - 1,
            ready=True,
            gauges_millis=values.millis,
            shed_events={},
            sources=(),
            unknown_because=values.unknown_because,
        )

    def _remember(self, uid: str, second: int) -> _Known:
        for gone in [
            key for key, known in self._known.items() if second - known.last_second > FORGOTTEN_SECONDS
        ]:
            del self._known[gone]
        known = self._known.setdefault(uid, _Known(second))
        if abs(second - known.last_second) > FORGOTTEN_SECONDS:
            known = self._known[uid] = _Known(second)
        known.last_second = second
        return known

    async def _fetch(self, pod: EnginePod, port: int, path: str) -> bytes:
        if self._session is None:
            raise RuntimeError("the reader is used outside of its context")
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        where = f"its endpoint at port {port}"
        try:
            async with self._session.get(
                f"http://{host}:{port}{path}", timeout=self._timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise ReadError(Outcome.REFUSED, f"{where} answered with status {response.status}")
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise ReadError(Outcome.INVALID, f"{where} answered compressed without being asked to")
                body = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    body += chunk
                    if len(body) > BODY_BYTES_MAX:
                        raise ReadError(Outcome.TOO_LARGE, f"{where} says more than {BODY_BYTES_MAX} bytes")
                return bytes(body)
        except TimeoutError as error:
            raise ReadError(
                Outcome.TIMEOUT, f"{where} did not answer within {self._timeout.total:g} s"
            ) from error
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or type(error.os_error).__name__
            raise ReadError(Outcome.UNREACHABLE, f"{where} can't be reached: {reason}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ReadError(Outcome.UNREACHABLE, f"reading {where} failed: {type(error).__name__}") from error
