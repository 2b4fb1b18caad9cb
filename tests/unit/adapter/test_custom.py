"""What custom.metrics.k8s.io answers for pods and for EventEngines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from eventengine_adapter.apis.statuses import ApiError

if TYPE_CHECKING:
    from conftest import World

UTILISATION = "buffer_pool_utilisation"
ENGINES = "eventengines.eventengine.dev"


def refused(
    world: World, path: str, selector: str | None = None, metric_selector: str | None = None
) -> ApiError:
    with pytest.raises(ApiError) as caught:
        world.custom(path, selector, metric_selector)
    return caught.value


@pytest.fixture
def hunt(world: World) -> World:
    """Two pods that share four partitions."""
    for name, tier in (("hunt-a", "one"), ("hunt-b", "two")):
        world.pod(name, labels={"app": "hunt", "tier": tier})
    world.sample("hunt-a", partitions={0: 10, 1: 20}, gauges={UTILISATION: 250})
    world.sample("hunt-b", partitions={2: 1, 3: 2}, gauges={UTILISATION: 500})
    return world


def test_the_lag_of_a_pod_is_the_sum_over_its_partitions(hunt: World) -> None:
    items = hunt.custom("pods/*/kafka_consumer_lag", "app=hunt")

    assert [(i["describedObject"]["name"], i["value"]) for i in items] == [("hunt-a", "30"), ("hunt-b", "3")]
    assert items[0] == {
        "describedObject": {"kind": "Pod", "namespace": "default", "name": "hunt-a", "apiVersion": "v1"},
        "metric": {"name": "kafka_consumer_lag", "selector": None},
        "timestamp": "2026-11-21T10:00:00Z",
        "windowSeconds": 0,
        "value": "30",
    }


def test_the_older_version_spells_its_fields_differently(hunt: World) -> None:
    items = hunt.custom(
        "pods/hunt-a/buffer_pool_utilisation", metric_selector="engine=hunt", version="v1beta1"
    )

    assert items == [
        {
            "describedObject": {"kind": "Pod", "namespace": "default", "name": "hunt-a", "apiVersion": "v1"},
            "metricName": UTILISATION,
            "timestamp": "2026-11-21T10:00:00Z",
            "window": 0,
            "value": "250m",
            "selector": {"matchLabels": {"engine": "hunt"}},
        }
    ]


def test_pods_are_selected_by_their_own_labels(hunt: World) -> None:
    items = hunt.custom(f"pods/%2A/{UTILISATION}", "app=hunt,tier notin (one)")

    assert [i["describedObject"]["name"] for i in items] == ["hunt-b"]
    assert hunt.custom(f"pods/*/{UTILISATION}", "app=other") == []


def test_a_pod_asked_for_by_name_is_exactly_one_item_or_an_error(hunt: World) -> None:
    assert len(hunt.custom("pods/hunt-a/consumer_lag")) == 1
    assert refused(hunt, "pods/nobody/consumer_lag").code == 404
    error = refused(hunt, "pods/hunt-a/consumer_lag", metric_selector="topic=other")
    assert error.code == 404
    assert "consumer_lag for pods hunt-a with selector topic=other" in error.message


def test_a_metric_selector_narrows_the_sum(hunt: World) -> None:
    items = hunt.custom("pods/*/consumer_lag", metric_selector="partition in (1,2)")

    assert [(i["describedObject"]["name"], i["value"]) for i in items] == [("hunt-a", "20"), ("hunt-b", "1")]
    assert items[0]["metric"]["selector"] == {
        "matchExpressions": [{"key": "partition", "operator": "In", "values": ["1", "2"]}]
    }


def test_a_partition_in_flight_fails_the_lag_of_the_group_but_not_of_one_pod(hunt: World) -> None:
    hunt.sample("hunt-b", partitions={2: 1})

    assert "owns partitions 3" in refused(hunt, "pods/*/consumer_lag").message
    assert hunt.custom("pods/hunt-a/consumer_lag")[0]["value"] == "30"


def test_a_pod_that_owns_nothing_has_measured_zero(hunt: World) -> None:
    hunt.pod("hunt-c")
    hunt.sample("hunt-c", partitions={})

    values = {i["describedObject"]["name"]: i["value"] for i in hunt.custom("pods/*/consumer_lag")}

    assert values == {"hunt-a": "30", "hunt-b": "3", "hunt-c": "0"}


@pytest.mark.parametrize("metric", ["consumer_lag", UTILISATION])
def test_a_starting_pod_is_left_out_and_a_ready_one_without_sample_fails_the_answer(
    hunt: World, metric: str
) -> None:
    hunt.pod("hunt-c", ready=False)
    assert len(hunt.custom(f"pods/*/{metric}")) == 2
    assert refused(hunt, f"pods/hunt-c/{metric}").code == 503

    hunt.pod("hunt-d", ready=True)
    error = refused(hunt, f"pods/*/{metric}")
    assert error.code == 503
    assert "hunt-d: no sample yet" in error.message


def test_an_engine_as_an_object_has_the_sum_of_lag_and_the_maximum_of_ratios(hunt: World) -> None:
    assert hunt.custom(f"{ENGINES}/hunt/consumer_lag")[0]["value"] == "33"
    items = hunt.custom(f"{ENGINES}/hunt/{UTILISATION}")

    assert items[0]["value"] == "500m"
    assert items[0]["describedObject"] == {
        "kind": "EventEngine",
        "namespace": "default",
        "name": "hunt",
        "apiVersion": "eventengine.dev/v1alpha1",
    }
    assert (
        hunt.custom(f"{ENGINES}/hunt/{UTILISATION}", metric_selector="aggregation=average")[0]["value"]
        == "375m"
    )


def test_engines_are_selected_by_their_own_labels(hunt: World) -> None:
    hunt.engine("race", labels={"team": "b"})

    assert len(hunt.custom(f"{ENGINES}/*/consumer_lag", "team!=b")) == 1
    assert refused(hunt, f"{ENGINES}/*/consumer_lag", "team=b").code == 503


@pytest.mark.parametrize("partitions", [{0: 1, 1: 1, 2: 1, 3: None}, {0: 1, 1: 1, 2: 1}])
def test_the_lag_of_an_engine_is_whole_or_an_error(world: World, partitions: dict[int, int | None]) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", partitions=partitions)

    assert refused(world, f"{ENGINES}/hunt/kafka_consumer_lag").code == 503


@pytest.mark.parametrize(
    "path",
    [
        "pods/hunt-a/no_such",
        "services/hunt/consumer_lag",
        f"{ENGINES}/nobody/consumer_lag",
        "pods/*/Consumer_Lag",
    ],
)
def test_what_has_no_metric_is_not_found(hunt: World, path: str) -> None:
    assert refused(hunt, path).code == 404


def test_bad_selectors_are_bad_requests_that_name_the_parameter(hunt: World) -> None:
    assert "metricLabelSelector" in refused(hunt, "pods/*/consumer_lag", metric_selector="a=b=c").message
    assert refused(hunt, "pods/*/consumer_lag", "a=b=c").code == 400


def test_replicas_that_answer_with_one_timestamp_answer_with_one_value(world: World) -> None:
    """Two adapters that missed different reads still say the same of the same second."""
    answers: dict[str, set[str]] = {}
    for missed in range(4):
        other = type(world)()
        for name in ("hunt-a", "hunt-b"):
            other.pod(name)
        for second in range(other.second - 8, other.second + 1):
            if (second + missed) % 3:
                other.sample("hunt-a", second=second, partitions={0: second % 7}, total=2)
            if (second + missed) % 4:
                other.sample("hunt-b", second=second, partitions={1: second % 5}, total=2)
        item = other.custom(f"{ENGINES}/hunt/consumer_lag")[0]
        answers.setdefault(item["timestamp"], set()).add(item["value"])

    assert all(len(values) == 1 for values in answers.values())
