"""The adapter as a process against a real control plane, with exactly the rights that the chart gives it.

Engine pods are made by the real controllers; as no node runs them, their status
is written here, and what they would answer is served on loopback addresses of
their own (`EnginePodServer`).
"""

from __future__ import annotations

import base64
import functools
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml
from eventengine_contract.generating import crd
from eventengine_contract.well_known import engine_labels, pod_selector
from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.certificates import Authority, KeyPair
from eventengine_harness.control_planes import LoopbackControlPlane, free_port
from eventengine_harness.exceptions import CommandError
from eventengine_harness.waiting import wait_for

CHART = Path(__file__).resolve().parents[2] / "charts" / "eventengine"
NAMESPACE = "eventengine-system"
SERVICE = "eventengine-adapter"
GROUP_VERSIONS = (
    ("external.metrics.k8s.io", "v1beta1", 100),
    ("custom.metrics.k8s.io", "v1beta1", 100),
    ("custom.metrics.k8s.io", "v1beta2", 200),
)
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 30.0
EXPLAIN_SECONDS_MAX = 120.0
SAMPLES_KEPT = 10
SLOW_SECONDS = 0.4
"""Half of what a read may take."""

DROP_SECONDS = 0.05
GROWING = -1
"""A lag that is another one each second, and the same for all who read that second."""


SNAPSHOT = """
{
  "version": 1, "sampled_at": "", "sampled_at_seconds": 0,
  "identity": {"engine": "", "namespace": "", "pod": "", "incarnation": "one", "started_at_seconds": 1},
  "readiness": {"ready": true},
  "buffer_pool": {"chunks": 100, "chunk_bytes": 2048, "in_use": 0, "high_water": 0, "utilisation": 0},
  "rings": [
    {"name": "ingest", "slots": 65536, "bound": 65536, "in_use": 0, "high_water": 0, "utilisation": 0}
  ],
  "arena": {"slots": 100, "slot_bytes": 256, "in_use": 0, "utilisation": 0, "fragmentation": 0},
  "sources": [
    {
      "name": "moves", "type": "kafka", "topic": "hunt-events", "group": "hunt", "partitions_total": 0,
      "connected": true, "partitions": []
    }
  ],
  "allocator": {
    "allocated_bytes": 0, "active_bytes": 0, "resident_bytes": 100, "retained_bytes": 0,
    "core_thread_allocated_bytes": 0
  },
  "process": {
    "rss_bytes": 0, "memory_limit_bytes": 1000, "cpu_set": "0", "pinning": "Off", "pinned": false, "exclusive": false
  },
  "counters": {
    "events_in": 0, "events_applied": 0, "outputs_committed": 0, "transactions_committed": 0,
    "transactions_aborted": 0
  },
  "latency": {
    "count": 0, "p50_nanoseconds": 0, "p99_nanoseconds": 0, "p999_nanoseconds": 0, "max_nanoseconds": 0,
    "service_p99_nanoseconds": 0, "window_seconds": 10
  }
}
"""


