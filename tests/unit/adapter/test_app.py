"""Requests over real sockets: methods, representations, caching, errors, and how the adapter takes its leave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from eventengine_adapter.apis import protobuf, statuses
from eventengine_adapter.apis.health import Health
from eventengine_adapter.app import Draining, MetricsApi, object_response, telemetry_application
from eventengine_adapter.cluster.client import KubernetesError
from eventengine_adapter.monitoring import Monitoring
from eventengine_adapter.security.access_reviews import AccessReviews
from eventengine_adapter.security.authentication import Authenticator
from eventengine_adapter.security.request_headers import TrustedProxies
from eventengine_adapter.security.tokens import TokenReviews
from eventengine_contract.pod_metrics import ANNOTATION_NAMES, ANNOTATION_PORT, pod_metrics

if TYPE_CHECKING:
    from aiohttp import web
    from conftest import World

    Client = TestClient[web.Request, web.Application]

LAG = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/consumer_lag"
V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Reviewer:
    """The Kubernetes API as far as reviews go: everybody may everything, until told otherwise."""

    def __init__(self) -> None:
        self.allowed = True
        self.failure: KubernetesError | None = None
        self.reviewed: list[dict[str, Any]] = []

    async def create(self, path: str, body: Mapping[str, Any], seconds_max: float) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        self.reviewed.append(dict(body["spec"]))
        return {"status": {"allowed": self.allowed, "reason": "" if self.allowed else "no rule"}}


@pytest.fixture
def reviewer() -> Reviewer:
    return Reviewer()


@pytest.fixture
def draining() -> Draining:
    return Draining()


@pytest.fixture
def monitoring() -> Monitoring:
    return Monitoring()


@pytest.fixture
async def client(
    world: World, reviewer: Reviewer, draining: Draining, monitoring: Monitoring
) -> AsyncIterator[Client]:
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={0: 7}, total=1)
    api = MetricsApi(
        world.fleet,
        world.store,
        Authenticator(TrustedProxies, TokenReviews(reviewer, lambda: 0.0), anonymous=True),
        AccessReviews(reviewer, lambda: 0.0),
        Health(ready={"not-draining": lambda: not draining.begun}),
        monitoring,
        draining,
        lambda: world.now,
    )
    async with TestClient(TestServer(api.application())) as running:
        yield running


async def test_a_metric_is_answered_in_the_representation_that_is_preferred(client: Client) -> None:
    async with client.get(LAG) as response:
        in_json = await response.json()
    async with client.get(LAG, headers={"Accept": "application/vnd.kubernetes.protobuf, */*"}) as response:
        in_protobuf = await response.read()

    assert [item["value"] for item in in_json["items"]] == ["7"]
    assert response.headers["Content-Type"] == "application/vnd.kubernetes.protobuf"
    assert response.headers["Vary"] == "Accept"
    assert in_protobuf == protobuf.encode(in_json)


async def test_an_error_comes_in_the_representation_that_was_asked_for(client: Client, world: World) -> None:
    world.now += 60

    async with client.get(LAG, headers={"Accept": "application/vnd.kubernetes.protobuf"}) as response:
        body = await response.read()

    assert (response.status, response.headers["Content-Type"]) == (503, "application/vnd.kubernetes.protobuf")
    assert body.startswith(b"k8s\x00")
    assert b"60 s old, limit 10 s" in body


@pytest.mark.parametrize(
    ("method", "path", "headers", "code", "reason"),
    [
        ("GET", LAG, {"Accept": "application/yaml"}, 406, "NotAcceptable"),
        ("GET", "/apis", {"Accept": "application/yaml"}, 406, "NotAcceptable"),
        ("GET", LAG + "?watch=true", {}, 405, "MethodNotAllowed"),
        ("POST", LAG, {}, 405, "MethodNotAllowed"),
        ("DELETE", LAG, {}, 405, "MethodNotAllowed"),
        ("GET", LAG + "?fieldSelector=a%3Db", {}, 400, "BadRequest"),
        ("GET", LAG + "?labelSelector=a%3Db%3Dc", {}, 400, "BadRequest"),
        ("GET", LAG + "?" + "&".join(f"p{n}=1" for n in range(100)), {}, 400, "BadRequest"),
        ("GET", LAG + "x", {}, 404, "NotFound"),
        ("GET", "/apis/external.metrics.k8s.io/v1/namespaces/default/consumer_lag", {}, 404, "NotFound"),
        ("GET", "/", {}, 404, "NotFound"),
        ("GET", LAG, {"Authorization": "Bearer wrong"}, 401, "Unauthorized"),
    ],
)
async def test_every_error_is_a_status_and_never_says_when_to_come_back(
    client: Client, method: str, path: str, headers: dict[str, str], code: int, reason: str
) -> None:
    async with client.request(method, path, headers=headers) as response:
        body = await response.json()

    assert (response.status, body["code"], body["reason"]) == (code, code, reason)
    assert (body["kind"], body["apiVersion"], body["status"]) == ("Status", "v1", "Failure")
    assert body["message"]
    assert response.headers["Content-Type"] == "application/json"
    assert "Retry-After" not in response.headers


@pytest.mark.parametrize("media_type", ["application/json", "application/vnd.kubernetes.protobuf"])
def test_bytes_that_are_no_text_do_not_keep_an_error_from_its_reader(media_type: str) -> None:
    """Headers may hold such bytes, so the name of a user may."""
    refusal = statuses.forbidden('User "\udcff" may not')

    response = object_response(refusal.to_object(), media_type, refusal.code)

    assert isinstance(response.body, bytes)
    assert b"may not" in response.body


async def test_discovery_follows_what_engines_name_of_their_own(client: Client, world: World) -> None:
    async def documents() -> list[tuple[str, str]]:
        found = []
        for path in ("/apis", "/apis/external.metrics.k8s.io/v1beta1"):
            async with client.get(path, headers={"Accept": f"{V2}, application/json;q=0.5"}) as response:
                found.append((await response.text(), response.headers["ETag"]))
        return found

    before = await documents()
    named = pod_metrics({ANNOTATION_PORT: "8000", ANNOTATION_NAMES: "queue_depth"})
    world.engine("other", endpoint=named)
    after = await documents()

    assert not any("queue_depth" in text for text, _ in before)
    assert all("queue_depth" in text for text, _ in after)
    assert {etag for _, etag in before}.isdisjoint(etag for _, etag in after)


async def test_what_is_stale_is_unavailable_with_metric_age_and_limit(client: Client, world: World) -> None:
    world.now += 46

    async with client.get(LAG) as response:
        body = await response.json()

    assert (response.status, body["reason"]) == (503, "ServiceUnavailable")
    assert "consumer_lag" in body["message"]
    assert "46 s old, limit 10 s" in body["message"]
    assert "Retry-After" not in response.headers


async def test_the_forbidden_learn_who_they_are_and_what_they_lack(
    client: Client, reviewer: Reviewer
) -> None:
    reviewer.allowed = False

    async with client.get(LAG) as response:
        body = await response.json()

    assert response.status == 403
    assert (
        'User "system:anonymous" cannot list resource "consumer_lag" in API group "external.metrics.k8s.io"'
        ' in the namespace "default": no rule'
    ) in body["message"]


async def test_a_write_is_reviewed_before_it_is_refused(client: Client, reviewer: Reviewer) -> None:
    reviewer.allowed = False

    async with client.post(LAG) as response:
        assert response.status == 403

    assert reviewer.reviewed[0]["resourceAttributes"]["verb"] == "create"


async def test_a_review_that_can_not_be_had_refuses(client: Client, reviewer: Reviewer) -> None:
    reviewer.failure = KubernetesError(403, "the adapter may not ask")

    async with client.get(LAG) as response:
        body = await response.json()

    assert response.status == 500
    assert body["message"] == "access could not be reviewed"


async def test_forwarded_users_are_nobody_on_a_connection_without_a_certificate(
    client: Client, reviewer: Reviewer
) -> None:
    async with client.get(LAG, headers={"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}):
        pass

    assert reviewer.reviewed[0]["user"] == "system:anonymous"


@pytest.mark.parametrize(
    ("path", "accept", "content_type"),
    [
        ("/apis", V2, V2),
        ("/apis", "application/json", "application/json"),
        ("/apis/external.metrics.k8s.io", None, "application/json"),
        ("/apis/custom.metrics.k8s.io/v1beta2", None, "application/json"),
        ("/openapi/v2", "application/json", "application/json"),
        ("/openapi/v3", None, "application/json"),
    ],
)
async def test_a_document_that_the_client_has_is_not_sent_again(
    client: Client, path: str, accept: str | None, content_type: str
) -> None:
    headers = {"Accept": accept} if accept else {}
    async with client.get(path, headers=headers) as response:
        assert response.headers["Content-Type"] == content_type
        etag = response.headers["ETag"]

    async with client.get(path, headers={**headers, "If-None-Match": etag}) as response:
        assert response.status == 304
        assert await response.read() == b""
    async with client.get(path, headers={**headers, "If-None-Match": '"OTHER"'}) as response:
        assert response.status == 200


async def test_an_openapi_document_is_for_ever_under_its_hash(client: Client) -> None:
    async with client.get("/openapi/v3") as response:
        paths = (await response.json())["paths"]
    url = paths["apis/custom.metrics.k8s.io/v1beta2"]["serverRelativeURL"]

    async with client.get(url) as response:
        assert response.status == 200
        assert "immutable" in response.headers["Cache-Control"]
    async with client.get(url.split("=")[0] + "=OLD", allow_redirects=False) as response:
        assert response.status == 301
        assert response.headers["Location"] == url


async def test_long_selectors_are_no_problem_of_the_transport(client: Client) -> None:
    values = ",".join(f"partition-{number}" for number in range(450))

    async with client.get(LAG, params={"labelSelector": f"partition in ({values})"}) as response:
        assert response.status == 200


async def test_while_it_drains_it_answers_and_closes_each_connection(
    client: Client, draining: Draining
) -> None:
    async with client.get(LAG) as response:
        assert response.headers.get("Connection") != "close"
    draining.begun = True

    async with client.get(LAG) as response:
        assert (response.status, response.headers["Connection"]) == (200, "close")
    async with client.get("/readyz") as response:
        assert response.status == 500


async def test_every_value_of_a_list_counts_with_its_age(
    client: Client, world: World, monitoring: Monitoring
) -> None:
    world.now = world.second + 1.5
    world.sample("hunt-a", partitions={0: 7, 1: 8, 2: 9}, total=3)
    async with client.get(LAG):
        pass

    text = monitoring.text().decode()
    name, group = "metrics_apiserver_metric_freshness_seconds", 'group="external.metrics.k8s.io"'
    assert f"{name}_count{{{group}}} 3.0" in text
    assert f"{name}_sum{{{group}}} 4.5" in text
    assert f'{name}_bucket{{{group},le="1.364"}} 0.0' in text
    assert f'{name}_bucket{{{group},le="1.8604960000000004"}} 3.0' in text
    assert f'{name}_bucket{{{group},le="+Inf"}} 3.0' in text


async def test_its_metrics_say_how_old_what_it_served_was(
    client: Client, world: World, monitoring: Monitoring
) -> None:
    world.engine("hunt", last_known_good_seconds=60)
    world.now = world.second + 3.0
    async with client.get(LAG):
        pass
    assert b'eventengine_adapter_served_age_seconds{metric="consumer_lag"} 3.0' in monitoring.text()

    world.now = world.second + 40.0
    async with client.get(LAG) as response:
        assert (await response.json())["items"][0]["metricLabels"]["last_known_good"] == "true"

    text = monitoring.text().decode()
    assert 'eventengine_adapter_served_age_seconds{metric="consumer_lag"} 40.0' in text
    assert 'eventengine_adapter_last_known_good_total{metric="consumer_lag"} 1.0' in text
    assert 'metrics_apiserver_metric_freshness_seconds_sum{group="external.metrics.k8s.io"} 43.0' in text


async def test_the_plain_port_has_metrics_and_health_and_nothing_else() -> None:
    health = Health(live={"sampling": lambda: True})
    async with TestClient(TestServer(telemetry_application(health, Monitoring()))) as client:
        async with client.get("/metrics") as response:
            assert "eventengine_adapter_draining 0.0" in await response.text()
        async with client.get("/readyz?verbose") as response:
            assert await response.text() == "[+]sampling ok\nreadyz check passed\n"
        async with client.get(LAG) as response:
            assert response.status == 404
