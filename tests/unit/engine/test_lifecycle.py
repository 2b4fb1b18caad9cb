"""The life of an engine process: signals, drain, failure, exit status. The signals are real."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from eventengine import running
from eventengine.running import EngineProcess

DEADLINE_SECONDS = 10.0


class FakeEngine:
    """An engine that records what is done to it, and drains when it is let."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.may_drain = threading.Event()
        self.may_drain.set()
        self.stops: list[float] = []
        self.clean = True
        self.refusal = ""
        self.live = True
        self.reasons: list[str] = []

    def start(self) -> None:
        self.started.set()
        if self.refusal:
            raise RuntimeError(self.refusal)

    def snapshot(self, at_seconds: int | None = None) -> bytes | None:
        return None

    def metrics(self) -> bytes:
        return b""

    def readiness(self) -> bytes:
        ready = self.live and not self.reasons
        return json.dumps({"ready": ready, "live": self.live, "reasons": self.reasons}).encode()

    def stop(self, deadline_seconds: float) -> bool:
        self.stops.append(deadline_seconds)
        self.may_drain.wait(DEADLINE_SECONDS)
        return self.clean


async def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


def start(engine: FakeEngine, exits: list[int] | None = None) -> asyncio.Task[int]:
    exits = [] if exits is None else exits
    process = EngineProcess(engine, "127.0.0.1:0", drain_seconds=7.0, exit_now=exits.append)
    return asyncio.create_task(process.run())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_within_the_deadline_and_exits_with_0(number):
    engine = FakeEngine()
    task = start(engine)
    await eventually(engine.started.is_set)
    os.kill(os.getpid(), number)
    assert await asyncio.wait_for(task, DEADLINE_SECONDS) == 0
    assert engine.stops == [7.0]


async def test_readiness_falls_before_the_drain_ends_and_the_engine_is_stopped_once(caplog):
    caplog.set_level(logging.INFO)
    engine = FakeEngine()
    engine.may_drain.clear()
    task = start(engine)
    await eventually(engine.started.is_set)
    os.kill(os.getpid(), signal.SIGTERM)
    await eventually(lambda: bool(engine.stops))
    assert not task.done()
    assert "draining" in [record.message for record in caplog.records]
    engine.may_drain.set()
    assert await asyncio.wait_for(task, DEADLINE_SECONDS) == 0
    assert len(engine.stops) == 1


async def test_a_second_signal_exits_at_once():
    engine, exits = FakeEngine(), []
    engine.may_drain.clear()
    task = start(engine, exits)
    await eventually(engine.started.is_set)
    os.kill(os.getpid(), signal.SIGTERM)
    await eventually(lambda: bool(engine.stops))
    os.kill(os.getpid(), signal.SIGTERM)
    await eventually(lambda: exits == [128 + signal.SIGTERM])
    engine.may_drain.set()
    await task


async def test_a_drain_past_its_deadline_is_told_by_status_1(caplog):
    engine = FakeEngine()
    engine.clean = False
    task = start(engine)
    await eventually(engine.started.is_set)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(task, DEADLINE_SECONDS) == 1
    assert any("not done in time" in record.message for record in caplog.records)


async def test_a_stop_that_hangs_does_not_keep_the_process(monkeypatch):
    monkeypatch.setattr(running, "OVERRUN_SECONDS", 0.0)
    engine = FakeEngine()
    engine.may_drain.clear()
    process = EngineProcess(engine, "127.0.0.1:0", drain_seconds=0.05)
    task = asyncio.create_task(process.run())
    await eventually(engine.started.is_set)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(task, DEADLINE_SECONDS) == 1
    engine.may_drain.set()


async def test_an_engine_that_failed_ends_the_process_with_its_reason(caplog):
    engine = FakeEngine()
    task = start(engine)
    await eventually(engine.started.is_set)
    engine.reasons, engine.live = ["the core thread panicked: index out of bounds"], False
    assert await asyncio.wait_for(task, DEADLINE_SECONDS) == 1
    failed = next(record for record in caplog.records if record.message == "engine failed")
    assert failed.eventengine_fields == {"reasons": ["the core thread panicked: index out of bounds"]}


async def test_a_change_of_readiness_is_logged_once(caplog):
    caplog.set_level(logging.INFO)

    def messages(text: str) -> int:
        return sum(record.message == text for record in caplog.records)

    engine = FakeEngine()
    engine.reasons = ["source moves: broker away"]
    task = start(engine)
    await eventually(lambda: messages("not ready") == 1)
    engine.reasons = []
    await eventually(lambda: messages("ready") == 1)
    os.kill(os.getpid(), signal.SIGTERM)
    await task
    assert (messages("not ready"), messages("ready")) == (1, 1)


async def test_an_engine_that_does_not_start_ends_the_process_with_its_reason(caplog):
    engine = FakeEngine()
    engine.refusal = "the core thread could not be started: no more processes"
    assert await asyncio.wait_for(start(engine), DEADLINE_SECONDS) == 1
    (refused,) = [record for record in caplog.records if record.message == "engine did not start"]
    assert refused.eventengine_fields == {"reason": engine.refusal}
