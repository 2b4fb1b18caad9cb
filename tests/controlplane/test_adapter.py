"""The adapter behind a real API server: aggregation, front-proxy authentication, authorisation, freshness.

The engines' pods are real objects with a real chain of owners; what their
processes would answer is served on loopback. Nothing of Kubernetes is a mock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from eventengine_harness.control_planes import LoopbackControlPlane

from .adapters import AdapterPlane, AdapterProcess

EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2"


@pytest.fixture(scope="module")
def control_plane() -> Iterator[LoopbackControlPlane]:
    """A plane of its own: the metrics APIs exist once per cluster."""
    with LoopbackControlPlane() as running:
        yield running


@pytest.fixture(scope="module")
def plane(control_plane: LoopbackControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AdapterPlane:
    return AdapterPlane(control_plane, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def adapter(plane: AdapterPlane) -> Iterator[AdapterProcess]:
    with AdapterProcess(plane, plane.folder / "adapter.log") as running:
        running.wait_ready()
        yield running


def items(plane: AdapterPlane, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = plane.access.raw(path)["items"]
    return found


def test_all_groups_are_available_and_list_what_they_serve(
    plane: AdapterPlane, adapter: AdapterProcess
) -> None:
    for group, version in (("external", "v1beta1"), ("custom", "v1beta1"), ("custom", "v1beta2")):
        found = plane.access.raw(f"/apis/{group}.metrics.k8s.io/{version}")
        assert any(r["name"].endswith("kafka_consumer_lag") for r in found["resources"])
