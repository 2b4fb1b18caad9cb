"""What `explain` prints, and the autoscaler's arithmetic behind it."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
from eventengine_adapter.cluster.client import KubernetesError
from eventengine_adapter.explaining.asking import find, selector_text
from eventengine_adapter.explaining.replica_calculator import from_average, from_pods, from_value
from eventengine_adapter.explaining.report import describe

NOW = 1_795_255_201.5
STAMP = "2026-11-21T10:00:00Z"
LAG = "kafka_consumer_lag"


# --- the arithmetic ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "target", "replicas", "wanted"),
    [
        (4000, 1000, 2, 4),
        (4001, 1000, 2, 5),
        (2200, 1000, 2, 2),  # exactly ten per cent above: within
        (2201, 1000, 2, 3),
        (1800, 1000, 2, 2),
        (1799, 1000, 2, 2),  # outside of the tolerance, and rounded up to where it was
        (0, 1000, 3, 0),
        (500, 1000, 0, 1),
    ],
)
def test_a_total_is_shared_by_the_replicas(total: int, target: int, replicas: int, wanted: int) -> None:
    assert from_average(total * 1000, target * 1000, replicas).replicas == wanted


@pytest.mark.parametrize(
    ("total", "replicas", "ready", "wanted"),
    [(1600, 2, 2, 4), (850, 2, 2, 2), (400, 4, 4, 2), (1600, 0, 0, 2)],
)
def test_a_ratio_multiplies_the_ready_pods(total: int, replicas: int, ready: int, wanted: int) -> None:
    assert from_value(total, 800, replicas, ready).replicas == wanted


@pytest.mark.parametrize(
    ("values", "missing", "replicas", "wanted"),
    [
        ([2000, 2000], 0, 2, 4),
        ([1050, 1050], 0, 2, 2),
        ([100, 100], 2, 4, 3),  # the missing count as at the target: no shrinking on their account
        ([3000], 1, 2, 3),  # the missing count as idle: growing, but less
        ([1500], 2, 3, 3),  # growing on one pod alone would turn round with the missing: no change
    ],
)
def test_pods_without_a_value_hold_the_autoscaler_back(
    values: list[int], missing: int, replicas: int, wanted: int
) -> None:
    wish = from_pods({f"p{n}": value for n, value in enumerate(values)}, 1000, replicas, missing)

    assert wish is not None
    assert wish.replicas == wanted


def test_pods_that_are_still_to_come_count_as_idle_only_when_it_grows() -> None:
    growing = from_pods({"a": 3000, "b": 3000}, 1000, 4, 0, pending=2)
    shrinking = from_pods({"a": 100, "b": 100}, 1000, 4, 0, pending=2)

    assert growing is not None
    assert shrinking is not None
    assert (growing.replicas, shrinking.replicas) == (6, 1)


def test_no_value_of_any_pod_is_no_wish() -> None:
    assert from_pods({}, 1000, 2, 2) is None


def test_the_tolerance_is_an_argument() -> None:
    assert from_average(2_201_000, 1_000_000, 2, Fraction(1, 2)).replicas == 2


# --- the report ----------------------------------------------------------------------------------------------


class Cluster:
    """The Kubernetes API, as paths and what they answer; anything else is not found."""

    def __init__(self, answers: dict[str, dict[str, Any] | KubernetesError]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        self.asked.append((path, dict(query or {})))
        answer = self.answers.get(path, KubernetesError(404, f"{path}: 404 not found"))
        if isinstance(answer, KubernetesError):
            raise answer
        return answer


EXTERNAL = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/default/{LAG}"
BY_POD = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/%2A/{LAG}"
AUTOSCALERS = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
SCALE = "/apis/eventengine.dev/v1alpha1/namespaces/default/eventengines/hunt/scale"
PODS = "/api/v1/namespaces/default/pods"


def partition(number: int, value: str, **labels: str) -> dict[str, Any]:
    labels = {"engine": "hunt", "source": "moves", "partition": str(number), **labels}
    return {"metricName": LAG, "metricLabels": labels, "timestamp": STAMP, "window": 0, "value": value}


def share(pod: str, value: str) -> dict[str, Any]:
    return {"describedObject": {"kind": "Pod", "name": pod}, "timestamp": STAMP, "value": value}


def autoscaler(kind: str, **section: Any) -> dict[str, Any]:
    section = {"metric": {"name": LAG}, "target": {"type": "AverageValue", "averageValue": "1k"}, **section}
    return {
        "metadata": {"name": "hunt"},
        "spec": {
            "scaleTargetRef": {"kind": "EventEngine", "name": "hunt"},
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [
                {"type": "Resource", "resource": {"name": "cpu"}},
                {"type": kind, kind.lower(): section},
            ],
        },
        "status": {"currentReplicas": 2},
    }


def running(name: str) -> dict[str, Any]:
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": name}, "status": status}


def cluster(*autoscalers: dict[str, Any]) -> Cluster:
    return Cluster(
        {
            EXTERNAL: {"items": [partition(0, "3k", pod="hunt-a"), partition(1, "1k")]},
            BY_POD: {"items": [share("hunt-a", "3k")]},
            AUTOSCALERS: {"items": list(autoscalers)},
            SCALE: {"status": {"selector": "eventengine.dev/engine=hunt"}},
            PODS: {"items": [running("hunt-a"), running("hunt-b")]},
        }
    )


async def explained(found: Cluster, selector: str = "") -> str:
    return describe(await find(found, LAG, "default", selector), NOW)


async def test_it_says_who_each_value_comes_from_how_much_it_is_and_how_old() -> None:
    text = await explained(cluster())

    assert "  3k     75 %   1.5 s  engine=hunt partition=0 source=moves  pod hunt-a" in text
    assert "the brokers: no pod owns it" in text
    assert "together 4000, which is what an autoscaler sees" in text
    assert "  hunt-a  3k     100 %  1.5 s" in text
    assert "At most 10 s old." in text
    assert "none in this namespace" in text


async def test_it_says_what_the_autoscaler_will_ask_for_and_why() -> None:
    text = await explained(cluster(autoscaler("External")))

    assert "hunt: External metric for EventEngine hunt, 2 replicas now" in text
    assert "asks for 3 replicas: 4000 / 1000, rounded up, bounded to 1-3" in text


async def test_a_pods_metric_counts_the_pods_that_have_none() -> None:
    text = await explained(cluster(autoscaler("Pods")))

    assert "average 3000 / 1000, 1 pods without a value taken as 0, rounded up" in text


async def test_a_refusal_is_explained_with_what_follows_from_it() -> None:
    found = cluster(autoscaler("External"))
    found.answers[EXTERNAL] = KubernetesError(503, "503 metric is not fresh: pod hunt-a: 47 s old")

    text = await explained(found)

    assert text.count("no value: 503 metric is not fresh: pod hunt-a: 47 s old") == 2
    assert "replicas stay" in text


async def test_the_autoscaler_s_own_selector_is_used() -> None:
    selector = {
        "matchLabels": {"engine": "hunt"},
        "matchExpressions": [{"key": "partition", "operator": "In", "values": ["0", "1"]}],
    }
    found = cluster(autoscaler("External", metric={"name": LAG.upper(), "selector": selector}))

    await explained(found, "topic=a")

    path = EXTERNAL.replace(LAG, LAG.upper())
    assert (path, {"labelSelector": "engine=hunt,partition in (0,1)"}) in found.asked
    assert (EXTERNAL, {"labelSelector": "topic=a"}) in found.asked


@pytest.mark.parametrize(
    ("operator", "text"),
    [("In", "a in (x,y)"), ("NotIn", "a notin (x,y)"), ("Exists", "a"), ("DoesNotExist", "!a")],
)
def test_a_selector_is_written_as_the_autoscaler_writes_it(operator: str, text: str) -> None:
    expression = {"key": "a", "operator": operator, "values": ["x", "y"] if "In" in operator else []}

    assert selector_text({"matchExpressions": [expression]}) == text


async def test_an_api_that_does_not_answer_is_an_error_and_no_explanation() -> None:
    found = cluster()
    found.answers[EXTERNAL] = KubernetesError(0, "connection refused")

    with pytest.raises(KubernetesError, match="connection refused"):
        await explained(found)
