"""Kept connections to pods, against servers that speak bytes: reuse, retries, and what ends a connection."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest
from eventengine_adapter.sources.http_answers import AnswerError
from eventengine_adapter.sources.pod_connections import ConnectionLostError, PodConnections

ADDRESS = "127.0.0.1"
SECONDS_MAX = 5.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Pod:
    """A server that gives each question the next of `answers`; None ends the connection instead."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.questions: list[bytes] = []
        self.connections = 0
        self.port = 0
        self.answered = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, ADDRESS, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while self.answers:
                self.questions.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self.answers.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                self.answered.set()
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


Start = Callable[..., "asyncio.Future[tuple[Pod, PodConnections]]"]


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., object]]:
    started: list[tuple[Pod, PodConnections]] = []

    async def begin(*answers: bytes | None) -> tuple[Pod, PodConnections]:
        pod = Pod(*answers)
        await pod.start()
        started.append((pod, PodConnections(pod.port, 1000)))
        return started[-1]

    yield begin
    for pod, connections in started:
        connections.close()
        await pod.stop()


async def test_one_connection_serves_question_after_question(start: Start) -> None:
    pod, connections = await start(ANSWER, ANSWER, ANSWER)

    for second in range(3):
        answer = await connections.get(ADDRESS, f"/snapshot?at={second}", SECONDS_MAX)
        assert (answer.status, bytes(answer.body)) == (200, b"{}")

    assert pod.connections == 1
    assert pod.questions[2].startswith(b"GET /snapshot?at=2 HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_a_connection_that_the_pod_closed_meanwhile_is_replaced(start: Start) -> None:
    pod, connections = await start(ANSWER, None, ANSWER)
    await connections.get(ADDRESS, "/", SECONDS_MAX)

    answer = await connections.get(ADDRESS, "/", SECONDS_MAX)

    assert answer.status == 200
    assert pod.connections == 2


async def test_a_fresh_connection_that_says_nothing_is_not_tried_again(start: Start) -> None:
    pod, connections = await start(None, ANSWER)

    with pytest.raises(ConnectionLostError):
        await connections.get(ADDRESS, "/", SECONDS_MAX)

    assert pod.connections == 1


async def test_an_answer_that_was_cut_off_is_not_asked_for_again(start: Start) -> None:
    pod, connections = await start(ANSWER, ANSWER[:-1])
    await connections.get(ADDRESS, "/", SECONDS_MAX)

    with pytest.raises(ConnectionLostError):
        await connections.get(ADDRESS, "/", SECONDS_MAX)

    assert len(pod.questions) == 2


@pytest.mark.parametrize(
    "bad", [b"\x16\x03\x01\r\n\r\n", ANSWER + b"more", b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000]
)
async def test_a_connection_with_anything_odd_on_it_is_not_used_again(start: Start, bad: bytes) -> None:
    pod, connections = await start(bad, ANSWER)
    with contextlib.suppress(AnswerError):
        await connections.get(ADDRESS, "/", SECONDS_MAX)

    assert (await connections.get(ADDRESS, "/", SECONDS_MAX)).status == 200
    assert pod.connections == 2


async def test_a_question_that_was_given_up_takes_its_connection_along(start: Start) -> None:
    pod, connections = await start(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", ANSWER)
    with pytest.raises(TimeoutError):
        await connections.get(ADDRESS, "/", 0.1)

    assert (await connections.get(ADDRESS, "/", SECONDS_MAX)).status == 200
    assert pod.connections == 2


@pytest.mark.parametrize("name", ["localhost", "", "127.0.0.1:80", "metadata.example"])
async def test_a_name_is_not_looked_up(name: str) -> None:
    with pytest.raises(OSError, match="is no address"):
        await PodConnections(1, 1000).get(name, "/", SECONDS_MAX)


async def test_an_answer_that_was_there_in_time_counts_though_the_loop_was_held_up(start: Start) -> None:
    pod, connections = await start(ANSWER, ANSWER)
    await connections.get(ADDRESS, "/", SECONDS_MAX)
    pod.answered.clear()
    asking = asyncio.create_task(connections.get(ADDRESS, "/", 0.05))
    await pod.answered.wait()

    time.sleep(0.1)  # noqa: ASYNC251 - what holds the loop up is what is tested

    assert (await asking).status == 200
