"""A slow, obvious model of the treasure hunt: what an engine must answer, worked out in plain Python.

Owns the rules as docs and issue state them, written without a look at the
engine's data structures: dictionaries, sorting, one event after the other. An
engine is right if its outputs equal the model's, record by record.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

CLUE_SCORE = 10
SOLVED_SCORE = 100
RANKED_TEAMS = 24
LEADERS_SHOWN = 5

Output = dict[str, Any]


@dataclass
class Progress:
    """What one team has done in one district."""

    score: int = 0
    clues: set[tuple[int, int]] = field(default_factory=set)
    solved: set[int] = field(default_factory=set)


@dataclass
class District:
    """One district of one source partition."""

    teams: dict[int, Progress] = field(default_factory=dict)
    board: list[int] = field(default_factory=list)

    def place(self, team: int) -> None:
        """Move a team that scored behind those that had as much before it."""
        score = self.teams[team].score
        if team in self.board:
            self.board.remove(team)
        rank = sum(self.teams[other].score >= score for other in self.board)
        self.board.insert(rank, team)
        del self.board[RANKED_TEAMS:]


class Hunt:
    """All districts of all partitions."""

    def __init__(self) -> None:
        self._districts: dict[tuple[int, int], District] = {}

    def apply(self, partition: int, offset: int, event: dict[str, Any]) -> Output:
        """Apply one valid event and return the record that answers it."""
        district = self._districts.setdefault((partition, event["district"]), District())
        team = event["team"]
        progress = district.teams.setdefault(team, Progress())
        before = progress.score
        if event["kind"] == "clue_discovered":
            clue = (event["puzzle"], event["clue"])
            progress.score += 0 if clue in progress.clues else CLUE_SCORE
            progress.clues.add(clue)
        elif event["kind"] == "team_solved":
            progress.score += 0 if event["puzzle"] in progress.solved else SOLVED_SCORE
            progress.solved.add(event["puzzle"])
        if progress.score > before:
            district.place(team)
        return {
            "producer": event["producer"],
            "sequence": event["sequence"],
            "kind": event["kind"],
            "district": event["district"],
            "team": team,
            "score": progress.score,
            "solved": len(progress.solved),
            "clues": len(progress.clues),
            "rank": district.board.index(team) + 1 if team in district.board else None,
            "leaders": [
                {"team": leader, "score": district.teams[leader].score}
                for leader in district.board[:LEADERS_SHOWN]
            ],
            "version": {"partition": partition, "offset": offset},
        }


def expected_outputs(events: Iterable[tuple[int, int, bytes]]) -> dict[tuple[int, int], Output]:
    """The output of every event, by (partition, offset); events are (partition, offset, payload) in order."""
    hunt = Hunt()
    return {
        (partition, offset): hunt.apply(partition, offset, json.loads(payload))
        for partition, offset, payload in events
    }
