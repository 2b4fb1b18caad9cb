"""A proxy before a real broker that can make its metadata name no broker.

A broker that registers anew with its controller, after a restart or when the two have lost each other, still knows its
topics and names no broker, itself included, to whoever asks meanwhile. It does so for moments that no test can choose;
here brokers are taken out of its real answers for as long as a test says. Everything else passes unchanged.

The broker must advertise the proxy's port, or clients go past it.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import NamedTuple, Self

from eventengine_harness.control_planes import LOOPBACK, free_port
from eventengine_harness.exceptions import HarnessError

START_SECONDS_MAX = 10.0
BREAK_SECONDS = 1.0
FRAME_BYTES_MAX = 8 * 1024 * 1024

METADATA = 3
"""The key of metadata requests."""
FIRST_COMPACT_VERSION = 9
"""From this version on their answers are made of compact arrays, as here assumed."""
BROKERS_AT = 9
"""Where an answer's brokers begin: behind the correlation, no tagged fields, and the throttling in milliseconds."""


class Asked(NamedTuple):
    """What an answer is to."""

    key: int
    version: int
    client_id: str


class BrokerProxy:
    """Forwards to a broker's port on loopback: `with BrokerProxy(broker_port) as proxy:`."""

    def __init__(self, broker_port: int) -> None:
        self.port = free_port()
        """Where clients connect."""
        self.broker_port = broker_port
        """Where the broker listens."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="broker proxy", daemon=True
        )
        self._connections: set[asyncio.StreamWriter] = set()
        self._hides = threading.Event()
        self.misled: set[str] = set()
        """Ids of the clients that, this time, got metadata with topics and no broker."""

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(START_SECONDS_MAX):
            raise HarnessError("the proxy before the broker doesn't start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS_MAX)

    @contextmanager
    def without_brokers(self) -> Iterator[None]:
        """Until the end of the block metadata names no broker, and every second all connections break: clients ask."""
        self.misled = set()
        self._hides.set()
        try:
            yield
        finally:
            self._hides.clear()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._forward, LOOPBACK, self.port)
        self._started.set()
        while not self._stop.is_set():
            if self._hides.is_set():
                self._break_connections()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), BREAK_SECONDS)
        server.close()
        self._break_connections()
        await server.wait_closed()

    def _break_connections(self) -> None:
        for connection in self._connections:
            connection.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        self._connections.add(client)
        try:
            answers, broker = await asyncio.open_connection(LOOPBACK, self.broker_port)
            asked: dict[int, Asked] = {}
            passing = [
                asyncio.create_task(self._pass_requests(reader, broker, asked)),
                asyncio.create_task(self._pass_answers(answers, client, asked)),
            ]
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            for task in passing:
                task.cancel()
            outcomes = await asyncio.gather(*passing, return_exceptions=True)
            broker.transport.abort()
            for outcome in outcomes:
                if not isinstance(outcome, (OSError, EOFError, asyncio.CancelledError)):
                    raise HarnessError(f"the proxy before the broker failed: {outcome!r}")
        except OSError:
            pass  # the broker is away, and so is its proxy
        finally:
            self._connections.discard(client)
            client.transport.abort()

    async def _pass_requests(
        self, reader: asyncio.StreamReader, broker: asyncio.StreamWriter, asked: dict[int, Asked]
    ) -> None:
        while True:
            request = await read_frame(reader)
            key, version, correlation, client_bytes = struct.unpack_from(">hhih", request)
            asked[correlation] = Asked(key, version, request[10 : 10 + max(client_bytes, 0)].decode())
            await write_frame(broker, request)

    async def _pass_answers(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, asked: dict[int, Asked]
    ) -> None:
        while True:
            answer = await read_frame(reader)
            question = asked.pop(struct.unpack_from(">i", answer)[0])
            if self._hides.is_set() and question.key == METADATA:
                if question.version < FIRST_COMPACT_VERSION:
                    raise HarnessError(f"metadata is asked for in its version {question.version}")
                answer, names_topics = without_brokers(answer)
                if names_topics:
                    self.misled.add(question.client_id)
            await write_frame(client, answer)


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """One request or answer, without its size."""
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    if not 0 <= size <= FRAME_BYTES_MAX:
        raise HarnessError(f"a frame of {size} bytes passes the broker's proxy")
    return await reader.readexactly(size)


async def write_frame(writer: asyncio.StreamWriter, frame: bytes) -> None:
    """Send one request or answer, with its size before it."""
    writer.write(struct.pack(">i", len(frame)) + frame)
    await writer.drain()


def without_brokers(answer: bytes) -> tuple[bytes, bool]:
    """The same metadata, only that no broker is in it; and whether topics are.

    Source of the layout: Kafka's protocol guide, Metadata response, versions 9 to 13.
    """
    count, at = unsigned_varint(answer, BROKERS_AT)
    for _ in range(count - 1):
        at = behind_compact_string(answer, at + 4)  # the number, then the host
        at = behind_compact_string(answer, at + 4)  # the port, then the rack
        tagged_fields, at = unsigned_varint(answer, at)
        if tagged_fields:
            raise HarnessError("a broker in the metadata has fields that the proxy doesn't know")
    topics_at = behind_compact_string(answer, at) + 4  # the cluster's id and the controller
    topics, _ = unsigned_varint(answer, topics_at)
    return answer[:BROKERS_AT] + b"\x01" + answer[at:], topics > 1


def behind_compact_string(frame: bytes, at: int) -> int:
    """Where what follows the string begins; its length stands before it, one too high, and 0 is for none."""
    length, at = unsigned_varint(frame, at)
    return at + max(length - 1, 0)


def unsigned_varint(frame: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where what follows it begins."""
    number = shift = 0
    while True:
        number |= (frame[at] & 0x7F) << shift
        at += 1
        if frame[at - 1] < 0x80:
            return number, at
        shift += 7
