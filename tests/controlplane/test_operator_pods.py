"""What pods report reaches the status: readiness, reasons, cores. The test plays kubelet and engine."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from eventengine_harness.accesses import KubernetesAccess, condition_of
from eventengine_harness.waiting import wait_for

from .engines import Engine
from .operators import OperatorPlane, OperatorProcess, snapshot

SECONDS = 30.0
Object = dict[str, Any]


class Fleet:
    """The pods of one EventEngine called hunt."""

    def __init__(self, access: KubernetesAccess, namespace: str) -> None:
        self.access = access
        self.namespace = namespace

    def declare(self, replicas: int, pinning: str, **spec: Any) -> None:
        document = {
            "apiVersion": "eventengine.dev/v1alpha1",
            "kind": "EventEngine",
            "metadata": {"name": "hunt", "namespace": self.namespace},
            "spec": {"replicas": replicas, "pod": {"cpus": "1", "memory": "64Mi", "pinning": pinning}} | spec,
        }
        self.access.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(document))

    def pods(self, count: int) -> list[str]:
        def names() -> list[str] | None:
            found = self.access.list("pods", self.namespace, "eventengine.dev/engine=hunt")
            return sorted(item["metadata"]["name"] for item in found) if len(found) == count else None

        return wait_for(names, f"{count} pods", SECONDS)

    def set_state(self, pod: str, address: str, *, ready: bool, container: str = "containerd://one") -> None:
        """As a kubelet would."""
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [
                {"type": "Ready", "status": str(ready)},
                {"type": "PodScheduled", "status": "True"},
            ],
            "containerStatuses": [
                {
                    "name": "engine",
                    "containerID": container,
                    "image": "example.invalid/engine:1",
                    "imageID": "",
                    "ready": ready,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-11-21T10:00:00Z"}},
                }
            ],
        }
        self.access.kubectl(
            *("patch", "pod", pod, f"--namespace={self.namespace}", "--subresource=status", "--type=merge"),
            *("--patch", json.dumps({"status": status})),
        )

    def until(self, kind: str, status: str, reason: str) -> tuple[Object, str]:
        """(status, message of the condition) once the condition is so."""
        found = self.access.wait_until(
            "ee",
            "hunt",
            lambda item: (
                (condition_of(item, kind).get("status"), condition_of(item, kind).get("reason"))
                == (status, reason)
            ),
            f"{kind}={status} ({reason})",
            namespace=self.namespace,
            deadline_seconds=SECONDS,
        )
        return found["status"], condition_of(found, kind)["message"]


@pytest.fixture
def fleet(operator: OperatorProcess, operator_plane: OperatorPlane) -> Iterator[Fleet]:
    name = f"pods-{secrets.token_hex(3)}"
    operator_plane.access.kubectl("create", "namespace", name)
    yield Fleet(operator_plane.access, name)
    operator_plane.access.delete("namespace", name, wait=False)


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    """Two of them, on addresses that no pod of an earlier test has."""
    made = [Engine() for _ in range(2)]
    yield made
    for engine in made:
        engine.close()


def test_ready_pods_and_their_cores_are_in_the_status(fleet: Fleet, engines: list[Engine]) -> None:
    fleet.declare(2, "Required")
    pods = fleet.pods(2)
    for number, (pod, engine) in enumerate(zip(pods, engines, strict=True)):
        engine.body = snapshot(pod, fleet.namespace, reasons=[], cpu_set=str(number + 1), exclusive=True)
        fleet.set_state(pod, engine.address, ready=True)
    status, message = fleet.until("PinningSatisfied", "True", "CoresOwned")
    assert message == "2 of 2 pods own their cores"
    assert status["pinning"] == {
        "required": 2,
        "satisfied": 2,
        "pods": [
            {"name": pods[0], "cpuSet": "1", "exclusive": True},
            {"name": pods[1], "cpuSet": "2", "exclusive": True},
        ],
    }
    status, message = fleet.until("Ready", "True", "AllPodsReady")
    assert (status["replicas"], status["readyReplicas"], status["message"]) == (2, 2, "2 of 2 pods ready")


def test_pod_without_cores_of_its_own_is_named(fleet: Fleet, engines: list[Engine]) -> None:
    fleet.declare(1, "Preferred")
    (pod,) = fleet.pods(1)
    engines[0].body = snapshot(pod, fleet.namespace, reasons=[], cpu_set="0-1", exclusive=False)
    fleet.set_state(pod, engines[0].address, ready=True)
    status, message = fleet.until("PinningSatisfied", "False", "CoresShared")
    assert message.startswith("0 of 1 pods own their cores")
    assert status["pinning"]["pods"] == [{"name": pod, "cpuSet": "0-1", "exclusive": False}]


def test_reason_of_a_pod_that_is_not_ready_comes_and_goes(fleet: Fleet, engines: list[Engine]) -> None:
    fleet.declare(1, "Off")
    (pod,) = fleet.pods(1)
    engine = engines[0]
    engine.body = snapshot(pod, fleet.namespace, reasons=[], cpu_set="0", exclusive=False)
    fleet.set_state(pod, engine.address, ready=True)
    fleet.until("Ready", "True", "AllPodsReady")
    reason = "source moves: no broker at 10.99.0.1:9092"
    engine.body = snapshot(pod, fleet.namespace, reasons=[reason], cpu_set="0", exclusive=False)
    fleet.set_state(pod, engine.address, ready=False)

    def is_told() -> bool:
        found = fleet.access.get("ee", "hunt", fleet.namespace)
        return found is not None and found["status"]["message"] == f"0 of 1 pods ready; {pod}: {reason}"

    wait_for(
        is_told,
        "the reason in the status",
        SECONDS,
        last_seen=lambda: str((fleet.access.get("ee", "hunt", fleet.namespace) or {}).get("status")),
    )
    engine.body = snapshot(
        pod, fleet.namespace, reasons=["restoring partition 3"], cpu_set="0", exclusive=False
    )
    wait_for(
        lambda: "restoring partition 3" in str(fleet.access.get("ee", "hunt", fleet.namespace)),
        "the next reason, although nothing changed in the pod",
        SECONDS,
    )
    fleet.set_state(pod, engine.address, ready=True)
    fleet.until("Ready", "True", "AllPodsReady")


def test_ready_pod_is_read_once_for_each_start(fleet: Fleet, engines: list[Engine]) -> None:
    fleet.declare(1, "Preferred")
    (pod,) = fleet.pods(1)
    engine = engines[0]
    engine.body = snapshot(pod, fleet.namespace, reasons=[], cpu_set="1", exclusive=True)
    fleet.set_state(pod, engine.address, ready=True)
    fleet.until("PinningSatisfied", "True", "CoresOwned")
    assert engine.reads == 1
    engine.body = snapshot(pod, fleet.namespace, reasons=[], cpu_set="0-1", exclusive=False)
    fleet.set_state(pod, engine.address, ready=True, container="containerd://two")
    fleet.until("PinningSatisfied", "False", "CoresShared")
    assert engine.reads == 2


def test_autoscaler_stops_at_the_number_of_partitions_and_status_says_so(
    fleet: Fleet, engines: list[Engine]
) -> None:
    kafka = {"bootstrapServers": ["127.0.0.1:1"], "topic": "moves", "groupId": "hunt"}
    lag = {"name": "kafka_consumer_lag", "target": {"averageValue": "1000"}}
    fleet.declare(
        1,
        "Off",
        engine={"sources": [{"name": "moves", "type": "kafka", "kafka": kafka}]},
        autoscaling={"driver": "hpa", "minReplicas": 1, "maxReplicas": 9, "metrics": [lag]},
    )
    (pod,) = fleet.pods(1)
    body = json.loads(snapshot(pod, fleet.namespace, reasons=[], cpu_set="0", exclusive=False))
    body["sources"] = [{"name": "moves", "type": "kafka", "partitions_total": 4, "connected": True}]
    engines[0].body = json.dumps(body)
    fleet.set_state(pod, engines[0].address, ready=True)
    fleet.access.wait_until(
        "hpa",
        "hunt",
        lambda item: item["spec"]["maxReplicas"] == 4,
        "as many as there are partitions",
        namespace=fleet.namespace,
    )
    engine = fleet.access.wait_until(
        "ee",
        "hunt",
        lambda item: item["status"].get("partitions") == 4,
        "the number of partitions in the status",
        namespace=fleet.namespace,
    )
    message = condition_of(engine, "SpecValid")["message"]
    assert message == "autoscaling stops at 4 pods, below maxReplicas: there are 4 partitions"


def test_answer_of_another_pod_on_a_reused_address_counts_for_nothing(
    fleet: Fleet, engines: list[Engine], operator: OperatorProcess
) -> None:
    fleet.declare(1, "Required")
    (pod,) = fleet.pods(1)
    engines[0].body = snapshot("another-pod", fleet.namespace, reasons=[], cpu_set="1", exclusive=True)
    failed = operator.metric('eventengine_operator_engine_reports_total{result="error"}')
    fleet.set_state(pod, engines[0].address, ready=True)
    wait_for(
        lambda: operator.metric('eventengine_operator_engine_reports_total{result="error"}') > failed,
        "a refused report",
        SECONDS,
    )
    fleet.access.wait_until(
        "ee",
        "hunt",
        lambda item: "the answer came from" in condition_of(item, "PinningSatisfied")["message"],
        "the refusal",
        namespace=fleet.namespace,
    )
    status, message = fleet.until("PinningSatisfied", "Unknown", "AwaitingReports")
    assert message.endswith(f"{pod}: the answer came from {fleet.namespace}/another-pod")
    assert status["pinning"]["pods"] == []


def test_pod_with_our_labels_and_another_owner_counts_for_nothing(
    fleet: Fleet, engines: list[Engine]
) -> None:
    fleet.declare(1, "Required")
    (pod,) = fleet.pods(1)
    impostor = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "impostor",
            "labels": {
                "eventengine.dev/engine": "hunt",
                "app.kubernetes.io/managed-by": "eventengine-operator",
            },
        },
        "spec": {"containers": [{"name": "engine", "image": "example.invalid/none:1"}]},
    }
    fleet.access.apply(impostor, namespace=fleet.namespace)
    for name, engine, exclusive in ((pod, engines[0], False), ("impostor", engines[1], True)):
        engine.body = snapshot(name, fleet.namespace, reasons=[], cpu_set="1", exclusive=exclusive)
        fleet.set_state(name, engine.address, ready=True)
    status, _ = fleet.until("PinningSatisfied", "False", "CoresShared")
    assert [entry["name"] for entry in status["pinning"]["pods"]] == [pod]
    assert engines[1].reads == 0
