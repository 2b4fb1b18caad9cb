"""One real cluster with Kafka serves all tests of this tier; each test has a namespace of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from eventengine_harness import images
from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.brokers import Broker
from eventengine_harness.clusters import Cluster

OTHER_CLUSTER_WAIT_SECONDS = 900.0
TEST_SECONDS_MAX = 120


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that bring up clusters of their own before the shared one starts.

    Only one cluster runs at a time, and the shared one lasts until the session's end. Its bring-up, and
    the wait for another process's cluster, have bounds of their own and don't count as a test's time.
    """
    items.sort(key=lambda item: "cluster" in getattr(item, "fixturenames", ()))
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS_MAX, func_only=True))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A node with the static CPU manager, a control plane, and Kafka at 10.99.0.1:9092."""
    with Cluster(kafka=True, wait_seconds=OTHER_CLUSTER_WAIT_SECONDS) as running:
        yield running


@pytest.fixture(scope="session")
def access(cluster: Cluster) -> KubernetesAccess:
    """Tools that act as cluster administrator."""
    return cluster.access


@pytest.fixture(scope="session")
def kafka(cluster: Cluster) -> Broker:
    """The broker beside the cluster; leave it running."""
    return cluster.broker


@pytest.fixture(scope="session")
def product_images(cluster: Cluster) -> None:
    """The images of operator, adapter and engine, built from this checkout, on the node."""
    for part in images.PARTS:
        cluster.node.import_image(images.image(part))


@pytest.fixture
def all_cpus(cluster: Cluster) -> Iterator[None]:
    """The cluster's components have every CPU: for tests in which no pod has one of its own."""
    with cluster.on_all_cpus():
        yield


@pytest.fixture
def namespace(access: KubernetesAccess) -> Iterator[str]:
    """A fresh namespace; its pods are gone after the test, so that their CPUs are free again."""
    name = f"test-{secrets.token_hex(4)}"
    access.kubectl("create", "namespace", name)
    access.wait_until("serviceaccount", "default", lambda _: True, "made", namespace=name)
    yield name
    access.kubectl(*("delete", "pods", "--all", f"--namespace={name}", "--grace-period=1", "--wait=true"))
    access.delete("namespace", name, wait=False)
