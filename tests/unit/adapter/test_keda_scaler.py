"""What KEDA is told, over real gRPC: the metrics APIs' samples, or a status that says why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from eventengine_adapter.keda import externalscaler_pb2 as messages
from eventengine_adapter.keda import service
from eventengine_adapter.keda.service import SERVICE, ExternalScaler
from eventengine_adapter.keda.serving import MESSAGE_BYTES_MAX, KedaServer, KedaTls, KedaTlsError
from eventengine_adapter.monitoring import Monitoring
from eventengine_adapter.settings import Address
from eventengine_harness.certificates import Authority, KeyPair

if TYPE_CHECKING:
    from conftest import World

LAG = {"metric": "kafka_consumer_lag", "engine": "hunt", "target": "100"}


class Keda:
    """Calls the scaler as KEDA does: generic messages on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def call(self, method: str, request: Any, answer: Any) -> Any:
        asking = self._channel.unary_unary(
            f"/{SERVICE}/{method}", type(request).SerializeToString, answer.FromString
        )
        return await asking(request, timeout=10)

    async def value(self, metadata: Mapping[str, str], namespace: str = "default") -> float:
        request = messages.GetMetricsRequest(
            scaledObjectRef=reference(metadata, namespace), metricName=metadata["metric"]
        )
        answer = await self.call("GetMetrics", request, messages.GetMetricsResponse)
        (found,) = answer.metricValues
        assert found.metricName == metadata["metric"]
        assert found.metricValue == -(-round(found.metricValueFloat * 1000) // 1000)
        value: float = found.metricValueFloat
        return value

    async def active(self, metadata: Mapping[str, str], namespace: str = "default") -> bool:
        answer = await self.call("IsActive", reference(metadata, namespace), messages.IsActiveResponse)
        result: bool = answer.result
        return result

    async def spec(self, metadata: Mapping[str, str]) -> messages.MetricSpec:
        answer = await self.call("GetMetricSpec", reference(metadata), messages.GetMetricSpecResponse)
        (found,) = answer.metricSpecs
        assert isinstance(found, messages.MetricSpec)
        return found

    def stream(self, metadata: Mapping[str, str]) -> Any:
        asking = self._channel.unary_stream(
            f"/{SERVICE}/StreamIsActive",
            messages.ScaledObjectRef.SerializeToString,
            messages.IsActiveResponse.FromString,
        )
        return asking(reference(metadata), timeout=10)


def reference(metadata: Mapping[str, str], namespace: str = "default") -> messages.ScaledObjectRef:
    return messages.ScaledObjectRef(name="hunt", namespace=namespace, scalerMetadata=metadata)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """A scaler that serves, its authority, and what its tests turn."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.authority = Authority.create(folder, "ca")
        self.clock = Clock()
        self.draining = False
        self.monitoring = Monitoring()
        self.serve_with(self.authority.issue(folder, "serving", common_name="adapter", hosts=["localhost"]))
        self.scaler = ExternalScaler(
            world.view, self.monitoring, lambda: self.draining, self.clock, stream_period_seconds=0.01
        )

    def serve_with(self, pair: KeyPair) -> None:
        (self.folder / "tls.crt").write_bytes(pair.certificate.read_bytes())
        (self.folder / "tls.key").write_bytes(pair.key.read_bytes())

    async def server(self, client_authority: Path | None = None) -> KedaServer:
        server = KedaServer(self.scaler, Address("127.0.0.1", 0), KedaTls(self.folder, client_authority))
        await server.start()
        return server

    async def refusals(self, kind: str, count: int) -> None:
        """Return once so many calls of this kind found nothing fresh."""
        labels = {"kind": kind, "code": "UNAVAILABLE"}
        name = "eventengine_adapter_request_duration_seconds_count"
        async with asyncio.timeout(10):
            for _ in iter(
                lambda: (self.monitoring.registry.get_sample_value(name, labels) or 0) < count, False
            ):
                await asyncio.sleep(0.005)

    def channel(self, server: KedaServer, client: KeyPair | None = None) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(
            self.authority.files.certificate.read_bytes(),
            client.key.read_bytes() if client else None,
            client.certificate.read_bytes() if client else None,
        )
        return grpc.aio.secure_channel(f"localhost:{server.port}", credentials)


@pytest.fixture
def stage(world: World, tmp_path: Path) -> Stage:
    world.pod("hunt-a")
    world.pod("hunt-b")
    world.sample("hunt-a", partitions={0: 250, 1: 30}, gauges={"ring_utilisation": 731})
    world.sample("hunt-b", partitions={2: 0, 3: 7}, gauges={"ring_utilisation": 125})
    return Stage(world, tmp_path)


@pytest.fixture
async def keda(stage: Stage) -> AsyncIterator[Keda]:
    server = await stage.server()
    async with stage.channel(server) as channel:
        yield Keda(channel)
    await server.stop()


async def refused(work: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await work
    return error.value


async def test_the_autoscaler_gets_the_triggers_name_and_target(keda: Keda) -> None:
    spec = await keda.spec(LAG | {"target": "1500m", "limitToPartitionsWithLag": "false"})

    assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == ("kafka_consumer_lag", 2, 1.5)


async def test_a_target_is_told_even_while_nothing_is_known(keda: Keda, stage: Stage) -> None:
    stage.world.now += 600

    assert (await keda.spec(LAG)).targetSizeFloat == 100


async def test_a_lag_is_the_sum_that_the_metrics_api_gives(keda: Keda, stage: Stage) -> None:
    items = stage.world.external("kafka_consumer_lag", "engine=hunt")

    value = await keda.value(LAG | {"limitToPartitionsWithLag": "false"})

    assert value == sum(int(item["value"]) for item in items) == 287


async def test_a_lag_never_asks_for_more_pods_than_partitions_with_lag(keda: Keda) -> None:
    # One partition far behind, two a little, one not at all.
    assert await keda.value(LAG) == 100 + 30 + 7


async def test_a_ratio_is_told_in_thousandths(keda: Keda) -> None:
    ratio = {"metric": "ring_utilisation", "engine": "hunt", "target": "700m"}

    assert await keda.value(ratio) == 0.731
    assert await keda.value(ratio | {"selector": "aggregation=average"}) == 0.428


async def test_the_selector_of_the_metrics_api_is_the_triggers_too(keda: Keda) -> None:
    assert await keda.value(LAG | {"selector": "partition in (1,3)"}) == 37
    error = await refused(keda.value(LAG | {"selector": "partition=9"}))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    error = await refused(keda.value(LAG | {"selector": "window_seconds=99"}))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_trigger_is_active_while_there_is_more_than_its_activation(keda: Keda) -> None:
    assert await keda.active(LAG)
    # The whole lag counts, not what is left of it after the cap.
    assert await keda.active(LAG | {"activation": "286"})
    assert not await keda.active(LAG | {"activation": "287"})


@pytest.mark.parametrize("call", ["value", "active"])
async def test_what_is_stale_is_unavailable_with_metric_age_and_limit(
    keda: Keda, stage: Stage, call: str
) -> None:
    stage.world.now += 46

    error = await refused(getattr(keda, call)(LAG))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "kafka_consumer_lag" in str(error.details())
    assert "46 s old, limit 10 s" in str(error.details())


async def test_a_partition_that_nobody_owns_is_unavailable(keda: Keda, stage: Stage) -> None:
    stage.world.sample("hunt-b", partitions={2: 0})

    error = await refused(keda.value(LAG))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "partitions 3" in str(error.details())


@pytest.mark.parametrize("namespace", ["other", ""])
async def test_an_engine_of_another_namespace_is_not_found(keda: Keda, namespace: str) -> None:
    for call in (keda.value(LAG, namespace), keda.active(LAG, namespace)):
        assert (await refused(call)).code() is grpc.StatusCode.NOT_FOUND


async def test_a_trigger_that_says_nothing_sensible_is_refused_by_name(keda: Keda) -> None:
    for call in (keda.value, keda.active, keda.spec):
        error = await refused(call(LAG | {"targett": "3"}))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "did you mean target?" in str(error.details())


async def test_a_metric_that_the_trigger_is_not_about_is_refused(keda: Keda) -> None:
    request = messages.GetMetricsRequest(scaledObjectRef=reference(LAG), metricName="consumer_lag")

    error = await refused(keda.call("GetMetrics", request, messages.GetMetricsResponse))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_old_value_may_be_told_where_the_engine_allows_it_but_starts_and_stops_nothing(
    keda: Keda, stage: Stage
) -> None:
    stage.world.engine("hunt", last_known_good_seconds=120)
    assert await keda.value(LAG) == 137
    stage.world.now += 60

    assert await keda.value(LAG) == 137
    assert (await refused(keda.active(LAG))).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_fault_of_ours_is_an_error_without_its_inside(
    keda: Keda, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(service.answers, "value_millis", fail)

    error = await refused(keda.value(LAG))

    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(error.details())


async def test_a_message_larger_than_any_trigger_is_refused(keda: Keda) -> None:
    error = await refused(keda.active(LAG | {"selector": "a" * MESSAGE_BYTES_MAX}))

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_stream_says_how_it_is_and_when_that_changes(keda: Keda, stage: Stage) -> None:
    stream = keda.stream(LAG)

    assert (await stream.read()).result
    stage.world.sample("hunt-a", partitions={0: 0, 1: 0})
    stage.world.sample("hunt-b", partitions={2: 0, 3: 0})
    assert not (await stream.read()).result
    stage.world.sample("hunt-b", partitions={2: 5, 3: 0})
    assert (await stream.read()).result
    stream.cancel()


async def test_a_stream_waits_out_a_gap_and_ends_in_an_error_when_it_lasts(keda: Keda, stage: Stage) -> None:
    stream = keda.stream(LAG)
    assert (await stream.read()).result
    stage.world.now += 46
    reading = asyncio.ensure_future(stream.read())
    await stage.refusals("keda-stream-is-active", 3)
    assert not reading.done()
    stage.clock.now += service.STREAM_UNKNOWN_SECONDS_MAX + 1

    error = await refused(reading)

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "limit 10 s" in str(error.details())


async def test_a_stream_about_nothing_ends_at_once(keda: Keda) -> None:
    error = await refused(keda.stream(LAG | {"engine": "gone"}).read())

    assert error.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("end", ["age", "drain"])
async def test_a_stream_ends_in_good_order(keda: Keda, stage: Stage, end: str) -> None:
    stream = keda.stream(LAG)
    assert (await stream.read()).result
    if end == "age":
        stage.clock.now += service.STREAM_LIFE_SECONDS_MAX + 1
    else:
        stage.draining = True

    assert await stream.read() is grpc.aio.EOF


async def test_only_so_many_streams_are_open_at_a_time(
    keda: Keda, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "STREAMS_MAX", 2)
    open_streams = [keda.stream(LAG), keda.stream(LAG)]
    for stream in open_streams:
        assert (await stream.read()).result

    error = await refused(keda.stream(LAG).read())
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    open_streams[0].cancel()
    async with asyncio.timeout(10):
        for _ in iter(lambda: stage.scaler.streams_open == 2, False):
            await asyncio.sleep(0.005)
    assert (await keda.stream(LAG).read()).result
    open_streams[1].cancel()


async def test_nothing_is_served_without_tls(stage: Stage) -> None:
    server = await stage.server()
    async with grpc.aio.insecure_channel(f"localhost:{server.port}") as channel:
        error = await refused(Keda(channel).active(LAG))
    await server.stop()

    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_with_an_authority_only_its_certificates_get_through(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    clients = Authority.create(tmp_path, "clients")
    others = Authority.create(tmp_path / "others", "clients")
    server = await stage.server(clients.files.certificate)
    theirs = clients.issue(tmp_path, "keda", common_name="keda-operator")
    foreign = others.issue(tmp_path, "foreign", common_name="keda-operator")
    # The serving certificate's own authority is no authority of clients.
    own = stage.authority.issue(tmp_path, "own", common_name="keda-operator")

    async with stage.channel(server, theirs) as channel:
        assert await Keda(channel).active(LAG)
    for client in (None, foreign, own):
        async with stage.channel(server, client) as channel:
            assert (await refused(Keda(channel).active(LAG))).code() is grpc.StatusCode.UNAVAILABLE
    await server.stop()


async def test_certificates_and_authority_are_followed_without_a_restart(
    stage: Stage, tmp_path: Path
) -> None:
    (tmp_path / "next").mkdir()
    clients = Authority.create(tmp_path, "clients")
    successors = Authority.create(tmp_path / "next", "clients")
    server = await stage.server(clients.files.certificate)
    before = clients.issue(tmp_path, "before", common_name="keda")
    after = successors.issue(tmp_path, "after", common_name="keda")
    async with stage.channel(server, before) as channel:
        assert await Keda(channel).active(LAG)

        # A half-written pair changes nothing.
        (tmp_path / "tls.key").write_bytes(before.key.read_bytes())
        async with stage.channel(server, before) as another:
            assert await Keda(another).active(LAG)

        stage.authority = Authority.create(tmp_path / "next", "ca")
        stage.serve_with(
            stage.authority.issue(tmp_path, "renewed", common_name="adapter", hosts=["localhost"])
        )
        clients.files.certificate.write_bytes(successors.files.certificate.read_bytes())
        async with stage.channel(server, after) as another:
            assert await Keda(another).active(LAG)
        async with stage.channel(server, before) as another:
            assert (await refused(Keda(another).active(LAG))).code() is grpc.StatusCode.UNAVAILABLE
        # Who is connected stays so.
        assert await Keda(channel).active(LAG)
    await server.stop()


async def test_without_certificates_nothing_is_served(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(KedaTlsError, match=r"clients\.crt"):
        await stage.server(tmp_path / "clients.crt")


async def test_a_taken_port_is_an_error_and_not_a_silence(stage: Stage) -> None:
    server = await stage.server()
    second = KedaServer(stage.scaler, Address("127.0.0.1", server.port), KedaTls(stage.folder, None))

    with pytest.raises(OSError, match="can't listen"):
        await second.start()
    await server.stop()
