"""Engines with storage on a real control plane: StatefulSet, claims that stay, and the one that may go.

The test plays kubelet and engine: no engine of today keeps a log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from eventengine_contract.well_known import ANNOTATION_LOG_EMPTY
from eventengine_harness.accesses import condition_of

from .engines import Engine
from .operators import snapshot
from .spaces import SHARED, Space

Object = dict[str, Any]
STORED = {"pod": SHARED, "storage": {"size": "1Gi"}}


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close()


def claims(space: Space) -> dict[str, Object]:
    found = space.access.list("persistentvolumeclaims", space.namespace)
    return {item["metadata"]["name"]: item for item in found}


def answer(space: Space, engine: Engine, pod: str, log: Object | None) -> None:
    body = json.loads(snapshot(pod, space.namespace, reasons=[], cpu_set="0", exclusive=False))
    engine.body = json.dumps(body | {"log": log})


def test_pods_with_volumes_are_made_kept_and_brought_back(space: Space) -> None:
    space.engine(replicas=2, **STORED)
    assert space.pods(2) == ["hunt-0", "hunt-1"]
    for pod in ("hunt-0", "hunt-1"):
        space.make_ready(pod)
    ready = space.until(
        "ee/hunt",
        lambda item: condition_of(item, "Ready").get("status") == "True",
        "Ready, by its StatefulSet",
    )
    assert ready["status"]["readyReplicas"] == 2
    assert space.get("deployment/hunt") is None
    assert space.get("service/hunt-pods") is not None
    made = space.get("statefulset/hunt")
    assert made is not None
    space.until_quiet()
    unchanged = space.get("statefulset/hunt")
    assert unchanged is not None
    assert unchanged["metadata"]["generation"] == made["metadata"]["generation"]
    patch = json.dumps({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}})
    space.kubectl("patch", "statefulset/hunt", "--type=merge", f"--patch={patch}")
    space.until(
        "statefulset/hunt",
        lambda item: item["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Retain",
        "claims are safe again",
    )
    space.kubectl("delete", "statefulset/hunt")
    space.until(
        "statefulset/hunt", lambda item: item["metadata"]["uid"] != made["metadata"]["uid"], "made again"
    )
    assert set(claims(space)) == {"engine-data-hunt-0", "engine-data-hunt-1"}, "with what they had"


def test_claim_goes_only_after_its_pod_said_that_its_log_is_empty(space: Space, engine: Engine) -> None:
    space.engine(replicas=3, **STORED)
    for pod in space.pods(3):
        space.make_ready(pod)
    answer(space, engine, "hunt-1", None)
    space.make_ready("hunt-1", address=engine.address)
    hold = json.dumps({"metadata": {"finalizers": ["tests.eventengine.dev/hold"]}})
    space.kubectl("patch", "pod/hunt-1", "--type=merge", f"--patch={hold}")
    space.wait(
        lambda: set(claims(space)) == {f"engine-data-hunt-{number}" for number in range(3)}, "three claims"
    )
    space.engine(replicas=1, **STORED)
    space.until_gone("pod/hunt-2")
    reads = engine.reads
    space.wait(lambda: engine.reads > reads, "the leaving pod to be asked")
    assert ANNOTATION_LOG_EMPTY not in claims(space)["engine-data-hunt-1"]["metadata"].get("annotations", {})
    answer(space, engine, "hunt-1", {"is_empty": True})
    space.until(
        "persistentvolumeclaim/engine-data-hunt-1",
        lambda item: ANNOTATION_LOG_EMPTY in item["metadata"].get("annotations", {}),
        "marked",
    )
    release = json.dumps({"metadata": {"finalizers": None}})
    space.kubectl("patch", "pod/hunt-1", "--type=merge", f"--patch={release}")
    # The claim is protected as long as its pod exists; its deletion begins when the pod has gone.
    space.wait(
        lambda: (
            (gone := claims(space).get("engine-data-hunt-1")) is None
            or "deletionTimestamp" in gone["metadata"]
        ),
        "its claim to go",
    )
    left = {name for name, item in claims(space).items() if "deletionTimestamp" not in item["metadata"]}
    assert left == {"engine-data-hunt-0", "engine-data-hunt-2"}, "hunt-2 never said anything"
