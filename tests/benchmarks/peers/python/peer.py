"""The Python peer: an asyncio queue between the injecting task and one task that owns the state; orjson and uvloop.

It prints the document that every measured system prints, and takes the same arguments; tests/benchmarks/native has
the reference of both, and of the schedule. The rules of the hunt are the engine's: a clue new to the team scores 10,
a puzzle new to it 100, a district ranks its best 24 teams, and each event has one output record.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
from collections import defaultdict
from pathlib import Path
from time import monotonic_ns
from typing import Any

import orjson
import uvloop
from hdrh.histogram import HdrHistogram

SECOND = 1_000_000_000
LONGEST = 60 * SECOND
QUEUE_SLOTS = 1 << 16
SENT_AT_ONCE_MAX = 64
DISTRICTS, PUZZLES, CLUES, BOARD_TEAMS, LEADERS = 12, 40, 5, 24, 5
FIRST_PARTITION = 1024


class Schedule:
    """When events are due: in each period a burst at its begin, the rest evenly."""

    def __init__(self, rate: int, burst: int, period_milliseconds: int) -> None:
        self.period = period_milliseconds * 1_000_000
        self.events = rate * self.period // SECOND
        self.burst = min(burst, self.events)

    def events_in(self, seconds: int) -> int:
        return self.events * (seconds * SECOND // self.period)

    def due(self, event: int) -> int:
        period, place = divmod(event, self.events)
        if place < self.burst:
            return period * self.period
        return period * self.period + (place - self.burst) * self.period // (self.events - self.burst)


class Team:
    __slots__ = ("clues", "found", "puzzles", "score", "solved")

    def __init__(self) -> None:
        self.score = self.solved = self.clues = self.puzzles = 0
        self.found = bytearray(PUZZLES)

    def gain(self, event: dict[str, Any]) -> int:
        puzzle = event["puzzle"]
        if event["kind"] == "clue_discovered":
            bit = 1 << event["clue"]
            if not self.found[puzzle] & bit:
                self.found[puzzle] |= bit
                self.clues += 1
                return 10
        elif event["kind"] == "team_solved":
            bit = 1 << puzzle
            if not self.puzzles & bit:
                self.puzzles |= bit
                self.solved += 1
                return 100
        return 0


class Hunt:
    """The state."""

    def __init__(self) -> None:
        self.teams: defaultdict[tuple[int, int], Team] = defaultdict(Team)
        self.boards: list[list[tuple[int, int]]] = [[] for _ in range(DISTRICTS)]
        self.offsets = [0] * DISTRICTS

    def apply(self, event: dict[str, Any]) -> bytes | None:
        """The output record, or None if the event is out of range."""
        district, team = event["district"], event["team"]
        if district >= DISTRICTS or event["puzzle"] >= PUZZLES or event["clue"] >= CLUES:
            return None
        progress = self.teams[district, team]
        gained = progress.gain(event)
        board = self.boards[district]
        if gained:
            progress.score += gained
            self.promote(board, team, progress.score)
        rank = next((place for place, (other, _) in enumerate(board, 1) if other == team), None)
        offset = self.offsets[district]
        self.offsets[district] = offset + 1
        return orjson.dumps(
            {
                "producer": event["producer"],
                "sequence": event["sequence"],
                "kind": event["kind"],
                "district": district,
                "team": team,
                "score": progress.score,
                "solved": progress.solved,
                "clues": progress.clues,
                "rank": rank,
                "leaders": [{"team": other, "score": score} for other, score in board[:LEADERS]],
                "version": {"partition": FIRST_PARTITION + district, "offset": offset},
            }
        )

    @staticmethod
    def promote(board: list[tuple[int, int]], team: int, score: int) -> None:
        for place, (other, _) in enumerate(board):
            if other == team:
                del board[place]
                break
        else:
            if len(board) == BOARD_TEAMS:
                if board[-1][1] >= score:
                    return
                board.pop()
        place = len(board)
        while place and board[place - 1][1] < score:
            place -= 1
        board.insert(place, (team, score))


class Run:
    """One phase after the other over the same state."""

    def __init__(self, payloads: list[bytes], schedule: Schedule) -> None:
        self.payloads = payloads
        self.schedule = schedule
        self.hunt = Hunt()
        self.next = 0

    def begin(self) -> None:
        self.latency = HdrHistogram(1, LONGEST, 3)
        self.offered = self.completed = self.refused = self.output_bytes = self.elapsed = 0
        self.overrun = False
        self.queue: asyncio.Queue[tuple[bytes, int] | None] = asyncio.Queue(QUEUE_SLOTS)
        self.origin = monotonic_ns()

    async def work(self) -> None:
        queue, hunt, latency = self.queue, self.hunt, self.latency
        while (item := await queue.get()) is not None:
            payload, intended = item
            try:
                output = hunt.apply(orjson.loads(payload))
            except (orjson.JSONDecodeError, KeyError):
                output = None
            now = monotonic_ns()
            if output is None:
                self.refused += 1
            else:
                self.output_bytes += len(output)
            self.completed += 1
            self.elapsed = now - self.origin
            latency.record_value(min(max(now - intended, 1), LONGEST))

    async def send(self, intended: int) -> None:
        payload = self.payloads[self.next]
        self.next = (self.next + 1) % len(self.payloads)
        await self.queue.put((payload, intended))
        self.offered += 1
        if self.offered % SENT_AT_ONCE_MAX == 0:
            await asyncio.sleep(0)

    async def measure(self, seconds: int) -> None:
        self.begin()
        worker = asyncio.create_task(self.work())
        if self.schedule.events == 0:
            while monotonic_ns() < self.origin + seconds * SECOND:
                await self.send(monotonic_ns())
        else:
            total = self.schedule.events_in(seconds)
            while self.offered < total and not self.overrun:
                intended = self.origin + self.schedule.due(self.offered)
                # The clock has to be looked at between the worker's turns: nobody else will say that it is time.
                while monotonic_ns() < intended:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                self.overrun = monotonic_ns() - intended > SECOND
                await self.send(intended)
        await self.queue.put(None)
        await worker


def status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", type=Path, required=True)
    for name, default in (("rate", 0), ("burst", 0), ("period", 10), ("warmup", 1), ("seconds", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    run = Run(options.file.read_bytes().splitlines(), Schedule(options.rate, options.burst, options.period))
    # What was made at the start is never garbage.
    gc.freeze()

    async def phases() -> None:
        await run.measure(options.warmup)
        if not run.overrun:
            await run.measure(options.seconds)

    uvloop.run(phases())
    counts = [
        [item.value_iterated_to, item.count_at_value_iterated_to]
        for item in run.latency.get_recorded_iterator()
    ]
    document = {
        "profile": "release",
        "system": "python-asyncio",
        "runtime": platform.python_version(),
        "offered": run.offered,
        "completed": run.completed,
        "refused": run.refused,
        "output_bytes": run.output_bytes,
        "elapsed_nanoseconds": run.elapsed,
        "seconds": options.seconds,
        "overrun": run.overrun,
        "latency": {"counts": counts, "max": run.latency.get_max_value()},
        "peak_rss_bytes": status_bytes("VmHWM"),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
