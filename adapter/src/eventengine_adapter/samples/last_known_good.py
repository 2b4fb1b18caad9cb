"""Answers that were fresh a while ago, for engines that would rather have those than an error.

Only where the EventEngine asks for it (`autoscaling.lastKnownGoodSeconds`), never
longer than it says, with the timestamp of when the value was sampled, and marked.
Bounded: the last `ANSWERS_MAX` questions. A replica remembers what it answered
itself; one that was not asked before has nothing and says so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import structs

from .fleets import Engine
from .freshness import CLOCK_AHEAD_SECONDS_MAX, NotFresh
from .questions import Question, Value

ANSWERS_MAX: Final = 1024
MARK_LABEL: Final = "last_known_good"


class LastKnownGood:
    """Remembers the last fresh answer to each question about engines that ask for it."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[Any, ...], list[Value]] = OrderedDict()

    def answer(
        self, question: Question, engines: Sequence[Engine], fresh: Callable[[], list[Value]]
    ) -> list[Value]:
        """What `fresh` gives, or the remembered answer, marked, where that has none.

        Raises:
            NotFresh: there is no fresh answer, and none that may stand in for it.
        """
        concerned = question.concerned(engines)
        age_seconds_max = min((engine.last_known_good_seconds for engine in concerned), default=0)
        if age_seconds_max == 0:
            return fresh()
        key = (question.metric.name, question.selector, tuple(engine.uid for engine in concerned))
        try:
            values = fresh()
        except NotFresh:
            remembered = self._answers.get(key)
            if not remembered or not all(
                -CLOCK_AHEAD_SECONDS_MAX <= question.now_seconds - value.sampled_at_seconds <= age_seconds_max
                for value in remembered
            ):
                raise
            return [
                structs.replace(value, labels={**value.labels, MARK_LABEL: "true"}) for value in remembered
            ]
        self._answers[key] = values
        self._answers.move_to_end(key)
        while len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)
        return values
