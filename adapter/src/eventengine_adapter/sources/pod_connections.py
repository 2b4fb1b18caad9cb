"""Kept connections to pods: one request on one of them at a time, and nothing else of HTTP.

Owns dialling, reuse and the end of connections. A pod is dialled at its IP and nowhere else: no name is looked up, no
proxy asked, no redirect followed, no cookie kept. Ordering: an answer is taken only while one is awaited; a connection
on which anything else happens is closed and not used again. Bounded: one idle connection a pod, for a while, and so
many in all.

It exists because a thousand reads a second through a general HTTP client cost more than everything else that the
adapter does together (docs/decisions/0018-reading-pods.md).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict
from typing import Final, cast

from .http_answers import Answer, AnswerError

IDLE_SECONDS_MAX: Final = 15.0
"""Less than a pod's server keeps an idle connection."""

IDLE_MAX: Final = 8192
_ARRIVAL_BYTES_MAX: Final = 1 << 16


class ConnectionLostError(OSError):
    """The connection ended before the answer was whole. `unheard` if not a byte of an answer had arrived."""

    def __init__(self, *, unheard: bool) -> None:
        super().__init__("the connection ended before the answer")
        self.unheard = unheard


class _Connection(asyncio.BufferedProtocol):
    """One connection: at most one question at a time. What arrives is taken from `arrivals` at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, arrivals: memoryview) -> None:
        self._loop = loop
        self._arrivals = arrivals
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._answer: Answer | None = None
        self._heard = False
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_usable(self) -> bool:
        """Whether another question may be asked."""
        return self._transport is not None and not self._transport.is_closing()

    def now(self) -> float:
        """The time by the loop's clock."""
        return self._loop.time()

    def ask(self, question: bytes, body_bytes_max: int, deadline: float) -> asyncio.Future[Answer]:
        """Send a question; what is returned is its answer, or a TimeoutError at `deadline` by the loop's clock.

        An answer that has arrived by the time the deadline is looked at counts: a loop that was held up reads what
        there is before it looks at its timers.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionLostError(unheard=True)
        self._waiting = self._loop.create_future()
        self._deadline = self._loop.call_at(deadline, self._fail, TimeoutError())
        self._answer, self._heard = Answer(body_bytes_max), False
        self._transport.write(question)
        return self._waiting

    def close(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._arrivals

    def buffer_updated(self, nbytes: int) -> None:
        answer = self._answer
        if answer is None:
            self.close()
            return
        self._heard = True
        try:
            if answer.feed(self._arrivals[:nbytes]):
                self._conclude(answer)
        except AnswerError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        answer, self._transport = self._answer, None
        if answer is not None and exc is None and answer.end():
            self._conclude(answer)
        else:
            self._fail(ConnectionLostError(unheard=not self._heard))

    def _conclude(self, answer: Answer) -> None:
        waiting = self._take_waiting()
        if not answer.keeps_alive:
            self.close()
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _fail(self, error: Exception) -> None:
        waiting = self._take_waiting()
        self.close()
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    def _take_waiting(self) -> asyncio.Future[Answer] | None:
        """Whoever waits for an answer; from now on nobody does."""
        if self._deadline is not None:
            self._deadline.cancel()
        waiting, self._waiting, self._answer, self._deadline = self._waiting, None, None, None
        return waiting


class PodConnections:
    """Asks pods for paths over kept connections."""

    def __init__(self, port: int, body_bytes_max: int) -> None:
        self._port = port
        self._body_bytes_max = body_bytes_max
        self._idle: OrderedDict[str, tuple[float, _Connection]] = OrderedDict()
        self._closed = False
        # One for all: a buffer for each read is memory that the kernel has to find anew a thousand times a second.
        self._arrivals = memoryview(bytearray(_ARRIVAL_BYTES_MAX))

    async def get(self, address: str, target: str, timeout_seconds: float) -> Answer:
        """The answer to `GET target` of the pod at `address`, an IP.

        Raises:
            TimeoutError: it did not come in time.
            AnswerError: what came is no answer, or too large a one.
            OSError: the pod can't be reached, or the connection broke.
        """
        host = f"[{address}]" if ":" in address else address
        question = (
            f"GET {target} HTTP/1.1\r\nHost: {host}:{self._port}\r\n"
            "User-Agent: eventengine-adapter\r\nAccept: application/json\r\n\r\n"
        ).encode()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        _, kept = self._idle.pop(address, (0.0, None))
        if kept is not None and kept.is_usable:
            try:
                return await self._ask(address, kept, question, deadline)
            except ConnectionLostError as error:
                # The pod closed it while the question was on its way; it saw none of it, or can be asked again.
                if not error.unheard:
                    raise
        if not _is_address(address):
            raise OSError(f"{address[:64]!r} is no address")
        async with asyncio.timeout_at(deadline):
            _, fresh = await loop.create_connection(
                lambda: _Connection(loop, self._arrivals), address, self._port
            )
        return await self._ask(address, fresh, question, deadline)

    async def _ask(self, address: str, connection: _Connection, question: bytes, deadline: float) -> Answer:
        try:
            answer = await connection.ask(question, self._body_bytes_max, deadline)
        except BaseException:
            connection.close()
            raise
        if connection.is_usable:
            self._keep(address, connection, connection.now())
        return answer

    def _keep(self, address: str, connection: _Connection, now: float) -> None:
        if self._closed or address in self._idle:
            connection.close()
            return
        self._idle[address] = (now, connection)
        while self._idle:
            since, oldest = next(iter(self._idle.values()))
            if len(self._idle) <= IDLE_MAX and now - since < IDLE_SECONDS_MAX:
                break
            self._idle.popitem(last=False)
            oldest.close()

    def close(self) -> None:
        """End all idle connections; those that are being used end with their answer."""
        self._closed = True
        for _, connection in self._idle.values():
            connection.close()
        self._idle.clear()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
