"""The users' own endpoints: read within bounds, from pods of the fleet alone, and answered like all other metrics."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from eventengine_adapter.apis.custom import namespace_metric_list
from eventengine_adapter.apis.routing import resolve
from eventengine_adapter.apis.statuses import ApiError
from eventengine_adapter.samples.fleets import ENDPOINT_METRICS_MAX, EnginePod
from eventengine_adapter.samples.pod_samples import PodSample
from eventengine_adapter.sources import endpoint_reading
from eventengine_adapter.sources.endpoint_reading import EndpointReader
from eventengine_adapter.sources.engine_pods import keep_engine
from eventengine_adapter.sources.snapshot_reading import Outcome, ReadError
from eventengine_contract.pod_metrics import PodMetrics, pod_metrics

if TYPE_CHECKING:
    from conftest import World

NOW = 1_795_255_200
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default"
Handler = Callable[[web.Request], Any]


def annotated(port: int = 8000, names: str = "queue_depth") -> dict[str, str]:
    prefix = "metrics.eventengine.dev/"
    return {f"{prefix}port": str(port), f"{prefix}path": "/stats", f"{prefix}names": names}


def endpoint(port: int = 8000, names: str = "queue_depth") -> PodMetrics:
    found = pod_metrics(annotated(port, names))
    assert found is not None
    return found


# --- reading -------------------------------------------------------------------------------------------------


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Any]]:
    """Start servers that answer every request with a handler; all end with the test."""
    servers: list[TestServer[web.Request, web.Application]] = []

    async def start(handler: Handler) -> int:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(application)
        await server.start_server()
        servers.append(server)
        return int(server.port or 0)

    yield start
    for server in servers:
        await server.close()


async def read(port: int, second: int | None = NOW, timeout_seconds: float = 2.0) -> PodSample:
    pod = EnginePod("default", "hunt-a", "uid-a", "hunt", "127.0.0.1", True, {}, endpoint(port))
    async with EndpointReader(timeout_seconds, 4) as reader:
        return await reader.read(pod, second, NOW + 0.1)


async def test_what_the_endpoint_says_is_the_sample_of_the_second_on_which_it_is_read(
    serve: Callable[[Handler], Any],
) -> None:
    asked: list[tuple[str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append((request.raw_path, request.headers["Accept-Encoding"]))
        return web.Response(text="queue_depth 3\n")

    sample = await read(await serve(handler))

    assert asked == [("/stats", "identity")]
    assert (sample.sampled_at_seconds, sample.gauges_millis) == (NOW, {"queue_depth": 3000})


async def test_a_second_that_is_past_is_not_read_as_if_it_were_now(serve: Callable[[Handler], Any]) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text="queue_depth 3\n")

    with pytest.raises(ReadError) as caught:
        await read(await serve(handler), NOW - 2)

    assert caught.value.outcome is Outcome.NOT_KEPT


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        pytest.param({"status": 302, "headers": {"Location": "/elsewhere"}}, Outcome.REFUSED, id="redirect"),
        pytest.param({"status": 500}, Outcome.REFUSED, id="error"),
        pytest.param({"body": b" " * 2000}, Outcome.TOO_LARGE, id="large"),
        pytest.param(
            {"body": gzip.compress(b" " * 10_000_000), "headers": {"Content-Encoding": "gzip"}},
            Outcome.INVALID,
            id="compressed",
        ),
    ],
)
async def test_what_is_no_sound_answer_is_no_sample(
    serve: Callable[[Handler], Any],
    monkeypatch: pytest.MonkeyPatch,
    response: dict[str, Any],
    outcome: Outcome,
) -> None:
    monkeypatch.setattr(endpoint_reading, "BODY_BYTES_MAX", 1000)
    asked = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(**response)

    with pytest.raises(ReadError) as caught:
        await read(await serve(handler))

    assert caught.value.outcome is outcome
    assert asked == 1, "no redirect is followed"


async def test_an_endpoint_that_does_not_answer_is_given_up_in_time(serve: Callable[[Handler], Any]) -> None:
    release = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    with pytest.raises(ReadError, match=r"did not answer within 0\.1 s") as caught:
        await read(await serve(handler), timeout_seconds=0.1)
    release.set()

    assert caught.value.outcome is Outcome.TIMEOUT


# --- declaring -----------------------------------------------------------------------------------------------


def declared(annotations: dict[str, str]) -> Any:
    metadata = {"namespace": "default", "name": "hunt", "uid": "uid-hunt"}
    return keep_engine({"metadata": metadata, "spec": {"pod": {"template": {"annotations": annotations}}}})


def test_an_engine_names_the_endpoint_of_its_pods() -> None:
    assert declared(annotated()).endpoint == endpoint()
    assert declared({}).endpoint is None


def test_an_annotation_that_is_refused_leaves_the_engine_and_says_why() -> None:
    found = declared(annotated(names="kafka_consumer_lag"))

    assert found.endpoint is None
    assert "a metric of the engine itself" in found.endpoint_refusal


# --- answering -----------------------------------------------------------------------------------------------


@pytest.fixture
def endpoints(world: World) -> World:
    """Two pods whose endpoints said 2 and 5."""
    world.engine("hunt", endpoint=endpoint())
    for name, depth in (("hunt-a", 2000), ("hunt-b", 5000)):
        world.pod(name)
        world.endpoint_sample(name, {"queue_depth": depth})
    return world


def test_the_answers_are_those_of_all_other_metrics(endpoints: World) -> None:
    assert [item["value"] for item in endpoints.external("queue_depth")] == ["7"]
    assert [item["value"] for item in endpoints.external("queue_depth", "aggregation=average")] == ["3500m"]
    by_pod = endpoints.custom("pods/*/queue_depth")
    assert [(i["describedObject"]["name"], i["value"]) for i in by_pod] == [("hunt-a", "2"), ("hunt-b", "5")]
    engine = endpoints.custom("eventengines.eventengine.dev/hunt/queue_depth")
    assert [item["value"] for item in engine] == ["7"]
    route = resolve(f"{CUSTOM}/metrics/queue_depth")
    assert namespace_metric_list(endpoints.view(), route, None)["items"][0]["value"] == "7"


def test_a_value_that_is_not_known_is_an_error_with_pod_and_reason(endpoints: World) -> None:
    endpoints.endpoint_sample("hunt-b", {"queue_depth": None}, {"queue_depth": "it is nan"})

    with pytest.raises(ApiError, match="pod hunt-b runs but could not measure it: it is nan") as caught:
        endpoints.external("queue_depth")

    assert caught.value.code == 503


def test_a_value_that_is_old_is_an_error_with_age_and_limit(endpoints: World) -> None:
    endpoints.now += 11

    with pytest.raises(ApiError, match="the newest sample is 11 s old, limit 10 s"):
        endpoints.external("queue_depth")


def test_names_are_listed_once_however_many_engines_have_them_and_not_without_bound(world: World) -> None:
    for number in range(60):
        names = ["queue_depth", *(f"depth_{number}_{index}" for index in range(15))]
        world.engine(f"hunt-{number}", endpoint=endpoint(names=",".join(names)))
    world.engine("plain")

    listed = world.fleet().endpoint_metrics

    assert len(listed) == len(set(listed)) == ENDPOINT_METRICS_MAX
    assert list(listed) == sorted(listed)


def test_a_name_is_known_only_where_an_engine_names_it(endpoints: World) -> None:
    for namespace, name in (("other", "queue_depth"), ("default", "queue_length")):
        with pytest.raises(ApiError) as caught:
            endpoints.external(name, namespace=namespace)
        assert caught.value.code == 404


def test_an_engine_without_the_endpoint_is_no_part_of_the_answer(endpoints: World) -> None:
    endpoints.pod("race-a", "race")

    assert [item["value"] for item in endpoints.external("queue_depth")] == ["7"]


def test_a_refused_annotation_is_named_where_its_metric_is_missed(world: World) -> None:
    world.engine("hunt", endpoint_refusal="metrics.eventengine.dev/port is 'x'")

    with pytest.raises(ApiError, match=r"engine hunt: metrics\.eventengine\.dev/port is .x."):
        world.external("queue_depth")
