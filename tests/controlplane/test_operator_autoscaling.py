"""Who owns the number of pods, on a real control plane: hand-overs without a gap, others respected, pauses."""

from __future__ import annotations

from typing import Any

from .spaces import HPA, Space

Object = dict[str, Any]
SCALED_OBJECTS: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "scope": "Namespaced",
        "names": {"kind": "ScaledObject", "plural": "scaledobjects", "singular": "scaledobject"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}
"""KEDA's own, as far as its name and place go."""
RULES = {
    "stabilizationWindowSeconds": 30,
    "selectPolicy": "Min",
    "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
    "tolerance": "50m",
}


def annotate(space: Space, *annotations: str) -> None:
    prefixed = [f"eventengine.dev/{annotation}" for annotation in annotations]
    space.kubectl("annotate", "--overwrite", "ee/hunt", *prefixed)


def test_owners_of_the_replicas_change_and_their_number_never_does(space: Space) -> None:
    space.engine(autoscaling=HPA)
    space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 2, "the first number")
    space.kubectl("scale", "ee/hunt", "--replicas=4")  # as the autoscaler does under load
    before = space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 4, "scaled")
    with space.every_number_of_replicas() as seen:
        space.engine(autoscaling={"driver": "none"})
        space.until_gone("hpa/hunt")
        space.kubectl(
            "patch", "ee/hunt", "--type=json", '--patch=[{"op": "remove", "path": "/spec/replicas"}]'
        )
        space.until(
            "deployment/hunt",
            lambda item: item["metadata"]["annotations"].get("eventengine.dev/replicas") == "not-managed",
            "left to nobody",
        )
        space.until_quiet()
        space.engine(autoscaling=HPA)
        space.until("ee/hunt", lambda item: item["spec"].get("replicas") == 4, "goes on from the live number")
        space.until_exists("hpa/hunt")
        space.until_quiet()
        space.kubectl("annotate", "deployment/hunt", "tests/end=reached")
    assert seen == {4}
    after = space.get("deployment/hunt")
    assert after is not None
    assert after["spec"]["template"] == before["spec"]["template"], "and nothing was rolled out"


def test_everything_about_the_speed_of_scaling_reaches_the_autoscaler(space: Space) -> None:
    space.engine(autoscaling=HPA | {"behavior": {"scaleUp": RULES, "scaleDown": RULES}})
    (hpa,) = space.until_exists("hpa/hunt")
    assert hpa["spec"]["behavior"] == {"scaleUp": RULES, "scaleDown": RULES}


def test_direction_is_paused_and_resumed_by_annotation(space: Space) -> None:
    space.engine(autoscaling=HPA)
    (before,) = space.until_exists("hpa/hunt")
    annotate(space, "paused-scale-in=true")
    condition = space.until_condition("Paused", "True", "ScaleIn")
    assert "eventengine.dev/paused-scale-in" in condition["message"]
    space.until(
        "hpa/hunt",
        lambda item: item["spec"].get("behavior", {}).get("scaleDown", {}).get("selectPolicy") == "Disabled",
        "scale-in disabled",
    )
    annotate(space, "paused-scale-out=true")
    space.until_condition("Paused", "True", "ScaleInAndScaleOut")
    annotate(space, "paused-scale-in-", "paused-scale-out-")
    space.until_condition("Paused", "False", "NotPaused")
    space.until(
        "hpa/hunt",
        lambda item: item["spec"].get("behavior") == before["spec"].get("behavior"),
        "as it was",
    )


def test_scaled_object_of_the_users_takes_over_and_gives_back(space: Space) -> None:
    space.engine(autoscaling=HPA)
    space.until_exists("hpa/hunt")
    space.kubectl("scale", "ee/hunt", "--replicas=3")
    space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 3, "scaled")
    space.access.apply(SCALED_OBJECTS)
    try:
        space.access.wait_for_condition("crd", "scaledobjects.keda.sh", "Established")
        theirs = {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "theirs"},
            "spec": {"scaleTargetRef": {"name": "hunt"}, "triggers": [{"type": "cron"}]},
        }
        with space.every_number_of_replicas() as seen:
            space.access.apply(theirs, namespace=space.namespace)
            space.until_gone("hpa/hunt")
            condition = space.until_condition("AutoscalingActive", "False", "ForeignAutoscaler")
            assert "ScaledObject theirs scales the Deployment" in condition["message"]
            space.kubectl("delete", "scaledobjects.keda.sh/theirs")
            space.until_exists("hpa/hunt")
            space.until_quiet()
            space.kubectl("annotate", "deployment/hunt", "tests/end=reached")
        assert seen == {3}
    finally:
        space.access.delete("crd", "scaledobjects.keda.sh")


def test_replicas_by_hand_hold_while_everything_is_paused(space: Space) -> None:
    space.engine(autoscaling=HPA)
    space.until_exists("hpa/hunt")
    annotate(space, "paused=true")
    space.until_condition("Paused", "True", "Annotation")
    space.kubectl("scale", "ee/hunt", "--replicas=5")
    space.until_observed()
    assert space.replicas() == 2
    annotate(space, "paused-")
    space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 5, "caught up")
