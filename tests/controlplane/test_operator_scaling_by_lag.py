"""Scaling by lag: to no pods and back, and from one owner of the pods to the next while there is load.

Autoscaler, adapter, broker and KEDA's definitions are real. The test plays kubelet and engine, and KEDA itself:
what KEDA does with a ScaledObject is shown in the cluster tier.

The adapter reads what engines show their brokers by the leave that the operator writes for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eventengine_harness import builds
from eventengine_harness.accesses import KubernetesAccess, condition_of
from eventengine_harness.brokers import SCRAM, USERS, Broker, LoopbackKafka

from .adapters import NAMESPACE, AdapterPlane, AdapterProcess, refusal
from .operators import PATIENT, OperatorPlane, OperatorProcess
from .played_pods import TELEMETRY_PORT, TOPIC, kafka_source, produce, running_pod
from .spaces import HPA, Space


def autoscaling(**scale_to_zero: int) -> dict[str, object]:
    at_once = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    return HPA | {"minReplicas": 1, "behavior": at_once, "scaleToZero": scale_to_zero}


@dataclass
class Stage:
    """What all tests here share. `blind` is an engine without pods whose brokers are away, declared long before."""

    broker: Broker
    adapters: AdapterPlane
    operator: OperatorProcess
    blind: Space


@pytest.fixture(scope="module")
def stage(operator_plane: OperatorPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("scale-to-zero")
    kubeconfig = operator_plane.install_rights(NAMESPACE, "operator.brokerCredentials=true")
    adapters = AdapterPlane(operator_plane.control_plane, folder)
    adapters.snapshot_port = TELEMETRY_PORT
    log = folder / "operator.log"
    settings = {"metrics_mode": "off", "broker_credentials": "true", **PATIENT}
    try:
        with (
            OperatorProcess(kubeconfig, NAMESPACE, log, **settings) as operator,
            AdapterProcess(adapters, folder / "adapter.log") as adapter,
            LoopbackKafka() as kafka,
        ):
            operator.wait_leading()
            adapter.wait_ready()
            adapter.wait_available()
            with Space(operator_plane.access, operator) as blind:
                blind.engine(
                    engine={"sources": [kafka_source("127.0.0.1:1")]},
                    replicas=0,
                    autoscaling=autoscaling(unknownSecondsMax=10),
                )
                yield Stage(kafka.broker, adapters, operator, blind)
            assert operator.stop() == 0, operator.log()
    finally:
        adapters.unregister()
    assert "Traceback" not in log.read_text(), log.read_text()[-6000:]
    assert '" cannot ' not in log.read_text(), f"a right is missing in the chart: {log.read_text()[-6000:]}"


def test_idle_engine_goes_to_zero_after_its_autoscaler_and_comes_back_for_a_lag(
    stage: Stage, operator_plane: OperatorPlane
) -> None:
    stage.broker.create_topic(TOPIC, 1)
    with Space(operator_plane.access, stage.operator) as space:
        space.engine(
            engine={"sources": [kafka_source(stage.broker.bootstrap_servers)]},
            autoscaling=autoscaling(idleSeconds=6, activationLagEvents=2),
        )
        with running_pod(space, [800]) as state:
            space.until(
                "hpa/hunt",
                lambda item: condition_of(item, "ScalingActive").get("status") == "True",
                "an autoscaler that reads the lag",
            )
            space.until_condition("Hibernated", "False", "Active")
            state.partitions[0] = 0
            space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 0, "scaled to zero")
        space.until_condition("Hibernated", "True", "Idle")
        space.until_condition("AutoscalingActive", "True", "Hibernated")
        space.until_condition("Ready", "True", "ScaledToZero")
        (hpa,) = space.until_exists("hpa/hunt")
        assert hpa["spec"]["minReplicas"] == 1
        space.until(
            "hpa/hunt",
            lambda item: condition_of(item, "ScalingActive").get("reason") == "ScalingDisabled",
            "an autoscaler that holds still",
        )
        space.pods(0)
        produce(stage.broker, TOPIC, 5)
        space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 1, "back for five events")
        space.until_condition("Hibernated", "False", "Active")
        space.pods(1)


def test_engine_without_pods_whose_lag_nobody_knows_comes_back_to_find_out(stage: Stage) -> None:
    stage.blind.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 1, "awake")
    assert stage.blind.get("ee/hunt")["spec"]["replicas"] == 1  # type: ignore[index]
    assert "asking for 1 replicas" in stage.operator.log()


def test_engine_that_may_no_longer_rest_is_woken_for_good(
    stage: Stage, operator_plane: OperatorPlane
) -> None:
    """Nobody would ever bring its pods back: its autoscaler holds still at 0."""
    with Space(operator_plane.access, stage.operator) as space:
        source = {"sources": [kafka_source("127.0.0.1:1")]}
        space.engine(engine=source, autoscaling=autoscaling(unknownSecondsMax=600))
        space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 1, "running")
        space.kubectl("scale", "ee/hunt", "--replicas=0")
        space.until_condition("Hibernated", "True", "Idle")
        declared = {key: value for key, value in autoscaling().items() if key != "scaleToZero"}
        space.engine(engine=source, autoscaling=declared)
        space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 1, "woken")
        space.until_condition("Hibernated", "False", "NotDeclared")


def test_the_lag_of_brokers_that_ask_who_you_are_is_told_when_the_secret_holds_what_it_should(
    stage: Stage, operator_plane: OperatorPlane
) -> None:
    topic, credentials = "hunt-secured", "hunt-user"
    ((user, password),) = USERS.items()
    stage.broker.create_topic(topic, 1)
    produce(stage.broker, topic, 5)
    source = kafka_source(
        stage.broker.encrypted_bootstrap_servers,
        topic=topic,
        properties={"security.protocol": "sasl_ssl", "sasl.mechanism": SCRAM},
        credentials=credentials,
    )
    with Space(operator_plane.access, stage.operator) as space:

        def show(password: str) -> None:
            metadata = {"name": credentials, "namespace": space.namespace}
            content = {
                "username": user,
                "password": password,
                "ca.crt": stage.broker.authority.read_text(),
            }
            space.access.apply(
                {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": content}
            )

        lag = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{space.namespace}/kafka_consumer_lag"
        question = f"{lag}?labelSelector=engine%3Dhunt"
        show("guessed-password")
        space.engine(engine={"sources": [source]}, replicas=0)
        words = (f"as user {user}", f"correct username and password in the Secret {credentials}")

        def reason() -> str | None:
            said = refusal(space.access, question)
            return said if all(word in said for word in words) else None

        assert "guessed-password" not in space.wait(reason, f"a reason with {words}")
        show(password)
        space.wait(lambda: not refusal(space.access, question), "a lag")
        assert [item["value"] for item in space.access.raw(question)["items"]] == ["5"]


@pytest.fixture
def keda(operator_plane: OperatorPlane) -> Iterator[None]:
    """KEDA's own kinds in the cluster, without KEDA."""
    access = operator_plane.access
    kinds = ("scaledobjects", "triggerauthentications")
    for kind in kinds:
        access.apply((builds.keda_manifests() / "crd" / "bases" / f"keda.sh_{kind}.yaml").read_text())
    try:
        for kind in kinds:
            access.wait_for_condition("crd", f"{kind}.keda.sh", "Established")
        yield
    finally:
        for kind in kinds:
            access.delete("crd", f"{kind}.keda.sh")


