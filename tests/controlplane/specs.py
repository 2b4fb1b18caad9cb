"""Specs of EventEngines by chance: right ones, and right ones with one thing wrong in them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from .spaces import KAFKA, LAG

Object = dict[str, Any]
Path = tuple[str | int, ...]

TCP = {"name": "direct", "type": "tcp", "tcp": {"insecure": True}}
OTHER_TCP = {"name": "other", "type": "tcp", "tcp": {"listen": "0.0.0.0:9401", "insecure": True}}
OTHER_KAFKA = {
    "name": "further",
    "type": "kafka",
    "kafka": {"bootstrapServers": ["127.0.0.1:1"], "topic": "further-events"},
}
UTILISATION = {"name": "buffer_pool_utilisation", "source": "Pods", "target": {"averageValue": "0.7"}}

SHAPES = st.one_of(
    st.fixed_dictionaries(
        {
            "cpus": st.sampled_from(["100m", "250m", "1", 2]),
            "memory": st.sampled_from(["64Mi", "0.5Gi", "512Mi"]),
            "pinning": st.just("Off"),
        }
    ),
    st.fixed_dictionaries(
        {
            "cpus": st.sampled_from([1, "2", 4]),
            "memory": st.sampled_from(["64Mi", "1Gi"]),
            "pinning": st.sampled_from(["Required", "Preferred"]),
        }
    ),
)
TEMPLATES = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.dictionaries(st.sampled_from(["team", "stage", "cost"]), st.sampled_from(["a", "b"])),
        "annotations": st.dictionaries(st.sampled_from(["note", "link"]), st.text("xyz ", max_size=8)),
        "nodeSelector": st.dictionaries(st.just("disk"), st.sampled_from(["fast", "slow"])),
        "tolerations": st.just([{"key": "dedicated", "operator": "Exists"}]),
        "topologySpreadConstraints": st.just([]),
        "priorityClassName": st.just("system-cluster-critical"),
    },
)
ENGINES = st.fixed_dictionaries(
    {
        "sources": st.builds(
            lambda kafka, tcp: [*kafka, *tcp],
            st.lists(st.sampled_from([KAFKA, OTHER_KAFKA]), max_size=1),
            st.lists(st.sampled_from([TCP, OTHER_TCP]), unique_by=lambda item: item["name"]),
        )
    },
    optional={
        "program": st.fixed_dictionaries({"districts": st.integers(1, 64)}),
        "drainTimeout": st.sampled_from(["1500ms", "20s", "1m"]),
    },
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "stabilizationWindowSeconds": st.integers(0, 3600),
        "selectPolicy": st.sampled_from(["Max", "Min", "Disabled"]),
        "policies": st.just([{"type": "Pods", "value": 2, "periodSeconds": 15}]),
        "tolerance": st.sampled_from(["0.05", "0.2"]),
    },
)
AUTOSCALERS = st.fixed_dictionaries(
    {
        "driver": st.just("hpa"),
        "minReplicas": st.integers(1, 3),
        "maxReplicas": st.integers(3, 20),
        "metrics": st.sampled_from([[LAG], [UTILISATION], [LAG, UTILISATION]]),
    },
    optional={"behavior": st.fixed_dictionaries({}, optional={"scaleUp": RULES, "scaleDown": RULES})},
)
ROLLOUTS = st.fixed_dictionaries(
    {},
    optional={
        "maxSurge": st.sampled_from([1, 2, "25%"]),
        "maxUnavailable": st.sampled_from([1, "50%"]),
        "minReadySeconds": st.integers(0, 30),
        "progressDeadlineSeconds": st.integers(60, 900),
    },
)


@st.composite
def right_specs(draw: st.DrawFn) -> Object:
    """A spec that the operator has to bring about."""
    spec: Object = {"pod": draw(SHAPES), "engine": draw(ENGINES)}
    template = draw(TEMPLATES)
    if template:
        spec["pod"]["template"] = template
    if draw(st.booleans()):
        spec["autoscaling"] = draw(st.one_of(AUTOSCALERS, st.just({"driver": "none"})))
    if spec.get("autoscaling", {}).get("driver") != "hpa" and draw(st.booleans()):
        spec["replicas"] = draw(st.integers(0, 5))
    if draw(st.booleans()):
        spec["rollout"] = draw(ROLLOUTS)
    if draw(st.booleans()):
        spec["disruption"] = {"maxUnavailable": draw(st.sampled_from([1, 3, "10%"]))}
    return spec


JUNK = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        10**12,
        0.5,
        "",
        "0",
        "-1",
        "1.5",
        "1e9",
        "Off",
        "x" * 300,
        "é☃",
        [],
        [None],
        {},
        {"a": 1},
    ]
)


@st.composite
def damaged_specs(draw: st.DrawFn) -> Object:
    """A right spec with one value replaced by something else, doubled, taken out, or one key too many."""
    spec = copy.deepcopy(draw(right_specs()))
    path = draw(st.sampled_from(sorted(_paths(spec), key=repr)))
    place: Any = spec
    for step in path[:-1]:
        place = place[step]
    match draw(st.sampled_from(["replace", "remove", "double", "add"])):
        case "remove":
            del place[path[-1]]
        case "double" if isinstance(place, list):
            place.append(copy.deepcopy(place[path[-1]]))
        case "add" if isinstance(place, dict):
            place["unheardOf"] = draw(JUNK)
        case _:
            place[path[-1]] = draw(JUNK)
    return spec


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in steps:
        yield (*path, step)
        yield from _paths(item, (*path, step))
