"""Kinds are found by the names that people use, and a refusal reads as kubectl would print it."""

from __future__ import annotations

import json

import pytest
from eventengine_harness.api_requests import ResourceType, refusal_text, resource_types

DISCOVERY = {
    "items": [
        {
            "metadata": {"name": "autoscaling"},
            "versions": [
                {
                    "version": version,
                    "resources": [
                        {
                            "resource": "horizontalpodautoscalers",
                            "responseKind": {"kind": "HorizontalPodAutoscaler"},
                            "scope": "Namespaced",
                            "singularResource": "horizontalpodautoscaler",
                            "shortNames": ["hpa"],
                        }
                    ],
                }
                for version in ("v2", "v1")
            ],
        },
        {
            "metadata": {},
            "versions": [
                {
                    "version": "v1",
                    "resources": [
                        {"resource": "namespaces", "responseKind": {"kind": "Namespace"}, "scope": "Cluster"}
                    ],
                }
            ],
        },
        {
            "metadata": {"name": "custom.metrics.k8s.io"},
            "versions": [
                {
                    "version": "v1beta2",
                    "resources": [
                        {
                            "resource": "pods/consumer_lag",
                            "responseKind": {"kind": "MetricValueList"},
                            "scope": "Namespaced",
                        }
                    ],
                }
            ],
        },
    ]
}


def test_a_kind_has_all_its_names_and_the_preferred_version_comes_first() -> None:
    types = resource_types(DISCOVERY)
    assert [found.api_version for found in types] == ["autoscaling/v2", "autoscaling/v1", "v1"]
    assert types[0].names == {
        *("hpa", "horizontalpodautoscaler", "horizontalpodautoscalers"),
        "horizontalpodautoscalers.autoscaling",
    }


@pytest.mark.parametrize(
    ("namespace", "name", "path"),
    [
        ("hunt", "one", "/apis/apps/v1/namespaces/hunt/deployments/one"),
        ("hunt", None, "/apis/apps/v1/namespaces/hunt/deployments"),
        (None, None, "/apis/apps/v1/deployments"),
    ],
)
def test_paths_of_namespaced_kinds(namespace: str | None, name: str | None, path: str) -> None:
    found = ResourceType("apps/v1", "Deployment", "deployments", frozenset(), is_namespaced=True)
    assert found.path(namespace, name) == path


def test_a_cluster_wide_kind_has_no_namespace_in_its_path() -> None:
    found = ResourceType("v1", "Namespace", "namespaces", frozenset(), is_namespaced=False)
    assert found.path("ignored", "hunt") == "/api/v1/namespaces/hunt"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"reason": "Forbidden", "message": "no"}, "Error from server (Forbidden): no"),
        ({"message": "broken"}, "Error from server (Unknown): broken"),
        ("404 page not found", "404 page not found"),
        ([1], "[1]"),
    ],
)
def test_a_refusal_reads_as_kubectl_prints_it(body: object, text: str) -> None:
    assert refusal_text((body if isinstance(body, str) else json.dumps(body)).encode()) == text
