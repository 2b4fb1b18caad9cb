"""Engines, loads and audits as real processes on this machine, started by the installed command.

    with EngineProcesses() as engines:
        engine = engines.run(configuration)
        engine.wait_until_ready()
        load = engines.start_load("--bootstrap", …)
        engine.kill()

Owns their configuration files, logs and ends. It knows an engine only from
outside: by its command, its telemetry port, its log and its exit status.
"""

from __future__ import annotations

import http.client
import json
import secrets
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventengine_contract.snapshots import Snapshot

from eventengine_harness.exceptions import DeadlineError, HarnessError
from eventengine_harness.ledgers import Ledger
from eventengine_harness.ownership import OwnedInstance
from eventengine_harness.processes import ComponentProcess, Launcher, tail_of
from eventengine_harness.waiting import wait_for

COMMAND = Path(sys.executable).with_name("eventengine")
READY_DEADLINE_SECONDS = 60.0
END_DEADLINE_SECONDS = 60.0
REQUEST_TIMEOUT_SECONDS = 5.0


@dataclass
class Command:
    """One process of the installed command."""

    process: ComponentProcess

    @property
    def log(self) -> str:
        """What it has written so far, the end of it where that is long."""
        return tail_of(self.process.log, lines=200)

    def wait(self, deadline_seconds: float = END_DEADLINE_SECONDS) -> int:
        """Wait for its end and return the exit status."""
        return self.process.wrapper.wait(deadline_seconds)


class RunningEngine(Command):
    """One `eventengine run`."""

    def __init__(self, process: ComponentProcess) -> None:
        super().__init__(process)
        self._address: tuple[str, int] | None = None

    def telemetry_address(self) -> tuple[str, int]:
        """Where it serves, as its log says."""
        if self._address is None:

            def listening() -> tuple[str, int] | None:
                self.process.check()
                for line in self.process.log.read_text(errors="replace").splitlines():
                    if '"telemetry listens"' in line:
                        host, _, port = str(json.loads(line)["address"]).rpartition(":")
                        return host, int(port)
                return None

            self._address = wait_for(listening, "the telemetry port", READY_DEADLINE_SECONDS)
        return self._address

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of one GET on the telemetry port."""
        host, port = self.telemetry_address()
        connection = http.client.HTTPConnection(host, port, timeout=REQUEST_TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def snapshot(self) -> Snapshot | None:
        """The latest sample, checked against the contract; None before the first."""
        status, text = self.get("/snapshot")
        return Snapshot.model_validate_json(text) if status == http.client.OK else None

    def wait_until_ready(self, deadline_seconds: float = READY_DEADLINE_SECONDS) -> None:
        """Wait until /readyz says so."""
        self.process.wait_ready(
            lambda: self.get("/readyz")[0] == http.client.OK, "the engine's readiness", deadline_seconds
        )

    def wait_for_sample(
        self,
        condition: Callable[[Snapshot], bool],
        what: str,
        deadline_seconds: float = READY_DEADLINE_SECONDS,
    ) -> Snapshot:
        """Wait for a sample that fulfils a condition."""
        seen: list[Snapshot] = []

        def fulfilled() -> Snapshot | None:
            self.process.check()
            sample = self.snapshot()
            if sample is None:
                return None
            seen[:] = [sample]
            return sample if condition(sample) else None

        try:
            return wait_for(fulfilled, what, deadline_seconds)
        except DeadlineError as error:
            last = seen[0].model_dump_json() if seen else "no sample"
            raise HarnessError(f"{error}; last sample: {last}; the end of its log:\n{self.log}") from None

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill -9, and reap."""
        self.process.stop(grace_seconds=0)


def lag_events(sample: Snapshot) -> int | None:
    """Lag over all partitions of all sources; None where a partition's is not known."""
    lags = [partition.lag_events for source in sample.sources for partition in source.partitions]
    return None if any(lag is None for lag in lags) else sum(lag for lag in lags if lag is not None)


def running_partitions(sample: Snapshot) -> set[int]:
    """The partitions that the engine owns and applies."""
    return {
        partition.partition
        for source in sample.sources
        for partition in source.partitions
        if partition.state == "running"
    }


class EngineProcesses(OwnedInstance[None]):
    """The processes of one test or one demonstration; all have ended when the block is left."""

    def __init__(self) -> None:
        super().__init__(f"engines-{secrets.token_hex(4)}")
        self._launcher: Launcher | None = None
        self._count = 0

    def run(self, config: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> RunningEngine:
        """Start `eventengine run`; telemetry goes to a free port on loopback."""
        name, folder = self._next_name("engine"), self.folder
        path = folder / f"{name}.yaml"
        path.write_text(json.dumps({**config, "telemetry": {"listen": "127.0.0.1:0"}}))
        identity = {"EVENTENGINE_POD": name, **(environment or {})}
        words: list[str | Path] = [COMMAND, "run", "--log-format", "json", path]
        return RunningEngine(self._launch(name, words, identity))

    def start(self, *arguments: str | Path) -> Command:
        """Start any other subcommand in the background."""
        return Command(self._launch(self._next_name(str(arguments[0])), [COMMAND, *arguments]))

    def call(self, *arguments: str | Path, deadline_seconds: float = END_DEADLINE_SECONDS) -> tuple[int, str]:
        """Run a subcommand to its end; returns exit status and output."""
        command = self.start(*arguments)
        status = command.wait(deadline_seconds)
        return status, command.log

    def started(self) -> Sequence[ComponentProcess]:
        """Everything that was started, in order."""
        return tuple(self._launcher.started) if self._launcher else ()

    @property
    def folder(self) -> Path:
        """A folder for this block's files."""
        if self._instance is None:
            raise HarnessError("use EngineProcesses with `with`")
        return self._instance.folder

    def _next_name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count}"

    def _launch(
        self, name: str, words: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> ComponentProcess:
        if self._launcher is None:
            raise HarnessError("use EngineProcesses with `with`")
        return self._launcher.launch(name, words, environment)

    def _prepare(self) -> None:
        """The command is installed beside this Python."""

    def _start(self, ledger: Ledger, needs: None) -> None:
        self._launcher = Launcher(ledger.marker, ledger.folder / "logs", ledger)

    def _children(self) -> Iterable[ComponentProcess]:
        return self.started()

    def _forget(self) -> None:
        self._launcher = None
