"""The two operators that are compared, as processes beside a control plane, with the same rights and rates.

Owns their command lines, what they tell of themselves, and the CPU time and memory that the kernel counts for each
process. The peer's templates are made of our own manifests, so that both make the same children.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from eventengine_contract.well_known import ANNOTATION_CONFIG_HASH, ANNOTATION_SPEC_HASH, CONFIG_MAP_KEY
from eventengine_harness.caching import cached, key_of
from eventengine_harness.control_planes import LOOPBACK, LoopbackControlPlane, free_port
from eventengine_harness.exceptions import HarnessError
from eventengine_harness.locations import TESTS
from eventengine_harness.processes import ComponentProcess
from eventengine_harness.running import run, run_showing_progress
from eventengine_harness.waiting import wait_for
from eventengine_operator.manifests.children import Circumstances, desired_children
from eventengine_operator.resources.engines import read_engine

from frame.fleets import SPEC
from frame.usage import cpu_seconds, memory_bytes

PEER: Final = TESTS / "benchmarks" / "peers" / "go" / "operator"
NAMESPACE: Final = "eventengine-system"
COMPONENT: Final = "operator"
IMAGE: Final = "example.invalid/engine:1"
WORKERS: Final = 8
CALLS_PER_SECOND: Final = 2000
CALLS_BURST: Final = 4000
START_SECONDS_MAX: Final = 60.0
RECONCILES: Final = {
    "eventengine": "eventengine_operator_reconciles_total",
    "peer": "controller_runtime_reconcile_total",
}
CRASHES: Final = ("panic", "Traceback")


def peer_program() -> Path:
    """The Go operator, built once for its sources and its compiler."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise HarnessError(
            "Go is missing: the peer needs the version in tests/benchmarks/peers/go/operator/go.mod"
        )
    flags = ("-trimpath", "-mod=readonly", "-buildvcs=false")

    def build(destination: Path) -> None:
        command: list[str | Path] = [go, "build", *flags, "-o", destination / COMPONENT, "."]
        run_showing_progress(command, "building the Go peer of the operator", folder=PEER)

    files = [path for path in PEER.iterdir() if path.suffix in {".go", ".mod", ".sum"}]
    key = key_of(files=files, folder=PEER, words=[run([go, "version"], folder=PEER), *flags])
    return cached("benchmark-peer-operator", key, build) / COMPONENT


def peer_templates() -> list[dict[str, Any]]:
    """The children of an EventEngine of the fleet, with places where the peer puts what differs."""
    engine = read_engine(
        {
            "apiVersion": "eventengine.dev/v1alpha1",
            "kind": "EventEngine",
            "metadata": {
                "name": "engine-name-here",
                "namespace": "engine-namespace-here",
                "uid": "engine-uid-here",
                "generation": 1,
                "resourceVersion": "1",
            },
            "spec": SPEC,
        }
    )
    if engine.spec is None:
        raise HarnessError("the fleet's spec isn't valid")
    children = desired_children(engine, engine.spec, Circumstances(default_image=IMAGE, replicas=1))
    for child in children:
        del child["metadata"]["annotations"][ANNOTATION_SPEC_HASH]
        if child["kind"] == "ConfigMap":
            child["data"][CONFIG_MAP_KEY] = "engine-yaml-here"
        if child["kind"] == "Deployment":
            child["spec"]["template"]["metadata"]["annotations"][ANNOTATION_CONFIG_HASH] = "engine-hash-here"
    return children


