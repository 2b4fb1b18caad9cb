"""The control plane of this tier is a real one: it validates, reconciles and autoscales."""

from __future__ import annotations

import json

import pytest
from eventengine_harness.accesses import KubernetesAccess, condition_of
from eventengine_harness.control_planes import LoopbackControlPlane
from eventengine_harness.exceptions import CommandError

CUSTOM_RESOURCE = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "probes.tests.eventengine.dev"},
    "spec": {
        "group": "tests.eventengine.dev",
        "scope": "Namespaced",
        "names": {"kind": "Probe", "plural": "probes", "singular": "probe"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"level": {"type": "integer", "maximum": 3}},
                                "x-kubernetes-validations": [
                                    {"rule": "self.level != 2", "message": "two is taken"}
                                ],
                            }
                        },
                    }
                },
            }
        ],
    },
}


def probe(level: int) -> dict[str, object]:
    return {
        "apiVersion": "tests.eventengine.dev/v1",
        "kind": "Probe",
        "metadata": {"name": f"level-{level}"},
        "spec": {"level": level},
    }


def deployment(replicas: int) -> dict[str, object]:
    labels = {"app": "sleeper"}
    container = {
        "name": "main",
        "image": "example.invalid/none:1",
        "resources": {"requests": {"cpu": "100m"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "sleeper"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def test_every_component_is_alive_and_the_api_server_is_ready(
    control_plane: LoopbackControlPlane, access: KubernetesAccess
) -> None:
    assert set(control_plane.components) == {
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
    }
    for component in control_plane.components.values():
        component.check()
    assert access.kubectl("get", "--raw", "/readyz").strip() == "ok"


def test_a_custom_resource_is_validated_by_schema_and_by_rule(
    access: KubernetesAccess, namespace: str
) -> None:
    access.apply(CUSTOM_RESOURCE)
    access.wait_for_condition("crd", "probes.tests.eventengine.dev", "Established")
    access.apply(probe(1), namespace=namespace)
    with pytest.raises(CommandError, match=r"spec\.level: Invalid value: 9"):
        access.apply(probe(9), namespace=namespace)
    with pytest.raises(CommandError, match="two is taken"):
        access.apply(probe(2), namespace=namespace)


def test_a_deployment_gets_its_pods_and_they_stay_pending_without_a_node(
    access: KubernetesAccess, namespace: str
) -> None:
    access.apply(deployment(2), namespace=namespace)
    access.wait_until(
        "deployment",
        "sleeper",
        lambda found: found.get("status", {}).get("replicas") == 2,
        "two replicas",
        namespace=namespace,
    )
    pods = access.list("pods", namespace, "app=sleeper")
    access.wait_until(
        "pod",
        pods[0]["metadata"]["name"],
        lambda found: condition_of(found, "PodScheduled").get("reason") == "Unschedulable",
        "refused by the scheduler",
        namespace=namespace,
    )


def test_the_autoscaler_runs_and_says_which_metric_it_can_not_read(
    access: KubernetesAccess, namespace: str
) -> None:
    access.apply(deployment(1), namespace=namespace)
    metric = {"name": "nobody_serves_this", "selector": {"matchLabels": {"engine": "hunt"}}}
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "sleeper"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "sleeper"},
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [
                {
                    "type": "External",
                    "external": {
                        "metric": metric,
                        "target": {"type": "AverageValue", "averageValue": "10"},
                    },
                }
            ],
        },
    }
    access.apply(autoscaler, namespace=namespace)
    found = access.wait_for_condition("hpa", "sleeper", "ScalingActive", status="False", namespace=namespace)
    assert condition_of(found, "AbleToScale")["status"] == "True"
    assert condition_of(found, "ScalingActive")["reason"] == "FailedGetExternalMetric"
    assert "nobody_serves_this" in condition_of(found, "ScalingActive")["message"]


def test_pod_security_admission_is_in_force(access: KubernetesAccess, namespace: str) -> None:
    access.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "privileged"},
        "spec": {"containers": [{"name": "main", "image": "example.invalid/none:1"}]},
    }
    with pytest.raises(CommandError, match="violates PodSecurity"):
        access.apply(pod, namespace=namespace)


@pytest.mark.parametrize("major", [3, 4])
def test_both_helms_reach_the_cluster_and_keep_out_of_the_users_home(
    access: KubernetesAccess, namespace: str, major: int
) -> None:
    assert access.helm("version", "--short", major=major).startswith(f"v{major}.")
    listed = access.helm("list", f"--namespace={namespace}", "--output=json", major=major)
    assert json.loads(listed) == []
