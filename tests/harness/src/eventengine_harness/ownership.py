"""The life of an instance that this process owns: up, then down or left in the background.

Owns the order of it: what is needed is installed and built before the instance exists; its warden watches
before the first process starts; whatever goes wrong on the way up takes everything down again. A subclass
says what it needs, what it starts, and which children are to be reaped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import Generic, Self, TypeVar

from eventengine_harness.exceptions import HarnessError
from eventengine_harness.ledgers import Instance, Ledger
from eventengine_harness.processes import ComponentProcess
from eventengine_harness.warden import Warden

REAP_DEADLINE_SECONDS = 10.0

Needs = TypeVar("Needs")


class OwnedInstance(ABC, Generic[Needs]):
    """An instance of the harness; use it in a `with`.

    Args:
        name: Of the instance, and of its folder.
        wait_seconds: How long to wait for another process's instance of that name to end.
    """

    def __init__(self, name: str, *, wait_seconds: float = 0.0) -> None:
        self._name = name
        self._wait_seconds = wait_seconds
        self._instance: Instance | None = None
        self._warden: Warden | None = None

    @abstractmethod
    def _prepare(self) -> Needs:
        """Install and build what is needed; nothing of the instance exists yet."""

    @abstractmethod
    def _start(self, ledger: Ledger, needs: Needs) -> None:
        """Start it; returns when it can be used."""

    @abstractmethod
    def _children(self) -> Iterable[ComponentProcess]:
        """What was started so far."""

    @abstractmethod
    def _forget(self) -> None:
        """Let go of everything that says it is up."""

    @property
    def warden_pid(self) -> int:
        """The process that cleans up if this one is killed."""
        return self._owned()[1].pid

    def up(self) -> None:
        """Bring it up; on any failure everything started so far is removed."""
        needs = self._prepare()
        self._instance = Instance.create(self._name, wait_seconds=self._wait_seconds)
        try:
            self._warden = Warden(self._name)
            self._start(self._instance.ledger, needs)
        except BaseException:
            self.down()
            raise

    def detach(self) -> None:
        """Leave it running in the background; the command line's `down` ends it."""
        instance, warden = self._owned()
        instance.detach()
        warden.dismiss()
        self._instance = self._warden = None

    def down(self) -> None:
        """End it and remove everything it made; harmless when it is not up."""
        if self._instance is not None:
            self._instance.end()
            self._instance = None
            for child in self._children():
                child.wrapper.wait(REAP_DEADLINE_SECONDS)
        if self._warden is not None:
            self._warden.dismiss()
            self._warden = None
        self._forget()

    def _owned(self) -> tuple[Instance, Warden]:
        if self._instance is None or self._warden is None:
            raise HarnessError(f"{self._name} is not up; call up() or use `with`")
        return self._instance, self._warden

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.down()
