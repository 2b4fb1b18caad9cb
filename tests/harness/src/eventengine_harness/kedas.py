"""A real KEDA beside a loopback control plane: its operator and its metrics API server, as processes.

Definitions and rights are those of KEDA's own manifests; both processes act as its service
account. What is left out of the programs is said in `keda_sources`.

Order: definitions established, the operator ready, then the metrics API server, then the API
server finds `v1beta1.external.metrics.k8s.io` available.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from eventengine_harness import builds
from eventengine_harness.certificates import Authority
from eventengine_harness.control_planes import LOOPBACK, LoopbackControlPlane, answers, free_port

NAMESPACE = "keda"
SERVICE_ACCOUNT = "keda-operator"
METRICS_SERVICE = "keda-operator-metrics-apiserver"
EXTERNAL_API = "v1beta1.external.metrics.k8s.io"
MANIFESTS = (
    "crd/bases/keda.sh_clustertriggerauthentications.yaml",
    "crd/bases/keda.sh_scaledjobs.yaml",
    "crd/bases/keda.sh_scaledobjects.yaml",
    "crd/bases/keda.sh_triggerauthentications.yaml",
    "crd/bases/eventing.keda.sh_cloudeventsources.yaml",
    "crd/bases/eventing.keda.sh_clustercloudeventsources.yaml",
    "service_account/service_account.yaml",
    "rbac/role.yaml",
    "rbac/role_binding.yaml",
    "metrics-server/role.yaml",
    "metrics-server/role_binding.yaml",
)
START_SECONDS_MAX = 60.0


class Keda:
    """KEDA on one control plane, with which it ends.

    Args:
        plane: Runs, and has no other server of the external metrics API.
        folder: For certificates and name files; made here.
        hosts: Addresses by name that the operator is to know, as cluster DNS would tell it. It has a mount namespace of
            its own for that, which needs root.
    """

    def __init__(self, plane: LoopbackControlPlane, folder: Path, hosts: Mapping[str, str]) -> None:
        self._plane = plane
        self._access = plane.access
        self._folder = folder
        self._hosts = hosts
        folder.mkdir()
        self.metrics_port = free_port()
        """Where its metrics API server listens."""
        self._authority = Authority.create(folder, "ca")

    @property
    def authority(self) -> Path:
        """What its certificates are checked with."""
        return self._authority.files.certificate

    def start(self) -> None:
        """Bring it up; returns when its metrics API is available."""
        programs = builds.keda()
        self._access.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        for manifest in MANIFESTS:
            self._access.apply(builds.keda_manifests() / manifest)
        self._access.wait_for_condition("crd", "scaledobjects.keda.sh", "Established")
        self._issue_certificate()
        kubeconfig = self._kubeconfig()
        service = f"{LOOPBACK}:{free_port()}"
        self._start_operator(programs / "operator", kubeconfig, service)
        self._start_metrics_server(programs / "adapter", kubeconfig, service)
        self.register()

    def register(self) -> None:
        """Lead the API server to its metrics API server, and wait until it finds it available."""
        metadata = {"name": METRICS_SERVICE, "namespace": NAMESPACE}
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
        api_service = {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": EXTERNAL_API},
            "spec": {
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "caBundle": base64.b64encode(self.authority.read_bytes()).decode(),
                "service": {**metadata, "port": self.metrics_port},
            },
        }
        self._access.apply(service, api_service)
        self._access.wait_for_condition(
            "apiservice", EXTERNAL_API, "Available", deadline_seconds=START_SECONDS_MAX
        )

    def _start_operator(self, program: Path, kubeconfig: Path, service: str) -> None:
        probe = f"{LOOPBACK}:{free_port()}"
        flags = [
            f"--cert-dir={self._folder}",
            f"--metrics-service-bind-address={service}",
            f"--health-probe-bind-address={probe}",
            "--enable-prometheus-metrics=false",
        ]
        operator = self._plane.launch(
            "keda-operator", [*self._with_names(), program, *flags], _environment(kubeconfig)
        )
        operator.wait_ready(lambda: answers(f"http://{probe}/readyz"), "KEDA's operator", START_SECONDS_MAX)

    def _start_metrics_server(self, program: Path, kubeconfig: Path, service: str) -> None:
        flags = [
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--lister-kubeconfig={kubeconfig}",
            f"--cert-dir={self._folder}",
            f"--tls-cert-file={self._folder / 'tls.crt'}",
            f"--tls-private-key-file={self._folder / 'tls.key'}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.metrics_port}",
            f"--metrics-service-address={service}",
            f"--port={free_port()}",
        ]
        self._plane.launch("keda-metrics-server", [program, *flags], _environment(kubeconfig))

    def _issue_certificate(self) -> None:
        """One pair for everything that KEDA's parts show each other and the API server, as KEDA itself has it."""
        hosts = [LOOPBACK, f"{METRICS_SERVICE}.{NAMESPACE}.svc"]
        pair = self._authority.issue(self._folder, "keda", common_name="keda", hosts=hosts)
        (self._folder / "tls.crt").write_bytes(pair.certificate.read_bytes())
        (self._folder / "tls.key").write_bytes(pair.key.read_bytes())

    def _kubeconfig(self) -> Path:
        """A kubeconfig with a token of KEDA's service account, as its pods have it."""
        token = self._access.kubectl(
            "create", "token", SERVICE_ACCOUNT, f"--namespace={NAMESPACE}", "--duration=6h"
        )
        config = yaml.safe_load(self._access.kubeconfig.read_text())
        config["users"] = [
            {"name": user["name"], "user": {"token": token.strip()}} for user in config["users"]
        ]
        path = self._folder / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def _with_names(self) -> list[str]:
        """A command that runs the rest with a hosts file of its own, which ends with its mount namespace."""
        file = self._folder / "hosts"
        lines = [f"{address} {name}\n" for name, address in {"localhost": LOOPBACK, **self._hosts}.items()]
        file.write_text("".join(lines))
        script = f'mount --bind {json.dumps(str(file))} /etc/hosts && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh"]


def _environment(kubeconfig: Path) -> dict[str, str]:
    return {
        "KUBECONFIG": str(kubeconfig),
        "POD_NAMESPACE": NAMESPACE,
        "WATCH_NAMESPACE": "",
        "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
    }
