"""Engines with storage: their StatefulSet, and which claims go when their pods were scaled away."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from eventengine_contract.well_known import ANNOTATION_LOG_EMPTY
from eventengine_operator.clients.engine_reports import needs_reading
from eventengine_operator.manifests.children import Circumstances, desired_children
from eventengine_operator.reconciling.actions import Apply, Delete, KeepReplicas
from eventengine_operator.reconciling.admission import Admission, pods_while_held
from eventengine_operator.reconciling.claims import plan_claims
from eventengine_operator.reconciling.conditions import read_rollout
from eventengine_operator.reconciling.observations import Observed
from eventengine_operator.reconciling.planning import make_plan
from eventengine_operator.resources.claims import Claim, claim_name, claims_of
from eventengine_operator.resources.engines import Engine, read_engine
from eventengine_operator.resources.objects import Object, reference_of
from eventengine_operator.resources.pods import EngineReport, Pod, read_pod

from .samples import DEFAULT_IMAGE, STORED, engine, engine_object, live

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LEAVING = Pod(
    name="hunt-2",
    namespace="default",
    uid="pod-2",
    address="10.0.0.2",
    phase="Running",
    container_id="containerd://2",
    is_ready=True,
    is_leaving=True,
    created_at=None,
    trouble="",
    is_admitted=True,
    has_volume=True,
)
EMPTY = EngineReport("containerd://2", True, 0.0, was_leaving=True, log_is_empty=True)
CLAIM = Claim(claim_name("hunt", 2), 2, "claim-2", "7", is_marked=False)


def stored(**spec: Any) -> Engine:
    return engine(**(STORED | spec))


def manifests(of: Engine, replicas: int | None = 2) -> list[Object]:
    assert of.spec is not None, of.faults
    return desired_children(of, of.spec, Circumstances(DEFAULT_IMAGE, replicas))


def test_storage_makes_a_stateful_set_and_a_name_for_each_pod_instead_of_a_deployment() -> None:
    made = {(item["kind"], item["metadata"]["name"]): item for item in manifests(stored())}
    assert ("Deployment", "hunt") not in made
    body = made["StatefulSet", "hunt"]["spec"]
    assert body["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert made["Service", body["serviceName"]]["spec"]["clusterIP"] == "None"
    (container,) = body["template"]["spec"]["containers"]
    (claim,) = body["volumeClaimTemplates"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/var/lib/eventengine"} in container[
        "volumeMounts"
    ]


def test_nothing_of_an_engine_without_storage_depends_on_it() -> None:
    assert not [item for item in manifests(engine()) if item["kind"] == "StatefulSet" or "-pods" in str(item)]


@pytest.mark.parametrize(
    ("storage", "template", "fault"),
    [
        (
            {"mountPath": "/etc/eventengine"},
            {},
            "spec.storage.mountPath: /etc/eventengine is taken by another mount",
        ),
        (
            {},
            {"volumeMounts": [{"name": "x", "mountPath": "/var/lib/eventengine/"}]},
            "spec.storage.mountPath: ",
        ),
        (
            {},
            {"volumes": [{"name": "engine-data"}]},
            "spec.pod.template.volumes[0].name: the name 'engine-data' is",
        ),
    ],
)
def test_mounts_that_collide_are_refused_with_their_place(
    storage: Object, template: Object, fault: str
) -> None:
    source = engine_object(storage={"size": "1Gi"} | storage, pod={"template": template})
    (found,) = read_engine(source).faults
    assert str(found).startswith(fault)


def test_unchanged_stateful_set_is_not_written_again_and_its_rollout_can_be_read() -> None:
    of = stored(replicas=2)
    children = {reference_of(item): live(copy.deepcopy(item)) for item in manifests(of)}
    assert of.spec is not None
    assert make_plan(of, of.spec, Observed(children, ()), DEFAULT_IMAGE, NOW).actions == ()
    status = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}
    rollout = read_rollout({"metadata": {"generation": 1}, "spec": {"replicas": 2}, "status": status})
    assert rollout.is_settled
    assert not rollout.has_stalled


def test_held_rollout_replaces_no_pod() -> None:
    of = stored()
    assert of.spec is not None
    (made,) = [
        item
        for item in desired_children(of, of.spec, Circumstances(DEFAULT_IMAGE, 2, is_rollout_held=True))
        if item["kind"] == "StatefulSet"
    ]
    assert made["spec"]["updateStrategy"]["rollingUpdate"]["partition"] > 1000


def test_replicas_of_a_stateful_set_are_handed_over_like_a_deployments() -> None:
    of = stored()
    children = {reference_of(item): live(copy.deepcopy(item)) for item in manifests(of, 4)}
    (stateful_set,) = [item for item in children.values() if item["kind"] == "StatefulSet"]
    owns = {"fieldsV1": {"f:spec": {"f:replicas": {}}}}
    stateful_set["metadata"]["managedFields"] = [
        {"manager": "eventengine-operator", "operation": "Apply"} | owns
    ]
    assert of.spec is not None
    keep, *_ = make_plan(of, of.spec, Observed(children, ()), DEFAULT_IMAGE, NOW).actions
    assert keep == KeepReplicas("StatefulSet", "hunt", "uid-of-StatefulSet", "7", 4)


def test_hold_never_takes_an_admitted_pod_from_a_stateful_set() -> None:
    admission = Admission(1, NOW, 2, is_rollout_held=False, reason="TopologyAffinityError", nodes=())
    running = [replace(LEAVING, name=f"hunt-{number}", is_leaving=False) for number in (0, 2)]
    assert pods_while_held(admission, running) == 3, "hunt-1 was refused, and hunt-2 runs"
    assert pods_while_held(admission, [replace(pod, has_volume=False) for pod in running]) == 2


def decide(
    claim: Claim = CLAIM, pods: tuple[Pod, ...] = (LEAVING,), replicas: int | None = 2, **report: Any
) -> str:
    """What is done about one claim, in a word."""
    reports = {"pod-2": replace(EMPTY, **report)}
    actions = plan_claims(stored(), [claim], pods, reports, replicas)
    words = {"its pod goes with an empty log": "mark", "its pod is back, and fills its log": "unmark"}
    return ", ".join("delete" if isinstance(item, Delete) else words[item.reason] for item in actions)


def test_claim_goes_when_its_pod_went_with_an_empty_log() -> None:
    assert decide() == "mark"
    marked = replace(CLAIM, is_marked=True)
    assert decide(marked) == "", "its pod still uses it"
    (deletion,) = plan_claims(stored(), [marked], [], {}, 2)
    assert isinstance(deletion, Delete)
    assert (deletion.reference.name, deletion.uid, deletion.resource_version) == (
        "engine-data-hunt-2",
        "claim-2",
        "7",
    )


@pytest.mark.parametrize(
    "report",
    [
        {"log_is_empty": None},
        {"log_is_empty": False},
        {"was_leaving": False},
        {"error": "no answer within 3 s"},
        {"container_id": "containerd://before"},
    ],
)
def test_unknown_is_never_empty(report: dict[str, Any]) -> None:
    assert decide(**report) == ""


def test_claim_without_a_word_about_its_log_stays_for_ever() -> None:
    assert plan_claims(stored(), [CLAIM], [], {}, 2) == []
    assert plan_claims(stored(), [CLAIM], [LEAVING], {}, 2) == []


def test_claim_of_a_wanted_pod_stays_and_loses_its_mark() -> None:
    marked = replace(CLAIM, is_marked=True)
    assert decide(marked, replicas=3) == "unmark"
    assert decide(marked, pods=(), replicas=3) == "unmark"
    assert decide(marked, replicas=None) == "unmark", "others decide how many pods there are"
    assert decide(marked, pods=(replace(LEAVING, is_leaving=False),)) == "unmark", "not told to go yet"
    (unmark,) = plan_claims(stored(), [marked], [], {}, 3)
    assert isinstance(unmark, Apply)
    assert unmark.manifest["metadata"]["annotations"] == {}
    assert unmark.manifest["metadata"]["uid"] == "claim-2", "never of a claim that came after it"


def test_claims_are_this_engines_by_their_whole_name() -> None:
    def claim(name: str, **metadata: Any) -> Object:
        return {"metadata": {"name": name, "uid": "u", "resourceVersion": "1"} | metadata}

    found = claims_of(
        "hunt",
        [
            claim("engine-data-hunt-10", annotations={ANNOTATION_LOG_EMPTY: "pod"}),
            claim("engine-data-hunt-2"),
            claim("engine-data-hunt-x"),
            claim("engine-data-other-hunt-2"),
            claim("hunt-2"),
            claim("engine-data-hunt-3", deletionTimestamp="2026-11-21T10:00:00Z"),
        ],
    )
    assert [(item.ordinal, item.is_marked) for item in found] == [(2, False), (10, True)]


def test_pod_with_a_volume_is_asked_until_it_ends() -> None:
    assert needs_reading(LEAVING, None, 0.0)
    assert needs_reading(LEAVING, EMPTY, 6.0)
    assert not needs_reading(replace(LEAVING, has_volume=False), None, 0.0)
    owner = {"kind": "StatefulSet", "uid": "set", "controller": True}
    assert read_pod({"metadata": {"name": "hunt-2", "ownerReferences": [owner]}}).has_volume
