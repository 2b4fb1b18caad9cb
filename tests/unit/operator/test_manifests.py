"""What an EventEngine becomes. The golden files hold every byte; the tests say why."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from eventengine_contract.well_known import CREDENTIALS_FOLDER, pod_selector
from eventengine_operator.manifests.autoscalers import autoscaler
from eventengine_operator.manifests.children import (
    BROKER_CREDENTIALS,
    FEATURES,
    Circumstances,
    desired_children,
)
from eventengine_operator.manifests.deployments import pod_template
from eventengine_operator.manifests.quantities import decimal_quantity, memory_quantity
from eventengine_operator.resources.engines import Engine, read_engine
from eventengine_operator.resources.objects import Object, name_of, reference_of

from .samples import DEFAULT_IMAGE, HPA, KAFKA_SOURCE, PINNED, SHARED, TCP_SOURCE, engine, engine_object

OWN_NAMES = ("hunt", "hunt-engine")


def children(of: Engine, replicas: int | None = None, *, with_autoscaler: bool = False) -> dict[str, Object]:
    assert of.spec is not None, of.faults
    circumstances = Circumstances(
        DEFAULT_IMAGE,
        replicas,
        with_autoscaler=with_autoscaler,
        replicas_max=of.spec.autoscaling.max_replicas,
        features=FEATURES,
    )
    objects = desired_children(of, of.spec, circumstances)
    return {
        reference_of(item).kind if item["metadata"]["name"] in OWN_NAMES else name_of(item): item
        for item in objects
    }


def container(of: Engine) -> Object:
    result: Object = children(of)["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    return result


def template(of: Engine, image: str = DEFAULT_IMAGE) -> Object:
    assert of.spec is not None, of.faults
    return pod_template(of, of.spec, image)


def with_credentials() -> Engine:
    """An engine whose two Kafka ends show brokers different Secrets."""
    kafka = KAFKA_SOURCE["kafka"]
    sink = {"bootstrapServers": kafka["bootstrapServers"], "topic": "out", "credentials": "writer"}
    source = KAFKA_SOURCE | {"kafka": kafka | {"credentials": "reader.of-hunt"}}
    return engine(engine={"sources": [source], "sinks": [{"name": "out", "type": "kafka", "kafka": sink}]})


def access(of: Engine, features: frozenset[str] = FEATURES) -> list[Object]:
    assert of.spec is not None, of.faults
    objects = desired_children(of, of.spec, Circumstances(features=features, adapter_namespace="system"))
    return [item for item in objects if item["kind"] in BROKER_CREDENTIALS]


def test_the_adapter_may_read_exactly_the_secrets_that_sources_name() -> None:
    role, binding = access(with_credentials())
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["reader.of-hunt"], "verbs": ["get"]}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"] == "hunt-broker-credentials"
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "eventengine-adapter", "namespace": "system"}
    ]
    assert {item["metadata"]["ownerReferences"][0]["name"] for item in (role, binding)} == {"hunt"}


def test_nothing_is_granted_without_a_secret_or_without_the_operators_being_told_to() -> None:
    assert access(engine(**SHARED)) == []
    assert access(with_credentials(), FEATURES - BROKER_CREDENTIALS) == []


def test_pods_mount_each_secret_where_the_engine_looks_for_it() -> None:
    pod = template(with_credentials())["spec"]
    secrets = {
        volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume
    }
    mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert sorted(secrets.values()) == ["reader.of-hunt", "writer"]
    for name, secret in secrets.items():
        mount = mounts[f"{CREDENTIALS_FOLDER}/{secret}"]
        assert (mount["name"], mount["readOnly"]) == (name, True)
        assert len(name) <= 63
        assert "." not in name


def test_pods_are_guaranteed_so_that_the_static_policy_gives_them_cores() -> None:
    resources = container(engine(**PINNED))["resources"]
    assert resources["requests"] == resources["limits"] == {"cpu": "2", "memory": "1Gi"}
    shared = container(engine(**SHARED))["resources"]
    assert shared["requests"] == shared["limits"] == {"cpu": "250m", "memory": "300Mi"}


def rolling_update(**spec: Any) -> Object:
    strategy: Object = children(engine(**spec))["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    return strategy


def allowed_ports(made: dict[str, Object]) -> list[int]:
    (rule,) = made["NetworkPolicy"]["spec"]["ingress"]
    assert set(rule) == {"ports"}, "from anywhere"
    return [port["port"] for port in rule["ports"]]


def test_each_protocol_has_a_service_of_its_own() -> None:
    made = children(engine(**SHARED))
    telemetry, tcp = made["Service"]["spec"], made["hunt-tcp"]["spec"]
    assert [port["port"] for port in telemetry["ports"]] == [9464]
    assert [port["port"] for port in tcp["ports"]] == [9400]
    assert telemetry["publishNotReadyAddresses"], "what an engine says before it is ready matters most"
    assert "publishNotReadyAddresses" not in tcp


def test_connections_come_in_on_declared_ports_only() -> None:
    assert allowed_ports(children(engine(**SHARED))) == [9400, 9464]
    assert children(engine())["NetworkPolicy"]["spec"]["policyTypes"] == ["Ingress"]


def with_endpoint(port: str) -> Engine:
    prefix = "metrics.eventengine.dev/"
    annotations = {f"{prefix}port": port, f"{prefix}names": "queue_depth"}
    return engine(pod={**SHARED["pod"], "template": {"annotations": annotations}})


def test_the_port_of_an_endpoint_of_the_user_s_own_is_open() -> None:
    assert 8000 in allowed_ports(children(with_endpoint("8000")))
    (fault,) = with_endpoint("http").faults
    assert "metrics.eventengine.dev/port is 'http': write a port from 1 to 65535" in str(fault)


@pytest.mark.parametrize(("declared", "written"), [({}, 1), ({"maxUnavailable": "25%"}, "25%")])
def test_budget_says_what_may_be_missing_and_never_what_must_be_there(
    declared: dict[str, Any], written: int | str
) -> None:
    budget = children(engine(disruption=declared))["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] == written
    assert "minAvailable" not in budget, "with one replica it would keep a node from being drained for ever"
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow", "a broken pod holds no drain up"


def test_pods_prefer_to_be_apart_and_revisions_do_not_count_against_each_other() -> None:
    zone, host = template(engine())["spec"]["topologySpreadConstraints"]
    assert (zone["topologyKey"], host["topologyKey"]) == (
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    )
    for constraint in (zone, host):
        assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
        assert constraint["matchLabelKeys"] == ["pod-template-hash"]


@pytest.mark.parametrize("declared", [[], [{"maxSkew": 2, "topologyKey": "rack"}]])
def test_users_own_spread_takes_the_place_of_ours(declared: list[Object]) -> None:
    pod = template(engine(pod={"template": {"topologySpreadConstraints": declared}}))["spec"]
    assert pod.get("topologySpreadConstraints", []) == declared


@pytest.mark.parametrize(
    ("pinning", "rollout", "surge", "unavailable"),
    [
        ("Off", {}, 1, 0),
        ("Required", {}, 0, 1),
        ("Preferred", {}, 0, 1),
        ("Off", {"maxUnavailable": 2}, 1, 2),
        ("Off", {"maxSurge": 0}, 0, 1),
        ("Off", {"maxSurge": "50%"}, "50%", 0),
        ("Required", {"maxSurge": 1}, 1, 1),
        ("Required", {"maxUnavailable": "0%"}, 1, "0%"),
    ],
)
def test_rollout_takes_what_is_said_and_can_always_make_progress(
    pinning: str, rollout: dict[str, Any], surge: int | str, unavailable: int | str
) -> None:
    shape = {"pinning": pinning}
    assert rolling_update(pod=shape, rollout=rollout) == {"maxSurge": surge, "maxUnavailable": unavailable}


def test_rollout_and_disruption_alone_replace_no_pod() -> None:
    changed = engine(rollout={"minReadySeconds": 5}, disruption={"maxUnavailable": 3})
    assert template(changed) == template(engine())
    assert children(changed)["Deployment"]["spec"]["minReadySeconds"] == 5


def test_pinned_pods_never_need_a_second_core_during_a_rollout() -> None:
    assert rolling_update(**PINNED) == {"maxSurge": 0, "maxUnavailable": 1}


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


def behavior(of: Engine, *, with_tolerance: bool = True) -> Object:
    assert of.spec is not None, of.faults
    hpa = autoscaler(of, of.spec.autoscaling, 5, with_tolerance=with_tolerance)
    result: Object = hpa["spec"].get("behavior", {})
    return result


ALL_RULES = {
    "stabilizationWindowSeconds": 30,
    "selectPolicy": "Min",
    "policies": [
        {"type": "Pods", "value": 2, "periodSeconds": 15},
        {"type": "Percent", "value": 50, "periodSeconds": 60},
    ],
    "tolerance": "50m",
}


def test_every_field_of_the_behaviour_is_handed_on_in_both_directions() -> None:
    declared = {"scaleUp": ALL_RULES, "scaleDown": ALL_RULES | {"selectPolicy": "Max"}}
    assert behavior(engine(autoscaling=HPA | {"behavior": declared})) == declared


def test_tolerance_is_left_out_where_the_cluster_does_not_know_it() -> None:
    of = engine(autoscaling=HPA | {"behavior": {"scaleUp": ALL_RULES}})
    expected = {key: value for key, value in ALL_RULES.items() if key != "tolerance"}
    assert behavior(of, with_tolerance=False) == {"scaleUp": expected}


@pytest.mark.parametrize(
    ("annotations", "disabled"),
    [
        ({"eventengine.dev/paused-scale-in": "true"}, {"scaleDown"}),
        ({"eventengine.dev/paused-scale-out": "true"}, {"scaleUp"}),
        (
            {"eventengine.dev/paused-scale-in": "true", "eventengine.dev/paused-scale-out": "True"},
            {"scaleUp", "scaleDown"},
        ),
        ({"eventengine.dev/paused-scale-in": "false"}, set()),
    ],
)
def test_paused_direction_is_disabled_and_keeps_what_else_is_declared(
    annotations: dict[str, str], disabled: set[str]
) -> None:
    source = engine_object(autoscaling=HPA | {"behavior": {"scaleDown": ALL_RULES}})
    source["metadata"]["annotations"] = annotations
    written = behavior(read_engine(source))
    assert {name for name, rules in written.items() if rules.get("selectPolicy") == "Disabled"} == disabled
    assert written["scaleDown"]["stabilizationWindowSeconds"] == 30


def test_external_metric_is_narrowed_to_this_engine_even_against_the_user() -> None:
    metric = HPA["metrics"][0] | {"selector": {"matchLabels": {"engine": "another", "topic": "t"}}}
    hpa = children(engine(autoscaling=HPA | {"metrics": [metric]}), with_autoscaler=True)
    identifier = hpa["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["external"]["metric"]
    assert identifier["selector"]["matchLabels"] == {"engine": "hunt", "topic": "t"}


def test_source_on_the_pods_loopback_is_not_exposed() -> None:
    loopback = TCP_SOURCE | {"tcp": {"listen": "127.0.0.1:9400", "insecure": True}}
    made = children(engine(engine={"sources": [loopback]}))
    assert "hunt-tcp" not in made
    assert allowed_ports(made) == [9464]


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


def test_claims_of_devices_are_the_pods_and_its_containers() -> None:
    of = engine(pod={"template": {"resourceClaims": [{"name": "cores", "resourceClaimTemplateName": "two"}]}})
    assert of.spec is not None
    template = pod_template(of, of.spec, DEFAULT_IMAGE)["spec"]
    assert template["resourceClaims"] == [{"name": "cores", "resourceClaimTemplateName": "two"}]
    (container,) = template["containers"]
    assert container["resources"]["claims"] == [{"name": "cores"}]
    assert container["resources"]["requests"] == container["resources"]["limits"], "still Guaranteed"


class TestNodeAutoscaling:
    """What autoscalers of nodes read, and room that is kept for pods to come."""

    def annotations(self, **spec: Any) -> dict[str, str]:
        found = template(engine(**spec))["metadata"]["annotations"]
        return {key: value for key, value in found.items() if not key.startswith("eventengine.dev/")}

    def test_running_pods_may_be_moved_unless_declared_otherwise(self) -> None:
        assert self.annotations() == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}
        assert self.annotations(disruption={"consolidation": "Never"}) == {
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            "karpenter.sh/do-not-disrupt": "true",
        }

    def test_annotation_of_the_users_wins(self) -> None:
        own = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
        assert self.annotations(pod={"template": {"annotations": own}}) == own

    def test_headroom_is_as_large_as_a_pod_and_none_of_the_engines(self) -> None:
        declared = engine(replicas=1, **PINNED, autoscaling={"driver": "none", "headroom": {"pods": 2}})
        found = children(declared, 1)
        reserve, real = found["hunt-headroom"]["spec"], found["Deployment"]["spec"]
        assert reserve["replicas"] == 2
        pod = reserve["template"]["spec"]
        assert pod["containers"][0]["resources"] == real["template"]["spec"]["containers"][0]["resources"]
        assert (pod["priorityClassName"], pod["terminationGracePeriodSeconds"]) == ("eventengine-headroom", 0)
        labels = reserve["template"]["metadata"]["labels"]
        assert not pod_selector("hunt").items() <= labels.items()
        assert "eventengine.dev/engine" not in labels, "the metrics must not count them either"

    def test_engine_at_rest_keeps_no_room(self) -> None:
        declared = engine(replicas=0, autoscaling={"driver": "none", "headroom": {}})
        assert children(declared, 0)["hunt-headroom"]["spec"]["replicas"] == 0
