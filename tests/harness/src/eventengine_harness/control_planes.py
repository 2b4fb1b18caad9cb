"""A real Kubernetes control plane: etcd, API server, controller manager, scheduler.

Owns their certificates, command lines and readiness. Where they run is decided by
the launcher: on the machine's loopback with free ports (`LoopbackControlPlane`,
for tests of operator and adapter), or inside a cluster's sandbox (see `clusters`).

Order: etcd healthy, then the API server ready, then the rest. Data is not synced
to disk (`--unsafe-no-fsync`): no control plane outlives its run.
"""

from __future__ import annotations

import fcntl
import http.client
import secrets
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eventengine_harness import builds, certificates, debian_packages, kubeconfigs
from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.certificates import ControlPlaneCertificates, KeyPair
from eventengine_harness.exceptions import CommandError, HarnessError
from eventengine_harness.ledgers import Ledger
from eventengine_harness.locations import user_cache
from eventengine_harness.ownership import OwnedInstance
from eventengine_harness.processes import ComponentProcess, Launcher
from eventengine_harness.running import run

LOOPBACK = "127.0.0.1"
SERVICE_RANGE = "10.96.0.0/16"
FIRST_SERVICE_ADDRESS = "10.96.0.1"
AUTOSCALER_SYNC_SECONDS = 2
COMPONENT_DEADLINE_SECONDS = 90.0
PROBE_TIMEOUT_SECONDS = 2.0
LOOPBACK_INSTANCE = "control-plane"
PORTS = range(20_000, 32_000)
PORT_ATTEMPTS_MAX = 100


def free_port(address: str = LOOPBACK) -> int:
    """A port that nobody had a moment ago, below those that the kernel gives to outgoing connections.

    A client that keeps connecting to a server that is away would otherwise be given that very port some
    day, connect to itself, and keep the server from coming back. Ports are given in turns, so that nobody else is
    given this one before its server listens.
    """
    for _ in range(PORT_ATTEMPTS_MAX):
        port = _next_port()
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        return port
    raise HarnessError(f"no free port at {address} between {PORTS.start} and {PORTS.stop}")


def _next_port() -> int:
    """The port after the one that was given last, to whichever process of this user."""
    path = user_cache() / "last-port"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as last:
        fcntl.flock(last, fcntl.LOCK_EX)
        last.seek(0)
        text = last.read()
        number = int(text) + 1 if text.isdecimal() else PORTS.start + secrets.randbelow(len(PORTS))
        port = number if number in PORTS else PORTS.start
        last.truncate(0)
        last.write(str(port))
    return port


def own_addresses() -> Iterator[str]:
    """Addresses of loopback that no other process takes, for servers whose port is not theirs to choose."""
    network = f"127.{64 + secrets.randbelow(128)}.{secrets.randbelow(256)}"
    return (f"{network}.{number}" for number in range(2, 255))


@dataclass(frozen=True)
class Endpoints:
    """Where the components listen."""

    address: str
    api_server: int
    etcd: int
    etcd_peer: int
    controller_manager: int
    scheduler: int

    @classmethod
    def on_loopback(cls) -> Endpoints:
        """Free ports on the machine's loopback."""
        return cls(LOOPBACK, *(free_port() for _ in range(5)))

    @classmethod
    def in_sandbox(cls, address: str) -> Endpoints:
        """The usual ports; the sandbox has a loopback of its own, so they are free."""
        return cls(address, 6443, 2379, 2380, 10257, 10259)

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return f"https://{self.address}:{self.api_server}"


@dataclass(frozen=True)
class ClientRate:
    """How many calls a second a controller may make; what comes with Kubernetes bounds all else at scale."""

    calls_per_second: int
    burst: int

    @property
    def flags(self) -> list[str]:
        """For the controller manager and the scheduler."""
        return [f"--kube-api-qps={self.calls_per_second}", f"--kube-api-burst={self.burst}"]


