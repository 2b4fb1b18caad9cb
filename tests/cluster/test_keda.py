"""A real KEDA asks the adapter's external scaler: it wakes, scales and rests engines, and never acts on a guess.

KEDA's operator and metrics API server, the API server, the autoscaler's controller, the broker, our operator and our
adapter are real. They run as processes with the rights of their manifests, and KEDA checks the adapter by the
certificate that our operator issued and handed to it. The test plays kubelet and engine, so that it
decides what is measured; that is why this has a control plane of its own and not the cluster's.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from eventengine_contract.well_known import ADAPTER_SERVICE, PORT_KEDA_SCALER
from eventengine_harness.accesses import condition_of
from eventengine_harness.brokers import LoopbackKafka
from eventengine_harness.control_planes import LoopbackControlPlane
from eventengine_harness.kedas import EXTERNAL_API, Keda
from eventengine_harness.waiting import wait_for

from ..controlplane.adapters import NAMESPACE, AdapterPlane, AdapterProcess, EngineState, refusal
from ..controlplane.engines import ADDRESSES
from ..controlplane.operators import PATIENT, OperatorPlane, OperatorProcess
from ..controlplane.played_pods import TELEMETRY_PORT, kafka_source, produce, running_pod
from ..controlplane.spaces import HPA, LAG, Space

pytestmark = pytest.mark.timeout(300, func_only=True)

SECONDS = 60.0
PARTITIONS = 6
REFUSALS = 'eventengine_adapter_request_duration_seconds_count{code="UNAVAILABLE",kind="keda-get-metrics"}'
ANSWERS = 'eventengine_adapter_chained_request_duration_seconds_count{code="200"}'
THEIRS = "s0-kafka_consumer_lag"
"""KEDA puts the trigger's number before the name."""
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
AT_ONCE = {"scaleDown": {"stabilizationWindowSeconds": 0}}
"""No damping, so that only what isn't known can keep the pods."""
REST = {"idleSeconds": 2, "activationLagEvents": 2}
KEDA = HPA | {"driver": "keda", "minReplicas": 1, "maxReplicas": PARTITIONS, "behavior": AT_ONCE}


