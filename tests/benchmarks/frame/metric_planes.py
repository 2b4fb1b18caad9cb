"""A real control plane with a thousand engine pods in it, and the APIServices that lead to a metrics adapter.

Owns the objects: engines with their chain of owners, the pods' status as a kubelet would write it, the adapter's
rights as the chart gives them, and autoscalers. Of the controllers only those run that this needs: the autoscaler, and
the one that makes service accounts. Whatever adapter is measured listens on the one port that the APIServices name,
one at a time.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from eventengine_contract.generating import crd
from eventengine_contract.well_known import (
    ADAPTER_SERVICE,
    API_GROUP,
    API_VERSION,
    KIND,
    PLURAL,
    SYSTEM_NAMESPACE,
    engine_labels,
    pod_selector,
)
from eventengine_harness.accesses import KubernetesAccess, condition_of
from eventengine_harness.certificates import Authority, KeyPair
from eventengine_harness.control_planes import ClientRate, LoopbackControlPlane, free_port
from eventengine_harness.exceptions import RequestError
from eventengine_harness.locations import REPOSITORY
from eventengine_harness.waiting import wait_for

from frame.metric_pods import ENGINES, NAMESPACE, PODS_PER_ENGINE, SimulatedPod, all_pods

CHART: Final = REPOSITORY / "charts" / "eventengine"
CONTROLLER_FLAGS: Final = (
    "--controllers=horizontal-pod-autoscaler-controller,serviceaccount-controller",
    "--horizontal-pod-autoscaler-sync-period=1s",
    "--concurrent-horizontal-pod-autoscaler-syncs=20",
)
CLIENT_RATE: Final = ClientRate(500, 1000)
"""The defaults, 20 requests a second by 5 workers, would bound what is measured."""

GROUP_VERSIONS: Final = (
    ("external.metrics.k8s.io", "v1beta1", 100),
    ("custom.metrics.k8s.io", "v1beta1", 100),
    ("custom.metrics.k8s.io", "v1beta2", 200),
)
CUSTOM: Final = "/apis/custom.metrics.k8s.io/v1beta2"
REQUESTS_AT_A_TIME: Final = 6
STARTED: Final = "2026-01-01T00:00:00Z"
AVAILABLE_SECONDS_MAX: Final = 60.0
MERGE_PATCH: Final = "application/merge-patch+json"


@dataclass(frozen=True)
class MetricPlane:
    """A control plane in which adapters are measured.

    `port` is where the APIServices lead, `snapshot_port` where the pods are read, `folder` for files.
    """

    control_plane: LoopbackControlPlane
    folder: Path
    port: int
    snapshot_port: int
    authority: Authority
    serving: KeyPair

    @property
    def access(self) -> KubernetesAccess:
        """The administrator's tools."""
        return self.control_plane.access

    @classmethod
    def create(cls, control_plane: LoopbackControlPlane, folder: Path, snapshot_port: int) -> MetricPlane:
        """Make the certificates and all objects."""
        authority = Authority.create(folder, "adapter-ca")
        host = f"{ADAPTER_SERVICE}.{SYSTEM_NAMESPACE}.svc"
        serving = authority.issue(folder, "serving", common_name=host, hosts=[host])
        certificates = folder / "tls"
        certificates.mkdir(exist_ok=True)
        (certificates / "tls.crt").write_bytes(serving.certificate.read_bytes())
        (certificates / "tls.key").write_bytes(serving.key.read_bytes())
        plane = cls(control_plane, folder, free_port(), snapshot_port, authority, serving)
        plane._install()
        plane._make_engines()
        return plane

    def _install(self) -> None:
        access = self.access
        access.apply(crd())
        access.wait_for_condition("crd", f"{PLURAL}.{API_GROUP}", "Established")
        access.apply(*(_namespace(name) for name in (SYSTEM_NAMESPACE, NAMESPACE)))
        access.apply(
            access.helm(
                *("template", "eventengine", CHART, f"--namespace={SYSTEM_NAMESPACE}"),
                "--show-only=templates/adapter/rbac.yaml",
                "--show-only=templates/adapter/serviceaccount.yaml",
            )
        )
        access.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": ADAPTER_SERVICE, "namespace": SYSTEM_NAMESPACE},
                "spec": {"type": "ExternalName", "externalName": "localhost"},
            },
            self._api_services(str(time.time_ns())),
        )
        wait_for(
            lambda: access.get("serviceaccount", "default", NAMESPACE) is not None, "a service account", 60
        )

    def _api_services(self, looked_at: str) -> list[dict[str, Any]]:
        bundle = base64.b64encode(self.authority.files.certificate.read_bytes()).decode()
        return [
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"{version}.{group}", "annotations": {"bench/looked-at": looked_at}},
                "spec": {
                    "group": group,
                    "version": version,
                    "groupPriorityMinimum": 100,
                    "versionPriority": priority,
                    "caBundle": bundle,
                    "service": {"namespace": SYSTEM_NAMESPACE, "name": ADAPTER_SERVICE, "port": self.port},
                },
            }
            for group, version, priority in GROUP_VERSIONS
        ]

    def wait_available(self, paths: Iterable[str]) -> None:
        """Let the API server look at its APIServices now, and wait until it answers these paths through them."""
        # A change of the object makes it look at once instead of after half a minute.
        self.access.apply(self._api_services(str(time.time_ns())))
        for path in paths:
            self._wait_answered(path)

    def _wait_answered(self, path: str) -> None:
        refused = [""]

        def answered() -> bool:
            try:
                return bool(self.access.raw(path))
            except RequestError as error:
                refused[0] = str(error)
                return False

        wait_for(answered, f"an answer at {path}", AVAILABLE_SECONDS_MAX, last_seen=lambda: refused[0])

    def kubeconfig(self) -> Path:
        """A kubeconfig with a token of the adapter's service account, as its pod would have one."""
        token = self.access.kubectl(
            "create", "token", ADAPTER_SERVICE, f"--namespace={SYSTEM_NAMESPACE}", "--duration=6h"
        )
        config: dict[str, Any] = yaml.safe_load(self.access.kubeconfig.read_text())
        token_file = self.folder / "token"
        token_file.touch(mode=0o600)
        token_file.write_text(token.strip())
        config["users"] = [
            {"name": user["name"], "user": {"tokenFile": str(token_file)}} for user in config["users"]
        ]
        path = self.folder / "adapter.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    def administrator(self) -> KeyPair:
        """The administrator's certificate, as files."""
        user = yaml.safe_load(self.access.kubeconfig.read_text())["users"][0]["user"]
        pair = KeyPair(self.folder / "admin.crt", self.folder / "admin.key")
        pair.key.touch(mode=0o600)
        pair.certificate.write_bytes(base64.b64decode(user["client-certificate-data"]))
        pair.key.write_bytes(base64.b64decode(user["client-key-data"]))
        return pair

    def server(self) -> tuple[str, Path]:
        """The API server's address, and the file of its authority."""
        cluster = yaml.safe_load(self.access.kubeconfig.read_text())["clusters"][0]["cluster"]
        authority = self.folder / "server-ca.crt"
        authority.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        return cluster["server"], authority

    def _make_engines(self) -> None:
        with ThreadPoolExecutor(REQUESTS_AT_A_TIME) as threads:
            owners = list(threads.map(self._make_engine, range(ENGINES)))
            made = [
                threads.submit(self._make_pod, pod, owners[pod.number // PODS_PER_ENGINE])
                for pod in all_pods()
            ]
            for pod in made:
                pod.result()

    def _make_engine(self, number: int) -> dict[str, Any]:
        """An engine, its Deployment and its ReplicaSet; returns the reference for its pods."""
        name = SimulatedPod(number * PODS_PER_ENGINE).engine
        labels = engine_labels(name)
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
        version = f"{API_GROUP}/{API_VERSION}"
        engine = self._create({"apiVersion": version, "kind": KIND, "metadata": metadata, "spec": {}})
        spec = {
            "replicas": PODS_PER_ENGINE,
            "selector": {"matchLabels": pod_selector(name)},
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec()},
        }
        deployment = self._create(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {**metadata, "ownerReferences": [engine]},
                "spec": spec,
            }
        )
        return self._create(
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {**metadata, "name": f"{name}-7c9d8b6f54", "ownerReferences": [deployment]},
                "spec": spec,
            }
        )

    def _make_pod(self, pod: SimulatedPod, owner: dict[str, Any]) -> None:
        metadata = {
            "name": pod.name,
            "namespace": NAMESPACE,
            "labels": engine_labels(pod.engine),
            "ownerReferences": [owner],
        }
        self._create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _pod_spec()})
        status = {
            "phase": "Running",
            "podIP": pod.address,
            "podIPs": [{"ip": pod.address}],
            "startTime": STARTED,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": STARTED}],
        }
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod.name}/status"
        self.access.requests.send("PATCH", path, body={"status": status}, content_type=MERGE_PATCH)

    def _create(self, document: dict[str, Any]) -> dict[str, Any]:
        """Create an object; returns the reference of a child to it."""
        found = self.access.requests.type_of_object(document)
        made = self.access.requests.send("POST", found.path(NAMESPACE), body=document)
        return {
            "apiVersion": document["apiVersion"],
            "kind": document["kind"],
            "name": made["metadata"]["name"],
            "uid": made["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }

    # --- autoscalers -----------------------------------------------------------------------------------------

    def make_autoscalers(self) -> None:
        """One for each engine: a third each of external, pods and object metrics."""
        for number in range(ENGINES):
            self.access.apply(_autoscaler(SimulatedPod(number * PODS_PER_ENGINE).engine, number % 3))

    def delete_autoscalers(self) -> None:
        """All of them."""
        path = f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers"
        self.access.requests.send("DELETE", path)

    def inactive_autoscalers(self) -> list[str]:
        """Those that have no value to scale on, each with what it says."""
        return [
            f"{found['metadata']['name']}: {condition_of(found, 'ScalingActive').get('message', 'not looked at yet')}"
            for found in self.access.list("hpa", NAMESPACE)
            if condition_of(found, "ScalingActive").get("status") != "True"
        ]

    def failed_reads(self) -> int:
        """How often any autoscaler said that it could not read a metric, as events tell."""
        return sum(
            int(event.get("count") or 1)
            for event in self.access.list("events", NAMESPACE)
            if str(event.get("reason", "")).startswith(("FailedGet", "FailedCompute"))
        )


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _pod_spec() -> dict[str, Any]:
    # A node that nobody is: the scheduler has nothing to do.
    return {
        "nodeName": "bench",
        "automountServiceAccountToken": False,
        "containers": [{"name": "engine", "image": "example.invalid/engine:1"}],
    }


def _autoscaler(engine: str, kind: int) -> dict[str, Any]:
    metrics: tuple[dict[str, Any], ...] = (
        {
            "type": "External",
            "external": {
                "metric": {"name": "kafka_consumer_lag", "selector": {"matchLabels": {"engine": engine}}},
                "target": {"type": "AverageValue", "averageValue": "5k"},
            },
        },
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": "buffer_pool_utilisation"},
                "target": {"type": "AverageValue", "averageValue": "700m"},
            },
        },
        {
            "type": "Object",
            "object": {
                "describedObject": {
                    "apiVersion": f"{API_GROUP}/{API_VERSION}",
                    "kind": KIND,
                    "name": engine,
                },
                "metric": {"name": "ring_utilisation"},
                "target": {"type": "Value", "value": "700m"},
            },
        },
    )
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": engine, "namespace": NAMESPACE},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": engine},
            # A fixed number: what is measured is the reading, not the scaling.
            "minReplicas": PODS_PER_ENGINE,
            "maxReplicas": PODS_PER_ENGINE,
            "metrics": [metrics[kind]],
        },
    }