@dataclass
class ControlPlane:
    """Starts the four components through a launcher.

    Attributes:
        folder: For certificates, kubeconfigs and etcd's data.
        launcher: Starts the processes; logs go where it says.
        programs: The folder of the Kubernetes programs.
        endpoints: Where they listen.
        node_name: The node that certificates are made for.
        has_node: Whether a node joins. Without one nothing routes Service
            addresses, so the aggregator dials the name of an ExternalName Service.
        client_rate: Of controller manager and scheduler; None leaves them their own.
        controller_flags: Added to the controller manager's own; of a flag given twice the last one counts.
    """

    folder: Path
    launcher: Launcher
    programs: Path
    endpoints: Endpoints
    node_name: str = "node"
    has_node: bool = False
    client_rate: ClientRate | None = None
    controller_flags: Sequence[str] = ()
    components: dict[str, ComponentProcess] = field(default_factory=dict)
    _certificates: ControlPlaneCertificates | None = None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "admin.kubeconfig"

    @property
    def certificates(self) -> ControlPlaneCertificates:
        """The certificates, made when first asked for."""
        if self._certificates is None:
            self._certificates = certificates.create(
                self.folder / "certificates",
                api_server_hosts=[self.endpoints.address, LOOPBACK, FIRST_SERVICE_ADDRESS],
                node_name=self.node_name,
                node_address=self.endpoints.address,
            )
        return self._certificates

    def write_kubeconfig(self, name: str, client: KeyPair) -> Path:
        """Write the kubeconfig of one client of this API server."""
        path = self.folder / f"{name}.kubeconfig"
        authority = self.certificates.authority.certificate
        return kubeconfigs.write(path, self.endpoints.server, authority, client)

    def start(self) -> None:
        """Bring everything up; returns when the API server is ready and the rest is started."""
        if "etcd" not in self.components:
            self.start_etcd()
        # Written while etcd comes up.
        self.write_kubeconfig("admin", self.certificates.admin)
        self.wait_for_etcd()
        self.start_api_server()
        self.start_controllers()

    def start_etcd(self) -> None:
        """Start etcd; `wait_for_etcd` tells when it serves."""
        client = f"http://{LOOPBACK}:{self.endpoints.etcd}"
        peer = f"http://{LOOPBACK}:{self.endpoints.etcd_peer}"
        self.components["etcd"] = self.launcher.launch(
            "etcd",
            [
                "etcd",
                "--name=etcd",
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=etcd={peer}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
        )

    def wait_for_etcd(self) -> None:
        """Wait for etcd's health endpoint, which only its own loopback reaches."""
        url = f"http://{LOOPBACK}:{self.endpoints.etcd}/health"
        program = f"import urllib.request; urllib.request.urlopen({url!r}, timeout=2).read()"
        question = self.launcher.command([sys.executable, "-I", "-S", "-c", program])
        self.components["etcd"].wait_ready(lambda: succeeds(question), "etcd", COMPONENT_DEADLINE_SECONDS)

    def start_api_server(self) -> None:
        """Start the API server and wait until it says that it is ready."""
        files = self.certificates
        flags = [
            f"--etcd-servers=http://{LOOPBACK}:{self.endpoints.etcd}",
            f"--bind-address={self.endpoints.address}",
            f"--advertise-address={self.endpoints.address}",
            f"--secure-port={self.endpoints.api_server}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            f"--client-ca-file={files.authority.certificate}",
            f"--tls-cert-file={files.api_server.certificate}",
            f"--tls-private-key-file={files.api_server.key}",
            f"--kubelet-client-certificate={files.api_server_kubelet_client.certificate}",
            f"--kubelet-client-key={files.api_server_kubelet_client.key}",
            f"--kubelet-certificate-authority={files.authority.certificate}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={files.service_account.certificate}",
            f"--service-account-signing-key-file={files.service_account.key}",
            f"--requestheader-client-ca-file={files.front_proxy_authority.certificate}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={files.front_proxy_client.certificate}",
            f"--proxy-client-key-file={files.front_proxy_client.key}",
            f"--enable-aggregator-routing={str(self.has_node).lower()}",
            # Streamed lists need a newer etcd than Debian 12 has: every watch "from the beginning" would fail.
            "--feature-gates=WatchList=false",
            # A loopback address is no endpoint that the `kubernetes` Service could have.
            f"--endpoint-reconciler-type={'lease' if self.has_node else 'none'}",
        ]
        api_server = self.launcher.launch("kube-apiserver", [self.programs / "kube-apiserver", *flags])
        self.components["kube-apiserver"] = api_server
        context = ssl.create_default_context(cafile=str(files.authority.certificate))
        context.load_cert_chain(files.admin.certificate, files.admin.key)
        api_server.wait_ready(
            lambda: answers(f"{self.endpoints.server}/readyz", context),
            "kube-apiserver",
            COMPONENT_DEADLINE_SECONDS,
        )

    def start_controllers(self) -> None:
        """Start the controller manager and the scheduler; they catch up by themselves."""
        files = self.certificates
        manager = self.write_kubeconfig("controller-manager", files.controller_manager)
        self.components["kube-controller-manager"] = self.launcher.launch(
            "kube-controller-manager",
            [
                self.programs / "kube-controller-manager",
                *self._delegating_flags(manager, self.endpoints.controller_manager),
                f"--root-ca-file={files.authority.certificate}",
                f"--service-account-private-key-file={files.service_account.key}",
                f"--cluster-signing-cert-file={files.authority.certificate}",
                f"--cluster-signing-key-file={files.authority.key}",
                "--use-service-account-credentials=true",
                f"--horizontal-pod-autoscaler-sync-period={AUTOSCALER_SYNC_SECONDS}s",
                *self.controller_flags,
            ],
        )
        scheduler = self.write_kubeconfig("scheduler", files.scheduler)
        self.components["kube-scheduler"] = self.launcher.launch(
            "kube-scheduler",
            [
                self.programs / "kube-scheduler",
                *self._delegating_flags(scheduler, self.endpoints.scheduler),
            ],
        )

    def _delegating_flags(self, kubeconfig: Path, port: int) -> list[str]:
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={port}",
            "--leader-elect=false",
            *(self.client_rate.flags if self.client_rate else ()),
        ]

    def check(self) -> None:
        """Raise a ComponentError if a component has died."""
        for component in self.components.values():
            component.check()


