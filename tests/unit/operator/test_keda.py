"""What is written for KEDA, and how the pods change hands between it and our own autoscaler."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from eventengine_operator.manifests.children import FEATURES, Circumstances, desired_children
from eventengine_operator.manifests.scaled_objects import PAUSED_SCALE_IN, KedaScaler, scaled_object, trust
from eventengine_operator.reconciling.actions import Apply, Delete, SetReplicas
from eventengine_operator.reconciling.observations import Observed
from eventengine_operator.reconciling.planning import Plan, make_plan
from eventengine_operator.reconciling.statuses import make_status
from eventengine_operator.resources.engines import Engine, read_engine
from eventengine_operator.resources.objects import Object, reference_of

from .samples import DEFAULT_IMAGE, HPA, LAG_METRIC, engine, engine_object, live

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SCALER = KedaScaler("eventengine-adapter.eventengine-system.svc:9095", b"-----BEGIN CERTIFICATE-----")
KEDA = HPA | {"driver": "keda"}
RESTFUL = KEDA | {"minReplicas": 2, "scaleToZero": {"idleSeconds": 60, "activationLagEvents": 7}}


def written(of: Engine, scaler: KedaScaler = SCALER) -> Object:
    assert of.spec is not None, of.faults
    return scaled_object(of, of.spec.autoscaling, 5, scaler, with_tolerance=True)


def trigger(**metric: Any) -> Object:
    declared = KEDA | {"metrics": [LAG_METRIC | metric]}
    (found,) = written(engine(autoscaling=declared))["spec"]["triggers"]
    return dict(found)


def cluster(of: Engine) -> list[Object]:
    """Everything as a complete reconcile with `driver: keda` leaves it."""
    assert of.spec is not None
    circumstances = Circumstances(
        DEFAULT_IMAGE, of.spec.replicas, keda_scaler=SCALER, replicas_max=5, features=FEATURES
    )
    return [live(copy.deepcopy(item)) for item in desired_children(of, of.spec, circumstances)]


def of_keda(maker: Object) -> Object:
    """The HorizontalPodAutoscaler that KEDA makes of a ScaledObject."""
    owner = {"kind": "ScaledObject", "name": "hunt", "uid": maker["metadata"]["uid"], "controller": True}
    return {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "keda-hpa-hunt", "ownerReferences": [owner]},
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "eventengine.dev/v1alpha1",
                "kind": "EventEngine",
                "name": "hunt",
            }
        },
    }


def plan(
    of: Engine, objects: list[Object], *autoscalers: Object, features: frozenset[str] = FEATURES, **seen: Any
) -> Plan:
    assert of.spec is not None, of.faults
    children = {reference_of(item): item for item in objects}
    ours = [item for item in objects if item["kind"] == "HorizontalPodAutoscaler"]
    scaled = [item for item in objects if item["kind"] == "ScaledObject"]
    observed = Observed(
        children,
        (*ours, *autoscalers),
        **{"scaled_objects": tuple(scaled), "features": features, "keda_scaler": SCALER} | seen,
    )
    return make_plan(of, of.spec, observed, DEFAULT_IMAGE, NOW)


def kinds(result: Plan, action: type[Apply | Delete]) -> set[str]:
    found = [item for item in result.actions if isinstance(item, action)]
    return {item.manifest["kind"] if isinstance(item, Apply) else item.reference.kind for item in found}


class TestManifest:
    """One trigger per metric, each asking the adapter what our own autoscaler would ask."""

    def test_target_is_the_engine_and_its_number_of_pods_outlives_keda(self) -> None:
        spec = written(engine(autoscaling=KEDA))["spec"]
        assert spec["scaleTargetRef"] == {
            "apiVersion": "eventengine.dev/v1alpha1",
            "kind": "EventEngine",
            "name": "hunt",
        }
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 5)
        assert spec["advanced"] == {"restoreToOriginalReplicaCount": False}
        assert not {"idleReplicaCount", "cooldownPeriod", "pollingInterval"} & set(spec)

    def test_lag_is_asked_for_by_the_engines_name(self) -> None:
        assert trigger(selector={"matchLabels": {"source": "moves", "cap_events": "9"}}) == {
            "type": "external",
            "metricType": "AverageValue",
            "metadata": {
                "scalerAddress": "eventengine-adapter.eventengine-system.svc:9095",
                "enableTLS": "true",
                "engine": "hunt",
                "metric": "kafka_consumer_lag",
                "target": "500",
                "selector": "cap_events=9,source=moves",
            },
            "authenticationRef": {"name": "hunt"},
        }

    @pytest.mark.parametrize(
        ("metric", "metric_type", "expected"),
        [
            ({"target": {"value": "9"}}, "Value", {"limitToPartitionsWithLag": "false", "target": "9"}),
            (
                {"source": "Pods", "name": "buffer_pool_utilisation", "target": {"averageValue": "0.8"}},
                "Value",
                {"selector": "aggregation=average", "target": "800m"},
            ),
            ({"source": "Pods", "target": {"averageValue": 5}}, "AverageValue", {"target": "5"}),
            (
                {"source": "Object", "name": "ring_utilisation", "target": {"value": "500m"}},
                "Value",
                {"target": "500m"},
            ),
        ],
    )
    def test_other_sources_become_the_external_question_with_the_same_answer(
        self, metric: dict[str, Any], metric_type: str, expected: dict[str, str]
    ) -> None:
        found = trigger(**metric)
        assert found["metricType"] == metric_type
        assert expected.items() <= found["metadata"].items()

    def test_zero_is_kedas_to_reach_and_the_fewest_pods_stay_ours_to_declare(self) -> None:
        metrics = [LAG_METRIC, {"name": "arena_utilisation", "target": {"value": "0.8"}}]
        spec = written(engine(autoscaling=RESTFUL | {"metrics": metrics}))["spec"]
        assert (spec["idleReplicaCount"], spec["minReplicaCount"]) == (0, 2)
        assert (spec["cooldownPeriod"], spec["initialCooldownPeriod"]) == (60, 60)
        lag, arena = (item["metadata"] for item in spec["triggers"])
        assert lag["activation"] == "7"
        assert arena["activation"] == "1G", "a full arena is no work"

    def test_paused_direction_is_said_in_kedas_words(self) -> None:
        source = engine_object(autoscaling=KEDA)
        source["metadata"]["annotations"] = {"eventengine.dev/paused-scale-in": "true"}
        annotations = written(read_engine(source))["metadata"]["annotations"]
        assert annotations["autoscaling.keda.sh/paused-scale-in"] == "true"
        assert "autoscaling.keda.sh/paused-scale-out" not in annotations

    def test_behaviour_is_handed_on(self) -> None:
        rules = {"scaleDown": {"stabilizationWindowSeconds": 0, "tolerance": "0.05"}}
        advanced = written(engine(autoscaling=KEDA | {"behavior": rules}))["spec"]["advanced"]
        assert advanced["horizontalPodAutoscalerConfig"] == {
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0, "tolerance": "50m"}}
        }

    def test_certificate_of_the_adapter_is_handed_to_the_triggers(self) -> None:
        bundle, authentication = trust(engine(autoscaling=KEDA), SCALER)
        assert bundle["data"] == {"ca.crt": "-----BEGIN CERTIFICATE-----"}
        assert authentication["spec"]["configMapTargetRef"] == [
            {"parameter": "caCert", "name": bundle["metadata"]["name"], "key": "ca.crt"}
        ]

    def test_certificates_of_others_are_kedas_to_know(self) -> None:
        theirs = KedaScaler(SCALER.address)
        assert trust(engine(autoscaling=KEDA), theirs) == []
        assert "authenticationRef" not in written(engine(autoscaling=KEDA), theirs)["spec"]["triggers"][0]

    def test_rest_without_a_lag_to_wake_for_is_refused(self) -> None:
        metrics = [{"name": "arena_utilisation", "target": {"value": "0.8"}}]
        (fault,) = engine(autoscaling=RESTFUL | {"metrics": metrics}).faults
        assert "kafka_consumer_lag" in fault.sentence


class TestHandOver:
    """One autoscaler at a time, and the number of pods stays."""

    def test_keda_takes_over(self) -> None:
        before = engine(replicas=4, autoscaling=HPA)
        assert before.spec is not None
        circumstances = Circumstances(DEFAULT_IMAGE, 4, with_autoscaler=True, replicas_max=5)
        objects = [live(item) for item in desired_children(before, before.spec, circumstances)]
        result = plan(engine(replicas=4, autoscaling=KEDA), objects)
        assert isinstance(result.actions[0], Delete)
        assert kinds(result, Delete) == {"HorizontalPodAutoscaler"}
        assert {"ScaledObject", "TriggerAuthentication", "ConfigMap"} <= kinds(result, Apply)
        assert result.replicas == 4

    def test_what_keda_makes_for_us_is_nobody_elses(self) -> None:
        declared = engine(replicas=4, autoscaling=KEDA)
        objects = cluster(declared)
        maker = next(item for item in objects if item["kind"] == "ScaledObject")
        result = plan(declared, objects, of_keda(maker))
        assert result.foreign_autoscaler is None
        assert result.actions == ()

    def test_ours_comes_back_only_when_keda_has_let_go(self) -> None:
        objects = cluster(engine(replicas=4, autoscaling=KEDA))
        maker = next(item for item in objects if item["kind"] == "ScaledObject")
        declared = engine(replicas=4, autoscaling=HPA)

        first = plan(declared, objects, of_keda(maker))
        assert kinds(first, Delete) == {"ScaledObject", "TriggerAuthentication", "ConfigMap"}
        assert "HorizontalPodAutoscaler" not in kinds(first, Apply)

        maker["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
        others = [item for item in objects if item["metadata"]["name"] != "hunt-keda"]
        held = [item for item in others if item["kind"] != "TriggerAuthentication"]
        second = plan(declared, held, of_keda(maker))
        assert second.actions == ()
        assert second.awaits_autoscalers == ("HorizontalPodAutoscaler keda-hpa-hunt", "ScaledObject hunt")
        status = make_status(declared, second, Observed({}, ()), (), NOW)
        (condition,) = [item for item in status["conditions"] if item["type"] == "AutoscalingActive"]
        assert (condition["status"], condition["reason"]) == ("False", "AwaitingKeda")

        rest = [item for item in held if item["kind"] != "ScaledObject"]
        orphan = plan(declared, rest, of_keda(maker))
        assert orphan.foreign_autoscaler is None, "it waits for the garbage collector"
        assert "HorizontalPodAutoscaler" not in kinds(orphan, Apply)

        last = plan(declared, rest)
        assert kinds(last, Apply) == {"HorizontalPodAutoscaler"}
        assert not [item for item in last.actions if isinstance(item, SetReplicas)]

    def test_scaled_object_of_the_users_beats_ours(self) -> None:
        declared = engine(replicas=4, autoscaling=KEDA)
        theirs = {
            "kind": "ScaledObject",
            "metadata": {"name": "theirs", "uid": "x"},
            "spec": {"scaleTargetRef": {"name": "hunt"}},
        }
        result = plan(declared, cluster(declared), scaled_objects=(theirs,))
        assert result.foreign_autoscaler is not None
        assert "ScaledObject" in kinds(result, Delete)

    def test_nothing_is_taken_away_while_the_certificates_are_not_looked_after_yet(self) -> None:
        declared = engine(replicas=4, autoscaling=KEDA)
        assert plan(declared, cluster(declared), keda_scaler=None).actions == ()

    @pytest.mark.parametrize("kind", ["Ready", "HPAActive"])
    def test_keda_takes_no_pods_away_while_it_is_blind(self, kind: str) -> None:
        declared = engine(replicas=4, autoscaling=RESTFUL)
        items = cluster(declared)
        (found,) = [item for item in items if item["kind"] == "ScaledObject"]
        found["status"] = {"conditions": [{"type": kind, "status": "False", "reason": "TriggerError"}]}
        (held,) = plan(declared, items).actions
        assert isinstance(held, Apply)
        assert held.manifest["metadata"]["annotations"].get(PAUSED_SCALE_IN) == "true"
        found["metadata"]["annotations"] = dict(held.manifest["metadata"]["annotations"])
        assert plan(declared, items).actions == (), "as long as it is so"
        found["status"] = {"conditions": [{"type": kind, "status": "True", "reason": "Ready"}]}
        (released,) = plan(declared, items).actions
        assert isinstance(released, Apply)
        assert PAUSED_SCALE_IN not in released.manifest["metadata"]["annotations"]

    def test_keda_waits_with_the_last_pod_until_its_blindness_would_have_been_noticed(self) -> None:
        declared = KEDA | {"scaleToZero": {"idleSeconds": 1}}
        spec = written(engine(autoscaling=declared))["spec"]
        assert spec["cooldownPeriod"] == spec["initialCooldownPeriod"] == 15


class TestCondition:
    """AutoscalingActive with KEDA."""

    def condition(self, scaled: Object | None, features: frozenset[str] = FEATURES) -> tuple[str, str]:
        declared = engine(replicas=1, autoscaling=KEDA)
        children = {reference_of(scaled): scaled} if scaled else {}
        observed = Observed(children, (), features=features, keda_scaler=SCALER)
        status = make_status(declared, Plan(replicas=1), observed, (), NOW)
        (found,) = [item for item in status["conditions"] if item["type"] == "AutoscalingActive"]
        return found["status"], found["reason"]

    def scaled(self, **statuses: str) -> Object:
        conditions = [
            {"type": kind, "status": status, "reason": f"Is{kind}"} for kind, status in statuses.items()
        ]
        return written(engine(autoscaling=KEDA)) | {"status": {"conditions": conditions}}

    def test_cluster_without_keda_says_what_to_do(self) -> None:
        declared = engine(autoscaling=KEDA)
        result = plan(declared, [], features=frozenset())
        assert "ScaledObject" not in kinds(result, Apply)
        assert SetReplicas(1, "100") in result.actions, "and the engine runs all the same"
        assert self.condition(None, frozenset()) == ("False", "KedaNotInstalled")

    @pytest.mark.parametrize(
        ("conditions", "expected"),
        [
            ({}, ("Unknown", "NotReported")),
            ({"Ready": "True"}, ("True", "ScaledObjectReady")),
            ({"Ready": "True", "HPAActive": "True"}, ("True", "ScaledObjectReady")),
            ({"Ready": "False"}, ("False", "IsReady")),
            ({"Ready": "True", "HPAActive": "False"}, ("False", "IsHPAActive")),
        ],
    )
    def test_kedas_own_account(self, conditions: dict[str, str], expected: tuple[str, str]) -> None:
        assert self.condition(self.scaled(**conditions)) == expected
