"""Paths, discovery, OpenAPI, negotiation and health, as the aggregation layer expects them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from eventengine_adapter.apis import discovery, openapi
from eventengine_adapter.apis.health import Health
from eventengine_adapter.apis.negotiation import (
    JSON,
    PROTOBUF,
    metric_media_type,
    takes_aggregated_discovery,
    takes_json,
)
from eventengine_adapter.apis.routing import CUSTOM_GROUP, EXTERNAL_GROUP, RouteKind, resolve
from eventengine_contract.metric_names import METRICS

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def content(document: discovery.Document) -> Any:
    return json.loads(document.body)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/livez", RouteKind.HEALTH),
        ("/readyz/sampling", RouteKind.HEALTH),
        ("/version", RouteKind.VERSION),
        ("/openapi/v2", RouteKind.OPENAPI_V2),
        ("/openapi/v3", RouteKind.OPENAPI_V3_ROOT),
        ("/openapi/v3/apis/custom.metrics.k8s.io/v1beta2", RouteKind.OPENAPI_V3),
        ("/openapi/v3/apis/custom.metrics.k8s.io/v1", RouteKind.UNKNOWN),
        ("/apis", RouteKind.GROUPS),
        ("/apis/", RouteKind.GROUPS),
        ("/apis/external.metrics.k8s.io", RouteKind.GROUP),
        ("/apis/external.metrics.k8s.io/v1beta1", RouteKind.RESOURCES),
        ("/apis/external.metrics.k8s.io/v1beta2", RouteKind.UNKNOWN),
        ("/apis/external.metrics.k8s.io/v1beta1/namespaces/a/m", RouteKind.EXTERNAL),
        ("/apis/external.metrics.k8s.io/v1beta1/namespaces/a/m/n", RouteKind.UNKNOWN),
        ("/apis/external.metrics.k8s.io/v1beta1/m", RouteKind.UNKNOWN),
        ("/apis/external.metrics.k8s.io/v1beta1/namespaces/a/m%2Fn", RouteKind.UNKNOWN),
        ("/apis/external.metrics.k8s.io/v1beta1/namespaces/%2e%2e/m", RouteKind.UNKNOWN),
        ("/apis/external.metrics.k8s.io//v1beta1", RouteKind.UNKNOWN),
        ("/apis/external.metrics.k8s.io/v1beta1/namespaces/a/%FF", RouteKind.UNKNOWN),
        ("/apis/custom.metrics.k8s.io/v1beta1/namespaces/a/pods/%2A/m", RouteKind.CUSTOM),
        ("/apis/custom.metrics.k8s.io/v1beta2/namespaces/a/pods/x/m", RouteKind.CUSTOM),
        ("/apis/custom.metrics.k8s.io/v1beta2/namespaces/a/metrics/m", RouteKind.NAMESPACE_METRIC),
        ("/apis/custom.metrics.k8s.io/v1beta2/nodes/x/m", RouteKind.CUSTOM),
        ("/apis/custom.metrics.k8s.io/v1beta2/namespaces/a/pods/x", RouteKind.UNKNOWN),
        ("/apis/apps/v1/namespaces/a/deployments/x", RouteKind.UNKNOWN),
        ("/" + "a" * 5000, RouteKind.UNKNOWN),
        ("", RouteKind.UNKNOWN),
    ],
)
def test_a_path_means_one_thing(path: str, kind: RouteKind) -> None:
    assert resolve(path).kind is kind


def test_names_are_taken_from_the_path_as_they_were_meant() -> None:
    route = resolve("/apis/custom.metrics.k8s.io/v1beta2/namespaces/a/PODS/%2A/Mixed_Case")
    assert (route.namespace, route.resource, route.name, route.metric) == ("a", "pods", "*", "Mixed_Case")
    assert resolve("/apis/external.metrics.k8s.io/v1beta1/namespaces/a/Mixed_Case").metric == "mixed_case"


def test_legacy_discovery_lists_each_metric_once_and_never_nothing() -> None:
    external = content(discovery.resources(EXTERNAL_GROUP, "v1beta1"))
    custom = content(discovery.resources(CUSTOM_GROUP, "v1beta1"))

    assert external["groupVersion"] == "external.metrics.k8s.io/v1beta1"
    assert {r["name"] for r in external["resources"]} == set(METRICS)
    names = [r["name"] for r in custom["resources"]]
    assert len(names) == len(set(names)) == 3 * len(METRICS) - 1, "a forecast is of no single pod"
    assert {name.split("/")[0] for name in names} == {"pods", "eventengines.eventengine.dev", "namespaces"}
    assert {r["kind"] for r in custom["resources"]} == {"MetricValueList"}


def test_no_parent_resource_has_two_scopes_and_a_namespace_is_in_no_namespace() -> None:
    """Clients that turn legacy discovery into the aggregated form fail on a parent with two scopes."""
    scopes: dict[str, set[bool]] = {}
    for resource in content(discovery.resources(CUSTOM_GROUP, "v1beta2"))["resources"]:
        scopes.setdefault(resource["name"].split("/")[0], set()).add(resource["namespaced"])

    assert scopes == {"pods": {True}, "eventengines.eventengine.dev": {True}, "namespaces": {False}}


def test_groups_prefer_the_newer_version() -> None:
    groups = {g["name"]: g for g in content(discovery.groups())["groups"]}

    assert groups[CUSTOM_GROUP]["preferredVersion"]["version"] == "v1beta2"
    assert content(discovery.group(CUSTOM_GROUP))["preferredVersion"]["version"] == "v1beta2"


def test_aggregated_discovery_says_the_same_as_legacy_and_always_has_a_response_kind() -> None:
    document = discovery.aggregated()
    assert document.content_type == V2
    for item in content(document)["items"]:
        group = item["metadata"]["name"]
        for version in item["versions"]:
            aggregated = set()
            for resource in version["resources"]:
                assert "responseKind" in resource
                if resource["verbs"]:
                    aggregated.add(resource["resource"])
                for sub in resource.get("subresources", []):
                    assert sub["responseKind"]["kind"] == "MetricValueList"
                    aggregated.add(f"{resource['resource']}/{sub['subresource']}")
            legacy = content(discovery.resources(group, version["version"]))["resources"]
            assert aggregated == {resource["name"] for resource in legacy}


def test_metrics_of_users_are_listed_with_ours_in_both_forms() -> None:
    own = ("orders_total", "queue_depth")
    external = content(discovery.resources(EXTERNAL_GROUP, "v1beta1", own))["resources"]
    custom = content(discovery.resources(CUSTOM_GROUP, "v1beta2", own))["resources"]
    whole = discovery.aggregated(own)

    assert {resource["name"] for resource in external} == {*METRICS, *own}
    assert {"pods/queue_depth", "namespaces/queue_depth", "eventengines.eventengine.dev/orders_total"} <= {
        resource["name"] for resource in custom
    }
    assert whole.body.count(b'"queue_depth"') == 1 + 2 * 3, "external, and three objects in two versions"
    assert whole.etag != discovery.aggregated().etag


def test_openapi_references_resolve_and_operations_are_unique() -> None:
    documents = [openapi.version_2(), openapi.version_3(CUSTOM_GROUP, "v1beta2")]
    for document in documents:
        body = content(document)
        schemas = body.get("definitions") or body["components"]["schemas"]
        references = re.findall(
            r'"\$ref":"#/(?:definitions|components/schemas)/([^"]+)"', document.body.decode()
        )
        assert references
        assert set(references) <= set(schemas)
        operations = [path["get"]["operationId"] for path in body["paths"].values()]
        assert len(operations) == len(set(operations))


def test_the_openapi_root_points_at_the_documents_by_their_hash() -> None:
    paths = content(openapi.version_3_root())["paths"]

    assert set(paths) == {
        "apis/external.metrics.k8s.io/v1beta1",
        "apis/custom.metrics.k8s.io/v1beta2",
        "apis/custom.metrics.k8s.io/v1beta1",
    }
    etag = openapi.version_3(CUSTOM_GROUP, "v1beta1").etag
    assert paths["apis/custom.metrics.k8s.io/v1beta1"]["serverRelativeURL"].endswith(f"?hash={etag}")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, True),
        ("", True),
        ("application/json", True),
        ("*/*", True),
        ("application/vnd.kubernetes.protobuf, */*", True),
        ("application/vnd.kubernetes.protobuf,application/json", True),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", True),
        ("application/json;q=0.5", True),
        ("application/json;as=Table;v=v1;g=meta.k8s.io", False),
        ("application/vnd.kubernetes.protobuf", False),
        ("application/yaml", False),
        ("application/json;q=0", False),
        ("application/json;q=0.0, */*", False),
        ("text/html", False),
    ],
)
def test_json_is_served_to_those_who_take_it(accept: str | None, expected: bool) -> None:
    assert takes_json(accept) is expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("application/vnd.kubernetes.protobuf, */*", PROTOBUF),
        ("application/vnd.kubernetes.protobuf,application/json", PROTOBUF),
        ("application/json, */*", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/vnd.kubernetes.protobuf;q=0.5, application/json", JSON),
        ("application/json;q=0.1, application/vnd.kubernetes.protobuf;q=.9", PROTOBUF),
        ("application/json;q=0, */*", PROTOBUF),
        ("application/vnd.kubernetes.protobuf;q=0, */*;q=0.1", JSON),
        ("application/vnd.kubernetes.protobuf;q=high", PROTOBUF),
        ("application/json;as=Table;v=v1;g=meta.k8s.io, application/json", JSON),
        ("application/json;q=0, application/vnd.kubernetes.protobuf;q=0, */*", None),
        ("application/yaml", None),
        ("application/cbor", None),
    ],
)
def test_a_metric_is_served_in_what_the_client_likes_best(accept: str | None, expected: str | None) -> None:
    assert metric_media_type(accept) == expected


def test_aggregated_discovery_is_for_those_who_ask_for_it_in_any_order() -> None:
    assert takes_aggregated_discovery(V2)
    assert takes_aggregated_discovery("application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io")
    assert not takes_aggregated_discovery(V2.replace("v=v2", "v=v2beta1"))
    assert not takes_aggregated_discovery("application/json")
    assert not takes_aggregated_discovery(None)


def test_health_pages_name_the_failing_check_and_keep_its_reason() -> None:
    health = Health(live={"sampling": lambda: True}, ready={"certificate": lambda: False})

    assert health.answer("/livez", verbose=False).text == "ok"
    answer = health.answer("/readyz", verbose=False)
    assert answer.code == 500
    assert "[+]sampling ok\n[-]certificate failed: reason withheld" in answer.text
    assert health.answer("/readyz", verbose=True, excluded=frozenset({"certificate"})).code == 200
    assert health.answer("/readyz/sampling", verbose=True).text == "[+]sampling ok\nreadyz check passed\n"
    assert health.answer("/livez/certificate", verbose=False).code == 404
    assert not health.is_ready()