def play_keda(access: KubernetesAccess, space: Space) -> None:
    """Do with the ScaledObject what KEDA does: put a finalizer on it, and make an autoscaler of it."""
    found = space.get("scaledobjects.keda.sh/hunt")
    assert found is not None
    space.kubectl(
        *("patch", "scaledobjects.keda.sh/hunt", "--type=merge"),
        '--patch={"metadata": {"finalizers": ["finalizer.keda.sh"]}}',
    )
    spec = found["spec"]
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "hunt", "controller": True}
    metric = {
        "metric": {"name": "kafka_consumer_lag", "selector": {"matchLabels": {"engine": "hunt"}}},
        "target": {"type": "AverageValue", "averageValue": spec["triggers"][0]["metadata"]["target"]},
    }
    autoscaler: dict[str, Any] = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": "keda-hpa-hunt",
            "namespace": space.namespace,
            "ownerReferences": [owner | {"uid": found["metadata"]["uid"]}],
        },
        "spec": {
            "scaleTargetRef": spec["scaleTargetRef"],
            "minReplicas": spec["minReplicaCount"],
            "maxReplicas": spec["maxReplicaCount"],
            "metrics": [{"type": "External", "external": metric}],
        },
    }
    access.apply(autoscaler)


@pytest.mark.usefixtures("keda")
def test_pods_under_load_change_hands_between_three_owners_and_stay_as_many_as_the_load_asks_for(
    stage: Stage, operator_plane: OperatorPlane
) -> None:
    source = {"sources": [kafka_source("127.0.0.1:1")]}
    ours = HPA | {"minReplicas": 1, "maxReplicas": 5}
    with Space(operator_plane.access, stage.operator) as space:
        space.engine(engine=source, autoscaling=ours)
        # As many partitions as pods may be asked for: more pods than partitions would never be.
        with running_pod(space, [2500, 0, 0, 0, 0]) as state:
            space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 3, "as the lag asks")
            with space.every_number_of_replicas() as seen:
                space.engine(engine=source, autoscaling={"driver": "none"})
                space.until_gone("hpa/hunt")
                space.engine(engine=source, autoscaling=ours | {"driver": "keda"})
                space.until_exists("scaledobjects.keda.sh/hunt")
                play_keda(operator_plane.access, space)
                state.partitions[0] = 3500
                space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 4, "KEDA's doing")
                space.engine(engine=source, autoscaling=ours)
                condition = space.until_condition("AutoscalingActive", "False", "AwaitingKeda")
                assert "ScaledObject hunt" in condition["message"]
                assert space.get("hpa/hunt") is None, "two on the same pods would disable each other"
                space.kubectl(
                    *("patch", "scaledobjects.keda.sh/hunt", "--type=merge"),
                    '--patch={"metadata": {"finalizers": null}}',
                )
                space.until_exists("hpa/hunt")
                assert space.get("hpa/keda-hpa-hunt") is None
                space.until_condition("AutoscalingActive", "True", "ValidMetricFound")
                space.kubectl("annotate", "deployment/hunt", "tests/end=reached")
            assert seen == {3, 4}


def test_driver_keda_without_keda_says_what_is_missing_and_keeps_the_pods(
    stage: Stage, operator_plane: OperatorPlane
) -> None:
    with Space(operator_plane.access, stage.operator) as space:
        space.engine(autoscaling=HPA | {"driver": "keda"})
        space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 2, "the fewest declared")
        condition = space.until_condition("AutoscalingActive", "False", "KedaNotInstalled")
        assert "install KEDA" in condition["message"]
        assert space.get("hpa/hunt") is None
