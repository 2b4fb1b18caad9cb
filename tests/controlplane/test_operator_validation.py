"""The API server refuses a wrong EventEngine with the path of the fault, and takes a right one."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from eventengine_harness.exceptions import CommandError

from .operators import OperatorPlane

TCP = {"name": "direct", "type": "tcp", "tcp": {"insecure": True}}


def engine(**spec: Any) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "eventengine.dev/v1alpha1",
            "kind": "EventEngine",
            "metadata": {"name": "hunt"},
            "spec": spec,
        }
    )


def create(plane: OperatorPlane, text: str) -> str:
    return plane.access.kubectl(
        "create", "--dry-run=server", "--validate=strict", "-o", "yaml", "-f", "-", stdin=text
    )


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"pod": {"cpus": 2}},
        {"pod": {"cpus": "250m", "pinning": "Off"}},
        {"engine": {"sources": [TCP], "buffer_pool": {"chunk_bytes": 1024}}},
        {"replicas": 0},
        {"autoscaling": {"driver": "none"}},
        {"autoscaling": {"metrics": [{"name": "consumer_lag", "target": {"averageValue": 500}}]}},
    ],
)
def test_right_engine_is_taken(operator_plane: OperatorPlane, spec: dict[str, Any]) -> None:
    created = yaml.safe_load(create(operator_plane, engine(**spec)))
    assert set(spec) <= set(created["spec"])
    assert "driver" in created["spec"].get("autoscaling", {"driver": "none"}), "defaults are filled in"


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"replica": 3}, 'unknown field "spec.replica"'),
        ({"engine": {"bufferPol": {"chunks": 64}}}, 'unknown field "spec.engine.bufferPol"'),
        ({"engine": {"sources": [TCP | {"speed": 1}]}}, 'unknown field "spec.engine.sources[0].speed"'),
        ({"replicas": -1}, "spec.replicas"),
        ({"pod": {"cpus": "1500m"}}, "spec.pod: Invalid value"),
        ({"pod": {"cpus": "500m", "pinning": "Preferred"}}, "a pinned engine needs whole cores"),
        ({"pod": {"pinning": "Sometimes"}}, "spec.pod.pinning"),
        ({"engine": {"sources": [{"name": "a", "type": "tcp"}]}}, "spec.engine.sources[0]"),
        ({"engine": {"sources": [TCP | {"tcp": {}}]}}, "spec.engine.sources[0].tcp"),
        ({"autoscaling": {"metrics": [{"name": "consumer_lag"}]}}, "spec.autoscaling.metrics[0].target"),
        (
            {"autoscaling": {"metrics": [{"name": "consumer_lag", "target": {}}]}},
            "exactly one of averageValue",
        ),
        (
            {"autoscaling": {"metrics": [{"name": "cpu", "target": {"value": 1}}]}},
            "spec.autoscaling.metrics[0].name",
        ),
        ({"autoscaling": {"minReplicas": 3, "maxReplicas": 2, "driver": "none"}}, "spec.autoscaling"),
        ({"autoscaling": {"driver": "hpa"}}, "needs at least one metric"),
    ],
)
def test_wrong_engine_is_refused_with_its_path(
    operator_plane: OperatorPlane, spec: dict[str, Any], place: str
) -> None:
    with pytest.raises(CommandError) as refusal:
        create(operator_plane, engine(**spec))
    assert place in str(refusal.value)
