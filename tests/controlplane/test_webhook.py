"""The validating webhook: the real API server asks it, over the certificate that the operator issued for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .operators import OperatorPlane
from .spaces import HPA, SHARED
from .webhooks import DENIED, TWINS, Stage, reviewing

NODE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "webhook-node", "labels": {"tests/pool": "small"}},
    "spec": {"unschedulable": True},
    "status": {"allocatable": {"cpu": "3920m", "memory": "8Gi"}},
}


@pytest.fixture(scope="module")
def stage(operator_plane: OperatorPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    operator_plane.access.kubectl("create", "-f", "-", stdin=json.dumps(NODE))
    with reviewing(operator_plane, "eventengine-webhook", tmp_path_factory.mktemp("webhook")) as made:
        yield made
    operator_plane.access.delete("node", NODE["metadata"]["name"])


def test_fault_that_no_rule_of_the_definition_can_see_is_refused_with_its_path(stage: Stage) -> None:
    code, told = stage.declare(engine=TWINS)
    assert code == 1
    assert DENIED in told


def test_sound_engine_is_stored_without_a_word(stage: Stage) -> None:
    assert stage.declare() == (0, "")


def test_what_the_cluster_lacks_is_a_warning_and_the_engine_is_stored(stage: Stage) -> None:
    volumes = [{"name": "token", "secret": {"secretName": "token"}}]
    template = {"volumes": volumes, "priorityClassName": "no-such-class"}
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "theirs"},
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "warned"},
        },
    }
    stage.space.kubectl("apply", "-f", "-", stdin=json.dumps(hpa))
    code, told = stage.declare("warned", dry_run=False, pod=SHARED | {"template": template}, autoscaling=HPA)
    stage.space.kubectl("delete", "ee/warned", "hpa/theirs", "--wait=false")
    assert code == 0
    assert sorted(told.splitlines()) == [
        "Warning: spec.autoscaling.driver: HorizontalPodAutoscaler theirs scales the same pods already; while it "
        "exists the operator makes no autoscaler",
        "Warning: spec.pod.template.priorityClassName: there is no PriorityClass no-such-class; no pod can be made "
        "until there is",
        "Warning: the pods mount the Secret token, which doesn't exist yet: none starts before it does",
    ]


def test_nodes_that_are_all_too_small_are_a_warning(stage: Stage) -> None:
    template = {"nodeSelector": NODE["metadata"]["labels"]}
    _, told = stage.declare(pod={"cpus": 4, "memory": "1Gi", "template": template})
    assert told == (
        "Warning: spec.pod.cpus: no node has 4 to give, the most is 3920m; the pods wait for one that has\n"
    )


def test_only_new_specs_are_asked_about(stage: Stage) -> None:
    stage.declare("asked", dry_run=False, replicas=1)
    before = stage.reviews()
    stage.space.kubectl("annotate", "ee/asked", "tests/note=changed")
    stage.space.kubectl("scale", "ee/asked", "--replicas=2")
    stage.space.until("ee/asked", lambda item: item.get("status", {}).get("replicas") == 2, "reported on")
    assert stage.reviews() == before, "labels, scaling and status"
    stage.declare("asked", dry_run=False, replicas=3)
    assert stage.reviews() == before + 1
    stage.space.kubectl("delete", "ee/asked", "--wait=false")
    stage.space.until_gone("ee/asked")
    assert stage.reviews() == before + 1, "deletion"


def test_while_the_webhook_is_away_the_operator_says_the_same_and_mending_goes_step_by_step(
    stage: Stage,
) -> None:
    assert stage.webhook.stop() == 0
    code, told = stage.declare(dry_run=False, engine=TWINS)
    assert (code, told) == (0, ""), "the failure policy is Ignore"
    message = stage.space.until_condition("SpecValid", "False", "Invalid")["message"]
    assert DENIED.endswith(message)
    stage.webhook.start()
    stage.webhook.wait_ready()
    stage.until_asked()
    code, told = stage.declare(dry_run=False, engine=TWINS, replicas=1)
    assert (code, told) == (0, f"Warning: as before: {message}\n")
    assert stage.declare(dry_run=False, replicas=1) == (0, "")
    stage.space.until_condition("SpecValid", "True", "Valid")
