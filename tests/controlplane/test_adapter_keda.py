"""The external scaler of an adapter beside a real API server: what KEDA would be told, over its own protocol.

The client here speaks the protocol as KEDA does, with a certificate of its own. KEDA itself is not part of this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from eventengine_adapter.keda import externalscaler_pb2 as messages
from eventengine_adapter.keda.service import SERVICE
from eventengine_harness.certificates import Authority, KeyPair
from eventengine_harness.control_planes import free_port
from eventengine_harness.waiting import wait_for

from .adapters import NAMESPACE, AdapterPlane, AdapterProcess
from .adapters import SERVICE as SERVICE_NAME
from .hunting import Hunt

LAG = {"metric": "kafka_consumer_lag", "engine": "hunt", "target": "600", "scalerAddress": "adapter:9095"}
CALL_SECONDS_MAX = 5.0
SECONDS = 30.0


@dataclass
class Scaler:
    """An adapter that serves KEDA on a port of its own, and who may ask it."""

    adapter: AdapterProcess
    port: int
    plane: AdapterPlane
    client: KeyPair

    def channel(self, client: KeyPair | None) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(
            self.plane.authority.files.certificate.read_bytes(),
            client.key.read_bytes() if client else None,
            client.certificate.read_bytes() if client else None,
        )
        name = ("grpc.ssl_target_name_override", f"{SERVICE_NAME}.{NAMESPACE}.svc")
        return grpc.secure_channel(f"127.0.0.1:{self.port}", credentials, [name])

    def ask(
        self, method: str, namespace: str, metadata: Mapping[str, str] = LAG, *, certified: bool = True
    ) -> float | bool:
        """The value, or whether it is active."""
        reference = messages.ScaledObjectRef(name="hunt", namespace=namespace, scalerMetadata=metadata)
        request: messages.ScaledObjectRef | messages.GetMetricsRequest = reference
        read: Callable[[bytes], messages.IsActiveResponse | messages.GetMetricsResponse]
        read = messages.IsActiveResponse.FromString
        if method == "GetMetrics":
            request = messages.GetMetricsRequest(scaledObjectRef=reference, metricName=metadata["metric"])
            read = messages.GetMetricsResponse.FromString
        with self.channel(self.client if certified else None) as channel:
            asking = channel.unary_unary(f"/{SERVICE}/{method}", type(request).SerializeToString, read)
            answer = asking(request, timeout=CALL_SECONDS_MAX)
        if isinstance(answer, messages.IsActiveResponse):
            return answer.result
        (value,) = answer.metricValues
        return value.metricValueFloat

    def refusal(self, method: str, namespace: str, *, certified: bool = True) -> tuple[grpc.StatusCode, str]:
        """Status and words of a refused call; OK while it is served."""
        try:
            self.ask(method, namespace, certified=certified)
        except grpc.RpcError as error:
            return error.code(), str(error.details())
        return grpc.StatusCode.OK, ""


@pytest.fixture(scope="module")
def scaler(plane: AdapterPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scaler]:
    folder: Path = tmp_path_factory.mktemp("keda")
    clients = Authority.create(folder, "clients")
    port = free_port()
    settings = {
        "keda_listen": f"127.0.0.1:{port}",
        "keda_client_authority": str(clients.files.certificate),
    }
    with AdapterProcess(plane, folder / "adapter.log", port=free_port(), settings=settings) as running:
        running.wait_ready()
        found = Scaler(running, port, plane, clients.issue(folder, "keda", common_name="keda-operator"))
        wait_for(
            lambda: found.refusal("IsActive", "nowhere")[0] is grpc.StatusCode.NOT_FOUND,
            "the scaler's port",
            SECONDS,
            last_seen=running.log,
        )
        yield found


def test_keda_is_told_the_lag_of_the_samples_up_to_a_pod_s_worth_of_each_partition(
    scaler: Scaler, hunt: Hunt
) -> None:
    def told() -> bool:
        return scaler.refusal("GetMetrics", hunt.namespace)[0] is grpc.StatusCode.OK

    wait_for(told, "a first value", SECONDS, last_seen=lambda: scaler.refusal("GetMetrics", hunt.namespace))
    # Four partitions with a lag of 1,000 each, of which 600 keep a pod busy.
    assert scaler.ask("GetMetrics", hunt.namespace) == 2400
    whole = LAG | {"limitToPartitionsWithLag": "false"}
    assert scaler.ask("GetMetrics", hunt.namespace, whole) == 4000
    assert scaler.ask("IsActive", hunt.namespace) is True
    assert scaler.ask("IsActive", hunt.namespace, LAG | {"activation": "4k"}) is False


def test_keda_is_refused_what_is_stale_with_metric_age_and_limit(scaler: Scaler, hunt: Hunt) -> None:
    for state in hunt.states:
        state.stopped_at_seconds = int(time.time()) - 1

    for method in ("GetMetrics", "IsActive"):
        wait_for(
            lambda method=method: "limit 10 s" in scaler.refusal(method, hunt.namespace)[1],
            "an error that says the limit",
            SECONDS,
            last_seen=lambda method=method: scaler.refusal(method, hunt.namespace),
        )
        code, words = scaler.refusal(method, hunt.namespace)
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "kafka_consumer_lag" in words


def test_without_a_certificate_of_the_authority_nobody_is_told_anything(scaler: Scaler, hunt: Hunt) -> None:
    code, words = scaler.refusal("IsActive", hunt.namespace, certified=False)

    assert code is grpc.StatusCode.UNAVAILABLE
    assert "kafka_consumer_lag" not in words


def test_it_is_served_while_the_adapter_drains_and_ends_with_it(plane: AdapterPlane, tmp_path: Path) -> None:
    clients = Authority.create(tmp_path, "clients")
    client = clients.issue(tmp_path, "keda", common_name="keda")
    port = free_port()
    settings = {
        "keda_listen": f"127.0.0.1:{port}",
        "keda_client_authority": str(clients.files.certificate),
    }
    with AdapterProcess(
        plane, tmp_path / "adapter.log", port=free_port(), settings=settings, drain_seconds=5
    ) as running:
        found = Scaler(running, port, plane, client)
        wait_for(
            lambda: found.refusal("IsActive", "nowhere")[0] is grpc.StatusCode.NOT_FOUND,
            "the scaler's port",
            SECONDS,
            last_seen=running.log,
        )
        running.terminate()
        wait_for(lambda: running.health("/readyz")[0] == 500, "the beginning of the drain", SECONDS)
        assert found.refusal("IsActive", "nowhere")[0] is grpc.StatusCode.NOT_FOUND
        assert running.wait_stopped() == 0
