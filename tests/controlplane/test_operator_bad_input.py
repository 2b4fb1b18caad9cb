"""What can't work is a condition that says why and what to do, in one piece and not in a loop; and it recovers.

What the schema, the CEL rules and the operator's own reading refuse has its tests elsewhere. Here are things that are
declared well and come to nothing on this cluster. The test plays the kubelet where one would have to say something.
"""

from __future__ import annotations

import json
from typing import Any

from eventengine_harness.accesses import condition_of
from eventengine_harness.waiting import wait_for

from .spaces import SECONDS, SHARED, Space

Object = dict[str, Any]
SCHEDULED = {"type": "PodScheduled", "status": "True"}


def until_told(space: Space, kind: str, reason: str, text: str) -> str:
    """The message of a condition, once it has the reason and the text."""

    def told() -> str | None:
        found = condition_of(space.get("ee/hunt") or {}, kind)
        message = str(found.get("message", ""))
        return message if found.get("reason") == reason and text in message else None

    return wait_for(told, f"{kind} ({reason}): {text}", SECONDS, last_seen=lambda: str(space.get("ee/hunt")))


def set_quota(space: Space, pods: int) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": str(pods)}},
    }
    space.kubectl("apply", "-f", "-", stdin=json.dumps(quota))
    space.until(
        "resourcequota/small",
        lambda item: item.get("status", {}).get("hard") == quota["spec"]["hard"],  # type: ignore[index]
        "in force",
    )


def test_quota_is_named_while_it_refuses_pods_and_forgotten_when_there_is_room(space: Space) -> None:
    set_quota(space, 1)
    space.engine(replicas=2)
    message = until_told(space, "Degraded", "PodsNotMade", "exceeded quota: small")
    assert "change what refuses them (a quota, an admission policy)" in message
    until_told(space, "Ready", "PodsNotMade", "0 of 2 pods ready")
    space.until_quiet()
    before = space.get("ee/hunt")
    space.until_quiet()
    after = space.get("ee/hunt")
    assert before is not None
    assert after is not None
    assert before["status"] == after["status"], "nothing is written over and over"
    set_quota(space, 5)
    for pod in space.pods(2):
        space.make_ready(pod)
    space.until_condition("Degraded", "False", "AsDeclared")


def test_quota_is_named_for_engines_with_storage_too(space: Space) -> None:
    set_quota(space, 1)
    space.engine(replicas=2, storage={"size": "1Gi"})
    told = "the API server refuses its pods: exceeded quota: small, requested: pods=1"
    until_told(space, "Degraded", "PodsNotMade", told)
    until_told(space, "Ready", "PodsNotMade", f"0 of 2 pods ready; {told}")
    space.until_quiet()
    set_quota(space, 5)
    # Its controller tries again when it hears of a pod; of itself only after a while.
    for pod in space.pods(1):
        space.make_ready(pod)
    for pod in space.pods(2):
        space.make_ready(pod)
    space.until_condition("Degraded", "False", "AsDeclared")


def test_affinity_that_no_api_server_takes_is_told_in_its_words_and_a_good_one_recovers(space: Space) -> None:
    nothing = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
    space.engine(replicas=1, pod=SHARED | {"template": {"affinity": {"nodeAffinity": nothing}}})
    until_told(space, "Degraded", "ApplyFailed", "must have at least one node selector term")
    assert space.get("configmap/hunt-engine") is not None, "what can be made is made"
    space.engine(replicas=1)
    space.until_exists("deployment/hunt")
    space.until(
        "ee/hunt", lambda item: condition_of(item, "Degraded").get("reason") != "ApplyFailed", "forgotten"
    )


def test_affinity_that_no_node_meets_is_the_schedulers_reason_with_the_pods_name(space: Space) -> None:
    template = {"nodeSelector": {"tests/no-node": "has-this"}}
    space.engine(replicas=1, pod=SHARED | {"template": template})
    (pod,) = space.pods(1)
    until_told(space, "Ready", "PodsNotReady", f"{pod}: Unschedulable: ")


def test_unknown_image_is_the_kubelets_reason_with_the_pods_name(space: Space) -> None:
    space.engine(replicas=1, image="example.invalid/no-such-image:1")
    (pod,) = space.pods(1)
    waiting = {
        "reason": "ImagePullBackOff",
        "message": 'Back-off pulling image "example.invalid/no-such-image:1"',
    }
    container = {
        "name": "engine",
        "image": "example.invalid/no-such-image:1",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": waiting},
    }
    space.set_pod_status(
        pod, {"phase": "Pending", "conditions": [SCHEDULED], "containerStatuses": [container]}
    )
    message = until_told(space, "Degraded", "PodsNotReady", "ImagePullBackOff")
    assert message == f"{pod}: ImagePullBackOff: {waiting['message']}"
