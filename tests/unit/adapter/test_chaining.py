"""External metrics of another adapter: asked with our own token, for who may read them, and never twice around."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from eventengine_adapter.apis import protobuf
from eventengine_adapter.apis.health import Health
from eventengine_adapter.app import Draining, MetricsApi
from eventengine_adapter.chaining import asking
from eventengine_adapter.chaining.asking import ChainedAdapter
from eventengine_adapter.chaining.documents import NAMES_MAX, AnswerError, read_names, read_values
from eventengine_adapter.monitoring import Monitoring
from eventengine_adapter.security.access_reviews import AccessReviews
from eventengine_adapter.security.authentication import Authenticator
from eventengine_adapter.security.request_headers import TrustedProxies
from eventengine_adapter.security.tokens import TokenReviews
from eventengine_harness.certificates import Authority

if TYPE_CHECKING:
    from conftest import World

    Client = TestClient[web.Request, web.Application]
    Server = TestServer[web.Request, web.Application]

EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
THEIRS = f"{EXTERNAL}/namespaces/default/s0-queue"
OURS = f"{EXTERNAL}/namespaces/default/consumer_lag"
V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
ITEM = {
    "metricName": "s0-queue",
    "metricLabels": None,
    "timestamp": "2026-11-21T10:00:00Z",
    "value": "1250m",
}
VALUES = {
    "kind": "ExternalMetricValueList",
    "apiVersion": "external.metrics.k8s.io/v1beta1",
    "metadata": {},
    "items": [ITEM],
}


class OtherAdapter:
    """Another adapter behind TLS, which answers as the test says and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.values

    async def values(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(VALUES)

    def refuse(self, code: int, reason: str, message: str) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "reason": reason, "message": message, "code": code}

        async def answer(_: web.Request) -> web.StreamResponse:
            return web.json_response(status, status=code, headers={"Retry-After": "5"})

        self.answer = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        return await self.answer(request)


class Reviewer:
    """The Kubernetes API as far as reviews go."""

    def __init__(self) -> None:
        self.allowed = True
        self.reviewed: list[Mapping[str, Any]] = []

    async def create(self, path: str, body: Mapping[str, Any], seconds_max: float) -> dict[str, Any]:
        self.reviewed.append(body["spec"])
        return {"status": {"allowed": self.allowed}}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path, "theirs")


@pytest.fixture
async def other(authority: Authority, tmp_path: Path) -> AsyncIterator[tuple[OtherAdapter, Server]]:
    pair = authority.issue(tmp_path, "serving", common_name="other", hosts=["127.0.0.1"])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pair.certificate, pair.key)
    adapter = OtherAdapter()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", adapter.handle)
    server = TestServer(application, scheme="https")
    await server.start_server(ssl=tls)
    yield adapter, server
    await server.close()


@pytest.fixture
def theirs(other: tuple[OtherAdapter, Server]) -> OtherAdapter:
    return other[0]


@pytest.fixture
async def chained(
    other: tuple[OtherAdapter, Server], authority: Authority, monitoring: Monitoring
) -> AsyncIterator[ChainedAdapter]:
    def note(code: int, seconds: float) -> None:
        monitoring.chained_seconds.labels(str(code)).observe(seconds)

    server = f"https://127.0.0.1:{other[1].port}"
    async with ChainedAdapter(server, authority.files.certificate, lambda: "Bearer our-own", note) as found:
        yield found


@pytest.fixture
def monitoring() -> Monitoring:
    return Monitoring()


@pytest.fixture
def reviewer() -> Reviewer:
    return Reviewer()


@pytest.fixture
async def client(
    world: World, reviewer: Reviewer, monitoring: Monitoring, chained: ChainedAdapter
) -> AsyncIterator[Client]:
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={0: 7}, total=1)
    api = MetricsApi(
        world.fleet,
        world.store,
        Authenticator(TrustedProxies, TokenReviews(reviewer, lambda: 0.0), anonymous=True),
        AccessReviews(reviewer, lambda: 0.0),
        Health(),
        monitoring,
        Draining(),
        lambda: world.now,
        chained=chained,
    )
    async with TestClient(TestServer(api.application())) as running:
        yield running


