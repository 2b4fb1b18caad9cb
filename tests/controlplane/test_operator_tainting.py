"""A node that refused a pod is tainted for a while, on a real control plane. The test plays the kubelet."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from eventengine_operator.reconciling.node_taints import TAINT

from .operators import OperatorPlane, OperatorProcess, operating
from .spaces import SHARED, Space

TAINTED_SECONDS = 8


@pytest.fixture(scope="module")
def operator(
    operator_plane: OperatorPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    kubeconfig = operator_plane.install_rights("eventengine-tainting", "operator.taintSeconds=8")
    folder = tmp_path_factory.mktemp("operator")
    settings = {"taint_seconds": str(TAINTED_SECONDS)}
    with operating(kubeconfig, "eventengine-tainting", folder, **settings) as running:
        yield running


@pytest.fixture
def node(operator_plane: OperatorPlane) -> Iterator[str]:
    """A node on which nothing runs."""
    name = f"node-{secrets.token_hex(3)}"
    spec = {"taints": [{"key": "dedicated", "value": "games", "effect": "NoSchedule"}]}
    operator_plane.access.apply(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}
    )
    yield name
    operator_plane.access.delete("node", name)


def taints(item: dict[str, Any]) -> set[str]:
    return {taint["key"] for taint in item["spec"].get("taints", [])}


def test_refusing_node_is_tainted_and_the_taint_ends_by_itself(space: Space, node: str) -> None:
    space.engine(replicas=1, pod=SHARED)
    (pod,) = space.pods(1)
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }
    path = f"/api/v1/namespaces/{space.namespace}/pods/{pod}/binding"
    space.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))
    space.refuse(pod, "TopologyAffinityError")
    space.access.wait_until("node", node, lambda item: TAINT in taints(item), "tainted")
    space.access.wait_until("node", node, lambda item: TAINT not in taints(item), "free again")
    left = space.access.get("node", node)
    assert left is not None
    assert "dedicated" in taints(left), "the taints of others are theirs"
