"""Pods that nodes refuse, on a real control plane.

The test plays the kubelet: a plain node can't be made to refuse a pod for how its free cores lie.
"""

from __future__ import annotations

from typing import Any

from eventengine_harness.accesses import condition_of

from .spaces import KAFKA, Space

Object = dict[str, Any]
PINNED = {"cpus": 1, "memory": "64Mi", "pinning": "Required"}


def test_workload_is_held_instead_of_storming_and_tried_again(space: Space) -> None:
    space.engine(replicas=3, pod=PINNED)
    *kept, unlucky = space.pods(3)
    for pod in kept:
        space.make_ready(pod)
    space.refuse(unlucky, "TopologyAffinityError")
    space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 2, "held at what runs")
    space.until_gone(f"pod/{unlucky}")
    assert space.pods(2) == kept, "no pod that a node admitted is given up"
    condition = space.until_condition("Degraded", "True", "PodsRefused")
    assert "TopologyAffinityError" in condition["message"]
    engine = space.get("ee/hunt")
    assert engine is not None
    assert engine["spec"]["replicas"] == 3
    assert engine["status"]["admission"]["failedAttempts"] == 1
    space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 3, "tried again")
    (again,) = set(space.pods(3)) - set(kept)
    space.make_ready(again)
    space.until("ee/hunt", lambda item: "admission" not in item["status"], "forgotten")
    space.until_condition("Degraded", "False", "AsDeclared")


def test_rollout_that_nodes_refuse_costs_no_pod_and_goes_on_later(space: Space) -> None:
    space.engine(replicas=2, pod=PINNED)
    first, second = space.pods(2)
    space.make_ready(first)
    space.make_ready(second)
    space.engine(replicas=2, pod=PINNED, engine={"sources": [KAFKA], "program": {"districts": 3}})

    def has_new_pod() -> str | None:
        found = [item for item in space.pods(2) if item not in (first, second)]
        return found[0] if found else None

    new = space.wait(has_new_pod, "a pod of the new revision")
    space.refuse(new, "SMTAlignmentError")
    space.until("deployment/hunt", lambda item: item["spec"].get("paused") is True, "held")
    sets = space.wait(
        lambda: (
            sorted(item["spec"]["replicas"] for item in space.access.list("replicasets", space.namespace))
            == [0, 2]
        ),
        "the old revision at full strength",
    )
    assert sets
    engine = space.until("ee/hunt", lambda item: "admission" in item["status"], "told")
    assert engine["status"]["admission"]["rolloutHeld"] is True
    assert "the rollout is held" in condition_of(engine, "Degraded")["message"]
    space.until("deployment/hunt", lambda item: "paused" not in item["spec"], "goes on")
