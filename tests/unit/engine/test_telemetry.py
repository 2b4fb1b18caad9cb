"""What the telemetry port answers, over real HTTP, in front of an engine that says what it is told to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from eventengine.serving.telemetry import Telemetry, TelemetryUnavailableError, split_address


class ScriptedEngine:
    """An engine whose answers are attributes."""

    def __init__(self) -> None:
        self.samples: dict[int, bytes] = {}
        self.ready, self.live, self.reasons = True, True, []

    def start(self) -> None: ...

    def snapshot(self, at_seconds: int | None = None) -> bytes | None:
        if at_seconds is None:
            return self.samples[max(self.samples)] if self.samples else None
        return self.samples.get(at_seconds)

    def metrics(self) -> bytes:
        return b"eventengine_events_applied_total 3\n"

    def readiness(self) -> bytes:
        return json.dumps({"ready": self.ready, "live": self.live, "reasons": self.reasons}).encode()

    def stop(self, deadline_seconds: float) -> bool:
        return True


class Served:
    """The server with a client in front of it."""

    def __init__(self, session: ClientSession, engine: ScriptedEngine) -> None:
        self._session = session
        self.engine = engine
        self.draining = False

    async def get(self, path: str) -> tuple[int, str, str]:
        async with self._session.get(path) as response:
            return response.status, response.headers["Content-Type"], await response.text()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    engine = ScriptedEngine()
    telemetry = Telemetry(engine, lambda: client.draining)
    host, port = await telemetry.listen("127.0.0.1:0")
    async with ClientSession(f"http://{host}:{port}") as session:
        client = Served(session, engine)
        yield client
    await telemetry.close()


async def test_metrics_are_prometheus_text(served):
    assert await served.get("/metrics") == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
        "eventengine_events_applied_total 3\n",
    )


async def test_the_latest_sample_is_served_as_it_was_closed(served):
    served.engine.samples = {41: b'{"sampled_at_seconds":41}', 42: b'{"sampled_at_seconds":42}'}
    assert await served.get("/snapshot") == (200, "application/json", '{"sampled_at_seconds":42}')
    assert await served.get("/snapshot?at=41") == (200, "application/json", '{"sampled_at_seconds":41}')


async def test_no_sample_is_an_error_and_never_an_empty_answer(served):
    status, _, text = await served.get("/snapshot")
    assert (status, text) == (503, "no sample was closed yet; ask again in a second\n")
    status, _, text = await served.get("/snapshot?at=41")
    assert (status, text) == (404, "no sample of second 41 is kept\n")


@pytest.mark.parametrize("at", ["", "now", "-1", "1.5", "9999999999999", "%D9%A1"])
async def test_a_second_that_is_no_second_is_refused(served, at):
    status, _, text = await served.get(f"/snapshot?at={at}")
    assert (status, text) == (400, "at: must be a Unix time in whole seconds\n")


async def test_readiness_and_liveness_are_told_apart(served):
    served.engine.ready, served.engine.reasons = (
        False,
        ["source moves: broker away", "restoring 3 partitions"],
    )
    assert await served.get("/readyz") == (
        503,
        "text/plain; charset=utf-8",
        "source moves: broker away\nrestoring 3 partitions\n",
    )
    assert (await served.get("/livez"))[0] == 200
    served.engine.live = False
    assert (await served.get("/livez"))[0] == 503


async def test_a_draining_engine_is_not_ready_but_live(served):
    assert (await served.get("/readyz"))[0] == 200
    served.draining = True
    status, _, text = await served.get("/readyz")
    assert (status, text) == (503, "draining: the engine was told to stop\n")
    assert (await served.get("/livez"))[0] == 200


async def test_an_address_in_use_is_named(served):
    telemetry = Telemetry(served.engine, lambda: False)
    _, port = await telemetry.listen("127.0.0.1:0")
    second = Telemetry(served.engine, lambda: False)
    with pytest.raises(
        TelemetryUnavailableError, match=rf"telemetry.listen: can't listen on 127.0.0.1:{port}"
    ):
        await second.listen(f"127.0.0.1:{port}")
    await telemetry.close()


@pytest.mark.parametrize(
    ("address", "expected"),
    [("0.0.0.0:9464", ("0.0.0.0", 9464)), (":9464", (None, 9464)), ("[::1]:1", ("::1", 1))],
)
def test_addresses_may_be_of_any_interface_and_family(address, expected):
    assert split_address(address) == expected