def succeeds(command: list[str]) -> bool:
    """Whether a short command ends well."""
    try:
        run(command, timeout_seconds=PROBE_TIMEOUT_SECONDS * 3)
    except CommandError:
        return False
    return True


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Whether a URL of a component answers with a success status."""
    try:
        with urllib.request.urlopen(  # noqa: S310 - the URLs are ours
            url, timeout=PROBE_TIMEOUT_SECONDS, context=context
        ) as response:
            response.read()
    except urllib.error.HTTPError as refusal:
        # It holds the connection, and a collector that finds that open warns in the middle of another test.
        refusal.close()
        return False
    except (OSError, http.client.HTTPException):
        return False
    return True


class LoopbackControlPlane(OwnedInstance[Path]):
    """A control plane on this machine's loopback, without a node; use it in a `with`.

    It needs no root. Several may run at once: each has free ports and a folder of
    its own. Pods are never run; Deployments, HPAs, admission, RBAC and the
    aggregation layer are real. An extension API server on loopback is reached by a
    Service of type ExternalName with `externalName: localhost`.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        client_rate: ClientRate | None = None,
        controller_flags: Sequence[str] = (),
    ) -> None:
        super().__init__(name or f"{LOOPBACK_INSTANCE}-{secrets.token_hex(4)}")
        self._client_rate = client_rate
        self._controller_flags = controller_flags
        self._launcher: Launcher | None = None
        self._control_plane: ControlPlane | None = None
        self._access: KubernetesAccess | None = None

    @property
    def components(self) -> dict[str, ComponentProcess]:
        """The running components by name."""
        if self._control_plane is None:
            raise HarnessError("the control plane is not up; call up() or use `with`")
        return self._control_plane.components

    def stop_api_server(self) -> None:
        """End the API server in good order, as an upgrade of it does."""
        self.components["kube-apiserver"].stop()

    def start_api_server(self) -> None:
        """Start it again, with what etcd holds."""
        if self._control_plane is None:
            raise HarnessError("the control plane is not up; call up() or use `with`")
        self._control_plane.start_api_server()

    @property
    def access(self) -> KubernetesAccess:
        """kubectl, helm and waiting against this control plane."""
        if self._access is None:
            raise HarnessError("the control plane is not up; call up() or use `with`")
        return self._access

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.access.kubeconfig

    def launch(
        self, name: str, words: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> ComponentProcess:
        """Start a further component of this instance, which ends with it at the latest."""
        if self._launcher is None:
            raise HarnessError("the control plane is not up; call up() or use `with`")
        self.components[name] = self._launcher.launch(name, words, environment)
        return self.components[name]

    def _prepare(self) -> Path:
        debian_packages.ensure_installed(debian_packages.CONTROL_PLANE)
        return builds.kubernetes()

    def _start(self, ledger: Ledger, needs: Path) -> None:
        self._launcher = Launcher(ledger.marker, ledger.folder / "logs", ledger)
        self._control_plane = ControlPlane(
            ledger.folder,
            self._launcher,
            needs,
            Endpoints.on_loopback(),
            client_rate=self._client_rate,
            controller_flags=self._controller_flags,
        )
        self._control_plane.start()
        self._access = KubernetesAccess(self._control_plane.kubeconfig, needs / "kubectl")
        self._access.wait_until_usable()

    def _children(self) -> Iterable[ComponentProcess]:
        return self._control_plane.components.values() if self._control_plane else ()

    def _forget(self) -> None:
        self._control_plane = self._access = self._launcher = None
