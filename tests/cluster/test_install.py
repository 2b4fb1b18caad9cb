"""The chart on a real node: installed it serves, upgraded it never stops serving, uninstalled it is gone.

The images are built from the real Dockerfiles. The namespace enforces the restricted pod security standard,
so that a pod which doesn't meet it never starts.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from eventengine_contract import well_known
from eventengine_harness.accesses import KubernetesAccess, condition_of
from eventengine_harness.brokers import Broker
from eventengine_harness.exceptions import CommandError, DeadlineError
from eventengine_harness.waiting import wait_for

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("product_images", "all_cpus")]

CHART = Path(__file__).resolve().parents[2] / "charts" / "eventengine"
SYSTEM = well_known.SYSTEM_NAMESPACE
CRD = f"{well_known.PLURAL}.{well_known.API_GROUP}"
API_SERVICES = (
    "v1beta1.external.metrics.k8s.io",
    "v1beta1.custom.metrics.k8s.io",
    "v1beta2.custom.metrics.k8s.io",
)
NAMESPACED_KINDS = (
    "deployments,replicasets,pods,jobs,services,endpointslices,configmaps,secrets,serviceaccounts,roles,"
    "rolebindings,leases,poddisruptionbudgets,networkpolicies"
)
CLUSTER_KINDS = "clusterroles,clusterrolebindings"
MADE_BY_KUBERNETES = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}
DEADLINE_SECONDS = 120.0
READ_INTERVAL_SECONDS = 0.1


def engine(topic: str) -> dict[str, Any]:
    """A small engine that shares its core with the others of this node."""
    kafka = {"bootstrapServers": ["10.99.0.1:9092"]}
    return {
        "apiVersion": f"{well_known.API_GROUP}/{well_known.API_VERSION}",
        "kind": well_known.KIND,
        "metadata": {"name": "installed"},
        "spec": {
            "replicas": 1,
            "pod": {"pinning": "Off", "cpus": "400m", "memory": "256Mi"},
            "engine": {
                "sources": [{"name": "moves", "type": "kafka", "kafka": {**kafka, "topic": topic}}],
                "sinks": [{"name": "out", "type": "kafka", "kafka": {**kafka, "topic": f"{topic}-out"}}],
            },
        },
    }


def helm_install(access: KubernetesAccess, major: int, *settings: str) -> None:
    try:
        access.helm(
            *("upgrade", "--install", "eventengine", CHART, "--namespace", SYSTEM, "--take-ownership"),
            *("--wait", "--timeout", "150s", *settings),
            major=major,
        )
    except CommandError as error:
        pytest.fail(f"{error}\n{state_of(access, SYSTEM)}")


def state_of(access: KubernetesAccess, namespace: str) -> str:
    """What a person would look at when something there does not come up."""
    inside = f"--namespace={namespace}"
    parts = [
        access.kubectl("get", "deployments,pods", "-o", "wide", inside),
        access.kubectl("get", "events", "--sort-by=.lastTimestamp", inside)[-3000:],
        access.kubectl(
            *("logs", "--selector=app.kubernetes.io/name=eventengine", "--tail=40", "--prefix"),
            *("--ignore-errors", inside),
        ),
    ]
    return "\n".join(parts)


def helm_uninstall(access: KubernetesAccess, major: int) -> None:
    access.helm("uninstall", "eventengine", "--namespace", SYSTEM, "--wait", "--timeout", "150s", major=major)


def is_installed(access: KubernetesAccess) -> bool:
    return bool(access.list("secrets", SYSTEM, selector="owner=helm,name=eventengine"))


@pytest.fixture
def system_namespace(access: KubernetesAccess) -> Iterator[None]:
    """The release's namespace, which goes after the test with whatever is in it."""
    access.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": SYSTEM, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        }
    )
    yield
    if is_installed(access):
        helm_uninstall(access, 4)
    for name in API_SERVICES:
        access.delete("apiservice", name)
    access.delete("namespace", SYSTEM)


def wait_until_apis_are_available(access: KubernetesAccess) -> None:
    for name in API_SERVICES:
        access.wait_for_condition("apiservice", name, "Available", deadline_seconds=DEADLINE_SECONDS)


def start_engine(access: KubernetesAccess, kafka: Broker, namespace: str) -> None:
    topic = f"{namespace}-events"
    kafka.create_topic(topic, 4)
    access.apply(engine(topic), namespace=namespace)
    try:
        access.wait_for_condition(
            well_known.KIND, "installed", "Ready", namespace=namespace, deadline_seconds=DEADLINE_SECONDS
        )
    except DeadlineError as error:
        pytest.fail(f"{error}\n{state_of(access, namespace)}\n{state_of(access, SYSTEM)}")


