"""From an EventEngine to its objects and back to nothing, on a real control plane with the chart's rights."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from eventengine_harness.accesses import condition_of
from eventengine_harness.waiting import wait_for

from .spaces import HPA, KAFKA, Space

CHILDREN = (
    "deployment/hunt",
    "service/hunt",
    "configmap/hunt-engine",
    "networkpolicy/hunt",
    "pdb/hunt",
    "hpa/hunt",
)
Object = dict[str, Any]


def test_engine_becomes_its_objects_owned_by_it(space: Space) -> None:
    space.engine(autoscaling=HPA)
    objects = space.until_exists(*CHILDREN)
    engine = space.until_observed()
    for item in objects:
        (owner,) = item["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (engine["metadata"]["uid"], True)
    assert engine["status"]["selector"] == "app.kubernetes.io/component=engine,eventengine.dev/engine=hunt"
    assert condition_of(engine, "SpecValid")["status"] == "True"
    assert condition_of(engine, "Ready")["status"] == "False", "no kubelet runs its pods"
    assert engine["metadata"].get("finalizers") is None, "a stopped operator must not block deletion"


def test_unchanged_engine_is_not_written_again(space: Space) -> None:
    tcp = {"name": "direct", "type": "tcp", "tcp": {"insecure": True}}
    space.engine(autoscaling=HPA, engine={"sources": [KAFKA, tcp]})
    space.until_exists(*CHILDREN, "service/hunt-tcp")
    space.until_condition("AutoscalingActive", "False", "FailedGetExternalMetric")
    space.until_quiet()

    def versions() -> dict[str, str]:
        written_by_us_alone = (
            "configmap/hunt-engine",
            "service/hunt",
            "service/hunt-tcp",
            "networkpolicy/hunt",
        )
        found = {name: space.get(name) for name in (*written_by_us_alone, "deployment/hunt")}
        engine = space.get("ee/hunt")
        assert engine is not None
        status = json.dumps(engine["status"], sort_keys=True)
        return {name: item["metadata"]["resourceVersion"] for name, item in found.items() if item} | {
            "status": status
        }

    def applies() -> set[str]:
        """Those that were taken: namespaces of earlier tests, on their way out, refuse what is tried there."""
        lines = space.operator.http("/metrics")[1].splitlines()
        calls = [line for line in lines if line.startswith('eventengine_operator_api_calls_total{code="20')]
        return {line for line in calls if 'verb="apply"' in line and "eventengines" not in line}

    before, applied = versions(), applies()
    space.until_quiet()
    space.until_quiet()
    assert versions() == before
    assert applies() == applied, "nothing differs, so nothing is even sent"


@pytest.mark.parametrize(
    ("name", "patch", "is_repaired"),
    [
        (
            "deployment/hunt",
            {
                "spec": {
                    "template": {
                        "spec": {"containers": [{"name": "engine", "image": "example.invalid/other:1"}]}
                    }
                }
            },
            lambda item: (
                item["spec"]["template"]["spec"]["containers"][0]["image"] == "example.invalid/engine:1"
            ),
        ),
        (
            "configmap/hunt-engine",
            {"data": {"engine.yaml": "sources: []"}},
            lambda item: "hunt-events" in item["data"]["engine.yaml"],
        ),
        (
            "pdb/hunt",
            {"spec": {"maxUnavailable": 0}},
            lambda item: item["spec"]["maxUnavailable"] == 1,
        ),
        (
            "networkpolicy/hunt",
            {"spec": {"ingress": []}},
            lambda item: item["spec"].get("ingress") == [{"ports": [{"port": 9464, "protocol": "TCP"}]}],
        ),
        ("hpa/hunt", {"spec": {"maxReplicas": 50}}, lambda item: item["spec"]["maxReplicas"] == 5),
        (
            "service/hunt",
            {"metadata": {"labels": {"eventengine.dev/engine": "another"}}},
            lambda item: item["metadata"]["labels"]["eventengine.dev/engine"] == "hunt",
        ),
    ],
)
def test_drift_is_repaired(
    space: Space, name: str, patch: Object, is_repaired: Callable[[Object], bool]
) -> None:
    space.engine(autoscaling=HPA)
    space.until_exists(*CHILDREN)
    space.until_observed()
    space.kubectl("patch", name, "--type=strategic", "--patch", json.dumps(patch))
    space.until(name, is_repaired, "drift repaired")


def test_deleted_child_comes_back(space: Space) -> None:
    space.engine()
    (before,) = space.until_exists("deployment/hunt")
    space.kubectl("delete", "deployment", "hunt", "--wait=false")
    space.until(
        "deployment/hunt", lambda item: item["metadata"]["uid"] != before["metadata"]["uid"], "made again"
    )


def test_changed_configuration_rolls_out_and_changed_replicas_do_not(space: Space) -> None:
    space.engine(replicas=1)
    (before,) = space.until_exists("deployment/hunt")
    space.engine(replicas=3)
    scaled = space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 3, "scaled")
    assert scaled["spec"]["template"] == before["spec"]["template"]
    space.engine(replicas=3, engine={"sources": [KAFKA], "program": {"districts": 3}})
    space.until(
        "deployment/hunt", lambda item: item["spec"]["template"] != before["spec"]["template"], "rolled out"
    )


def test_scale_subresource_scales(space: Space) -> None:
    space.engine(replicas=1)
    space.until_exists("deployment/hunt")
    space.kubectl("scale", "ee/hunt", "--replicas=4")
    space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 4, "scaled")
    engine = space.until("ee/hunt", lambda item: item["status"]["replicas"] == 4, "reports its pods")
    assert engine["spec"]["replicas"] == 4


def test_autoscaler_starts_from_min_replicas_and_targets_the_engine(space: Space) -> None:
    space.engine(autoscaling=HPA)
    space.until("ee/hunt", lambda item: item["spec"].get("replicas") == 2, "first number of replicas")
    space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 2, "copied")
    (hpa,) = space.until_exists("hpa/hunt")
    assert hpa["spec"]["scaleTargetRef"] == {
        "apiVersion": "eventengine.dev/v1alpha1",
        "kind": "EventEngine",
        "name": "hunt",
    }
    assert hpa["spec"]["metrics"][0]["external"]["metric"]["selector"]["matchLabels"] == {"engine": "hunt"}
    space.until(
        "hpa/hunt", lambda item: condition_of(item, "AbleToScale").get("status") == "True", "reads /scale"
    )


def test_autoscaler_goes_when_the_driver_does(space: Space) -> None:
    space.engine(autoscaling=HPA)
    space.until_exists("hpa/hunt")
    space.engine(autoscaling={"driver": "none"})
    space.until_gone("hpa/hunt")
    space.until_condition("AutoscalingActive", "False", "DriverNone")


def test_replicas_left_out_are_handed_over_at_their_live_value(space: Space) -> None:
    seen: set[int] = set()
    space.engine(replicas=4)
    space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 4, "scaled")
    before = space.get("deployment/hunt")
    space.engine()

    def is_handed_over(item: Object) -> bool:
        seen.add(item["spec"]["replicas"])
        managers = [entry["manager"] for entry in _full(space)["metadata"]["managedFields"]]
        return "eventengine-operator-replicas" in managers

    space.until("deployment/hunt", is_handed_over, "handed over")
    space.until_quiet()
    assert seen == {4}
    assert space.replicas() == 4
    replica_sets = json.loads(space.kubectl("get", "rs", "-o", "json"))["items"]
    assert [item["spec"]["replicas"] for item in replica_sets] == [4], "no pod was taken away in between"
    assert before is not None
    space.engine(replicas=2)
    space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 2, "ours again")


def _full(space: Space) -> Object:
    return dict(json.loads(space.kubectl("get", "deployment", "hunt", "-o", "json", "--show-managed-fields")))


def test_users_own_autoscaler_on_the_deployment_is_left_alone(space: Space) -> None:
    space.engine()
    space.until_exists("deployment/hunt")
    space.kubectl("autoscale", "deployment", "hunt", "--min=3", "--max=6", "--name=mine", "--cpu=50%")
    space.until(
        "deployment/hunt", lambda item: item["spec"]["replicas"] == 3, "raised by the user's autoscaler"
    )
    space.until_condition("AutoscalingActive", "False", "ForeignAutoscaler")
    space.until_quiet()
    assert space.replicas() == 3
    generation = _full(space)["metadata"]["generation"]
    space.until_quiet()
    assert _full(space)["metadata"]["generation"] == generation, "nobody fights over replicas"


def test_ours_yields_to_an_autoscaler_that_the_user_adds(space: Space) -> None:
    space.engine(autoscaling=HPA)
    space.until_exists("hpa/hunt")
    space.kubectl("autoscale", "deployment", "hunt", "--min=4", "--max=6", "--name=mine", "--cpu=50%")
    space.until_gone("hpa/hunt")
    condition = space.until_condition("AutoscalingActive", "False", "ForeignAutoscaler")
    assert "HorizontalPodAutoscaler mine" in condition["message"]
    space.until(
        "deployment/hunt", lambda item: item["spec"]["replicas"] == 4, "raised by the user's autoscaler"
    )
    space.until_quiet()
    assert space.replicas() == 4, "the operator no longer writes replicas"
    space.kubectl("delete", "hpa", "mine")
    space.until_exists("hpa/hunt")
    space.until("ee/hunt", lambda item: item["spec"]["replicas"] == 4, "goes on from the live number")
    assert space.replicas() == 4


def test_fault_that_only_the_operator_finds_is_in_the_status_and_changes_nothing(space: Space) -> None:
    space.engine(replicas=2)
    (before,) = space.until_exists("deployment/hunt")
    twins = {"sources": [KAFKA | {"kafka": KAFKA["kafka"] | {"properties": {"group.id": "x"}}}]}  # type: ignore[operator]
    space.engine(replicas=2, engine=twins)
    condition = space.until_condition("SpecValid", "False", "Invalid")
    assert condition["message"].startswith("spec.engine.sources[0].kafka.properties: the property `group.id`")
    space.until_condition("Ready", "False", "SpecInvalid")
    after = space.get("deployment/hunt")
    assert after is not None
    assert after["spec"] == before["spec"], "the pods stay as they are"
    events = json.loads(space.kubectl("get", "events", "-o", "json"))["items"]
    told = [
        item
        for item in events
        if item["involvedObject"]["kind"] == "EventEngine" and item["reason"] == "Invalid"
    ]
    assert len(told) == 1
    space.engine(replicas=2)
    space.until_condition("SpecValid", "True", "Valid")


def test_objects_of_others_are_not_taken_over(space: Space) -> None:
    space.kubectl("create", "configmap", "hunt-engine", "--from-literal=theirs=yes")
    space.engine()
    condition = space.until_condition("Degraded", "True", "NameConflict")
    assert "ConfigMap hunt-engine" in condition["message"]
    theirs = space.get("configmap/hunt-engine")
    assert theirs is not None
    assert theirs["data"] == {"theirs": "yes"}
    assert space.get("deployment/hunt") is None, "pods would mount a foreign configuration"
    space.kubectl("delete", "configmap", "hunt-engine")
    space.until_exists("deployment/hunt")


def test_engine_made_again_under_its_name_gets_objects_of_its_own(space: Space) -> None:
    space.engine(replicas=1)
    (before,) = space.until_exists("deployment/hunt")
    space.kubectl("delete", "ee", "hunt")
    space.engine(replicas=1)
    engine = space.get("ee/hunt")
    assert engine is not None
    space.until(
        "deployment/hunt",
        lambda item: item["metadata"]["ownerReferences"][0]["uid"] == engine["metadata"]["uid"],
        "belongs to the new one",
    )
    assert before["metadata"]["ownerReferences"][0]["uid"] != engine["metadata"]["uid"]


def test_paused_engine_is_reported_on_and_not_changed(space: Space) -> None:
    space.engine(replicas=1)
    space.until_exists("deployment/hunt")
    space.kubectl("annotate", "ee/hunt", "eventengine.dev/paused=true")
    space.until_condition("Paused", "True", "Annotation")
    space.engine(replicas=3)
    space.until_observed()
    assert space.replicas() == 1
    space.kubectl("annotate", "ee/hunt", "eventengine.dev/paused-")
    space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 3, "resumed")


def test_nothing_is_made_in_a_namespace_that_ends(space: Space) -> None:
    space.engine(replicas=1)
    space.until_exists("deployment/hunt")
    space.access.delete("namespace", space.namespace)
    assert f"{space.namespace}/hunt: refused" not in space.operator.log()


def test_insecure_source_is_exposed_and_pointed_out(space: Space) -> None:
    space.engine(engine={"sources": [{"name": "direct", "type": "tcp", "tcp": {"insecure": True}}]})
    condition = space.until_condition("SpecValid", "True", "InsecureSource")
    assert "direct" in condition["message"]
    (service,) = space.until_exists("service/hunt-tcp")
    assert [port["port"] for port in service["spec"]["ports"]] == [9400]
    space.engine()
    space.until_gone("service/hunt-tcp")


def test_deletion_leaves_nothing_behind(space: Space) -> None:
    # The last test, for the garbage collector takes half a minute to learn of a new kind of owner.
    space.engine(autoscaling=HPA)
    space.until_exists(*CHILDREN)
    space.until("deployment/hunt", lambda item: item.get("status", {}).get("replicas", 0) == 2, "has pods")
    space.kubectl("delete", "ee", "hunt")

    def leftovers() -> list[str]:
        kinds = "deployments,replicasets,pods,services,configmaps,hpa,endpointslices"
        return space.kubectl("get", kinds, "-l", "eventengine.dev/engine=hunt", "-o", "name").split()

    wait_for(lambda: not leftovers(), "the garbage collector", 60, last_seen=lambda: str(leftovers()))
