"""Answers of the Kubernetes API that hold for a few seconds, in a bounded memory.

Equal questions that are asked at once are asked of the API once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Memory(Generic[Answer]):
    """Remembers the last `answers_max` answers for `seconds` each. Failures are not remembered."""

    def __init__(
        self,
        seconds: float,
        answers_max: int,
        clock: Callable[[], float],
        on_question: Callable[[bool], None] = lambda _remembered: None,
    ) -> None:
        self._seconds = seconds
        self._answers_max = answers_max
        self._clock = clock
        self._on_question = on_question
        self._answers: OrderedDict[Hashable, tuple[float, Answer]] = OrderedDict()
        self._asking: dict[Hashable, asyncio.Task[Answer]] = {}

    async def answer(self, question: Hashable, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The remembered answer, or the one that `ask` gives."""
        found = self._answers.get(question)
        remembered = found is not None and self._clock() - found[0] < self._seconds
        self._on_question(remembered)
        if found is not None and remembered:
            self._answers.move_to_end(question)
            return found[1]
        task = self._asking.get(question)
        if task is None:
            task = asyncio.ensure_future(self._ask(question, ask))
            self._asking[question] = task
            task.add_done_callback(lambda done: self._forget_task(question, done))
        # Shielded: one caller that hangs up must not take the answer from the others.
        return await asyncio.shield(task)

    async def _ask(self, question: Hashable, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        answer = await ask()
        self._answers[question] = (self._clock(), answer)
        self._answers.move_to_end(question)
        while len(self._answers) > self._answers_max:
            self._answers.popitem(last=False)
        return answer

    def _forget_task(self, question: Hashable, task: asyncio.Task[Answer]) -> None:
        self._asking.pop(question, None)
        if not task.cancelled():
            task.exception()  # every caller may have gone; the failure is not unobserved then
