"""A real one-node Kubernetes cluster with, if asked for, a real Kafka beside it.

    with Cluster(kafka=True) as cluster:
        cluster.access.apply(manifest)
        cluster.broker.create_topic("hunt-events", 64)

Everything runs in one sandbox (see `sandboxes`) on CPU 0, so that the other
cores belong to pinned pods; where nothing is pinned it may have all of them for
a while. The machine reaches the API server and Kafka at the node's address,
10.99.0.1. One cluster runs at a time on a machine, since address and cores
exist once; a second one waits for the first, or says who has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from eventengine_harness import builds, debian_packages, sandboxes
from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.brokers import Broker
from eventengine_harness.control_planes import ControlPlane, Endpoints
from eventengine_harness.exceptions import HarnessError
from eventengine_harness.ledgers import Ledger
from eventengine_harness.locations import run_folder
from eventengine_harness.nodes import Node
from eventengine_harness.ownership import OwnedInstance
from eventengine_harness.processes import ComponentProcess, Launcher, confine
from eventengine_harness.sandboxes import NODE_ADDRESS, Sandbox

INSTANCE = "cluster"
CGROUP = "eventengine-harness"
SHARED_CPUS = "0"
KAFKA_PORT = 9092
KAFKA_CONTROLLER_PORT = 9093

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class _Programs:
    """What a cluster is made of; `jars` only where it has a Kafka."""

    kubernetes: Path
    pause: Path
    jars: Path | None


class Cluster(OwnedInstance[_Programs]):
    """The cluster of this machine.

    Args:
        kafka: Whether a broker comes up too, at 10.99.0.1:9092.
        wait_seconds: How long to wait for another process's cluster to end.
    """

    def __init__(self, *, kafka: bool = False, wait_seconds: float = 0.0) -> None:
        super().__init__(INSTANCE, wait_seconds=wait_seconds)
        self._with_kafka = kafka
        self._sandbox: Sandbox | None = None
        self._node: Node | None = None
        self._broker: Broker | None = None
        self._access: KubernetesAccess | None = None
        self._launchers: list[Launcher] = []

    @property
    def access(self) -> KubernetesAccess:
        """Gives kubectl, helm and waiting, as cluster administrator."""
        return _present(self._access, "the cluster")

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; it works from the machine and from inside."""
        return self.access.kubeconfig

    @property
    def sandbox(self) -> Sandbox:
        """The namespaces: `sandbox.prefix` before a command runs it inside."""
        return _present(self._sandbox, "the cluster")

    @property
    def node(self) -> Node:
        """The node: importing images, its components."""
        return _present(self._node, "the cluster")

    @property
    def broker(self) -> Broker:
        """The Kafka broker at 10.99.0.1:9092."""
        return _present(self._broker, "Kafka (ask for it: Cluster(kafka=True))")

    @property
    def logs(self) -> Path:
        """The folder of the components' logs."""
        return run_folder() / INSTANCE / "logs"

    @property
    def components(self) -> list[ComponentProcess]:
        """Everything that was started, the sandbox's first process included."""
        return [component for launcher in self._launchers for component in launcher.started]

    @contextmanager
    def on_all_cpus(self) -> Iterator[None]:
        """Let the components have every CPU of the machine, while no pod is to have one of its own."""
        self._confine(os.sched_getaffinity(0))
        try:
            yield
        finally:
            self._confine({int(SHARED_CPUS)})

    def _confine(self, cpus: set[int]) -> None:
        for launcher in self._launchers:
            if launcher.cpus:
                for component in launcher.started:
                    confine(component.identity, cpus)

    def _prepare(self) -> _Programs:
        if os.geteuid() != 0:
            raise HarnessError("a cluster makes namespaces and cgroups: run it as root")
        wanted = [*debian_packages.CONTROL_PLANE, *debian_packages.NODE]
        wanted += debian_packages.JAVA if self._with_kafka else ()
        debian_packages.ensure_installed(wanted)
        return _Programs(builds.kubernetes(), builds.pause(), builds.kafka() if self._with_kafka else None)

    def _start(self, ledger: Ledger, needs: _Programs) -> None:
        programs, pause = needs.kubernetes, needs.pause
        logs = ledger.folder / "logs"
        outside = Launcher(ledger.marker, logs, ledger)
        self._launchers.append(outside)
        cgroup = sandboxes.make_cgroup(ledger, CGROUP)
        sandbox = self._sandbox = sandboxes.start(ledger, outside, pause)
        inside = Launcher(
            *(ledger.marker, logs, ledger),
            cpus=SHARED_CPUS,
            prefix=sandbox.prefix,
            forks=True,
        )
        self._launchers.append(inside)
        control_plane = ControlPlane(
            *(ledger.folder / "control-plane", inside, programs),
            Endpoints.in_sandbox(NODE_ADDRESS),
            has_node=True,
        )
        control_plane.folder.mkdir()
        node = self._node = Node(*(ledger.folder / "node", inside, sandbox, control_plane, cgroup, pause))
        if needs.jars is not None:
            self._broker = Broker(
                *(ledger.folder / "kafka", inside, needs.jars, NODE_ADDRESS),
                *(KAFKA_PORT, KAFKA_CONTROLLER_PORT),
            )
        control_plane.start_etcd()
        with ThreadPoolExecutor(max_workers=2) as side_by_side:
            # The node's container runtime and the broker need nothing of the control plane.
            futures = [side_by_side.submit(node.start_containerd)]
            if self._broker is not None:
                futures.append(side_by_side.submit(self._broker.start))
            control_plane.start()
            for future in futures:
                future.result()
        access = KubernetesAccess(control_plane.kubeconfig, programs / "kubectl")
        node.start_kubelet_and_proxy()
        node.wait_until_ready(access)
        access.wait_until_usable()
        if self._broker is not None:
            self._broker.wait_until_ready()
        control_plane.check()
        self._access = access
        ledger.details.update(
            init_pid=sandbox.init_pid,
            kubeconfig=str(control_plane.kubeconfig),
            kubectl=str(programs / "kubectl"),
            containerd_socket=str(node.containerd_socket),
            bootstrap_servers=self._broker.bootstrap_servers if self._broker else None,
        )
        ledger.write()

    def _children(self) -> Iterable[ComponentProcess]:
        return self.components

    def _forget(self) -> None:
        self._sandbox = self._node = self._broker = self._access = None
        self._launchers = []


@dataclass(frozen=True)
class BackgroundCluster:
    """The cluster that `cluster up` left running, for commands and scripts."""

    access: KubernetesAccess
    sandbox: Sandbox
    containerd_socket: Path
    bootstrap_servers: str | None


def background() -> BackgroundCluster:
    """The cluster in the background; a HarnessError says how to start one if there is none."""
    ledger = Ledger.read(run_folder() / INSTANCE)
    if ledger is None or not ledger.detached:
        raise HarnessError(
            "no cluster runs in the background; start one: python -m eventengine_harness cluster up --kafka"
        )
    details = ledger.details
    return BackgroundCluster(
        KubernetesAccess(Path(details["kubeconfig"]), Path(details["kubectl"])),
        Sandbox(details["init_pid"]),
        Path(details["containerd_socket"]),
        details["bootstrap_servers"],
    )


def _present(thing: Thing | None, name: str) -> Thing:
    if thing is None:
        raise HarnessError(f"{name} is not up; call up() or use `with`")
    return thing
