"""The payload files that every measured system reads: the same bytes for all of them.

Owns their content, a function of the name, the seed and nothing else, and their form: one JSON document a line.
The events are moves of the treasure hunt as the third article has it (6,000 players in teams of five, 480 puzzles
in 12 districts), so that every system does the same work on them:

- `flat-148`: twelve scalar members at most, 148 bytes on average;
- `hunt-700`: the same with a note of plain words, 700 bytes on average;
- `telemetry-722`: the same with eight telemetry points (sensor, value, tags), 722 bytes on average;
- `text-690`: a note full of escapes and letters beyond ASCII, 690 bytes on average.

The shuffled variant of each has the members of every event in an order of its own.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

SEED: Final = 20_261_121
EVENTS: Final = 8_192
PLAYERS: Final = 6_000
TEAM_SIZE: Final = 5
DISTRICTS: Final = 12
PUZZLES_PER_DISTRICT: Final = 40
CLUES_PER_PUZZLE: Final = 5
PRODUCERS: Final = 16
MOVES_PER_SOLUTION: Final = 10
MOVES_PER_OPENING: Final = 500
TELEMETRY_POINTS: Final = 8
SPREAD: Final = 0.4
"""Sizes of notes spread evenly around their average by up to this share."""

WORDS: Final = (
    *("the", "lantern", "behind", "old", "bridge", "points", "north", "under", "seventh", "stone", "follow"),
    *("river", "until", "clock", "strikes", "mirror", "shows", "key", "hidden", "tower", "garden", "eleven"),
)
WORDS_WITH_ESCAPES: Final = (
    *("caf\u00e9", "stra\u00dfe", 'said "here"', "line\nbreak", "tab\there", "c:\\maps\\old", "\u2192"),
    *("na\u00efve", "\U0001f5fa", "/path/", "\u65e5\u672c", "end\r\n", "lantern", "bridge", "\u0001"),
)


def _move(source: random.Random, index: int) -> dict[str, Any]:
    player = source.randrange(PLAYERS)
    if source.randrange(MOVES_PER_OPENING) == 0:
        kind = "district_opened"
    elif source.randrange(MOVES_PER_SOLUTION) == 0:
        kind = "team_solved"
    else:
        kind = "clue_discovered"
    return {
        "kind": kind,
        "producer": source.randrange(PRODUCERS),
        "sequence": 100_000_000_000 + index,
        "player": player,
        "team": player // TEAM_SIZE,
        "district": source.randrange(DISTRICTS),
        "puzzle": source.randrange(PUZZLES_PER_DISTRICT),
        "clue": source.randrange(CLUES_PER_PUZZLE),
    }


def _with_place(source: random.Random, index: int) -> dict[str, Any]:
    place = {name: source.randrange(1_000_000, 4_096_000) / 1000 for name in ("x", "y")}
    return {**_move(source, index), **place}


def _note(source: random.Random, words: tuple[str, ...], average_bytes: int) -> str:
    wanted = average_bytes * (1 - SPREAD + 2 * SPREAD * source.random())
    parts: list[str] = []
    length = 0
    while length < wanted:
        parts.append(source.choice(words))
        length += len(json.dumps(parts[-1], ensure_ascii=False).encode()) - 1
    return " ".join(parts)


def _flat(source: random.Random, index: int) -> dict[str, Any]:
    return _with_place(source, index)


def _hunt(source: random.Random, index: int) -> dict[str, Any]:
    return {**_with_place(source, index), "note": _note(source, WORDS, 542)}


def _text(source: random.Random, index: int) -> dict[str, Any]:
    return {**_with_place(source, index), "note": _note(source, WORDS_WITH_ESCAPES, 529)}


def _telemetry(source: random.Random, index: int) -> dict[str, Any]:
    points = [
        {
            "sensor": f"sensor-{source.randrange(100_000, 1_000_000)}",
            "value": round(source.uniform(-1000, 1000), 5),
            "tags": f"{source.choice(WORDS)},{source.choice(WORDS)},{source.choice(WORDS)}",
        }
        for _ in range(TELEMETRY_POINTS)
    ]
    return {**_move(source, index), "telemetry": points}


CORPORA: Final[dict[str, Callable[[random.Random, int], dict[str, Any]]]] = {
    "flat-148": _flat,
    "hunt-700": _hunt,
    "telemetry-722": _telemetry,
    "text-690": _text,
}


def payloads(name: str, *, shuffled: bool = False, events: int = EVENTS, seed: int = SEED) -> Iterator[bytes]:
    """The events of a corpus, one after the other; KeyError names the corpora there are."""
    if name not in CORPORA:
        raise KeyError(f"no corpus {name!r}; there are {', '.join(CORPORA)}")
    content = random.Random(f"{name} {seed}")  # noqa: S311 - reproducible on purpose
    order = random.Random(f"{name} {seed} order")  # noqa: S311 - reproducible on purpose
    for index in range(events):
        members = list(CORPORA[name](content, index).items())
        if shuffled:
            order.shuffle(members)
        yield json.dumps(dict(members), ensure_ascii=False, separators=(",", ":")).encode()


def file(folder: Path, name: str, *, shuffled: bool = False) -> Path:
    """The payload file of a corpus in a folder, written anew unless it is there as it should be."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}{'-shuffled' if shuffled else ''}.jsonl"
    content = b"".join(payload + b"\n" for payload in payloads(name, shuffled=shuffled))
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)
    return path
