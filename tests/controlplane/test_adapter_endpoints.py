"""Metrics of the user's own, from a Prometheus endpoint in the engine's pods: scaled on and refused like all others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from eventengine_harness.waiting import wait_for

from .adapters import AdapterPlane, AdapterProcess
from .hunting import CUSTOM, ENGINES, EXTERNAL, Hunt, autoscaler, items, wait_refused, wait_served

QUEUE = '# TYPE queue_depth gauge\nqueue_depth{{shard="a"}} {}\nqueue_depth{{shard="b"}} 1000\n'


@pytest.fixture
def hunt(plane: AdapterPlane, adapter: AdapterProcess, metrics_space: str) -> Iterator[Hunt]:
    """Two pods whose endpoints say 2,000 each."""
    prefix = "metrics.eventengine.dev/"
    annotations = {
        f"{prefix}port": str(plane.snapshot_port),
        f"{prefix}path": "/user/metrics",
        f"{prefix}names": "queue_depth",
    }
    with ExitStack() as stack:
        found = Hunt(plane, adapter, metrics_space, stack, annotations=annotations)
        for state in found.states:
            state.endpoint = QUEUE.format(1000)
        wait_served(plane, f"{EXTERNAL}/namespaces/{metrics_space}/queue_depth", 1)
        yield found


def test_the_endpoint_s_metric_is_served_of_pods_engines_and_namespaces(
    plane: AdapterPlane, hunt: Hunt
) -> None:
    where = f"namespaces/{hunt.namespace}"

    def sums() -> list[str]:
        return [item["value"] for item in items(plane, f"{EXTERNAL}/{where}/Queue_Depth")]

    wait_for(lambda: sums() == ["4000"], "both pods in the sum", 10)
    by_pod = items(plane, f"{CUSTOM}/{where}/pods/*/queue_depth")
    assert [(i["describedObject"]["name"], i["value"]) for i in by_pod] == [(n, "2000") for n in hunt.pods]
    for path in (f"{ENGINES}/hunt/queue_depth", "metrics/queue_depth"):
        assert [item["value"] for item in items(plane, f"{CUSTOM}/{where}/{path}")] == ["4000"]
    largest = f"{EXTERNAL}/{where}/queue_depth?labelSelector=aggregation%3Dmaximum"
    assert [item["value"] for item in items(plane, largest)] == ["2000"]


def metric(kind: str, target: dict[str, str]) -> dict[str, Any]:
    about = {"metric": {"name": "queue_depth"}, "target": target}
    if kind == "Object":
        engine = {"apiVersion": "eventengine.dev/v1alpha1", "kind": "EventEngine", "name": "hunt"}
        about["describedObject"] = engine
    return {"type": kind, kind.lower(): about}


@pytest.mark.parametrize("kind", ["External", "Pods", "Object"])
def test_the_autoscaler_scales_on_it(plane: AdapterPlane, hunt: Hunt, kind: str) -> None:
    wanted = metric(kind, {"type": "AverageValue", "averageValue": "1000"})

    plane.access.apply(autoscaler("hunt", wanted), namespace=hunt.namespace)

    plane.access.wait_until(
        "deployment", "hunt", lambda d: d["spec"]["replicas"] == 4, "four replicas", namespace=hunt.namespace
    )


def test_what_the_endpoint_does_not_say_soundly_is_an_error_with_the_reason(
    plane: AdapterPlane, hunt: Hunt
) -> None:
    path = f"{EXTERNAL}/namespaces/{hunt.namespace}/queue_depth"

    hunt.states[1].endpoint = "queue_depth NaN\n"
    assert f"pod {hunt.pods[1]}" in wait_refused(plane, path, "it is nan")

    hunt.states[1].endpoint = None
    assert "limit 10 s" in wait_refused(plane, path, "answered with status 302")

    hunt.states[1].endpoint = QUEUE.format(0)
    wait_served(plane, path, 1)
