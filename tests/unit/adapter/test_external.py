"""What external.metrics.k8s.io answers: the autoscaler sums the items, so none may be missing or doubled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from eventengine_adapter.apis.statuses import ApiError

if TYPE_CHECKING:
    from conftest import World

UTILISATION = "buffer_pool_utilisation"


def refused(world: World, metric: str, selector: str | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        world.external(metric, selector)
    return caught.value


# --- lag -----------------------------------------------------------------------------------------------------


def test_lag_is_one_item_per_partition_with_its_owner(world: World) -> None:
    world.pod("hunt-a")
    world.pod("hunt-b")
    world.sample("hunt-a", partitions={0: 10, 2: 0})
    world.sample("hunt-b", partitions={1: 5, 3: 7})

    items = world.external("kafka_consumer_lag")

    assert [(i["metricLabels"]["partition"], i["metricLabels"]["pod"], i["value"]) for i in items] == [
        ("0", "hunt-a", "10"),
        ("1", "hunt-b", "5"),
        ("2", "hunt-a", "0"),
        ("3", "hunt-b", "7"),
    ]
    assert items[0] == {
        "metricName": "kafka_consumer_lag",
        "metricLabels": {
            "engine": "hunt",
            "source": "moves",
            "topic": "hunt-events",
            "partition": "0",
            "pod": "hunt-a",
        },
        "timestamp": "2026-11-21T10:00:00Z",
        "window": 0,
        "value": "10",
    }


def test_a_partition_without_owner_fails_the_answer_and_is_named(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={0: 1, 4: 1}, total=6)

    error = refused(world, "consumer_lag")

    assert (error.code, error.reason) == (503, "ServiceUnavailable")
    assert "partitions 1-3, 5 of source moves (topic hunt-events)" in error.message
    assert "consumer_lag" in error.message
    assert "10 s" in error.message


def test_a_missing_partition_that_the_selector_excludes_harms_nobody(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={0: 1, 1: 2}, total=3)

    assert [i["value"] for i in world.external("consumer_lag", "partition in (0,1)")] == ["1", "2"]
    assert [i["value"] for i in world.external("consumer_lag", "pod=hunt-a")] == ["1", "2"]
    assert refused(world, "consumer_lag", "pod!=hunt-b").code == 503


def test_a_partition_claimed_twice_belongs_to_the_pod_that_got_it_last(world: World) -> None:
    world.pod("hunt-a")
    world.pod("hunt-b")
    world.sample("hunt-a", partitions={0: 100}, total=1, assigned_at=50)
    world.sample("hunt-b", partitions={0: 3}, total=1, assigned_at=60)

    items = world.external("consumer_lag")

    assert [(i["metricLabels"]["pod"], i["value"]) for i in items] == [("hunt-b", "3")]


def test_a_pod_that_is_not_ready_still_counts_for_the_lag_it_owns(world: World) -> None:
    world.pod("hunt-a", ready=False)
    world.sample("hunt-a", partitions={0: 900}, total=1, ready=False)

    assert [i["value"] for i in world.external("consumer_lag")] == ["900"]


def test_a_lag_that_was_not_measured_is_an_error_and_not_a_number(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={0: 1, 1: None}, total=2)

    error = refused(world, "kafka_consumer_lag")

    assert error.code == 503
    assert "partitions 1 of engine hunt" in error.message
    assert [i["value"] for i in world.external("kafka_consumer_lag", "partition=0")] == ["1"]


def test_an_unknown_number_of_partitions_is_an_error_and_not_an_empty_answer(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={}, total=0)

    assert "how many partitions source moves" in refused(world, "consumer_lag").message


def test_a_source_without_partitions_has_no_lag(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", source=("direct", "tcp", None), total=0)

    assert world.external("consumer_lag") == []


def test_kafka_lag_leaves_other_sources_out(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", source=("log", "log", None), total=1, partitions={0: 5})

    assert world.external("kafka_consumer_lag") == []
    assert [i["value"] for i in world.external("consumer_lag")] == ["5"]


def test_an_engine_without_pods_has_no_known_lag(world: World) -> None:
    world.engine("hunt")

    assert "engine hunt has no running pod" in refused(world, "consumer_lag").message


def test_a_pod_gone_silent_takes_its_partitions_with_it_after_the_limit(world: World) -> None:
    world.pod("hunt-a")
    world.pod("hunt-b")
    for second in range(world.second - 20, world.second + 1):
        world.sample("hunt-a", second=second, partitions={0: 1}, total=2)
        if second <= world.second - 9:
            world.sample("hunt-b", second=second, partitions={1: 2}, total=2)
    items = world.external("consumer_lag")
    assert [i["value"] for i in items] == ["1", "2"]
    assert {i["timestamp"] for i in items} == {"2026-11-21T09:59:51Z"}

    world.now += 1.0

    error = refused(world, "consumer_lag")
    assert "owns partitions 1 of source moves" in error.message


def test_a_new_pod_does_not_hold_up_the_lag_of_the_others(world: World) -> None:
    world.pod("hunt-a")
    world.pod("hunt-b", ready=False)
    world.sample("hunt-a", second=world.second - 1, partitions={0: 1}, total=1)
    world.sample("hunt-b", second=world.second, partitions={}, total=1)

    assert [i["value"] for i in world.external("consumer_lag")] == ["1"]


def test_lag_asked_of_a_silent_pod_is_an_error_that_names_it(world: World) -> None:
    world.pod("hunt-a")
    world.pod("hunt-b")
    world.sample("hunt-a", partitions={0: 1}, total=1)
    world.store.record_failure("uid-hunt-b", "connection refused")

    error = refused(world, "consumer_lag", "pod=hunt-b")

    assert "pod hunt-b: no sample yet, limit 10 s (connection refused)" in error.message


# --- ratios and percentiles --------------------------------------------------------------------------------


def test_a_ratio_is_one_item_the_maximum_over_ready_pods(world: World) -> None:
    for name, value, ready in (("hunt-a", 200, True), ("hunt-b", 700, True), ("hunt-c", 990, False)):
        world.pod(name, ready=ready)
        world.sample(name, gauges={UTILISATION: value})

    items = world.external(UTILISATION)

    assert [i["value"] for i in items] == ["700m"]
    assert items[0]["metricLabels"] == {"engine": "hunt", "aggregation": "maximum", "pod": "hunt-b"}


def test_the_mean_is_there_for_those_who_ask(world: World) -> None:
    for name, value in (("hunt-a", 200), ("hunt-b", 701)):
        world.pod(name)
        world.sample(name, gauges={UTILISATION: value})

    items = world.external(UTILISATION, "aggregation=average")

    assert [(i["value"], i["metricLabels"]["aggregation"]) for i in items] == [("451m", "average")]
    assert [i["value"] for i in world.external(UTILISATION, "aggregation=maximum,pod=hunt-a")] == ["200m"]


def test_a_pod_that_says_it_is_not_ready_does_not_count(world: World) -> None:
    for name, value, ready in (("hunt-a", 200, True), ("hunt-b", 900, False)):
        world.pod(name)
        world.sample(name, gauges={UTILISATION: value}, ready=ready)

    assert [i["value"] for i in world.external(UTILISATION)] == ["200m"]


def test_one_stale_ready_pod_fails_the_ratio_with_metric_age_and_limit(world: World) -> None:
    world.pod("hunt-a")
    world.pod("hunt-b")
    world.sample("hunt-a", gauges={UTILISATION: 1})
    world.sample("hunt-b", gauges={UTILISATION: 1}, second=world.second - 47)

    error = refused(world, UTILISATION)

    assert error.code == 503
    assert UTILISATION in error.message
    assert "pod hunt-b: the newest sample is 47 s old, limit 10 s" in error.message
    assert [i["value"] for i in world.external(UTILISATION, "pod=hunt-a")] == ["1m"]


@pytest.mark.parametrize(("age", "served"), [(9.99, True), (10.0, True), (10.01, False)])
def test_the_limit_is_ten_seconds_sharp(world: World, age: float, served: bool) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", gauges={UTILISATION: 1})
    world.now = world.second + age

    if served:
        assert len(world.external(UTILISATION)) == 1
    else:
        assert refused(world, UTILISATION).code == 503


def test_values_of_several_pods_are_of_one_second(world: World) -> None:
    world.pod("hunt-a")
    world.pod("hunt-b")
    for second, value in ((world.second - 1, 100), (world.second, 900)):
        world.sample("hunt-a", second=second, gauges={UTILISATION: value})
    world.sample("hunt-b", second=world.second - 1, gauges={UTILISATION: 50})

    items = world.external(UTILISATION)

    assert [(i["timestamp"], i["value"]) for i in items] == [("2026-11-21T09:59:59Z", "100m")]


def test_a_value_that_a_pod_can_not_measure_is_an_error(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", gauges={"allocator_pressure": None})

    assert "could not measure it" in refused(world, "allocator_pressure").message


def test_an_engine_without_a_ready_pod_fails_the_ratio(world: World) -> None:
    world.pod("hunt-a", ready=False)
    world.sample("hunt-a", gauges={UTILISATION: 1})

    assert "engine hunt has no ready pod" in refused(world, UTILISATION).message


# --- several engines -------------------------------------------------------------------------------------


def test_a_query_goes_over_the_engines_of_its_namespace_only(world: World) -> None:
    world.pod("hunt-a")
    world.pod("race-a", engine="race")
    world.pod("elsewhere-a", engine="elsewhere", namespace="other")
    for name, value in (("hunt-a", 100), ("race-a", 300), ("elsewhere-a", 900)):
        world.sample(name, gauges={UTILISATION: value}, partitions={0: value}, total=1)

    assert [i["value"] for i in world.external(UTILISATION)] == ["300m"]
    assert [i["metricLabels"]["engine"] for i in world.external("consumer_lag")] == ["hunt", "race"]


def test_a_broken_engine_fails_only_the_answers_it_belongs_to(world: World) -> None:
    world.pod("hunt-a")
    world.pod("race-a", engine="race")
    world.sample("hunt-a", gauges={UTILISATION: 100}, partitions={0: 1}, total=1)

    for metric in (UTILISATION, "consumer_lag"):
        assert refused(world, metric).code == 503
        assert refused(world, metric, "engine=race").code == 503
        assert len(world.external(metric, "engine=hunt")) == 1
        assert len(world.external(metric, "engine notin (race)")) == 1


def test_a_selector_that_matches_nothing_gets_an_empty_list(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", gauges={UTILISATION: 1}, partitions={0: 1}, total=1)

    assert world.external(UTILISATION, "engine=nobody") == []
    assert world.external("consumer_lag", "topic=nothing") == []
    assert world.external(UTILISATION, namespace="empty") == []


def test_a_parameter_that_is_none_is_refused_even_where_no_engine_is_meant(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={0: 1}, total=1)

    with pytest.raises(ApiError) as caught:
        world.external("consumer_lag", "engine=another,window_seconds=ever")

    assert caught.value.code == 400


def test_a_name_in_the_wrong_case_is_the_same_metric(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", gauges={UTILISATION: 1})

    assert world.external("Buffer_Pool_UTILISATION")[0]["metricName"] == UTILISATION


def test_an_unknown_metric_is_not_found_and_a_bad_selector_is_a_bad_request(world: World) -> None:
    assert refused(world, "no_such_metric").code == 404
    error = refused(world, UTILISATION, "engine in hunt")
    assert error.code == 400
    assert "labelSelector" in error.message


# --- rates ---------------------------------------------------------------------------------------------------


def test_shedding_is_the_sum_of_rates_over_ten_seconds(world: World) -> None:
    for name, extra in (("hunt-a", 55), ("hunt-b", 20)):
        world.pod(name)
        world.sample(name, second=world.second - 10, shed={"telemetry": 100})
        world.sample(name, second=world.second, shed={"telemetry": 100 + extra, "chat": 5})

    assert [(i["value"], i["window"]) for i in world.external("shed_events_per_second")] == [("8500m", 10)]
    assert [i["value"] for i in world.external("shed_events_per_second", "class=chat")] == ["1"]


def test_a_rate_without_its_older_sample_is_an_error(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", second=world.second - 3, shed={"telemetry": 100})
    world.sample("hunt-a", second=world.second, shed={"telemetry": 100})

    assert refused(world, "shed_events_per_second").code == 503


def test_a_restart_is_no_negative_rate(world: World) -> None:
    world.pod("hunt-a")
    world.sample("hunt-a", second=world.second - 10, shed={"telemetry": 100_000}, incarnation="one")
    world.sample("hunt-a", shed={"telemetry": 30}, incarnation="two", started_at=world.second - 4)

    assert [i["value"] for i in world.external("shed_events_per_second")] == ["3"]


def test_one_missed_read_does_not_take_the_rate_away(world: World) -> None:
    world.pod("hunt-a")
    for second in range(world.second - 15, world.second + 1):
        if second != world.second - 10:
            world.sample("hunt-a", second=second, shed={"telemetry": second})

    items = world.external("shed_events_per_second")

    assert [(i["value"], i["timestamp"]) for i in items] == [("1", "2026-11-21T09:59:59Z")]
