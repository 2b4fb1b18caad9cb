"""What a row-group is given: how long it may take, where its files go, and how programs are run.

Owns the choice between short and long forms and the alternation of runs. Row-groups measure; they don't decide how
results are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

from eventengine_harness.running import say

from frame import corpora, programs

Number = TypeVar("Number", int, float)
TRIES: Final = (2, 3)
"""Runs until one was not disturbed, in the short and in the long form."""
REPETITIONS_MAX: Final = (6, 16)
"""Runs that a group repeats at most, so that a machine that never is quiet doesn't measure for hours."""


@dataclass
class Repetitions:
    """How many runs of a group may still be repeated because the platform stalled beside them."""

    left: int

    def take(self) -> bool:
        """Whether there is another one; it is used up then."""
        self.left -= 1
        return self.left >= 0


@dataclass(frozen=True)
class Context:
    """See the module. `folder` is the group's own, `shared_folder` that of all groups."""

    name: str
    long: bool
    folder: Path
    shared_folder: Path
    machine: Mapping[str, Any] = field(default_factory=dict)

    def choose(self, short: Number, long: Number) -> Number:
        """One figure of two, by the form that was asked for."""
        return long if self.long else short

    @cached_property
    def repetitions(self) -> Repetitions:
        """What the whole group may repeat."""
        return Repetitions(self.choose(*REPETITIONS_MAX))

    def undisturbed(
        self, what: str, measure: Callable[[], dict[str, Any]], counts: Callable[[Mapping[str, Any]], bool]
    ) -> dict[str, Any]:
        """The document of a run that counts; of the last one if none did and no more may be repeated."""
        tries = self.choose(*TRIES)
        while True:
            document = measure()
            if counts(document):
                return document
            self.say(f"{what}: the platform stalled beside the run")
            tries -= 1
            if tries == 0 or not self.repetitions.take():
                return document

    def say(self, line: str) -> None:
        """One line of progress on standard error."""
        say(f"{self.name}: {line}")

    def corpus(self, name: str, *, shuffled: bool = False) -> Path:
        """The payload file of a corpus, generated once per run folder: one JSON document a line."""
        return corpora.file(self.shared_folder / "corpora", name, shuffled=shuffled)

    def program(self, name: str) -> Path:
        """A native program, built in release."""
        return programs.program(name)

    def run(self, program: str, *arguments: str | Path) -> dict[str, Any]:
        """Run a native program alone with the disturbance measured; returns its document."""
        return programs.measured([self.program(program), *arguments])

    def instructions_per_event(
        self, program: str, *arguments: str | Path, count_flag: str, few: int, many: int
    ) -> dict[str, float]:
        """Instructions and cache misses per event of a native program, by cachegrind."""
        command = [self.program(program), *arguments]
        return programs.instructions_per_event(command, count_flag, few, many, self.folder)


def alternating(
    systems: Sequence[str], rounds: int, measure: Callable[[str, int], dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Each system once per round, the order turned by one each round: no system is always first or always last."""
    results: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
    for number in range(rounds):
        turn = number % len(systems) if systems else 0
        for system in [*systems[turn:], *systems[:turn]]:
            results[system].append(measure(system, number))
    return results
