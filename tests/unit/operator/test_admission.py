"""Pods that nodes refuse: collected, the workload held with a growing pause, and nothing lost meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from eventengine_contract.event_engine import EventEngineStatus
from eventengine_operator.manifests.children import Circumstances, desired_children
from eventengine_operator.reconciling.actions import Apply, Delete, StopReplicaSet
from eventengine_operator.reconciling.admission import (
    HOLD_SECONDS_MAX,
    Admission,
    hold_seconds,
    judge_admission,
    read_admission,
)
from eventengine_operator.reconciling.observations import Observed
from eventengine_operator.reconciling.planning import Plan, make_plan
from eventengine_operator.reconciling.statuses import make_status
from eventengine_operator.resources.engines import read_engine
from eventengine_operator.resources.objects import Object, Reference, reference_of
from eventengine_operator.resources.pods import Pod, read_pod

from .samples import DEFAULT_IMAGE, engine, engine_object, live

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
NEW, OLD = "uid-of-new", "uid-of-old"


def replica_set(uid: str, replicas: int) -> Object:
    return {"metadata": {"name": uid, "uid": uid, "resourceVersion": "5"}, "spec": {"replicas": replicas}}


def pod_object(name: str, owner: str, status: Object, node: str = "n1") -> Object:
    owners = [{"uid": owner, "controller": True}]
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "ownerReferences": owners},
        "spec": {"nodeName": node},
        "status": status,
    }


def running(name: str, owner: str = NEW) -> Pod:
    return read_pod(pod_object(name, owner, {"phase": "Running", "containerStatuses": [{"name": "engine"}]}))


def waiting(name: str, owner: str = NEW) -> Pod:
    return read_pod(pod_object(name, owner, {"phase": "Pending"}))


def refused(name: str, owner: str = NEW, reason: str = "TopologyAffinityError", node: str = "n1") -> Pod:
    status = {"phase": "Failed", "reason": reason, "message": "no"}
    return read_pod(pod_object(name, owner, status, node))


def admission(
    attempts: int = 1, *, held_at: int = 2, seconds_left: int = 5, rollout: bool = False
) -> Admission:
    held_until = NOW + timedelta(seconds=seconds_left)
    return Admission(attempts, held_until, held_at, rollout, "TopologyAffinityError", ("n1",))


def judge(*pods: Pod, before: Admission | None = None, desired: int | None = 3) -> Admission | None:
    return judge_admission(pods, [replica_set(NEW, 3)], before, desired, NOW)


def plan(*pods: Pod, before: Admission | None = None, sets: tuple[Object, ...] = (), **spec: Any) -> Plan:
    """For an EventEngine of three pods."""
    source = engine_object(**({"replicas": 3} | spec))
    source["status"] = {"admission": before.to_status()} if before else {}
    of = read_engine(source)
    assert of.spec is not None
    manifests = desired_children(of, of.spec, Circumstances(DEFAULT_IMAGE, of.spec.replicas))
    children = {reference_of(item): live(item) for item in manifests}
    observed = Observed(children, (), pods=pods, replica_sets=sets or (replica_set(NEW, 3),))
    return make_plan(of, of.spec, observed, DEFAULT_IMAGE, NOW)


def deployment_spec(result: Plan) -> Object | None:
    for action in result.actions:
        if isinstance(action, Apply) and action.manifest["kind"] == "Deployment":
            spec: Object = action.manifest["spec"]
            return spec
    return None


@pytest.mark.parametrize("reason", ["TopologyAffinityError", "SMTAlignmentError", "UnexpectedAdmissionError"])
def test_refused_pod_is_deleted_as_it_was_seen_and_the_workload_held_at_what_runs(reason: str) -> None:
    result = plan(running("a"), running("b"), refused("c", reason=reason))
    spec = deployment_spec(result)
    assert spec is not None
    assert (spec["replicas"], "paused" in spec) == (2, False)
    assert result.actions[-1] == Delete(Reference("Pod", "c"), "uid-c", "", f"its node refused it: {reason}")
    assert result.replicas == 3, "what is desired stays what is desired"


@pytest.mark.parametrize("reason", ["Evicted", "NodeShutdown", "OOMKilled", ""])
def test_pod_that_failed_otherwise_is_not_ours_to_judge(reason: str) -> None:
    assert plan(running("a"), running("b"), refused("c", reason=reason)).actions == ()


def test_pods_that_still_await_their_node_do_not_count_as_running() -> None:
    story = judge(running("a"), refused("b"), waiting("c"), waiting("d"))
    assert story is not None
    assert story.held_at == 1


def test_pause_doubles_with_each_failed_attempt_from_ten_seconds_to_five_minutes() -> None:
    assert [hold_seconds(attempts) for attempts in range(1, 8)] == [10, 20, 40, 80, 160, 300, 300]
    assert hold_seconds(10_000) == HOLD_SECONDS_MAX


def test_failed_attempt_after_a_pause_counts_and_another_pod_of_the_same_one_does_not() -> None:
    within = judge(running("a"), refused("b"), before=admission(2, held_at=2, seconds_left=5))
    assert within is not None
    assert (within.failed_attempts, within.held_until, within.held_at) == (2, NOW + timedelta(seconds=5), 1)
    after = judge(running("a"), refused("b"), before=admission(2, seconds_left=0))
    assert after is not None
    assert after.failed_attempts == 3
    assert after.held_until - NOW >= timedelta(seconds=40)


def test_workload_stays_held_for_the_pause_although_no_refused_pod_is_left() -> None:
    spec = deployment_spec(plan(running("a"), running("b"), before=admission(held_at=2)))
    assert spec is not None
    assert spec["replicas"] == 2


def test_after_the_pause_one_more_attempt_is_made_and_the_count_kept_until_it_is_known_how_it_went() -> None:
    result = plan(running("a"), running("b"), waiting("c"), before=admission(3, seconds_left=0))
    assert deployment_spec(result) is None, "three are declared, and three is what there is"
    assert result.admission is not None
    assert result.admission.failed_attempts == 3


def test_story_ends_when_every_desired_pod_was_admitted() -> None:
    pods = (running("a"), running("b"), running("c"))
    assert judge(*pods, before=admission(3, seconds_left=0)) is None


def test_during_a_rollout_the_old_pods_are_kept_and_the_rollout_is_held() -> None:
    sets = (replica_set(OLD, 2), replica_set(NEW, 1))
    result = plan(running("a", OLD), running("b", OLD), refused("c", NEW), sets=sets)
    spec = deployment_spec(result)
    assert spec is not None
    assert (spec["replicas"], spec["paused"]) == (3, True)
    apply, stop, collect = result.actions
    assert isinstance(apply, Apply), "paused first, else the Deployment would undo the next step"
    assert stop == StopReplicaSet(NEW, "5")
    assert isinstance(collect, Delete)


def test_held_rollout_stays_held_for_the_pause_and_goes_on_after_it() -> None:
    sets = (replica_set(OLD, 3), replica_set(NEW, 0))
    pods = (running("a", OLD), running("b", OLD), running("c", OLD))
    held = deployment_spec(plan(*pods, sets=sets, before=admission(rollout=True)))
    assert held is not None
    assert held["paused"]
    assert deployment_spec(plan(*pods, sets=sets, before=admission(rollout=True, seconds_left=0))) is None


def test_replicas_of_another_owner_are_not_touched() -> None:
    result = plan(running("a"), refused("b"), replicas=None)
    assert deployment_spec(result) is None
    assert [type(action) for action in result.actions] == [Delete]
    assert result.admission is not None
    assert "its replicas are another's" in result.admission.sentence(None, NOW)


def test_status_says_which_node_refused_what_is_done_and_what_helps() -> None:
    result = plan(running("a"), running("b"), refused("c"))
    observed = Observed({}, (), pods=(running("a"), running("b"), refused("c")))
    status = make_status(engine(), result, observed, (), NOW)
    EventEngineStatus.model_validate(status)
    (degraded,) = [item for item in status["conditions"] if item["type"] == "Degraded"]
    assert (degraded["status"], degraded["reason"]) == ("True", "PodsRefused")
    assert degraded["message"].startswith(
        "n1 refused pods (TopologyAffinityError); held at 2 of 3 pods until 12:00:11 UTC; a node with"
    )
    assert read_admission(status) == result.admission


def test_status_of_odd_content_is_no_story() -> None:
    for odd in ({}, {"admission": None}, {"admission": {"heldUntil": "soon"}}):
        assert read_admission(odd) is None


def test_nodes_are_gathered_over_one_attempt_and_bounded() -> None:
    pods = [refused(f"p{number}", node=f"n{number}") for number in range(2, 20)]
    story = judge(*pods, before=admission())
    assert story is not None
    assert len(story.nodes) == 5
    assert story.nodes[0] == "n1"
