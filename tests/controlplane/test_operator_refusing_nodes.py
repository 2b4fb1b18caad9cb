"""Nodes that refuse pods for how their free cores lie: no storm of pods, and the reason where people look.

KWOK plays these nodes, for a plain node can't produce the three errors: they need several NUMA nodes or hardware
threads, or a scheduler and a kubelet that disagree. Deployment, ReplicaSets, scheduling and the operator are real, so a
ReplicaSet does make the next pod at once, and the scheduler does send it to the same node again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from eventengine_harness.accesses import condition_of
from eventengine_harness.fake_nodes import REFUSALS, TOLERATION, FakeNodes

from .operators import OperatorPlane, OperatorProcess
from .spaces import Space

Object = dict[str, Any]
POOL = "tests.eventengine.dev/pool"
PODS_BEFORE_HELD_MAX = 80
"""A ReplicaSet makes about twenty a second for as long as it may; a busy machine may see two attempts."""


def pinned_to(pool: str) -> Object:
    template = {"nodeSelector": {POOL: pool}, "tolerations": [TOLERATION]}
    return {"cpus": 1, "memory": "64Mi", "pinning": "Required", "template": template}


@pytest.fixture(scope="module")
def nodes(operator_plane: OperatorPlane) -> Iterator[FakeNodes]:
    refusals = {f"refusing-{reason.lower()}": reason for reason in REFUSALS}
    with FakeNodes(operator_plane.control_plane, refusals=refusals) as running:
        yield running


class PodsSeen:
    """UIDs of all pods that a namespace ever had since this was made."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._uids: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.is_set():
            self.count()
            self._stop.wait(0.02)

    def count(self) -> int:
        found = self._space.access.list("pods", self._space.namespace)
        self._uids |= {item["metadata"]["uid"] for item in found}
        return len(self._uids)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def test_refused_pods_are_collected_and_the_workload_is_held_until_a_node_can_take_it(
    nodes: FakeNodes, operator: OperatorProcess, operator_plane: OperatorPlane
) -> None:
    with ExitStack() as stack:
        spaces = {reason: stack.enter_context(Space(operator_plane.access, operator)) for reason in REFUSALS}
        run_on_good_nodes(nodes, spaces)
        for reason in REFUSALS:
            nodes.add(f"refusing-{reason.lower()}", labels={POOL: reason})
        seen = {reason: PodsSeen(space) for reason, space in spaces.items()}
        for pods in seen.values():
            stack.callback(pods.close)
        for reason, space in spaces.items():
            space.engine(replicas=3, pod=pinned_to(reason))
        for reason, space in spaces.items():
            engine = space.until("ee/hunt", was_refused_by(reason), f"held for {reason}")
            assert engine["status"]["admission"]["heldAt"] == 2
            condition = condition_of(engine, "Degraded")
            assert (condition["status"], condition["reason"]) == ("True", "PodsRefused")
            assert reason in condition["message"]
            assert f"refusing-{reason.lower()}" in condition["message"]
            space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 2, "held at what runs")
            until_replica_sets_have_settled(space, 2)
            nodes.remove(f"refusing-{reason.lower()}")
            until_refused_pods_are_gone(space)
            assert engine["spec"]["replicas"] == 3, "what the user asked for stays"
        made = {reason: pods.count() for reason, pods in seen.items()}
        assert max(made.values()) <= PODS_BEFORE_HELD_MAX, made
        for reason in REFUSALS:
            nodes.add(f"further-{reason.lower()}", cpus="2", labels={POOL: reason})
        for space in spaces.values():
            space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 3, "tried again")
            space.until("ee/hunt", lambda item: "admission" not in item["status"], "forgotten")
            space.until_condition("Degraded", "False", "AsDeclared")
        after = {reason: pods.count() for reason, pods in seen.items()}
        assert after == {reason: count + 1 for reason, count in made.items()}, (
            "one more when it was tried again"
        )


def test_refused_pod_with_a_volume_holds_its_stateful_set_and_takes_no_admitted_pod_along(
    nodes: FakeNodes, operator: OperatorProcess, operator_plane: OperatorPlane
) -> None:
    with ExitStack() as stack:
        space = stack.enter_context(Space(operator_plane.access, operator))
        for number in range(3):
            stack.enter_context(volume(space, number))
        stored = {"pod": pinned_to("stored"), "storage": {"size": "1Gi"}}
        nodes.add("good-stored", cpus="2", labels={POOL: "stored"})
        space.engine(replicas=2, **stored)
        space.until("ee/hunt", lambda item: item.get("status", {}).get("readyReplicas") == 2, "two run")
        running = uids(space)
        nodes.add("refusing-unexpectedadmissionerror", labels={POOL: "stored"})
        seen = PodsSeen(space)
        stack.callback(seen.close)
        space.engine(replicas=3, **stored)
        engine = space.until("ee/hunt", was_refused_by("UnexpectedAdmissionError"), "held")
        assert engine["status"]["admission"]["heldAt"] == 2
        condition = condition_of(engine, "Degraded")
        assert (condition["status"], condition["reason"]) == ("True", "PodsRefused")
        space.until("statefulset/hunt", lambda item: item["spec"]["replicas"] == 2, "held at what runs")
        nodes.remove("refusing-unexpectedadmissionerror")
        until_refused_pods_are_gone(space)
        assert uids(space) == running
        assert seen.count() <= PODS_BEFORE_HELD_MAX


def uids(space: Space) -> dict[str, str]:
    found = space.access.list("pods", space.namespace)
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in found}


@contextmanager
def volume(space: Space, number: int) -> Iterator[None]:
    """What a provisioner would make for one of the claims."""
    name = f"{space.namespace}-{number}"
    manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": f"/nowhere/{name}"},
            "claimRef": {"namespace": space.namespace, "name": f"engine-data-hunt-{number}"},
        },
    }
    space.access.apply(manifest)
    yield
    space.access.delete("persistentvolume", name, wait=False)


def run_on_good_nodes(nodes: FakeNodes, spaces: dict[str, Space]) -> None:
    """Two pods each, on a node that has room for two."""
    for reason, space in spaces.items():
        nodes.add(f"good-{reason.lower()}", cpus="2", labels={POOL: reason})
        space.engine(replicas=2, pod=pinned_to(reason))
    for space in spaces.values():
        space.until("ee/hunt", lambda item: item.get("status", {}).get("readyReplicas") == 2, "two run")


def was_refused_by(reason: str) -> Callable[[Object], bool]:
    return lambda item: item.get("status", {}).get("admission", {}).get("reason") == reason


def until_replica_sets_have_settled(space: Space, pods: int) -> None:
    """Until no ReplicaSet is about to make another pod: the Deployment's number gets to it a little later."""

    def have_settled() -> bool:
        found = space.access.list("replicasets", space.namespace)
        seen = [item["status"].get("observedGeneration") == item["metadata"]["generation"] for item in found]
        wanted, made = ([item[part].get("replicas", 0) for item in found] for part in ("spec", "status"))
        return all(seen) and sum(wanted) == sum(made) == pods

    space.wait(have_settled, f"{pods} pods of ReplicaSets")


def until_refused_pods_are_gone(space: Space) -> None:
    def are_gone() -> bool:
        pods = space.access.list("pods", space.namespace)
        return not any(item["status"]["phase"] == "Failed" for item in pods)

    space.wait(are_gone, "refused pods to be collected")
