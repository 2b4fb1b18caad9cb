"""The seam between the Python face and the native module.

Owns the protocols that the face programs against, so that it can be tested
without the module, and the one place that imports it. The managed side never
touches an event: it starts, stops and reads.
"""

from __future__ import annotations

from types import ModuleType
from typing import Protocol


class NativeEngine(Protocol):
    """What the face needs of `_native.Engine`."""

    def start(self) -> None:
        """Start the threads; a broker that is away is no error."""

    def snapshot(self, at_seconds: int | None = None) -> bytes | None:
        """The latest sample, or that of one whole second, as JSON; None if it isn't kept."""

    def metrics(self) -> bytes:
        """The Prometheus text."""

    def readiness(self) -> bytes:
        """JSON with `ready`, `live` and `reasons`."""

    def stop(self, deadline_seconds: float) -> bool:
        """Drain: stop fetching, flush, commit, leave the group. True if all of it was done in time."""


class NativeLoadGenerator(Protocol):
    """What the face needs of `_native.LoadGenerator`."""

    def start(self) -> None:
        """Connect and begin with the schedule."""

    def progress(self) -> bytes:
        """JSON of the counts so far."""

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the end of the run; False if the time passed first."""

    def stop(self) -> None:
        """End the schedule now and wait only for what was sent."""

    def result(self) -> bytes:
        """JSON of the finished run."""


class NativeModuleMissingError(RuntimeError):
    """The native module isn't there, or doesn't load on this machine."""


def load_module() -> ModuleType:
    """Import `eventengine._native`.

    Raises:
        NativeModuleMissingError: with what to do about it.
    """
    try:
        from eventengine import _native
    except ImportError as error:
        raise NativeModuleMissingError(
            f"the native module can't be loaded ({error}); in a checkout, build it with `make native`"
        ) from None
    return _native
