"""The operator as a process against a real control plane, with exactly the rights that the chart gives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml
from eventengine_contract.generating import crd
from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.control_planes import LoopbackControlPlane, free_port
from eventengine_harness.waiting import wait_for

CHART = Path(__file__).resolve().parents[2] / "charts" / "eventengine"
STOP_SECONDS_MAX = 30.0
START_SECONDS_MAX = 60.0
PATIENT = {"lease_seconds": "60", "renew_deadline_seconds": "40"}
"""For tests of anything but leadership: a busy machine must not cost the operator its Lease."""


class OperatorPlane:
    """A control plane with the CRD installed; makes installations of the operator's rights."""

    def __init__(self, control_plane: LoopbackControlPlane, folder: Path) -> None:
        self.control_plane = control_plane
        self.access: KubernetesAccess = control_plane.access
        self._folder = folder
        self.access.apply(crd())
        self.access.wait_for_condition("crd", "eventengines.eventengine.dev", "Established")

    def install_rights(self, namespace: str, *values: str) -> Path:
        """Apply the chart's service account and RBAC for one installation; returns its kubeconfig."""
        self.access.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        rendered = self.access.helm(
            *("template", "eventengine", CHART, f"--namespace={namespace}"),
            *(
                "--show-only=templates/operator/rbac.yaml",
                "--show-only=templates/operator/serviceaccount.yaml",
            ),
            *(f"--set={value}" for value in values),
        )
        self.access.apply(rendered)
        return self.kubeconfig_of("eventengine-operator", namespace)

    def kubeconfig_of(self, account: str, namespace: str) -> Path:
        """A kubeconfig with a token of a service account."""
        token = self.access.kubectl("create", "token", account, f"--namespace={namespace}", "--duration=6h")
        return self._kubeconfig(f"{namespace}-{account}", token.strip())

    def _kubeconfig(self, name: str, token: str) -> Path:
        config: dict[str, Any] = yaml.safe_load(self.access.kubeconfig.read_text())
        config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
        path = self._folder / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path


class OperatorProcess:
    """One running operator, or another command of its program; use it in a `with`."""

    def __init__(
        self,
        kubeconfig: Path,
        namespace: str,
        log: Path,
        identity: str = "operator",
        command: str = "run",
        **settings: str,
    ) -> None:
        self.port = free_port()
        self._command = command
        self.identity = identity
        self._log = log
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("EVENTENGINE_")},
            "KUBECONFIG": str(kubeconfig),
            "EVENTENGINE_OPERATOR_NAMESPACE": namespace,
            "EVENTENGINE_OPERATOR_IDENTITY": identity,
            "EVENTENGINE_OPERATOR_LISTEN_HOST": "127.0.0.1",
            "EVENTENGINE_OPERATOR_LISTEN_PORT": str(self.port),
            "EVENTENGINE_OPERATOR_DEFAULT_IMAGE": "example.invalid/engine:1",
            "EVENTENGINE_OPERATOR_LEASE_SECONDS": "3",
            "EVENTENGINE_OPERATOR_RENEW_DEADLINE_SECONDS": "2",
            "EVENTENGINE_OPERATOR_RETRY_SECONDS": "0.3",
            **{f"EVENTENGINE_OPERATOR_{key.upper()}": value for key, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `wait_ready` tells when it works."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "eventengine_operator", self._command],
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def run(self, command: str) -> str:
        """Run another command of the program with the same settings; returns its log."""
        result = subprocess.run(
            [sys.executable, "-m", "eventengine_operator", command],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return result.stdout + result.stderr

    def wait_ready(self) -> None:
        """Wait for /readyz."""
        wait_for(
            lambda: self.http("/readyz")[0] == 200,
            "the operator's /readyz",
            START_SECONDS_MAX,
            last_seen=self.log,
        )

    def wait_leading(self) -> None:
        """Wait until it leads and its watches are up."""
        wait_for(
            lambda: "eventengine_operator_leader 1.0" in self.http("/metrics")[1],
            "leadership",
            START_SECONDS_MAX,
            last_seen=self.log,
        )
        self.wait_ready()

    def http(self, path: str) -> tuple[int, str]:
        """Status and body of a path of the health port; status 0 while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, prefix: str) -> float:
        """Sum of all series whose line starts so."""
        lines = self.http("/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(prefix))

    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()[-6000:] if self._log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait_for_exit(self) -> int:
        """The exit code, once it has ended."""
        assert self.process is not None
        return self.process.wait(STOP_SECONDS_MAX)

    def stop(self) -> int:
        """Ask it to end, wait, return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_for_exit()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_SECONDS_MAX)


def installation_of(request: pytest.FixtureRequest) -> str:
    """The namespace of the operator that is installed for a module's tests."""
    module = request.module.__name__.rpartition(".")[2]
    return f"eventengine-{module.removeprefix('test_').replace('_', '-')}"


@contextmanager
def operating(kubeconfig: Path, namespace: str, folder: Path, **settings: str) -> Iterator[OperatorProcess]:
    """A leading operator, patient about its Lease and without the metrics APIs unless the settings say otherwise.

    Ends in order, without a traceback, and having lacked no right.
    """
    log = folder / "operator.log"
    settings = {"metrics_mode": "off", **PATIENT, **settings}
    with OperatorProcess(kubeconfig, namespace, log, **settings) as running:
        running.wait_leading()
        yield running
        assert running.stop() == 0, running.log()
    assert "Traceback" not in log.read_text(), running.log()
    assert '" cannot ' not in log.read_text(), f"a right is missing in the chart: {running.log()}"


def snapshot(pod: str, namespace: str, *, reasons: list[str], cpu_set: str, exclusive: bool) -> str:
    """What an engine would answer on /snapshot."""
    zero_latency = dict.fromkeys(("p50", "p99", "p999", "max", "service_p99"), 0)
    return json.dumps(
        {
            "version": 1,
            "sampled_at": "2026-11-21T10:00:00Z",
            "sampled_at_seconds": 1795255200,
            "identity": {"engine": "hunt", "namespace": namespace, "pod": pod, "incarnation": "1"},
            "readiness": {"ready": not reasons, "live": True, "reasons": reasons},
            "buffer_pool": {"chunks": 1, "chunk_bytes": 1, "in_use": 0, "high_water": 0, "utilisation": 0},
            "rings": [],
            "arena": {"slots": 1, "slot_bytes": 256, "in_use": 0, "utilisation": 0, "fragmentation": 0},
            "sources": [],
            "allocator": dict.fromkeys(
                (
                    "allocated_bytes",
                    "active_bytes",
                    "resident_bytes",
                    "retained_bytes",
                    "core_thread_allocated_bytes",
                ),
                0,
            ),
            "process": {
                "rss_bytes": 0,
                "cpu_set": cpu_set,
                "pinning": "Required",
                "pinned": exclusive,
                "exclusive": exclusive,
            },
            "counters": dict.fromkeys(
                (
                    "events_in",
                    "events_applied",
                    "outputs_committed",
                    "transactions_committed",
                    "transactions_aborted",
                ),
                0,
            ),
            "latency": {f"{key}_nanoseconds": value for key, value in zero_latency.items()}
            | {"count": 0, "window_seconds": 10},
        }
    )