async def get(client: Client, path: str, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
    async with client.get(
        path, headers={name.replace("_", "-"): text for name, text in headers.items()}
    ) as found:
        return found.status, json.loads(await found.read()), found.headers


async def test_what_is_not_ours_is_asked_of_the_other_adapter_with_our_own_token(
    client: Client, theirs: OtherAdapter, reviewer: Reviewer, monitoring: Monitoring
) -> None:
    code, body, _ = await get(
        client, f"{THEIRS}?labelSelector=scaledobject.keda.sh%2Fname%3Dorders&timeout=9s"
    )

    assert (code, body) == (200, VALUES | {"items": [ITEM | {"metricLabels": {}}]})
    (asked,) = theirs.asked
    assert asked.path == THEIRS
    assert dict(asked.query) == {"labelSelector": "scaledobject.keda.sh/name=orders"}
    assert asked.headers["Authorization"] == "Bearer our-own"
    assert not [name for name in asked.headers if name.startswith("X-Remote")]
    # The caller was asked about first, for the same name in the same namespace.
    (review,) = reviewer.reviewed
    assert review["user"] == "system:anonymous"
    assert review["resourceAttributes"] == {
        "verb": "list",
        "group": "external.metrics.k8s.io",
        "version": "v1beta1",
        "namespace": "default",
        "resource": "s0-queue",
    }
    assert b'chained_request_duration_seconds_count{code="200"} 1.0' in monitoring.text()


async def test_who_may_not_read_a_metric_does_not_read_it_with_our_token(
    client: Client, theirs: OtherAdapter, reviewer: Reviewer
) -> None:
    reviewer.allowed = False

    code, body, _ = await get(client, THEIRS)

    assert (code, body["reason"]) == (403, "Forbidden")
    assert theirs.asked == []


async def test_what_is_ours_is_never_asked_of_another(
    client: Client, theirs: OtherAdapter, world: World
) -> None:
    assert (await get(client, OURS))[0] == 200
    assert (await get(client, OURS.replace("default", "elsewhere")))[0] == 200
    world.now += 60
    assert (await get(client, OURS))[0] == 503

    assert theirs.asked == []


async def test_an_answer_comes_in_protobuf_where_the_client_wants_that(client: Client) -> None:
    _, body, _ = await get(client, THEIRS)
    async with client.get(THEIRS, headers={"Accept": "application/vnd.kubernetes.protobuf"}) as response:
        assert await response.read() == protobuf.encode(body)


@pytest.mark.parametrize(
    ("theirs_code", "reason", "code"),
    [
        (404, "NotFound", 404),
        (400, "BadRequest", 400),
        (429, "TooManyRequests", 429),
        (500, "InternalError", 500),
        # These are about this adapter's token, and say nothing of the caller's rights.
        (401, "Unauthorized", 503),
        (403, "Forbidden", 503),
    ],
)
async def test_a_refusal_is_passed_on_as_it_is_unless_it_is_about_ourselves(
    client: Client, theirs: OtherAdapter, theirs_code: int, reason: str, code: int
) -> None:
    theirs.refuse(theirs_code, reason, "no such queue")

    found, body, headers = await get(client, THEIRS)

    assert (found, body["code"], body["kind"]) == (code, code, "Status")
    assert body["reason"] == (reason if code == theirs_code else "ServiceUnavailable")
    assert "no such queue" in body["message"]
    assert "Retry-After" not in headers


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def drop(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def plain(
    text: str, code: int = 200, **headers: str
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=code, headers=headers)

    return answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (hang, "no answer within"),
        (drop, "did not answer"),
        (plain(" " * 3000), "more than 2000 bytes"),
        (plain("<html>"), "not JSON"),
        (plain("[" * 1500), "not JSON"),
        (plain("[]"), "no object"),
        (plain('{"kind": "MetricValueList", "items": []}'), "no ExternalMetricValueList"),
        (plain("", 302, Location="/elsewhere"), "status 302"),
        (plain("upstream is away", 502), "status 502"),
    ],
)
async def test_no_answer_is_an_error_and_the_next_question_is_asked_anew(
    client: Client,
    theirs: OtherAdapter,
    chained: ChainedAdapter,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
    words: str,
) -> None:
    monkeypatch.setattr(asking, "ANSWER_SECONDS_MAX", 0.2)
    monkeypatch.setattr(asking, "ANSWER_BYTES_MAX", 2000)
    theirs.answer = answer

    code, body, _ = await get(client, THEIRS)

    assert (code, body["reason"]) == (503, "ServiceUnavailable")
    assert words in body["message"]
    theirs.answer = theirs.values
    assert (await get(client, THEIRS))[0] == 200


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": None},
        {"timestamp": "yesterday"},
        {"value": None},
        {"value": "NaN"},
        {"value": "1 000"},
        {"value": ""},
        {"metricName": 7},
        {"metricLabels": {"a": 1}},
        {"window": "60"},
        {"window": -1},
    ],
)
def test_a_value_that_says_too_little_fails_the_answer(change: dict[str, Any]) -> None:
    with pytest.raises(AnswerError):
        read_values(json.dumps(VALUES | {"items": [ITEM, ITEM | change]}).encode(), "v1beta1")


