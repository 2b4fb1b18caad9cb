"""What strangers may cost: floods, giants and slow clients, on real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from eventengine_adapter.connection_limits import ConnectionLimiter, ConnectionLimits
from eventengine_adapter.security.serving_tls import ServingTls
from eventengine_adapter.serving import HEADER_BYTES_MAX, HEADERS_MAX, LINE_BYTES_MAX, serve
from eventengine_adapter.settings import Address

IDLE_SECONDS = 0.3
GIANT_ANSWER_BYTES = 16 << 20
LIMITS = ConnectionLimits(
    connections_max=4,
    connections_of_address_max=3,
    handshake_seconds_max=0.4,
    silence_seconds_max=0.4,
    head_seconds_max=0.4,
    stall_seconds_max=0.4,
    check_seconds=0.05,
)
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(
    limits: ConnectionLimits | None = None,
    tls: ServingTls | None = None,
    on_refused: Callable[[str], None] = lambda _reason: None,
    idle_seconds: float = 60.0,
) -> AsyncIterator[int]:
    """A port where every path is answered, `/giant` with more than a socket holds."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=b"a" * GIANT_ANSWER_BYTES if request.path == "/giant" else b"ok")

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        number: int = found.getsockname()[1]
    close = await serve(
        application,
        Address("127.0.0.1", number),
        tls,
        idle_seconds_max=idle_seconds,
        limits=limits,
        on_refused=on_refused,
    )
    try:
        yield number
    finally:
        await close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server that closes idle connections soon."""
    async with serving(idle_seconds=IDLE_SECONDS) as number:
        yield number


@pytest.fixture
async def streams() -> AsyncIterator[list[Stream]]:
    """Connections that are closed in the end."""
    opened: list[Stream] = []
    yield opened
    for _, writer in opened:
        writer.transport.abort()
    await asyncio.sleep(0)


async def connect(port: int, streams: list[Stream], address: str = "127.0.0.1") -> Stream:
    """A connection from a loopback address."""
    streams.append(await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0)))
    return streams[-1]


async def is_hung_up_on(reader: asyncio.StreamReader) -> bool:
    """Whether the other end closes the connection, in good order or not, before it says anything."""
    try:
        return await asyncio.wait_for(reader.read(1), 10) == b""
    except ConnectionError:
        return True


async def is_served(stream: Stream) -> bool:
    """Whether a connection gets an answer."""
    reader, writer = stream
    writer.write(request())
    return b"200" in await asyncio.wait_for(reader.readline(), 10)


async def is_refused(port: int, streams: list[Stream], address: str = "127.0.0.1") -> bool:
    """Whether a new connection is hung up on at once."""
    try:
        reader, _ = await connect(port, streams, address)
    except ConnectionError:
        return True
    return await is_hung_up_on(reader)


async def status_of(port: int, request: bytes) -> str:
    """The status line that a whole request gets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return (await asyncio.wait_for(reader.readline(), 10)).decode()
    finally:
        writer.close()


def request(path: str = "/", headers: list[str] | None = None) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: adapter", *(headers or [])]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_a_user_of_many_groups_is_served(port: int) -> None:
    headers = [f"X-Remote-Group: group-{number}" for number in range(HEADERS_MAX - 10)]

    assert "200" in await status_of(port, request(headers=headers))


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(request(headers=[f"X-Flood-{n}: 1" for n in range(HEADERS_MAX + 10)]), id="headers"),
        pytest.param(request(headers=["X-Giant: " + "a" * (HEADER_BYTES_MAX + 1)]), id="header"),
        pytest.param(request("/" + "a" * LINE_BYTES_MAX), id="path"),
    ],
)
async def test_a_flood_is_refused(port: int, flood: bytes) -> None:
    assert "400" in await status_of(port, flood)


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: adap"])
async def test_a_client_that_never_finishes_its_request_is_hung_up_on(port: int, begun: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begun)

    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    assert "200" in await status_of(port, request())


async def test_a_head_that_comes_drop_by_drop_is_given_up_and_harms_no_other(streams: list[Stream]) -> None:
    refused: list[str] = []
    async with serving(LIMITS, on_refused=refused.append) as port:
        reader, writer = await connect(port, streams)
        writer.write(b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            while not writer.is_closing():
                writer.write(b"X-Drop: 1\r\n")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await is_served(await connect(port, streams))
        assert await is_hung_up_on(reader)
        dripping.cancel()

    assert refused == ["slow-head"]


async def test_a_connection_without_a_word_is_hung_up_on_and_one_between_requests_is_kept(
    streams: list[Stream],
) -> None:
    refused: list[str] = []
    async with serving(LIMITS, on_refused=refused.append) as port:
        kept = await connect(port, streams)
        assert await is_served(kept)
        silent, _ = await connect(port, streams)

        assert await is_hung_up_on(silent)
        await kept[0].readuntil(b"ok")
        assert await is_served(kept)

    assert refused == ["silent"]


async def test_a_handshake_that_is_never_made_is_given_up_and_counts_until_then(
    streams: list[Stream], tmp_path: Path
) -> None:
    refused: list[str] = []
    async with serving(LIMITS, ServingTls(tmp_path), refused.append) as port:
        waiting = [(await connect(port, streams))[0] for _ in range(LIMITS.connections_of_address_max)]

        assert await is_refused(port, streams)
        assert refused == ["too-many-of-one-address"]
        assert all([await is_hung_up_on(reader) for reader in waiting])
        late, _ = await connect(port, streams)
        assert await is_hung_up_on(late), "its place was free again: it was waited for, too"

    assert refused == ["too-many-of-one-address"]


async def test_there_are_so_many_connections_in_all_and_of_one_address_and_no_more(
    streams: list[Stream],
) -> None:
    refused: list[str] = []
    limits = ConnectionLimits(connections_max=4, connections_of_address_max=3)
    async with serving(limits, on_refused=refused.append) as port:
        of_one = [await connect(port, streams) for _ in range(3)]
        assert await is_refused(port, streams)
        assert await is_served(await connect(port, streams, "127.0.0.2"))
        assert await is_refused(port, streams, "127.0.0.3")
        assert refused == ["too-many-of-one-address", "too-many"]

        of_one[0][1].close()
        await of_one[0][1].wait_closed()
        # The server sees the end of that connection before the next one: both come through its event loop.
        assert await is_served(await connect(port, streams, "127.0.0.3"))
        assert all([await is_served(stream) for stream in of_one[1:]])


async def test_many_headers_that_are_each_small_enough_are_too_much_together(streams: list[Stream]) -> None:
    refused: list[str] = []
    async with serving(on_refused=refused.append) as port:
        reader, writer = await connect(port, streams)
        writer.write(request(headers=[f"X-Large-{n}: {'a' * 15_000}" for n in range(20)]))

        assert await is_hung_up_on(reader)

    assert refused == ["giant-head"]


async def test_an_answer_that_nobody_reads_is_given_up(streams: list[Stream]) -> None:
    refused = asyncio.get_running_loop().create_future()
    async with serving(LIMITS, on_refused=refused.set_result) as port:
        _, writer = await connect(port, streams)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request("/giant"))

        assert await asyncio.wait_for(refused, 10) == "slow-reader"


def test_what_is_counted_is_forgotten_with_the_connection() -> None:
    limiter = ConnectionLimiter(LIMITS)
    for _ in range(100):
        assert limiter.admit("10.0.0.1")
        assert limiter.admit("10.0.0.2")
        limiter.leave("10.0.0.1")
        limiter.leave("10.0.0.2")

    assert limiter.connections == 0
