"""The API server refuses a wrong EventEngine with the path of the fault, and takes a right one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from eventengine_contract.generating import crd
from eventengine_harness.exceptions import CommandError

from .operators import OperatorPlane

TCP = {"name": "direct", "type": "tcp", "tcp": {"insecure": True}}


KAFKA = {"name": "moves", "type": "kafka", "kafka": {"bootstrapServers": ["k:1"], "topic": "t"}}
METRIC = {"name": "consumer_lag", "target": {"averageValue": 500}}


def engine(name: str = "hunt", **spec: Any) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "eventengine.dev/v1alpha1",
            "kind": "EventEngine",
            "metadata": {"name": name},
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
        {"autoscaling": {"metrics": [METRIC]}},
        {"rollout": {"maxSurge": "25%", "maxUnavailable": 0, "minReadySeconds": 5}},
        {"rollout": {"maxSurge": 0}},
        {"disruption": {"maxUnavailable": "1%"}},
        {"disruption": {"consolidation": "Never"}},
        {"autoscaling": {"driver": "keda", "metrics": [METRIC], "scaleToZero": {"idleSeconds": 60}}},
        {"autoscaling": {"driver": "none", "headroom": {"pods": 2}}},
        {"storage": {"size": "10Gi"}},
        {"storage": {"size": "1Ti", "storageClassName": "fast", "whenDeleted": "Delete"}},
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
        ({"rollout": {"maxSurge": "150%"}}, "spec.rollout.maxSurge"),
        ({"disruption": {"maxUnavailable": -1}}, "spec.disruption.maxUnavailable"),
        ({"pod": {"pinning": "Sometimes"}}, "spec.pod.pinning"),
        ({"storage": {}}, "spec.storage.size"),
        ({"storage": {"size": "10G"}}, "spec.storage.size"),
        ({"storage": {"size": "1Gi", "mountPath": "/a/../b"}}, "spec.storage.mountPath"),
        ({"storage": {"size": "1Gi", "whenScaled": "Delete"}}, "spec.storage.whenScaled"),
        ({"autoscaling": {"metrics": [{"name": "consumer_lag"}]}}, "spec.autoscaling.metrics[0].target"),
        (
            {"autoscaling": {"metrics": [{"name": "cpu", "target": {"value": 1}}]}},
            "spec.autoscaling.metrics[0].name",
        ),
    ],
)
def test_wrong_engine_is_refused_with_its_path(
    operator_plane: OperatorPlane, spec: dict[str, Any], place: str
) -> None:
    with pytest.raises(CommandError) as refusal:
        create(operator_plane, engine(**spec))
    assert place in str(refusal.value)


def scaling(**metric: Any) -> dict[str, Any]:
    return {"autoscaling": {"metrics": [METRIC | metric]}}


BROKEN: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "the name may have at most 52 characters": [("", {"name": "h" * 53})],
    "the name must begin with a letter and hold only lower-case letters, digits and dashes: "
    "Services are called after it": [("", {"name": "1hunt"}), ("", {"name": "hunt.eu"})],
    "a pinned engine needs whole cores: set cpus to 1, 2, ... or pinning to Off": [
        ("spec.pod", {"pod": {"cpus": "1500m"}}),
        ("spec.pod", {"pod": {"cpus": 0, "pinning": "Preferred"}}),
        ("spec.pod", {"pod": {"cpus": "0.5"}}),
    ],
    "type kafka needs the section `kafka`": [
        ("spec.engine.sources[0]", {"engine": {"sources": [{"name": "a", "type": "kafka"}]}}),
        ("spec.engine.sinks[0]", {"engine": {"sinks": [{"name": "a", "type": "kafka"}]}}),
    ],
    "type tcp needs the section `tcp`": [
        ("spec.engine.sources[0]", {"engine": {"sources": [{"name": "a", "type": "tcp"}]}})
    ],
    "bootstrapServers is required": [
        ("spec.engine.sources[0].kafka", {"engine": {"sources": [KAFKA | {"kafka": {"topic": "t"}}]}}),
        ("spec.engine.sinks[0].kafka", {"engine": {"sinks": [KAFKA | {"kafka": {"topic": "t"}}]}}),
    ],
    "name a tokenFile, or say insecure: true to take frames from anybody": [
        ("spec.engine.sources[0].tcp", {"engine": {"sources": [TCP | {"tcp": {}}]}}),
        ("spec.engine.sources[0].tcp", {"engine": {"sources": [TCP | {"tcp": {"insecure": False}}]}}),
    ],
    "minReplicas must not be greater than maxReplicas": [
        ("spec.autoscaling", {"autoscaling": {"minReplicas": 3, "maxReplicas": 2, "driver": "none"}})
    ],
    "a driver other than none needs at least one metric": [
        ("spec.autoscaling", {"autoscaling": {"driver": "hpa"}}),
        ("spec.autoscaling", {"autoscaling": {"metrics": []}}),
    ],
    "scaleToZero needs a driver other than none, which brings the pods after the first": [
        ("spec.autoscaling", {"autoscaling": {"driver": "none", "scaleToZero": {}}}),
        ("spec.autoscaling", {"autoscaling": {"driver": "none", "scaleToZero": {"idleSeconds": 60}}}),
    ],
    "consumer_lag_forecast is of the engine as a whole: use source External or Object": [
        ("spec.autoscaling.metrics[0]", scaling(name="consumer_lag_forecast", source="Pods"))
    ],
    "a metric of source Pods needs averageValue": [
        ("spec.autoscaling.metrics[0]", scaling(source="Pods", target={"value": 1}))
    ],
    "set exactly one of averageValue and value": [
        ("spec.autoscaling.metrics[0].target", scaling(target={})),
        ("spec.autoscaling.metrics[0].target", scaling(target={"value": 1, "averageValue": 1})),
    ],
    "maxSurge and maxUnavailable can't both be 0: no pod could ever be replaced": [
        ("spec.rollout", {"rollout": {"maxSurge": 0, "maxUnavailable": 0}}),
        ("spec.rollout", {"rollout": {"maxSurge": "0%", "maxUnavailable": 0}}),
    ],
    "progressDeadlineSeconds must be greater than minReadySeconds": [
        ("spec.rollout", {"rollout": {"minReadySeconds": 600}})
    ],
    "maxUnavailable must be at least 1 or 1%: a budget of none would block every drain of a node": [
        ("spec.disruption", {"disruption": {"maxUnavailable": 0}}),
        ("spec.disruption", {"disruption": {"maxUnavailable": "0%"}}),
    ],
    "pods with storage are replaced one by one: leave out rollout.maxSurge and rollout.maxUnavailable": [
        ("spec", {"storage": {"size": "1Gi"}, "rollout": {"maxSurge": 1}}),
        ("spec", {"storage": {"size": "1Gi"}, "rollout": {"maxUnavailable": 1}}),
    ],
}
"""For each CEL rule's message, what breaks it and where."""

