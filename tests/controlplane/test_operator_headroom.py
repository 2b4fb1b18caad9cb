"""Headroom gives way: an engine's pod that finds no room takes that of a pod which only kept it, at once.

Scheduler, preemption, Deployments and the operator are real, and so is the chart's PriorityClass; KWOK plays the one
node, which is as large as two pods.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from eventengine_contract.well_known import HEADROOM_PRIORITY_CLASS
from eventengine_harness.fake_nodes import TOLERATION, FakeNodes
from eventengine_harness.waiting import wait_for

from .operators import CHART, OperatorPlane
from .spaces import SECONDS, Space

Object = dict[str, Any]
POOL = {"tests.eventengine.dev/pool": "headroom"}
POD = {
    "cpus": 1,
    "memory": "64Mi",
    "pinning": "Required",
    "template": {"nodeSelector": POOL, "tolerations": [TOLERATION]},
}


@pytest.fixture(scope="module")
def room_for_two(operator_plane: OperatorPlane) -> Iterator[str]:
    access = operator_plane.access
    priority_class = access.helm(
        "template", "eventengine", CHART, "--show-only=templates/operator/priorityclass.yaml"
    )
    access.apply(priority_class)
    with FakeNodes(operator_plane.control_plane) as nodes:
        nodes.add("headroom-node", cpus="2", labels=POOL)
        yield "headroom-node"
    access.delete("priorityclass", HEADROOM_PRIORITY_CLASS)


def running(space: Space, selector: str) -> dict[str, str]:
    """Node by pod of those that run."""
    return {
        item["metadata"]["name"]: item["spec"]["nodeName"]
        for item in space.access.list("pods", space.namespace, selector)
        if item["status"].get("phase") == "Running" and "deletionTimestamp" not in item["metadata"]
    }


def until_running(space: Space, selector: str, count: int) -> dict[str, str]:
    return wait_for(
        lambda: found if len(found := running(space, selector)) == count else None,
        f"{count} pods with {selector} to run",
        SECONDS,
    )


def test_engines_pod_takes_the_room_that_was_kept_and_gives_it_back(room_for_two: str, space: Space) -> None:
    engines, kept = "eventengine.dev/engine=hunt", "eventengine.dev/headroom-of=hunt"
    autoscaling = {"driver": "none", "headroom": {"pods": 1}}
    space.engine(pod=POD, replicas=1, autoscaling=autoscaling)
    (first,) = until_running(space, engines, 1)
    until_running(space, kept, 1)
    space.kubectl("scale", "ee/hunt", "--replicas=2")
    both = until_running(space, engines, 2)
    assert first in both, "nobody else has to go"
    assert set(both.values()) == {room_for_two}
    assert running(space, kept) == {}
    (waiting,) = space.access.list("pods", space.namespace, kept)
    assert "nodeName" not in waiting["spec"], "and waits for the next node"
    space.until_condition("Ready", "True", "AllPodsReady")
    space.kubectl("scale", "ee/hunt", "--replicas=1")
    until_running(space, kept, 1)
