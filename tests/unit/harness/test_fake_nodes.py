"""The rules that KWOK is given: which pods run, which are refused, and that none is claimed by both."""

from __future__ import annotations

from typing import Any

from eventengine_harness.fake_nodes import REFUSALS, pod_stages


def expressions(stage: dict[str, Any]) -> dict[str, tuple[str, tuple[str, ...]]]:
    found = stage["spec"]["selector"]["matchExpressions"]
    return {item["key"]: (item["operator"], tuple(item.get("values", ()))) for item in found}


def test_refusing_node_refuses_with_the_kubelets_words_and_no_pod_runs_there() -> None:
    refusals = {f"node-{number}": reason for number, reason in enumerate(REFUSALS)}
    stages = {stage["metadata"]["name"]: stage for stage in pod_stages(refusals, 0.0)}
    for node, reason in refusals.items():
        refused = stages[f"refused-{node}"]
        assert expressions(refused)[".spec.nodeName"] == ("In", (node,))
        status = refused["spec"]["next"]["statusTemplate"]
        assert "phase: Failed" in status
        assert f"reason: {reason}" in status
        assert REFUSALS[reason] in status
    assert expressions(stages["running"])[".spec.nodeName"] == ("NotIn", tuple(sorted(refusals)))


def test_pods_of_other_nodes_run_after_their_while_and_go_when_they_are_deleted() -> None:
    running, gone = pod_stages({}, 1.5)
    assert running["spec"]["delay"]["durationMilliseconds"] == 1500
    assert ".spec.nodeName" not in expressions(running)
    assert expressions(running)[".metadata.deletionTimestamp"][0] == "DoesNotExist"
    assert gone["spec"]["next"]["delete"] is True