class Connection:
    """A client of the API server that keeps its connection, as a controller does."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        self._address = urlsplit(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        pair = folder / "client.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(
            base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"])
        )
        self._context.load_cert_chain(pair)
        self._connection = self._open()

    def _open(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            self._address.hostname or "", self._address.port, timeout=10, context=self._context
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(self, path: str) -> tuple[int, str]:
        """Status and body."""
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        return answer.status, answer.read().decode()


class Reader(threading.Thread):
    """Reads paths in turn, again and again, and keeps whatever was no answer."""

    def __init__(self, connection: Connection, paths: list[str]) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._paths = paths
        self._ended = threading.Event()
        self.reads = 0
        self.failures: list[str] = []

    def run(self) -> None:
        started = time.monotonic()
        while not self._ended.wait(READ_INTERVAL_SECONDS):
            path = self._paths[self.reads % len(self._paths)]
            self.reads += 1
            at_seconds = time.monotonic() - started
            try:
                status, body = self._connection.get(path)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{at_seconds:.1f} s: {path}: {error!r}")
                return
            if status != 200 or not json.loads(body)["items"]:
                self.failures.append(f"{at_seconds:.1f} s: {path}: {status} {body[:300]}")

    def end(self) -> None:
        self._ended.set()
        self.join(timeout=15)


@contextmanager
def reading(connection: Connection, paths: list[str]) -> Iterator[Reader]:
    reader = Reader(connection, paths)
    reader.start()
    try:
        yield reader
    finally:
        reader.end()


def wait_for_an_answer(connection: Connection, path: str) -> None:
    wait_for(
        lambda: connection.get(path)[0] == 200,
        f"a first answer of {path}",
        DEADLINE_SECONDS,
        last_seen=lambda: str(connection.get(path)),
    )


def wait_until_replaced(access: KubernetesAccess, before: set[str]) -> None:
    """Wait until the release's two pods are others than before, and the former ones gone."""

    def is_replaced() -> bool:
        present = {pod["metadata"]["name"] for pod in access.list("pods", SYSTEM)}
        return len(present) == 2 and not present & before

    wait_for(is_replaced, "the former pods to be gone", DEADLINE_SECONDS)


def test_installed_it_serves_and_two_upgrades_cost_no_reading(
    access: KubernetesAccess, kafka: Broker, namespace: str, system_namespace: None, tmp_path: Path
) -> None:
    helm_install(access, 4)
    wait_until_apis_are_available(access)
    start_engine(access, kafka, namespace)
    external = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}"
    custom = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}"
    paths = [
        f"{external}/kafka_consumer_lag?labelSelector=engine%3Dinstalled",
        f"{external}/buffer_pool_utilisation?labelSelector=engine%3Dinstalled",
        f"{custom}/pods/*/buffer_pool_utilisation",
    ]
    engine_pods = {pod["metadata"]["uid"] for pod in access.list("pods", namespace)}
    with closing(Connection(access.kubeconfig, tmp_path)) as connection:
        for path in paths:
            wait_for_an_answer(connection, path)
        with reading(connection, paths) as reader:
            for revision in ("one", "two"):
                before = {pod["metadata"]["name"] for pod in access.list("pods", SYSTEM)}
                annotations = [
                    f"{part}.podAnnotations.revision={revision}" for part in ("adapter", "operator")
                ]
                helm_install(access, 4, "--set", ",".join(annotations))
                # The former adapter drains after helm is done; what it still answers counts too.
                wait_until_replaced(access, before)
    assert reader.failures == []
    assert reader.reads > 50
    assert {pod["metadata"]["uid"] for pod in access.list("pods", namespace)} == engine_pods


def test_uninstalled_it_leaves_nothing_but_the_definition(
    access: KubernetesAccess, kafka: Broker, namespace: str, system_namespace: None
) -> None:
    helm_install(access, 3, "--set", "adapter.replicas=2", "--set", "networkPolicy.enabled=true")
    wait_until_apis_are_available(access)
    start_engine(access, kafka, namespace)
    access.delete(well_known.KIND, "installed", namespace)
    helm_uninstall(access, 3)
    assert [access.get("apiservice", name) for name in API_SERVICES] == [None, None, None]

    def left_over() -> set[str]:
        inside = {
            f"{item['kind']}/{item['metadata']['name']}" for item in access.list(NAMESPACED_KINDS, SYSTEM)
        }
        cluster_wide = access.list(CLUSTER_KINDS, selector="app.kubernetes.io/part-of=eventengine")
        return (inside - MADE_BY_KUBERNETES) | {item["metadata"]["name"] for item in cluster_wide}

    wait_for(lambda: not left_over(), "nothing left", DEADLINE_SECONDS, last_seen=lambda: str(left_over()))
    definition = access.get("customresourcedefinition", CRD)
    assert definition is not None
    assert condition_of(definition, "Established")["status"] == "True"
    # A route to a server that is gone would keep namespaces from being deleted.
    access.delete("namespace", SYSTEM, wait=False)
    access.wait_until_gone("namespace", SYSTEM, deadline_seconds=DEADLINE_SECONDS)
