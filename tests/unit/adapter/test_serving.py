"""What strangers may cost: floods, giants and slow clients, on real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from eventengine_adapter.serving import HEADER_BYTES_MAX, HEADERS_MAX, LINE_BYTES_MAX, serve
from eventengine_adapter.settings import Address

IDLE_SECONDS = 0.3


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server that answers every path, and closes idle connections soon."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        number: int = found.getsockname()[1]
    close = await serve(application, Address("127.0.0.1", number), idle_seconds_max=IDLE_SECONDS)
    yield number
    await close()


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