class Stage:
    """Everything that runs here, and a broker."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        plane = stack.enter_context(LoopbackControlPlane())
        self.access = plane.access
        self.broker = stack.enter_context(LoopbackKafka()).broker
        # Its port stands in every ScaledObject, so it has an address that no other run has.
        address = next(ADDRESSES)
        host = f"{ADAPTER_SERVICE}.{NAMESPACE}.svc"
        self.keda = Keda(plane, folder / "keda", {host: address})
        chained = {"chainedAdapter.service": "metrics.keda", "chainedAdapter.authorityConfigMap": "keda-ca"}
        self.adapters = AdapterPlane(plane, folder, chained)
        self.adapters.snapshot_port = TELEMETRY_PORT
        self.adapters.unregister()
        operators = OperatorPlane(plane, folder)
        self.operator = stack.enter_context(
            OperatorProcess(
                operators.install_rights(NAMESPACE),
                NAMESPACE,
                folder / "operator.log",
                metrics_mode="keda",
                adapter_service_port=str(self.adapters.port),
                metrics_resync_seconds="1",
                **PATIENT,
            )
        )
        self.keda.start()
        self.operator.wait_leading()
        self.authority = self._mount_certificate()
        self._settings = {
            "keda_listen": f"{address}:{PORT_KEDA_SCALER}",
            "chained_adapter": f"https://127.0.0.1:{self.keda.metrics_port}",
            "chained_authority": str(self.keda.authority),
        }
        self._log = folder / "adapter.log"
        self.adapter = self.start_adapter()
        self.adapter.wait_available()

    def start_adapter(self) -> AdapterProcess:
        """Run the adapter, until `stop_adapter` or the end of the module."""
        self.adapter = AdapterProcess(self.adapters, self._log, settings=self._settings)
        self.adapter.__enter__()
        self.adapter.wait_ready()
        return self.adapter

    def stop_adapter(self) -> None:
        self.adapter.__exit__(None, None, None)

    def space(self) -> Space:
        return Space(self.access, self.operator)

    def topic(self) -> str:
        """A topic of its own with `PARTITIONS` partitions."""
        name = f"hunt-{secrets.token_hex(3)}"
        self.broker.create_topic(name, PARTITIONS)
        return name

    def _mount_certificate(self) -> bytes:
        """Put the Secret that the operator made where the adapter looks, as a kubelet does; returns the authority."""
        found = self.access.wait_until(
            "secret", f"{ADAPTER_SERVICE}-tls", lambda _: True, "issued", namespace=NAMESPACE
        )
        files = {name: base64.b64decode(content) for name, content in found["data"].items()}
        for name in ("tls.key", "tls.crt"):
            (self.adapters.certificates / name).write_bytes(files[name])
        return files["ca.crt"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        made = Stage(tmp_path_factory.mktemp("keda"), stack)
        stack.callback(made.stop_adapter)
        yield made
        assert made.operator.stop() == 0, made.operator.log()


def until_replicas(space: Space, count: int, what: str) -> None:
    space.access.wait_until(
        "deployment",
        "hunt",
        lambda found: found["spec"].get("replicas") == count,
        f"{count} replicas: {what}",
        namespace=space.namespace,
        deadline_seconds=SECONDS,
    )


def spread(lag_events: int) -> dict[int, int]:
    """A lag of thousands of events, a thousand in each of the first partitions: each keeps one pod busy."""
    return {number: 1000 if number < lag_events // 1000 else 0 for number in range(PARTITIONS)}


def stop_sampling(state: EngineState, *, stopped: bool) -> None:
    """Let the engine hang, or work again."""
    state.stopped_at_seconds = int(time.time()) - 1 if stopped else None


def test_keda_wakes_an_engine_for_a_backlog_scales_it_and_lets_it_rest_again(stage: Stage) -> None:
    topic = stage.topic()
    with stage.space() as space:
        space.engine(
            engine={"sources": [kafka_source(stage.broker.bootstrap_servers, topic=topic)]},
            autoscaling=KEDA | {"scaleToZero": REST},
        )
        until_replicas(space, 0, "the broker knows of no lag")
        space.until_condition("AutoscalingActive", "True", "Hibernated")
        produce(stage.broker, topic, 5)
        until_replicas(space, 1, "woken by what the broker told")
        with running_pod(space, [0] * PARTITIONS, topic) as state:
            # One partition is far behind: a fourth pod would be of no use to it.
            state.partitions = spread(3000) | {0: 9000}
            until_replicas(space, 3, "as many as there are partitions with a lag")
            space.until_condition("AutoscalingActive", "True", "ScaledObjectReady")
            state.partitions = spread(0)
            until_replicas(space, 0, "first the autoscaler, then KEDA the last one")
        space.until_condition("AutoscalingActive", "True", "Hibernated")


def test_pods_under_load_change_hands_between_three_owners_and_stay_as_many_as_the_load_asks_for(
    stage: Stage,
) -> None:
    # KEDA has the external API, so our own autoscaler asks for the same sum as a metric of the EventEngine.
    ours = KEDA | {"driver": "hpa", "metrics": [LAG | {"source": "Object"}]}
    source = {"sources": [kafka_source("127.0.0.1:1")]}
    with stage.space() as space:
        space.engine(engine=source, autoscaling=ours)
        with running_pod(space, [0] * PARTITIONS) as state:
            state.partitions = spread(3000)
            until_replicas(space, 3, "our autoscaler's doing")
            with space.every_number_of_replicas() as seen:
                space.engine(engine=source, autoscaling={"driver": "none"})
                space.until_gone("hpa/hunt")
                space.engine(engine=source, autoscaling=KEDA | {"scaleToZero": REST})
                space.until_condition("AutoscalingActive", "True", "ScaledObjectReady")
                state.partitions = spread(4000)
                until_replicas(space, 4, "KEDA's doing")
                leave_keda_in_the_dark(stage, space, state)
                space.engine(engine=source, autoscaling=ours)
                space.until_condition("AutoscalingActive", "True", "ValidMetricFound")
                assert space.get("hpa/keda-hpa-hunt") is None
                assert space.get("scaledobjects.keda.sh/hunt") is None
                space.kubectl("annotate", "deployment/hunt", "tests/end=reached")
            assert seen == {3, 4}


def leave_keda_in_the_dark(stage: Stage, space: Space, state: EngineState) -> None:
    """Let the engine hang, then the adapter be gone, and all be well again; KEDA asks all the time."""
    stop_sampling(state, stopped=True)
    space.until(
        "ee/hunt",
        lambda engine: condition_of(engine, "AutoscalingActive").get("status") == "False",
        "said to be blind",
    )
    space.until(
        "scaledobjects.keda.sh/hunt", is_scale_in_paused, "held as it is, whatever KEDA makes of an error"
    )
    refusals = stage.adapter.metric(REFUSALS)
    wait_for(lambda: stage.adapter.metric(REFUSALS) > refusals + 3, "further refusals", SECONDS)
    stage.stop_adapter()
    stop_sampling(state, stopped=False)
    stage.start_adapter()
    space.until_condition("AutoscalingActive", "True", "ScaledObjectReady")
    space.until("scaledobjects.keda.sh/hunt", lambda found: not is_scale_in_paused(found), "free again")


def is_scale_in_paused(scaled_object: dict[str, Any]) -> bool:
    annotations = scaled_object["metadata"].get("annotations") or {}
    return annotations.get("autoscaling.keda.sh/paused-scale-in") == "true"


def of_the_users(authority: bytes) -> list[dict[str, Any]]:
    """What docs/operations/install.md has a user write; by push, and otherwise so seldom that nothing else can act."""
    source = {"parameter": "caCert", "name": "eventengine-ca", "key": "ca.crt"}
    trigger = {
        "scalerAddress": f"{ADAPTER_SERVICE}.{NAMESPACE}.svc:{PORT_KEDA_SCALER}",
        "metric": "kafka_consumer_lag",
        "engine": "hunt",
        "target": "1k",
        "selector": "source=moves",
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "eventengine-ca"},
            "data": {"ca.crt": authority.decode()},
        },
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "TriggerAuthentication",
            "metadata": {"name": "eventengine"},
            "spec": {"configMapTargetRef": [source]},
        },
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "theirs"},
            "spec": {
                "scaleTargetRef": {
                    "apiVersion": "eventengine.dev/v1alpha1",
                    "kind": "EventEngine",
                    "name": "hunt",
                },
                "pollingInterval": 600,
                "minReplicaCount": 0,
                "maxReplicaCount": PARTITIONS,
                "advanced": {"horizontalPodAutoscalerConfig": {"behavior": AT_ONCE}},
                "triggers": [
                    {
                        "type": "external-push",
                        "metadata": trigger,
                        "authenticationRef": {"name": "eventengine"},
                    }
                ],
            },
        },
    ]


def test_scaled_object_of_the_users_is_woken_by_the_stream_and_read_through_our_external_api(
    stage: Stage,
) -> None:
    topic = stage.topic()
    with stage.space() as space:
        space.engine(
            engine={"sources": [kafka_source(stage.broker.bootstrap_servers, topic=topic)]},
            replicas=0,
            autoscaling={"driver": "none"},
        )
        until_replicas(space, 0, "declared")
        stage.access.apply(*of_the_users(stage.authority), namespace=space.namespace)
        space.until_condition("AutoscalingActive", "False", "ForeignAutoscaler")
        produce(stage.broker, topic, 5)
        until_replicas(space, 1, "pushed")
        with running_pod(space, [0] * PARTITIONS, topic) as state:
            state.partitions = spread(2000)
            until_replicas(space, 2, "KEDA's doing")
            take_over(stage)
            try:
                our_own = f"{EXTERNAL}/namespaces/{space.namespace}/consumer_lag"
                wait_for(lambda: not refusal(stage.access, our_own), "a metric of ours", SECONDS)
                answers = stage.adapter.metric(ANSWERS)
                state.partitions = spread(3000)
                until_replicas(space, 3, "KEDA's doing, through us")
                assert stage.adapter.metric(ANSWERS) > answers
                check_what_is_read_of_keda(stage, space)
            finally:
                stage.access.delete("apiservice", EXTERNAL_API)
                stage.keda.register()


def check_what_is_read_of_keda(stage: Stage, space: Space) -> None:
    """KEDA's own metrics, asked of us by those who may and those who may not."""
    theirs = (
        f"{EXTERNAL}/namespaces/{space.namespace}/{THEIRS}?labelSelector=scaledobject.keda.sh/name=theirs"
    )
    (item,) = stage.access.raw(theirs)["items"]
    assert (item["metricName"], item["value"]) == (THEIRS, "3k")
    somebody = f"--as=system:serviceaccount:{space.namespace}:default"
    assert "Forbidden" in refusal(stage.access, theirs, somebody)
    without_selector = theirs.partition("?")[0]
    assert "scaledObject name is not specified" in refusal(stage.access, without_selector), "KEDA's own words"
    listed = {found["name"] for found in stage.access.raw(EXTERNAL)["resources"]}
    assert {"kafka_consumer_lag", "externalmetrics"} <= listed, "KEDA's one entry, and ours"


def take_over(stage: Stage) -> None:
    """Lead the external metrics API to our adapter, by a Service that the operator doesn't know as ours."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "chaining", "namespace": NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    patch = {
        "spec": {
            "caBundle": None,
            "insecureSkipTLSVerify": True,
            "service": {"name": "chaining", "namespace": NAMESPACE, "port": stage.adapters.port},
        }
    }
    stage.access.apply(service)
    stage.access.kubectl("patch", "apiservice", EXTERNAL_API, "--type=merge", f"--patch={json.dumps(patch)}")