def install_rights(plane: LoopbackControlPlane) -> Path:
    """A service account that may do everything, as neither is to be slowed down by its rights; its kubeconfig."""
    access = plane.access
    access.kubectl("create", "namespace", NAMESPACE)
    access.kubectl("create", "serviceaccount", COMPONENT, f"--namespace={NAMESPACE}")
    access.kubectl(
        *("create", "clusterrolebinding", COMPONENT, "--clusterrole=cluster-admin"),
        f"--serviceaccount={NAMESPACE}:{COMPONENT}",
    )
    token = access.kubectl("create", "token", COMPONENT, f"--namespace={NAMESPACE}", "--duration=6h").strip()
    config: dict[str, Any] = yaml.safe_load(access.kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = access.kubeconfig.parent / f"{COMPONENT}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path


class BenchedOperator:
    """One of the two operators ("eventengine" or "peer") on a control plane."""

    def __init__(self, system: str, plane: LoopbackControlPlane, resync_seconds: float) -> None:
        self._system = system
        self._plane = plane
        self._resync_seconds = resync_seconds
        self._kubeconfig = install_rights(plane)
        self._port = 0
        self._process: ComponentProcess | None = None

    def start(self) -> None:
        """Start it and wait until it works."""
        self._port = free_port()
        if self._system == "peer":
            self._start_peer()
        else:
            self._start_ours()
        wait_for(self._is_up, f"{self._system} to lead", START_SECONDS_MAX)

    def stop(self) -> None:
        """Ask it to end, and wait."""
        if self._process is None:
            return
        self._process.stop()
        log = self._process.log.read_text()
        self._process = None
        if any(word in log for word in CRASHES):
            raise HarnessError(f"{self._system} crashed: {log[-2000:]}")

    @property
    def pid(self) -> int:
        """Its process."""
        if self._process is None:
            raise HarnessError(f"{self._system} is not up")
        return self._process.identity.pid

    def reconciles(self) -> float:
        """How many EventEngines it has looked at since its start, doubles included."""
        return self.metric(RECONCILES[self._system])

    def metric(self, name: str, *, having: str = "", without: str = "\n") -> float:
        """Sum of all series of a name whose line has one text and not the other."""
        lines = [line for line in self._metrics().splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if having in line and without not in line)

    def peak_bytes(self) -> int:
        """The most memory that it ever had resident."""
        return memory_bytes(self.pid, "VmHWM")

    def _is_up(self) -> bool:
        if self._process is not None:
            self._process.check()
        if self._system == "peer":
            return "leader_election_master_status" in self._metrics() and bool(
                self.metric("leader_election_master_status")
            )
        return "eventengine_operator_leader 1.0" in self._metrics() and self._answers("/readyz")

    def _metrics(self) -> str:
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self._port}/metrics", timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self._port}{path}", timeout=10):
                return True
        except OSError:
            return False

    def _start_ours(self) -> None:
        settings = {
            "namespace": NAMESPACE,
            "identity": COMPONENT,
            "listen_host": LOOPBACK,
            "listen_port": self._port,
            "default_image": IMAGE,
            "metrics_mode": "off",
            "workers": WORKERS,
            "calls_per_second": CALLS_PER_SECOND,
            "calls_burst": CALLS_BURST,
            "resync_seconds": self._resync_seconds,
        }
        self._launch(
            [sys.executable, "-m", "eventengine_operator"],
            {f"EVENTENGINE_OPERATOR_{name.upper()}": str(value) for name, value in settings.items()},
        )

    def _start_peer(self) -> None:
        templates = self._kubeconfig.parent / "templates.json"
        templates.write_text(json.dumps(peer_templates()))
        self._launch(
            [
                peer_program(),
                f"--templates={templates}",
                f"--metrics={LOOPBACK}:{self._port}",
                f"--namespace={NAMESPACE}",
                f"--workers={WORKERS}",
                f"--calls-per-second={CALLS_PER_SECOND}",
                f"--burst={CALLS_BURST}",
            ],
            {},
        )

    def _launch(self, words: list[str | Path], environment: Mapping[str, str]) -> None:
        access = {"KUBECONFIG": str(self._kubeconfig)}
        self._process = self._plane.launch(COMPONENT, words, {**environment, **access})


def cpu_seconds_by_component(plane: LoopbackControlPlane) -> dict[str, float]:
    """CPU time so far of everything that runs beside this process, and of itself."""
    used = {name: cpu_seconds(process.identity.pid) for name, process in plane.components.items()}
    return {**used, "the measuring client": cpu_seconds(os.getpid())}
