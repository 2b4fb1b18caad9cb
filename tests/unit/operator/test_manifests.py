"""What an EventEngine becomes. The golden files hold every byte; the tests say why."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from eventengine_operator.manifests.children import child_references, desired_children
from eventengine_operator.manifests.deployments import pod_template
from eventengine_operator.manifests.quantities import decimal_quantity, memory_quantity
from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object, reference_of

from .samples import DEFAULT_IMAGE, HPA, KAFKA_SOURCE, TCP_SOURCE, engine

GOLDENS = Path(__file__).with_name("goldens")


def children(of: Engine, replicas: int | None = None, *, with_autoscaler: bool = False) -> dict[str, Object]:
    assert of.spec is not None, of.faults
    objects = desired_children(of, of.spec, DEFAULT_IMAGE, replicas, with_autoscaler)
    return {item["kind"]: item for item in objects}


def container(of: Engine) -> Object:
    result: Object = children(of)["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    return result


def template(of: Engine, image: str = DEFAULT_IMAGE) -> Object:
    assert of.spec is not None, of.faults
    return pod_template(of, of.spec, image)


PINNED = {"pod": {"cpus": "2", "memory": "1Gi", "pinning": "Required"}}
SHARED = {
    "pod": {
        "cpus": "250m",
        "memory": "300Mi",
        "pinning": "Off",
        "template": {
            "labels": {"team": "games", "app.kubernetes.io/name": "mine"},
            "annotations": {"note": "x"},
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "priorityClassName": "high",
            "volumes": [{"name": "token", "secret": {"secretName": "ingest-token"}}],
            "volumeMounts": [{"name": "token", "mountPath": "/token", "readOnly": True}],
        },
    },
    "engine": {"sources": [KAFKA_SOURCE, TCP_SOURCE], "drainTimeout": "1500ms"},
    "autoscaling": HPA
    | {
        "metrics": [
            {
                "name": "kafka_consumer_lag",
                "source": "External",
                "selector": {"matchLabels": {"source": "moves"}},
                "target": {"averageValue": "1000"},
            },
            {"name": "buffer_pool_utilisation", "source": "Object", "target": {"value": "0.8"}},
            {"name": "consumer_lag", "source": "Pods", "target": {"averageValue": 500}},
        ],
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 0,
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
            },
            "scaleDown": {"selectPolicy": "Min", "tolerance": "0.05"},
        },
    },
}


@pytest.mark.parametrize(
    ("golden", "spec", "replicas", "scaled"),
    [("pinned", PINNED, 1, False), ("shared-autoscaled", SHARED, 3, True)],
)
def test_objects_are_exactly_the_golden_ones(
    golden: str, spec: dict[str, Any], replicas: int, scaled: bool
) -> None:
    objects = list(children(engine(**spec), replicas, with_autoscaler=scaled).values())
    expected = list(yaml.safe_load_all((GOLDENS / f"{golden}.yaml").read_text()))
    assert objects == expected


def test_children_are_the_ones_that_pruning_looks_for() -> None:
    objects = children(engine(**SHARED), with_autoscaler=True)
    assert {reference_of(item) for item in objects.values()} == set(child_references("hunt"))


def test_pods_are_guaranteed_so_that_the_static_policy_gives_them_cores() -> None:
    resources = container(engine(**PINNED))["resources"]
    assert resources["requests"] == resources["limits"] == {"cpu": "2", "memory": "1Gi"}
    shared = container(engine(**SHARED))["resources"]
    assert shared["requests"] == shared["limits"] == {"cpu": "250m", "memory": "300Mi"}


def test_pinned_pods_never_need_a_second_core_during_a_rollout() -> None:
    strategy = children(engine(**PINNED))["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 0, "maxUnavailable": 1}


def test_replicas_are_left_out_where_they_are_not_ours() -> None:
    assert "replicas" not in children(engine(), None)["Deployment"]["spec"]
    assert children(engine(), 0)["Deployment"]["spec"]["replicas"] == 0


def test_template_does_not_depend_on_replicas_autoscaling_or_generation() -> None:
    plain = template(engine(generation=1))
    assert template(engine(generation=9, replicas=7, autoscaling=HPA)) == plain


def test_template_changes_with_configuration_and_with_default_image_only_where_used() -> None:
    changed = engine(engine={"sources": [KAFKA_SOURCE], "program": {"districts": 3}})
    assert template(changed) != template(engine())
    assert template(engine(), "other:1") != template(engine())
    own_image = engine(image="registry.example/engine:2")
    assert template(own_image, "other:1") == template(own_image)


def test_equal_configuration_in_another_key_order_is_no_rollout() -> None:
    reordered = dict(reversed(KAFKA_SOURCE.items()))
    assert template(engine(engine={"sources": [reordered]})) == template(engine())


def test_engine_yaml_is_the_section_verbatim() -> None:
    section = {"sources": [KAFKA_SOURCE], "buffer_pool": {"chunks": 128}}
    data = children(engine(engine=copy.deepcopy(section)))["ConfigMap"]["data"]["engine.yaml"]
    assert yaml.safe_load(data) == section


def test_users_labels_can_not_displace_those_that_select_pods() -> None:
    labels = template(engine(**SHARED))["metadata"]["labels"]
    assert labels["team"] == "games"
    assert labels["app.kubernetes.io/name"] == "eventengine"


def test_grace_period_covers_the_drain() -> None:
    seconds = template(engine(**SHARED))["spec"]["terminationGracePeriodSeconds"]
    assert seconds == 12, "1.5 s of drain, rounded up, and ten for the process itself"


def test_external_metric_is_narrowed_to_this_engine_even_against_the_user() -> None:
    metric = HPA["metrics"][0] | {"selector": {"matchLabels": {"engine": "another", "topic": "t"}}}
    hpa = children(engine(autoscaling=HPA | {"metrics": [metric]}), with_autoscaler=True)
    identifier = hpa["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["external"]["metric"]
    assert identifier["selector"]["matchLabels"] == {"engine": "hunt", "topic": "t"}


def test_source_on_the_pods_loopback_is_not_exposed() -> None:
    loopback = TCP_SOURCE | {"tcp": {"listen": "127.0.0.1:9400", "insecure": True}}
    ports = children(engine(engine={"sources": [loopback]}))["Service"]["spec"]["ports"]
    assert [port["port"] for port in ports] == [9464]


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("500", "500"),
        ("1000", "1k"),
        (2500000, "2500k"),
        ("0.8", "800m"),
        ("1.0", "1"),
        ("0", "0"),
        ("2Ki", "2048"),
    ],
)
def test_decimal_quantities_are_spelt_as_the_api_server_stores_them(written: Any, stored: str) -> None:
    assert decimal_quantity(str(written)) == stored


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("512Mi", "512Mi"),
        ("0.5Gi", "512Mi"),
        ("1024Mi", "1Gi"),
        ("1000M", "1G"),
        ("0.5Ki", "512"),
        ("1500Mi", "1500Mi"),
    ],
)
def test_memory_quantities_are_spelt_as_the_api_server_stores_them(written: str, stored: str) -> None:
    assert memory_quantity(written) == stored
