"""Long-running component processes, and proof of which process a pid means.

A pid alone is never trusted: a process is identified by pid and start time, and
signals go through a pidfd that was checked against both, so that a reused pid is
never hit. Every process of an instance also carries the instance's marker in
its environment, which finds the ones that were started a moment before a crash
and recorded by nobody.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from eventengine_harness.exceptions import ComponentError, DeadlineError
from eventengine_harness.waiting import wait_for

MARKER_VARIABLE = "EVENTENGINE_HARNESS_INSTANCE"
LOG_TAIL_LINES = 25
LOG_TAIL_BYTES = 16_384
STOP_GRACE_SECONDS = 10.0
KILL_DEADLINE_SECONDS = 10.0
CHILD_DEADLINE_SECONDS = 5.0

_STATE_FIELD = 0
_PARENT_FIELD = 1
_START_TIME_FIELD = 19


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat after the command name, which may hold spaces and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, told apart from a later one with the same pid by its start time."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Identify a live process; None if there is none (or a zombie) with this pid."""
        fields = stat_fields(pid)
        if fields is None or fields[_STATE_FIELD] in "ZX":
            return None
        return cls(pid, int(fields[_START_TIME_FIELD]))

    def is_alive(self) -> bool:
        """Whether this very process runs."""
        return ProcessIdentity.of(self.pid) == self

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to this very process; False if it is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # Checked after the open: from here on the descriptor can't come to mean another one.
            if not self.is_alive():
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True


def wait_until_gone(processes: Iterable[ProcessIdentity], deadline_seconds: float) -> bool:
    """Wait until all of these processes have ended; False if some still run at the deadline."""
    deadline = time.monotonic() + deadline_seconds
    for process in processes:
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            while process.is_alive():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                select.select([descriptor], [], [], min(remaining, 0.5))
        finally:
            os.close(descriptor)
    return True


def confine(process: ProcessIdentity, cpus: Collection[int]) -> None:
    """Let a process run on these CPUs alone, all threads of it; what it starts from then on, too."""
    confined: set[str] = set()
    # A thread that wasn't reached yet may start another one meanwhile.
    while new := {task.name for task in Path(f"/proc/{process.pid}/task").glob("*")} - confined:
        if not process.is_alive():
            return
        for thread in new:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), cpus)
        confined |= new


def end_processes(processes: Sequence[ProcessIdentity], grace_seconds: float) -> list[int]:
    """End processes, politely first; returns the pids that would not die."""
    if grace_seconds > 0:
        for process in processes:
            process.send(signal.SIGTERM)
        wait_until_gone(processes, grace_seconds)
    for process in processes:
        process.send(signal.SIGKILL)
    wait_until_gone(processes, KILL_DEADLINE_SECONDS)
    return [process.pid for process in processes if process.is_alive()]


def find_marked(marker: str) -> list[ProcessIdentity]:
    """Find the live processes that carry an instance's marker in their environment."""
    needle = f"{MARKER_VARIABLE}={marker}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        identity = ProcessIdentity.of(int(folder.name))
        if identity is None:
            continue
        with contextlib.suppress(OSError):
            if needle in (folder / "environ").read_bytes().split(b"\0") and identity.is_alive():
                found.append(identity)
    return found


def child_of(pid: int) -> int | None:
    """The pid of a process's first child, if it has one."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None
    return None


def tail_of(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log file."""
    try:
        with path.open("rb") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(max(0, handle.tell() - LOG_TAIL_BYTES))
            text = handle.read().decode(errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"


@dataclass
class ComponentProcess:
    """One component that was started: its real process, and where it writes.

    `wrapper` is our own child; it is the component itself, or the nsenter that
    holds it. `identity` is always the component.
    """

    name: str
    wrapper: subprocess.Popen[bytes]
    identity: ProcessIdentity
    log: Path

    def is_running(self) -> bool:
        """Whether the component is alive."""
        self.wrapper.poll()
        return self.identity.is_alive()

    def check(self) -> None:
        """Raise a ComponentError with the end of the log if the component has died."""
        if not self.is_running():
            raise ComponentError(f"{self.name} has ended; the end of {self.log}:\n{tail_of(self.log)}")

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to the component; False if it is gone."""
        return self.identity.send(number)

    def stop(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """End the component (0 = kill at once) and reap it."""
        leftover = end_processes([self.identity], grace_seconds)
        if leftover:
            raise ComponentError(f"{self.name} (pid {leftover[0]}) does not end")
        self.wrapper.wait(KILL_DEADLINE_SECONDS)

    def wait_ready(self, probe: Probe, what: str, deadline_seconds: float) -> None:
        """Wait until a probe succeeds; fails early if the component dies, with its last lines."""

        def ready() -> bool:
            self.check()
            return probe()

        try:
            wait_for(ready, what, deadline_seconds)
        except DeadlineError as error:
            raise ComponentError(f"{error}; the end of {self.log}:\n{tail_of(self.log)}") from error


class Probe(Protocol):
    """A readiness question; it answers False, and doesn't raise, while the answer is no."""

    def __call__(self) -> bool:
        """Whether the component is ready."""
        ...


class ProcessRecorder(Protocol):
    """What a launcher tells about each process it starts (the ledger)."""

    def record_process(self, name: str, identity: ProcessIdentity) -> None:
        """Write the process down."""
        ...


@dataclass
class Launcher:
    """Starts components: each in a session of its own, marked, recorded, logging to a file.

    Attributes:
        marker: The instance's marker, put into each environment.
        logs: The folder of log files, one per component.
        recorder: Told of each process.
        cpus: CPU list the components are confined to (`taskset`), or None.
        prefix: Put before each command, to enter namespaces (nsenter).
        forks: Whether the prefix leaves a parent of ours in front of the component.
    """

    marker: str
    logs: Path
    recorder: ProcessRecorder
    cpus: str | None = None
    prefix: tuple[str, ...] = ()
    forks: bool = False
    started: list[ComponentProcess] = field(default_factory=list)

    def command(self, words: Sequence[str | Path]) -> list[str]:
        """The full command line for a component or a helper command."""
        pinning = ["taskset", "--cpu-list", self.cpus] if self.cpus else []
        return [*self.prefix, *pinning, *(str(word) for word in words)]

    def launch(
        self,
        name: str,
        words: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
    ) -> ComponentProcess:
        """Start a component; returns as soon as its process exists."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            wrapper = subprocess.Popen(
                self.command(words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {}), MARKER_VARIABLE: self.marker},
                start_new_session=True,
            )
        pid = self._component_pid(name, wrapper, log) if self.forks else wrapper.pid
        identity = ProcessIdentity.of(pid)
        if identity is None:
            wrapper.wait(KILL_DEADLINE_SECONDS)
            raise ComponentError(f"{name} ended at once; the end of {log}:\n{tail_of(log)}")
        self.recorder.record_process(name, identity)
        component = ComponentProcess(name, wrapper, identity, log)
        self.started.append(component)
        return component

    def _component_pid(self, name: str, wrapper: subprocess.Popen[bytes], log: Path) -> int:
        def child() -> int | None:
            if wrapper.poll() is not None:
                raise ComponentError(f"{name} ended at once; the end of {log}:\n{tail_of(log)}")
            return child_of(wrapper.pid)

        return wait_for(child, f"the process of {name}", CHILD_DEADLINE_SECONDS)
