"""The node is a real one: cores are exclusive, pods reach the API, Kafka and each other."""

from __future__ import annotations

import os
import re
from typing import Any

from eventengine_harness.accesses import KubernetesAccess, condition_of
from eventengine_harness.brokers import Broker
from eventengine_harness.clusters import SHARED_CPUS, Cluster
from eventengine_harness.nodes import SHELL_IMAGE

RECONCILE_DEADLINE_SECONDS = 20.0


def pod(name: str, cpu: str | None = None, command: list[str] | None = None) -> dict[str, Any]:
    """A pod with a shell: Guaranteed with `cpu`, BestEffort without."""
    amount = {"cpu": cpu, "memory": "32Mi"}
    resources = {"requests": amount, "limits": amount} if cpu else {}
    container: dict[str, Any] = {"name": "main", "image": SHELL_IMAGE, "resources": resources}
    if command:
        container["command"] = command
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }


def start(access: KubernetesAccess, namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
    access.apply(manifest, namespace=namespace)
    return access.wait_for_condition("pod", manifest["metadata"]["name"], "Ready", namespace=namespace)


def inside(access: KubernetesAccess, namespace: str, name: str, *command: str) -> str:
    return access.kubectl("exec", name, f"--namespace={namespace}", "--", *command)


def cpus(access: KubernetesAccess, namespace: str, name: str) -> set[int]:
    """The CPUs that a pod may run on, read inside the pod."""
    status = inside(access, namespace, name, "cat", "/proc/self/status")
    text = re.search(r"Cpus_allowed_list:\s*(\S+)", status)
    assert text is not None
    found: set[int] = set()
    for part in text[1].split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def test_a_guaranteed_pod_gets_a_core_that_a_best_effort_pod_lacks(
    access: KubernetesAccess, namespace: str
) -> None:
    start(access, namespace, pod("pinned", cpu="1"))
    start(access, namespace, pod("best-effort"))
    pinned = cpus(access, namespace, "pinned")
    assert len(pinned) == 1
    assert cpus(access, namespace, "best-effort") == set(range(os.cpu_count() or 1)) - pinned
    assert pinned.isdisjoint({int(SHARED_CPUS)})


def test_a_core_returns_to_the_shared_ones_when_its_pod_is_gone(
    access: KubernetesAccess, namespace: str
) -> None:
    start(access, namespace, pod("pinned", cpu="1"))
    start(access, namespace, pod("best-effort"))
    pinned = cpus(access, namespace, "pinned")
    access.kubectl("delete", "pod", "pinned", f"--namespace={namespace}", "--grace-period=1")
    everything = set(range(os.cpu_count() or 1))

    def shared_again(_: object) -> bool:
        return cpus(access, namespace, "best-effort") == everything

    access.wait_until(
        *("pod", "best-effort", shared_again, f"CPUs {pinned} back"),
        namespace=namespace,
        deadline_seconds=RECONCILE_DEADLINE_SECONDS,
    )


def test_more_pinned_pods_than_cores_stay_pending_with_the_reason(
    access: KubernetesAccess, namespace: str
) -> None:
    # One core is shared; asking for all of them can't be satisfied.
    access.apply(pod("greedy", cpu=str(os.cpu_count())), namespace=namespace)
    found = access.wait_until(
        "pod",
        "greedy",
        lambda found: condition_of(found, "PodScheduled").get("reason") == "Unschedulable",
        "refused by the scheduler",
        namespace=namespace,
    )
    assert "Insufficient cpu" in condition_of(found, "PodScheduled")["message"]


def test_a_pod_reaches_the_api_by_its_cluster_address(access: KubernetesAccess, namespace: str) -> None:
    start(access, namespace, pod("client"))
    address = inside(access, namespace, "client", "sh", "-c", "echo $KUBERNETES_SERVICE_HOST")
    assert address.strip() == "10.96.0.1"
    answer = inside(
        access, namespace, "client", "sh", "-c", "echo | nc -w 5 $KUBERNETES_SERVICE_HOST 443; echo $?"
    )
    # The API server answers a line that is no TLS with a plain refusal.
    assert "Client sent an HTTP request to an HTTPS server" in answer or answer.strip() == "0"


def test_a_service_leads_to_its_pod(access: KubernetesAccess, namespace: str) -> None:
    serve = "while true; do echo hello from behind the service | nc -l -p 8000; done"
    start(access, namespace, pod("server", command=["/bin/sh", "-c", serve]))
    start(access, namespace, pod("client"))
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server"},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    access.apply(service, namespace=namespace)
    found = access.get("service", "server", namespace)
    assert found is not None
    ask = f"nc -w 2 {found['spec']['clusterIP']} 80 < /dev/null"

    def answered(_: object) -> bool:
        # kube-proxy programs its rules a moment after the endpoints appear.
        return "hello from behind" in inside(access, namespace, "client", "sh", "-c", f"{ask} || true")

    access.wait_until("service", "server", answered, "answering", namespace=namespace)


def test_kafka_is_reached_from_a_pod_and_from_the_machine(
    access: KubernetesAccess, namespace: str, kafka: Broker
) -> None:
    assert kafka.bootstrap_servers == "10.99.0.1:9092"
    assert kafka.answers()
    start(access, namespace, pod("client"))
    inside(access, namespace, "client", "sh", "-c", "nc -w 5 10.99.0.1 9092 < /dev/null")


def test_everything_of_the_cluster_runs_on_the_shared_core(cluster: Cluster) -> None:
    confined = {
        component.name: os.sched_getaffinity(component.identity.pid)
        for component in cluster.components
        if component.name != "sandbox"
    }
    assert set(confined) == {
        *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
        *("containerd", "kubelet", "kube-proxy", "kafka"),
    }
    assert set(map(frozenset, confined.values())) == {frozenset({int(SHARED_CPUS)})}