@dataclass
class EngineState:
    """What a simulated engine pod measures; tests change it while it is being read."""

    engine: str
    namespace: str
    pod: str
    partitions: dict[int, int] = field(default_factory=dict)
    partitions_total: int = 4
    topic: str = "hunt-events"
    utilisation: float = 0.25
    events_in: int = 0
    stopped_at_seconds: int | None = None
    """From this second on no sample is closed any more, as when the process hangs."""
    fault: str = ""
    """How it answers instead: `hang`, `slow`, `drops`, `garbage`, `huge`, `stranger` or `redirect`; empty for as it
    should."""
    endpoint: str | None = None
    """What the user's own Prometheus endpoint says, at /user/metrics on the same port; None: it redirects."""
    clock_ahead_seconds: int = 0
    """How far its clock is ahead of everybody's; negative for behind."""

    def snapshot(self, second: int) -> dict[str, Any]:
        """The sample that was closed on `second`, as an engine writes it."""
        document: dict[str, Any] = json.loads(SNAPSHOT)
        document["sampled_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
        document["sampled_at_seconds"] = second
        document["identity"] |= {"engine": self.engine, "namespace": self.namespace, "pod": self.pod}
        for part in (document["buffer_pool"], document["rings"][0], document["arena"]):
            part["utilisation"] = self.utilisation
        document["counters"]["events_in"] = self.events_in
        document["sources"][0] |= {"topic": self.topic, "partitions_total": self.partitions_total}
        document["sources"][0]["partitions"] = [
            {
                "partition": number,
                "state": "running",
                "assigned_at_seconds": 1,
                "position": 0,
                "last_stable_offset": lag,
                "lag_events": lag,
            }
            for number, lag in (
                (number, second % 1000 if lag == GROWING else lag) for number, lag in self.partitions.items()
            )
        ]
        return document


class EnginePodServer:
    """Serves the samples of one simulated pod on a loopback address of its own."""

    def __init__(self, address: str, port: int, state: EngineState) -> None:
        self.address = address
        self.state = state
        self._stopping = stopping = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if state.fault == "hang":
                    stopping.wait()
                    return
                if state.fault == "slow":
                    stopping.wait(SLOW_SECONDS)
                self.answer(*_respond(state, self.path))

            def answer(self, code: int, body: bytes) -> None:
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", f"http://{address}:{port}/snapshot")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if state.fault == "drops":
                    self.drip(body)
                else:
                    self.wfile.write(body)

            def drip(self, body: bytes) -> None:
                """Send it so slowly that each byte is in time and the whole never is."""
                with suppress(OSError):
                    for byte in body:
                        self.wfile.write(bytes([byte]))
                        if stopping.wait(DROP_SECONDS):
                            return

            def log_message(self, *_: object) -> None:
                """Say nothing: an engine's access log is of no interest here."""

        self._server = ThreadingHTTPServer((address, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it, as when the pod's process dies."""
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _respond(state: EngineState, path: str) -> tuple[int, bytes]:
    parts = urlsplit(path)
    if parts.path == "/user/metrics":
        return (302, b"") if state.endpoint is None else (200, state.endpoint.encode())
    newest = int(time.time()) + state.clock_ahead_seconds
    if state.stopped_at_seconds is not None:
        newest = min(newest, state.stopped_at_seconds)
    second = int(parse_qs(parts.query).get("at", [str(newest)])[0])
    if parts.path != "/snapshot" or not newest - SAMPLES_KEPT < second <= newest:
        return 404, b"{}"
    match state.fault:
        case "garbage":
            return 200, b"\x00\xff<html>"
        case "huge":
            return 200, b" " * (5 << 20)
        case "redirect":
            return 302, b""
        case "stranger":
            return 200, json.dumps(replace(state, pod="somebody-else").snapshot(second)).encode()
    return 200, json.dumps(state.snapshot(second)).encode()


class AdapterPlane:
    """A control plane with the CRD, the chart's rights for the adapter, and the APIServices that lead to it.

    `values` are the chart's, where others than the defaults give other rights.
    """

    def __init__(
        self, control_plane: LoopbackControlPlane, folder: Path, values: Mapping[str, str] | None = None
    ) -> None:
        self.access: KubernetesAccess = control_plane.access
        self.folder = folder
        self.port = free_port()
        self.snapshot_port = free_port()
        self.authority = Authority.create(folder, "adapter-ca")
        self.certificates = folder / "tls"
        self.certificates.mkdir()
        self._engine_numbers = iter(range(2, 250))
        self.access.apply(crd())
        self.access.wait_for_condition("crd", "eventengines.eventengine.dev", "Established")
        self.access.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        rendered = self.access.helm(
            *("template", "eventengine", CHART, f"--namespace={NAMESPACE}"),
            *(
                "--show-only=templates/adapter/rbac.yaml",
                "--show-only=templates/adapter/serviceaccount.yaml",
            ),
            *(f"--set={name}={value}" for name, value in (values or {}).items()),
        )
        self.access.apply(rendered)
        self.issue_certificate()
        self.register(self.authority)

    def issue_certificate(self, folder: Path | None = None) -> KeyPair:
        """Put a fresh certificate where the adapter looks for it."""
        folder = folder or self.certificates
        host = f"{SERVICE}.{NAMESPACE}.svc"
        pair = self.authority.issue(
            self.folder, f"serving-{time.monotonic_ns()}", common_name=host, hosts=[host, "127.0.0.1"]
        )
        (folder / "tls.key").write_bytes(pair.key.read_bytes())
        (folder / "tls.crt").write_bytes(pair.certificate.read_bytes())
        return pair

    def unregister(self) -> None:
        """Give the metrics APIs back, on a plane that others use afterwards."""
        for group, version, _ in GROUP_VERSIONS:
            self.access.delete("apiservice", f"{version}.{group}")

    def register(self, *authorities: Authority) -> None:
        """Lead the API server to the adapter, which is believed with a certificate of one of these."""
        bundle = b"".join(found.files.certificate.read_bytes() for found in authorities)
        authority = base64.b64encode(bundle).decode()
        services = [
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"{version}.{group}"},
                "spec": {
                    "group": group,
                    "version": version,
                    "groupPriorityMinimum": 100,
                    "versionPriority": priority,
                    "caBundle": authority,
                    "service": {"namespace": NAMESPACE, "name": SERVICE, "port": self.port},
                },
            }
            for group, version, priority in GROUP_VERSIONS
        ]
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
        self.access.apply(service, services)

    def kubeconfig(self) -> Path:
        """A kubeconfig with a token of the adapter's service account, as a pod would have it."""
        token = self.access.kubectl("create", "token", SERVICE, f"--namespace={NAMESPACE}", "--duration=6h")
        config: dict[str, Any] = yaml.safe_load(self.access.kubeconfig.read_text())
        token_file = self.folder / "token"
        token_file.write_text(token.strip())
        config["users"] = [
            {"name": user["name"], "user": {"tokenFile": str(token_file)}} for user in config["users"]
        ]
        path = self.folder / "adapter.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    # --- engines ---------------------------------------------------------------------------------------------

    def engine(
        self, name: str, namespace: str, replicas: int, annotations: Mapping[str, str] | None = None
    ) -> None:
        """An EventEngine and the Deployment that an operator would make of it; the annotations are its pods'."""
        template = {"annotations": dict(annotations)} if annotations else {}
        self.access.apply(
            {
                "apiVersion": "eventengine.dev/v1alpha1",
                "kind": "EventEngine",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"pod": {"template": template}},
            }
        )
        found = self.access.get("eventengine", name, namespace)
        assert found is not None
        owner = {
            "apiVersion": "eventengine.dev/v1alpha1",
            "kind": "EventEngine",
            "name": name,
            "uid": found["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        self.access.apply(deployment(name, namespace, replicas, [owner]))

    def pods(self, name: str, namespace: str, count: int) -> list[str]:
        """Names of the pods that the controllers made, once there are `count`."""
        selector = ",".join(f"{key}={value}" for key, value in pod_selector(name).items())

        def made() -> list[str] | None:
            found = self.access.list("pods", namespace, selector)
            names = sorted(
                pod["metadata"]["name"] for pod in found if not pod["metadata"].get("deletionTimestamp")
            )
            return names if len(names) == count else None

        return wait_for(made, f"{count} pods of {name}", 60)

    def start_pod(self, pod: str, state: EngineState, *, ready: bool = True) -> EnginePodServer:
        """Let a pod run: an address of its own on loopback, and a status that says so."""
        server = EnginePodServer(f"127.0.9.{next(self._engine_numbers)}", self.snapshot_port, state)
        self.set_status(pod, state.namespace, server.address, ready=ready)
        return server

    def set_status(self, pod: str, namespace: str, address: str, *, ready: bool) -> None:
        """Write what a kubelet would write."""
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": "2026-01-01T00:00:00Z",
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True" if ready else "False",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ],
        }
        self.access.kubectl(
            *("patch", "pod", pod, f"--namespace={namespace}", "--subresource=status", "--type=merge"),
            f"--patch={json.dumps({'status': status})}",
        )


def deployment(name: str, namespace: str, replicas: int, owners: list[dict[str, Any]]) -> dict[str, Any]:
    """A Deployment of engine pods, labelled as the operator labels them."""
    labels = engine_labels(name)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": owners},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": pod_selector(name)},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "engine", "image": "example.invalid/engine:1"}]},
            },
        },
    }


