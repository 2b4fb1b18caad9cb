"""Path, status and number of items: the table that any server of the metrics APIs is held against.

It covers every row of custom-metrics-apiserver's installer tests, with the objects that engines have, and what
that table leaves open: names in another case, encoded and hostile paths, versions that don't exist.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from eventengine_adapter.apis.health import Health
from eventengine_adapter.app import Draining, MetricsApi
from eventengine_adapter.monitoring import Monitoring
from eventengine_adapter.security.access_reviews import AccessReviews
from eventengine_adapter.security.authentication import Authenticator
from eventengine_adapter.security.request_headers import TrustedProxies
from eventengine_adapter.security.tokens import TokenReviews
from eventengine_contract.metric_names import Aggregation, Metric
from yarl import URL

if TYPE_CHECKING:
    from aiohttp import web
    from conftest import World

    Client = TestClient[web.Request, web.Application]

EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2"
CUSTOM_OLD = "/apis/custom.metrics.k8s.io/v1beta1"
ENGINES = "eventengines.eventengine.dev"
POOL = "buffer_pool_utilisation"


class Everybody:
    """The Kubernetes API as far as reviews go: everybody may everything."""

    async def create(self, path: str, body: Any, seconds_max: float) -> dict[str, Any]:
        return {"status": {"allowed": True}}


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    """Namespace default: engine hunt of two pods and four partitions. Namespace other: engine race, one pod."""
    for name, partitions in (("hunt-a", {0: 1, 1: 1}), ("hunt-b", {2: 1, 3: 1})):
        world.pod(name, labels={"app": "hunt", "pod": name})
        world.sample(name, partitions=partitions, gauges={POOL: 500})
    world.pod("race-a", "race", "other", labels={"app": "race"})
    world.sample("race-a", partitions={0: 5}, total=1, gauges={POOL: 100})
    everybody = Everybody()
    api = MetricsApi(
        world.fleet,
        world.store,
        Authenticator(TrustedProxies, TokenReviews(everybody, lambda: 0.0), anonymous=True),
        AccessReviews(everybody, lambda: 0.0),
        Health(),
        Monitoring(),
        Draining(),
        lambda: world.now,
    )
    async with TestClient(TestServer(api.application())) as running:
        yield running


TABLE: list[tuple[str, int, int | None]] = [
    # Documents: no item count.
    ("/apis", 200, None),
    ("/apis/", 200, None),
    ("/apis/external.metrics.k8s.io", 200, None),
    ("/apis/custom.metrics.k8s.io", 200, None),
    (EXTERNAL, 200, None),
    (f"{EXTERNAL}/", 200, None),
    (CUSTOM, 200, None),
    (CUSTOM_OLD, 200, None),
    ("/version", 200, None),
    ("/openapi/v2", 200, None),
    ("/openapi/v3", 200, None),
    ("/openapi/v3/apis/external.metrics.k8s.io/v1beta1", 200, None),
    ("/openapi/v3/apis/external.metrics.k8s.io/v1", 404, None),
    ("/apis/external.metrics.k8s.io/v1beta2", 404, None),
    ("/apis/metrics.k8s.io/v1beta1", 404, None),
    ("/api/v1/pods", 404, None),
    ("/", 404, None),
    ("/metrics", 404, None),
    # External: only in a namespace, only one segment, in any case.
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag", 200, 4),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag/", 200, 4),
    (f"{EXTERNAL}/namespaces/default/KAFKA_Consumer_Lag", 200, 4),
    (f"{EXTERNAL}/namespaces/other/kafka_consumer_lag", 200, 1),
    (f"{EXTERNAL}/namespaces/empty/kafka_consumer_lag", 200, 0),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?labelSelector=partition%3D2", 200, 1),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?labelSelector=partition%20in%20(0,3)", 200, 2),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?labelSelector=partition%20notin%20(0,3)", 200, 2),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?labelSelector=partition%3E1", 200, 2),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?labelSelector=partition%3C1", 200, 1),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?labelSelector=topic", 200, 4),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?labelSelector=!topic", 200, 0),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?labelSelector=pod!%3Dhunt-a", 200, 2),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?labelSelector=", 200, 4),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?labelSelector=engine%3Dnobody", 200, 0),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?timeout=5s&pretty=true&limit=1", 200, 4),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?labelSelector=a%3Db%3Dc", 400, None),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?labelSelector=a%20in%20()", 400, None),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag?watch=1", 405, None),
    (f"{EXTERNAL}/namespaces/default/{POOL}", 200, 1),
    (f"{EXTERNAL}/namespaces/default/no_such_metric", 404, None),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag/further", 404, None),
    (f"{EXTERNAL}/namespaces/default/kafka%2Fconsumer_lag", 404, None),
    (f"{EXTERNAL}/namespaces/default", 404, None),
    (f"{EXTERNAL}/namespaces", 404, None),
    (f"{EXTERNAL}/kafka_consumer_lag", 404, None),
    (f"{EXTERNAL}/no_such_thing", 404, None),
    (f"{EXTERNAL}/namespaces/default/no_such_metric?labelSelector=engine%3Dhunt", 404, None),
    (f"{EXTERNAL}/namespaces//kafka_consumer_lag", 404, None),
    (f"{EXTERNAL}/namespaces/../kafka_consumer_lag", 404, None),
    (f"{EXTERNAL}/namespaces/%2e%2e/kafka_consumer_lag", 404, None),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag%00", 404, None),
    (f"{EXTERNAL}/namespaces/default/kafka_consumer_lag%25", 404, None),
    (f"{EXTERNAL}/namespaces/default/kafka%0Aconsumer_lag", 404, None),
    (f"{EXTERNAL}/namespaces/%0D%0A/kafka_consumer_lag", 404, None),
    # Custom, root scoped: engines live in namespaces, so that nothing is found, and a leaf is no path.
    (f"{CUSTOM}/nodes/*/{POOL}", 404, None),
    (f"{CUSTOM}/nodes/one/{POOL}", 404, None),
    (f"{CUSTOM}/nodes/*/{POOL}?labelSelector=app%3Dhunt", 404, None),
    (f"{CUSTOM}/nodes", 404, None),
    (f"{CUSTOM}/no_such_thing", 404, None),
    (f"{CUSTOM}/nodes/one", 404, None),
    # Custom, pods: by name, all of them, and by both selectors.
    (f"{CUSTOM}/namespaces/default/pods/hunt-a/{POOL}", 200, 1),
    (f"{CUSTOM}/namespaces/default/Pods/hunt-a/{POOL}", 200, 1),
    (f"{CUSTOM}/namespaces/default/pods/*/{POOL}", 200, 2),
    (f"{CUSTOM}/namespaces/default/pods/%2A/{POOL}", 200, 2),
    (f"{CUSTOM_OLD}/namespaces/default/pods/%2A/{POOL}", 200, 2),
    (f"{CUSTOM}/namespaces/default/pods/*/{POOL}?labelSelector=app%3Dhunt", 200, 2),
    (f"{CUSTOM}/namespaces/default/pods/*/{POOL}?labelSelector=pod%3Dhunt-b", 200, 1),
    (f"{CUSTOM}/namespaces/default/pods/*/{POOL}?labelSelector=app%3Drace", 200, 0),
    (f"{CUSTOM}/namespaces/default/pods/*/{POOL}?metricLabelSelector=pod%3Dhunt-b", 200, 1),
    (f"{CUSTOM}/namespaces/default/pods/*/{POOL}?metricLabelSelector=engine%3Drace", 200, 0),
    (f"{CUSTOM}/namespaces/default/pods/*/{POOL}?labelSelector=a%3Db%3Dc", 400, None),
    (f"{CUSTOM}/namespaces/default/pods/*/{POOL}?metricLabelSelector=a%3Db%3Dc", 400, None),
    (f"{CUSTOM}/namespaces/default/pods/*/{POOL}?watch=true", 405, None),
    (f"{CUSTOM}/namespaces/default/pods/hunt-c/{POOL}", 404, None),
    (f"{CUSTOM}/namespaces/other/pods/hunt-a/{POOL}", 404, None),
    (f"{CUSTOM}/namespaces/other/pods/*/{POOL}", 200, 1),
    (f"{CUSTOM}/namespaces/empty/pods/*/{POOL}", 200, 0),
    (f"{CUSTOM}/namespaces/default/pods/*/Buffer_Pool_Utilisation", 404, None),
    (f"{CUSTOM}/namespaces/default/pods/*/no_such_metric", 404, None),
    (f"{CUSTOM}/namespaces/default/pods/hunt-a", 404, None),
    (f"{CUSTOM}/namespaces/default/pods", 404, None),
    (f"{CUSTOM}/namespaces/default/pods/hunt-a/{POOL}/further", 404, None),
    (f"{CUSTOM}/namespaces/default/pods/hunt-a%2F{POOL}", 404, None),
    (f"{CUSTOM}/pods/hunt-a/{POOL}", 404, None),
    # Custom, EventEngines, and what has no metrics.
    (f"{CUSTOM}/namespaces/default/{ENGINES}/hunt/consumer_lag", 200, 1),
    (f"{CUSTOM}/namespaces/default/{ENGINES}/*/consumer_lag", 200, 1),
    (f"{CUSTOM}/namespaces/default/{ENGINES}/race/consumer_lag", 404, None),
    (f"{CUSTOM}/namespaces/default/eventengines/hunt/consumer_lag", 404, None),
    (f"{CUSTOM}/namespaces/default/services/hunt/consumer_lag", 404, None),
    (f"{CUSTOM}/namespaces/default/deployments.apps/*/consumer_lag", 404, None),
    # Custom, the namespace itself.
    (f"{CUSTOM}/namespaces/default/metrics/consumer_lag", 200, 1),
    (f"{CUSTOM_OLD}/namespaces/default/metrics/{POOL}", 200, 1),
    (f"{CUSTOM}/namespaces/default/metrics/consumer_lag?metricLabelSelector=engine%3Dhunt", 200, 1),
    (f"{CUSTOM}/namespaces/default/metrics/consumer_lag?metricLabelSelector=engine%3Drace", 404, None),
    (f"{CUSTOM}/namespaces/default/metrics/consumer_lag?metricLabelSelector=a%3Db%3Dc", 400, None),
    (f"{CUSTOM}/namespaces/empty/metrics/consumer_lag", 404, None),
    (f"{CUSTOM}/namespaces/default/metrics/no_such_metric", 404, None),
    (f"{CUSTOM}/namespaces/default/metrics", 404, None),
]


@pytest.mark.parametrize(("path", "status", "items"), TABLE)
async def test_a_path_has_its_status_and_its_items(
    client: Client, path: str, status: int, items: int | None
) -> None:
    async with client.get(URL(path, encoded=True)) as response:
        body = await response.json()

    assert response.status == status
    assert (len(body["items"]) if "items" in body else None) == items
    assert response.headers["Content-Type"] == "application/json"
    assert "Retry-After" not in response.headers
    if status >= 400:
        assert (body["kind"], body["code"]) == ("Status", status)
        assert body["message"]


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", [EXTERNAL, f"{CUSTOM}/namespaces/default/pods/*/{POOL}"])
async def test_metrics_are_only_ever_read(client: Client, method: str, path: str) -> None:
    async with client.request(method, path) as response:
        assert response.status == 405


async def test_a_namespace_as_an_object_has_the_sum_of_lag_and_the_maximum_of_ratios(
    client: Client, world: World
) -> None:
    world.pod("race-b", "race")
    world.sample("race-b", partitions={0: 10}, total=1, gauges={POOL: 900})

    async with client.get(f"{CUSTOM}/namespaces/default/metrics/consumer_lag") as response:
        lag = (await response.json())["items"]
    async with client.get(f"{CUSTOM}/namespaces/default/metrics/{POOL}") as response:
        utilisation = (await response.json())["items"]

    assert lag[0]["describedObject"] == {"kind": "Namespace", "name": "default", "apiVersion": "v1"}
    assert [item["value"] for item in (*lag, *utilisation)] == ["14", "900m"]


async def test_the_lag_of_a_namespace_is_of_one_second_for_all_its_engines(
    client: Client, world: World
) -> None:
    world.pod("race-b", "race")
    world.sample("race-b", second=world.second - 2, partitions={0: 10}, total=1)
    for name, partitions in (("hunt-a", {0: 7, 1: 7}), ("hunt-b", {2: 7, 3: 7})):
        world.sample(name, second=world.second - 2, partitions=partitions)

    async with client.get(f"{CUSTOM}/namespaces/default/metrics/consumer_lag") as response:
        item = (await response.json())["items"][0]

    assert (item["timestamp"], item["value"]) == ("2026-11-21T09:59:58Z", "38")


async def test_every_item_has_whole_seconds_a_window_and_an_exact_quantity(
    client: Client, world: World
) -> None:
    world.sample("hunt-a", partitions={0: 1, 1: 1}, gauges={POOL: 333})

    for path, name in (
        (f"{EXTERNAL}/namespaces/default/{POOL}", "window"),
        (f"{CUSTOM_OLD}/namespaces/default/pods/hunt-a/{POOL}", "window"),
        (f"{CUSTOM}/namespaces/default/pods/hunt-a/{POOL}", "windowSeconds"),
    ):
        async with client.get(path) as response:
            item = (await response.json())["items"][0]
        assert item["timestamp"] == "2026-11-21T10:00:00Z"
        assert item[name] == 0
        assert item["value"] in {"333m", "500m"}


@pytest.mark.parametrize("name", ["status", "finalize", "Consumer_Lag", "a/b", "a%b", "", ".", "x" * 64])
def test_a_name_that_kubernetes_would_read_as_something_else_is_refused_where_it_is_made(name: str) -> None:
    with pytest.raises(ValueError, match="can't be a metric's name"):
        Metric(name, "events", "", Aggregation.SUM, 10)
