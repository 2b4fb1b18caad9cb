"""Pods without free cores bring nodes, and idle nodes go without taking a pod with them that still drains.

Karpenter is real, with its own provider of nodes that KWOK plays; scheduler, autoscaler and operator are real. A node
has four cores, of which Karpenter counts some for the system, and a pod wants two to itself: one pod a node.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from eventengine_harness import builds
from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.control_planes import free_port
from eventengine_harness.fake_nodes import DRAINING, FakeNodes
from eventengine_harness.waiting import wait_for

from .operators import PATIENT, OperatorPlane, OperatorProcess
from .spaces import Space

Object = dict[str, Any]
POOL = "tests.eventengine.dev/pool"
PINNED = "pinned"
TAINT = {"key": POOL, "value": PINNED, "effect": "NoSchedule"}
INSTANCE_TYPE = {
    "name": "four-cores",
    "offerings": [
        {
            "Price": 1.0,
            "Requirements": [
                {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
                {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["zone-a"]},
            ],
        }
    ],
    "architecture": "amd64",
    "operatingSystems": ["linux"],
    "resources": {"cpu": "4", "memory": "8Gi", "pods": "20"},
}
NODE_SECONDS = 60.0
SCALE_IN_SECONDS = 90.0
"""Karpenter looks every ten seconds, and looks again fifteen seconds later before it acts."""
POD = {
    "cpus": 2,
    "memory": "256Mi",
    "pinning": "Required",
    "template": {"nodeSelector": {POOL: PINNED}, "tolerations": [TAINT | {"operator": "Equal"}]},
}


def node_pool() -> Object:
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": PINNED},
        "spec": {
            "template": {
                "metadata": {"labels": {POOL: PINNED}},
                "spec": {
                    "requirements": [
                        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]}
                    ],
                    "nodeClassRef": {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": PINNED},
                    "taints": [TAINT],
                    "expireAfter": "Never",
                },
            },
            "limits": {"cpu": 12},
            "disruption": {
                "consolidationPolicy": "WhenEmpty",
                "consolidateAfter": "0s",
                "budgets": [{"nodes": "100%"}],
            },
        },
    }


NODE_CLASS = {
    "apiVersion": "karpenter.kwok.sh/v1alpha1",
    "kind": "KWOKNodeClass",
    "metadata": {"name": PINNED},
}


@pytest.fixture(scope="module")
def karpenter(
    operator_plane: OperatorPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KubernetesAccess]:
    """Karpenter beside the control plane, and KWOK to play its nodes; at the end every node is gone."""
    access, plane = operator_plane.access, operator_plane.control_plane
    definitions = [
        path for folder in builds.karpenter_definitions() for path in sorted(folder.glob("*.yaml"))
    ]
    for path in definitions:
        access.apply(path.read_text())
    types = tmp_path_factory.mktemp("karpenter") / "instance-types.json"
    types.write_text(json.dumps([INSTANCE_TYPE]))
    for kind in ("nodepools.karpenter.sh", "nodeclaims.karpenter.sh", "kwoknodeclasses.karpenter.kwok.sh"):
        access.wait_for_condition("crd", kind, "Established")
    access.apply(NODE_CLASS, node_pool())
    with FakeNodes(plane):
        process = plane.launch(
            "karpenter",
            [builds.karpenter(), f"--instance-types-file-path={types}"],
            {
                "KUBECONFIG": str(plane.kubeconfig),
                "SYSTEM_NAMESPACE": "kube-system",
                "DISABLE_LEADER_ELECTION": "true",
                "METRICS_PORT": str(free_port()),
                "HEALTH_PROBE_PORT": str(free_port()),
                "BATCH_IDLE_DURATION": "200ms",
                "BATCH_MAX_DURATION": "1s",
            },
        )
        try:
            yield access
            access.delete("nodepool", PINNED, wait=False)
            wait_for(lambda: not nodes(access), "the end of all nodes", SCALE_IN_SECONDS)
        finally:
            process.stop()
    for path in definitions:
        access.delete("crd", yaml.safe_load(path.read_text())["metadata"]["name"], wait=False)


def nodes(access: KubernetesAccess) -> dict[str, Object]:
    found = access.list("nodes", selector=f"{POOL}={PINNED}")
    return {item["metadata"]["name"]: item for item in found}


@pytest.fixture
def space(operator_plane: OperatorPlane, tmp_path: Path) -> Iterator[Space]:
    kubeconfig = operator_plane.install_rights("eventengine-nodes")
    log = tmp_path / "operator.log"
    with OperatorProcess(kubeconfig, "eventengine-nodes", log, metrics_mode="off", **PATIENT) as operator:
        operator.wait_leading()
        with Space(operator_plane.access, operator) as made:
            yield made


def placed(space: Space, count: int) -> dict[str, str]:
    """Node by pod, once that many pods are ready."""

    def where() -> dict[str, str] | None:
        found = space.access.list("pods", space.namespace, "eventengine.dev/engine=hunt")
        ready = {
            item["metadata"]["name"]: item["spec"]["nodeName"]
            for item in found
            if item["status"].get("phase") == "Running" and "deletionTimestamp" not in item["metadata"]
        }
        return ready if len(ready) == len(found) == count else None

    return wait_for(where, f"{count} pods on nodes", NODE_SECONDS)


def test_pods_bring_nodes_and_a_node_outlives_the_pod_that_drains_on_it(
    karpenter: KubernetesAccess, space: Space
) -> None:
    assert not nodes(karpenter)
    space.engine(pod=POD, replicas=1)
    placed(space, 1)
    space.kubectl("scale", "ee/hunt", "--replicas=2")
    by_pod = placed(space, 2)
    assert len(set(by_pod.values())) == 2, "a pod that owns its cores doesn't share them"
    assert set(by_pod.values()) == set(nodes(karpenter))

    for pod in by_pod:
        space.kubectl("annotate", f"pod/{pod}", f"{DRAINING}=yes")
    space.kubectl("scale", "ee/hunt", "--replicas=1")

    def leaving() -> str | None:
        found = karpenter.list("pods", space.namespace, "eventengine.dev/engine=hunt")
        gone = [item["metadata"]["name"] for item in found if "deletionTimestamp" in item["metadata"]]
        return gone[0] if gone else None

    drained = wait_for(leaving, "a pod that drains", NODE_SECONDS)
    kept = next(pod for pod in by_pod if pod != drained)
    before = space.get(f"pod/{kept}")

    def is_being_removed() -> bool:
        node = nodes(karpenter).get(by_pod[drained])
        assert node is not None, "it went while a pod still drained on it"
        return "deletionTimestamp" in node["metadata"]

    wait_for(is_being_removed, "Karpenter to give up the idle node", SCALE_IN_SECONDS)
    assert leaving() == drained
    space.kubectl("annotate", f"pod/{drained}", f"{DRAINING}-")
    wait_for(lambda: set(nodes(karpenter)) == {by_pod[kept]}, "the end of the idle node", NODE_SECONDS)
    after = space.get(f"pod/{kept}")
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"], "and nobody else was moved"
    space.kubectl("annotate", f"pod/{kept}", f"{DRAINING}-")
