"""The pace of calls: a bound on their rate, a burst after a rest, silence when asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eventengine_operator.clients.errors import UnavailableError
from eventengine_operator.clients.kubernetes_api import LEASES, PODS, KubernetesApi
from eventengine_operator.clients.pacing import HOLD_SECONDS_MAX, Pace
from eventengine_operator.measuring import Measurements

from .http_clients import HttpClient


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pace(clock: Clock, burst: int = 1) -> Pace:
    return Pace(10.0, burst, clock, clock.sleep)


async def test_calls_are_spread_evenly(clock: Clock) -> None:
    limited = pace(clock)
    waits = [await limited.turn() for _ in range(4)]
    assert waits == pytest.approx([0, 0.1, 0.1, 0.1])


async def test_rest_earns_a_burst_and_no_more_than_that(clock: Clock) -> None:
    limited = pace(clock, burst=3)
    clock.now += 3600
    waits = [await limited.turn() for _ in range(5)]
    assert waits == pytest.approx([0, 0, 0, 0.1, 0.1])


async def test_many_at_once_keep_their_order_and_the_rate() -> None:
    limited = Pace(1000.0, 1)
    order: list[int] = []

    async def call(number: int) -> None:
        await limited.turn()
        order.append(number)

    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.gather(*(call(number) for number in range(30)))
    assert order == list(range(30))
    assert loop.time() - started >= 0.029


async def test_server_that_asks_for_a_pause_is_left_alone_by_every_call(clock: Clock) -> None:
    limited = pace(clock, burst=100)
    limited.hold(7)
    assert [await limited.turn() for _ in range(2)] == pytest.approx([7, 0])


async def test_pause_has_a_bound_and_a_default(clock: Clock) -> None:
    limited = pace(clock, burst=100)
    limited.hold(0)
    assert await limited.turn() == pytest.approx(1)
    limited.hold(86_400)
    assert await limited.turn() == pytest.approx(HOLD_SECONDS_MAX)


class Answer:
    """What the API server sends back."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers

    async def read(self) -> bytes:
        return b"{}"


class Client(HttpClient):
    """An API server that is too busy once."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = [Answer(429, {"Retry-After": "5"}), Answer(200, {}), Answer(200, {})]

    def answer(self, _: dict[str, str]) -> Answer:
        return self.answers.pop(0)


async def test_refusal_of_one_call_holds_back_all_and_the_time_is_counted(clock: Clock) -> None:
    measurements = Measurements()
    client: Any = Client()
    api = KubernetesApi(client, measurements, pace(clock, burst=100))
    with pytest.raises(UnavailableError) as refusal:
        await api.get(PODS, "default", "a")
    assert refusal.value.retry_after_seconds == 5
    started = clock.now
    await api.list(PODS, "default")
    assert clock.now - started == pytest.approx(5)
    assert b"eventengine_operator_api_wait_seconds_total 5.0" in measurements.exposition()


async def test_lease_is_renewed_however_busy_the_rest_is(clock: Clock) -> None:
    limited = pace(clock)
    limited.hold(30)
    client: Any = Client()
    client.answers.pop(0)
    started = clock.now
    await KubernetesApi(client, Measurements()).get(LEASES, "default", "eventengine-operator")
    assert clock.now == started