class AdapterProcess:
    """One running adapter; use it in a `with`."""

    def __init__(
        self,
        plane: AdapterPlane,
        log: Path,
        *,
        port: int | None = None,
        certificates: Path | None = None,
        drain_seconds: float = 1.0,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._plane = plane
        self._log = log
        self.port = port or plane.port
        self.telemetry_port = free_port()
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("EVENTENGINE_")},
            "EVENTENGINE_ADAPTER_KUBECONFIG": str(plane.kubeconfig()),
            "EVENTENGINE_ADAPTER_LISTEN": f"127.0.0.1:{self.port}",
            "EVENTENGINE_ADAPTER_TELEMETRY_LISTEN": f"127.0.0.1:{self.telemetry_port}",
            "EVENTENGINE_ADAPTER_CERTIFICATE_FOLDER": str(certificates or plane.certificates),
            "EVENTENGINE_ADAPTER_SNAPSHOT_PORT": str(plane.snapshot_port),
            "EVENTENGINE_ADAPTER_DRAIN_SECONDS": str(drain_seconds),
            # What Kubernetes sets for a Service called eventengine-adapter must not disturb it.
            "EVENTENGINE_ADAPTER_PORT": "tcp://10.96.0.7:443",
            "EVENTENGINE_ADAPTER_SERVICE_HOST": "10.96.0.7",
            **{f"EVENTENGINE_ADAPTER_{name.upper()}": value for name, value in (settings or {}).items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "eventengine_adapter"],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def wait_ready(self) -> None:
        """Wait until it says that it is ready."""
        wait_for(
            lambda: self.health("/readyz")[0] == 200,
            "a ready adapter",
            START_SECONDS_MAX,
            last_seen=lambda: f"{self.health('/readyz?verbose')}\n{self.log()}",
        )

    def wait_available(self) -> None:
        """Wait until the API server finds all three APIs available."""
        for group, version, _ in GROUP_VERSIONS:
            self._plane.access.wait_for_condition(
                "apiservice", f"{version}.{group}", "Available", deadline_seconds=60
            )
            # The API server begins to pass requests on a moment after it says so.
            path = f"/apis/{group}/{version}"
            wait_for(functools.partial(self._is_passed_on, path), f"an answer at {path}", START_SECONDS_MAX)

    def _is_passed_on(self, path: str) -> bool:
        return not refusal(self._plane.access, path)

    def health(self, path: str) -> tuple[int, str]:
        """A page of the plain port; status 0 while nothing listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.telemetry_port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    def explain(self, *arguments: str) -> str:
        """What `eventengine-adapter explain` prints for a cluster administrator."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "eventengine_adapter", "explain"),
                *(*arguments, "--kubeconfig", str(self._plane.access.kubeconfig)),
            ],
            capture_output=True,
            text=True,
            timeout=EXPLAIN_SECONDS_MAX,
            check=True,
        )
        return done.stdout

    def ask(
        self, path: str, headers: dict[str, str] | None = None, client: KeyPair | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """A request to the adapter itself, past the API server."""
        context = ssl.create_default_context(cafile=str(self._plane.authority.files.certificate))
        context.check_hostname = False
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)
        try:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, response.read()
        finally:
            connection.close()

    def status(self, path: str, headers: dict[str, str], client: KeyPair | None) -> int:
        """The status code of such a request; 0 where the connection comes to nothing."""
        try:
            return self.ask(path, headers, client)[0]
        except OSError:
            return 0

    def served_certificate(self) -> bytes:
        """The certificate that a new connection is shown."""
        context = ssl.create_default_context(cafile=str(self._plane.authority.files.certificate))
        context.check_hostname = False
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)
        connection.connect()
        try:
            shown = connection.sock.getpeercert(binary_form=True)
        finally:
            connection.close()
        assert shown is not None
        return bytes(shown)

    def terminate(self) -> None:
        """Ask it to stop, as the kubelet does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait_stopped(self) -> int:
        """Its exit status."""
        assert self._process is not None
        return self._process.wait(STOP_SECONDS_MAX)

    def metric(self, name: str) -> float:
        """One of its own metrics, name and labels as they are written; 0 where it isn't there."""
        for line in self.health("/metrics")[1].splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
        return 0.0

    def log(self) -> str:
        """What it logged."""
        return self._log.read_text()


def refusal(access: KubernetesAccess, path: str, *arguments: str) -> str:
    """What a refused path is answered with; empty while it is served. `arguments` are kubectl's."""
    try:
        if arguments:
            access.kubectl("get", "--raw", path, *arguments)
        else:
            access.raw(path)
    except CommandError as error:
        return str(error)
    return ""
