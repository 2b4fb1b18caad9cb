"""The queue: each key at most once, one worker for each key, bounded, with backoff."""

from __future__ import annotations

import asyncio

import pytest
from eventengine_operator.handlers.queueing import BACKOFF_SECONDS_MAX, JITTER, KeyQueue
from eventengine_operator.measuring import Measurements


@pytest.fixture
def queue() -> KeyQueue[str]:
    return KeyQueue(Measurements(), keys_max=3, seed=1)


def waiting(queue: KeyQueue[str]) -> list[str]:
    return list(queue._waiting)


async def test_key_waits_once_however_often_it_is_pushed(queue: KeyQueue[str]) -> None:
    for key in ("a", "b", "a", "a"):
        queue.push(key)
    assert [await queue.take(), await queue.take()] == ["a", "b"]
    assert waiting(queue) == []


async def test_key_in_work_is_not_handed_out_again_until_it_is_done(queue: KeyQueue[str]) -> None:
    queue.push("a")
    key = await queue.take()
    queue.push("a")
    queue.push("a")
    assert waiting(queue) == []
    queue.done(key)
    assert waiting(queue) == ["a"]
    queue.done(await queue.take())
    assert queue.is_idle


async def test_full_queue_counts_what_it_turns_away() -> None:
    measurements = Measurements()
    queue: KeyQueue[str] = KeyQueue(measurements, keys_max=2)
    for key in ("a", "b", "c"):
        queue.push(key)
    assert waiting(queue) == ["a", "b"]
    assert b"queue_overflows_total 1.0" in measurements.exposition()
    assert b"queue_depth 2.0" in measurements.exposition()


async def test_failures_back_off_to_a_bound_and_success_resets(queue: KeyQueue[str]) -> None:
    def fail() -> float:
        queue.push("a")
        queue._waiting.clear()
        queue._waiting_since.clear()
        queue._working.add("a")
        return queue.failed("a")

    delays = [fail() for _ in range(12)]
    for number, delay in enumerate(delays[:7]):
        assert delay == pytest.approx(0.5 * 2**number, rel=JITTER)
    assert max(delays) <= BACKOFF_SECONDS_MAX * (1 + JITTER)
    queue.done("a")
    assert fail() == pytest.approx(0.5, rel=JITTER)
    queue.close()


async def test_wish_of_the_api_server_to_wait_is_respected(queue: KeyQueue[str]) -> None:
    queue.push("a")
    assert queue.failed(await queue.take(), retry_after_seconds=30) == 30
    queue.close()


async def test_failed_key_comes_back_by_itself_and_sooner_on_an_event(queue: KeyQueue[str]) -> None:
    queue.push("a")
    queue.failed(await queue.take())
    assert waiting(queue) == []
    assert await asyncio.wait_for(queue.take(), 5) == "a"
    queue.failed("a", retry_after_seconds=3600)
    queue.push("a")
    assert waiting(queue) == ["a"]
    assert queue._timers == {}, "the event takes the place of the retry"


async def test_earlier_date_wins(queue: KeyQueue[str]) -> None:
    queue.push_after("a", 3600)
    queue.push_after("a", 0.01)
    queue.push_after("a", 3600)
    assert await asyncio.wait_for(queue.take(), 5) == "a"
    assert queue._timers == {}


async def test_dates_are_bounded_too(queue: KeyQueue[str]) -> None:
    for key in ("a", "b", "c", "d"):
        queue.push_after(key, 3600)
    assert set(queue._timers) == {"a", "b", "c"}
    queue.close()
