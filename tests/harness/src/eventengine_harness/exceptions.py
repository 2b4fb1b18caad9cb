"""Everything this package raises on purpose.

    HarnessError
    ├── CommandError         a command ended with a failure status
    │   └── RequestError     an API server refused a request, or did not answer
    ├── ComponentError       a long-running component did not come up, or died
    ├── DeadlineError        a condition did not become true in time
    ├── InUseError           another live process owns the thing asked for
    └── LeftoverError        a teardown could not remove something

Each message says what was tried, where the log is and what to do next, so that
a failed run on somebody else's machine can be understood from its output.
"""

from __future__ import annotations

from collections.abc import Sequence


class HarnessError(Exception):
    """The root of this package's errors."""


class CommandError(HarnessError):
    """A command ended with a failure status; the message holds the end of its output."""

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        self.command = tuple(command)
        self.status = status
        self.output = output
        super().__init__(f"`{' '.join(command)}` ended with status {status}:\n{output.rstrip()}")


class RequestError(CommandError):
    """An API server refused a request; `status` is HTTP's, 0 where there was no answer.

    It is a CommandError, because the same question may be asked by kubectl.
    """

    def __init__(self, method: str, path: str, status: int, message: str) -> None:
        super().__init__((method, path), status, message)


class ComponentError(HarnessError):
    """A component did not come up or died; the message holds its last log lines."""


class DeadlineError(HarnessError):
    """A condition did not become true before its deadline."""


class InUseError(HarnessError):
    """Another live process owns what was asked for."""


class LeftoverError(HarnessError):
    """A teardown could not remove everything; the message names what stays."""
