"""Readers that go on reading a metric through the API server while a test changes what is under it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from eventengine_harness.exceptions import RequestError
from eventengine_harness.waiting import wait_for

from .adapters import AdapterPlane

READERS = 3
PAUSE_SECONDS = 0.02
"""Some hundred reads a second in all: more than a hundred autoscalers ask."""

PROGRESS_SECONDS_MAX = 20.0


class ReadingLoad:
    """Counts the answers of one path, and keeps every failure; use it in a `with`."""

    def __init__(self, plane: AdapterPlane, path: str, items: int) -> None:
        self._plane = plane
        self._path = path
        self._items = items
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read, daemon=True) for _ in range(READERS)]
        self.answers = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_for_progress(READERS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_progress(self, answers: int) -> None:
        """Wait until there are so many more answers, or a failure."""
        wanted = self.answers + answers
        wait_for(
            lambda: self.answers >= wanted or bool(self.failures),
            f"{answers} further answers at {self._path}",
            PROGRESS_SECONDS_MAX,
        )

    def _read(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            try:
                found = self._plane.access.raw(self._path)["items"]
                if len(found) != self._items:
                    self.failures.append(f"{len(found)} items")
            except RequestError as error:
                self.failures.append(str(error))
            self.answers += 1