@pytest.mark.parametrize("value", ["0", "-3", "+7", "1.5", ".5", "1e3", "2E-1", "5k", "12Ki", "250m", "3n"])
def test_every_quantity_of_kubernetes_is_passed_on(value: str) -> None:
    body = json.dumps(VALUES | {"items": [ITEM | {"value": value, "window": 60}]}).encode()

    (item,) = read_values(body, "v1beta1")["items"]

    assert (item["value"], item["window"]) == (value, 60)


async def test_adapters_in_a_circle_ask_each_other_once(
    client: Client, theirs: OtherAdapter, monitoring: Monitoring
) -> None:
    """The other one is an EventEngine adapter, too, and asks us in turn."""

    async def answer(request: web.Request) -> web.StreamResponse:
        via = {"Via": request.headers["Via"]}
        async with client.get(request.path_qs, headers=via) as found:
            return web.json_response(await found.json(), status=found.status)

    theirs.answer = answer

    code, body, _ = await get(client, THEIRS)

    assert (code, body["reason"]) == (404, "NotFound")
    assert "circle" in body["message"]
    assert len(theirs.asked) == 1


async def test_a_proxy_in_between_is_no_circle(client: Client) -> None:
    assert (await get(client, THEIRS, Via="1.1 proxy, HTTP/2 eventengine-adapter-of-others"))[0] == 200


async def test_questions_that_wait_are_bounded(
    client: Client, theirs: OtherAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "REQUESTS_MAX", 1)
    may_answer, is_asked = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        is_asked.set()
        await may_answer.wait()
        return await theirs.values(request)

    theirs.answer = answer
    first = asyncio.create_task(get(client, THEIRS))
    await is_asked.wait()

    code, body, _ = await get(client, THEIRS)

    assert code == 503
    assert "has yet to answer 1 other" in body["message"]
    may_answer.set()
    assert (await first)[0] == 200


async def test_who_shows_another_certificate_is_not_shown_our_token(
    theirs: OtherAdapter, client: Client, authority: Authority, tmp_path: Path
) -> None:
    right = authority.files.certificate.read_bytes()
    stranger = Authority.create(tmp_path, "stranger")
    authority.files.certificate.write_bytes(stranger.files.certificate.read_bytes())

    code, body, _ = await get(client, THEIRS)

    assert (code, theirs.asked) == (503, [])
    assert "certificate verify failed" in body["message"]
    authority.files.certificate.write_bytes(right)
    assert (await get(client, THEIRS))[0] == 200, "the file is read again"


async def test_discovery_lists_the_names_of_both(
    client: Client, theirs: OtherAdapter, chained: ChainedAdapter
) -> None:
    resources = [{"name": name} for name in ("s0-queue", "consumer_lag", "a/b", "", "x" * 300)]
    theirs.answer = plain(json.dumps({"kind": "APIResourceList", "resources": resources}))
    _, before, headers = await get(client, "/apis", Accept=V2)
    await chained.update_names()

    _, after, changed = await get(client, "/apis", Accept=V2)
    _, legacy, _ = await get(client, EXTERNAL)

    def names(document: dict[str, Any]) -> list[str]:
        return [found["resource"] for found in document["items"][0]["versions"][0]["resources"]]

    assert headers["ETag"] != changed["ETag"]
    assert sorted([*names(before), "s0-queue"]) == names(after)
    assert [found["name"] for found in legacy["resources"]] == names(after)
    assert before["items"][1] == after["items"][1], "custom metrics are ours alone"
    theirs.refuse(500, "InternalError", "no")
    await chained.update_names()
    assert chained.names == ("s0-queue",), "it need not answer for what it has to be known"


def test_names_are_bounded() -> None:
    body = json.dumps({"resources": [{"name": f"metric-{number:05}"} for number in range(5000)]}).encode()

    assert len(read_names(body, ())) == NAMES_MAX