STORED = {"storage": {"size": "1Gi", "storageClassName": "fast"}}
CHANGED: dict[str, list[tuple[str, dict[str, Any], dict[str, Any]]]] = {
    "storage can't be added or taken away, for pods with a volume are of another kind: make a new EventEngine": [
        ("spec", STORED, {}),
        ("spec", {}, STORED),
    ],
    "size can't be changed here: enlarge the claims themselves, where their storage class allows it": [
        ("spec.storage", STORED, {"storage": {"size": "2Gi", "storageClassName": "fast"}}),
    ],
    "storageClassName can't be changed: a volume stays in the class that it was made in": [
        ("spec.storage", STORED, {"storage": {"size": "1Gi", "storageClassName": "slow"}}),
        ("spec.storage", STORED, {"storage": {"size": "1Gi"}}),
    ],
}
"""For each rule about a change, what may be declared at first and what not afterwards."""


def rules(node: dict[str, Any]) -> Iterator[str]:
    for rule in node.get("x-kubernetes-validations", []):
        yield rule["message"]
    children = [*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")]
    for child in children:
        if isinstance(child, dict):
            yield from rules(child)


def test_every_rule_has_a_case_here() -> None:
    assert set(rules(crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"])) == {*BROKEN, *CHANGED}


@pytest.mark.parametrize(
    ("message", "path", "spec"),
    [(message, path, spec) for message, cases in BROKEN.items() for path, spec in cases],
)
def test_rule_is_told_in_its_own_words_and_with_its_place(
    operator_plane: OperatorPlane, message: str, path: str, spec: dict[str, Any]
) -> None:
    with pytest.raises(CommandError) as refusal:
        create(operator_plane, engine(**spec))
    told = str(refusal.value)
    assert f": {message}" in told
    assert f"{path}: Invalid value" in told or not path


@pytest.mark.parametrize(
    ("message", "path", "before", "after"),
    [(message, *case) for message, cases in CHANGED.items() for case in cases],
)
def test_change_that_cannot_be_is_refused_and_others_go_through(
    operator_plane: OperatorPlane,
    namespace_of_changes: str,
    message: str,
    path: str,
    before: dict[str, Any],
    after: dict[str, Any],
) -> None:
    name = f"hunt-{secrets.token_hex(3)}"
    in_it = f"--namespace={namespace_of_changes}"
    operator_plane.access.kubectl("create", "-f", "-", in_it, stdin=engine(name, **before))
    operator_plane.access.kubectl("apply", "-f", "-", in_it, stdin=engine(name, **before, replicas=1))
    with pytest.raises(CommandError) as refusal:
        operator_plane.access.kubectl("replace", "-f", "-", in_it, stdin=engine(name, **after))
    assert f"{path}: Invalid value" in str(refusal.value)
    assert f": {message}" in str(refusal.value)


@pytest.fixture(scope="module")
def namespace_of_changes(operator_plane: OperatorPlane) -> Iterator[str]:
    """Where EventEngines are stored, since only a stored one can be changed."""
    name = f"changes-{secrets.token_hex(3)}"
    operator_plane.access.kubectl("create", "namespace", name)
    yield name
    operator_plane.access.delete("namespace", name, wait=False)
