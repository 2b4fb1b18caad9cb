"""A snapshot is read exactly, and what it doesn't measure stays unknown."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from eventengine_adapter.samples.pod_samples import pod_sample
from eventengine_adapter.samples.quantities import MILLIS_MAX, format_millis, millis_from_ratio
from eventengine_contract.metric_names import METRICS, Aggregation
from eventengine_contract.snapshots import Snapshot
from hypothesis import given
from hypothesis import strategies as st


def test_a_snapshot_becomes_thousandths(snapshot_document: dict[str, Any]) -> None:
    sample = pod_sample(Snapshot.model_validate(snapshot_document))

    assert sample.gauges_millis == {
        "buffer_pool_utilisation": 1,
        "ring_utilisation": 500,
        "arena_utilisation": 0,
        "allocator_pressure": 334,
        "service_time_p99_milliseconds": 1235,
    }
    assert sample.shed_events == {"telemetry": 40}
    assert [(p.partition, p.lag_events) for p in sample.sources[0].partitions] == [(0, 2), (1, None)]
    assert sample.sources[0].partitioned
    assert not sample.sources[1].partitioned


def test_every_metric_of_the_contract_is_either_a_gauge_a_rate_or_a_lag(
    snapshot_document: dict[str, Any],
) -> None:
    gauges = set(pod_sample(Snapshot.model_validate(snapshot_document)).gauges_millis)
    maxima = {name for name, metric in METRICS.items() if metric.aggregation is Aggregation.MAXIMUM}

    assert gauges == maxima
    assert set(METRICS) - maxima == {
        "consumer_lag",
        "consumer_lag_forecast",
        "kafka_consumer_lag",
        "shed_events_per_second",
    }


def test_without_a_memory_limit_allocator_pressure_is_unknown(snapshot_document: dict[str, Any]) -> None:
    snapshot_document["process"]["memory_limit_bytes"] = None

    sample = pod_sample(Snapshot.model_validate(snapshot_document))

    assert sample.gauges_millis["allocator_pressure"] is None


def test_memory_that_the_engine_could_not_measure_is_unknown_and_never_0(
    snapshot_document: dict[str, Any],
) -> None:
    snapshot_document["process"]["rss_bytes"] = None
    snapshot_document["allocator"] = dict.fromkeys(snapshot_document["allocator"])

    snapshot = Snapshot.model_validate(snapshot_document)

    assert snapshot.process.rss_bytes is None
    assert pod_sample(snapshot).gauges_millis["allocator_pressure"] is None


def test_a_snapshot_with_more_partitions_than_can_be_is_refused(snapshot_document: dict[str, Any]) -> None:
    snapshot_document["sources"][0]["partitions_total"] = 10**9

    with pytest.raises(ValueError, match="source moves reports 1000000000 partitions"):
        pod_sample(Snapshot.model_validate(snapshot_document))


def test_a_lag_that_an_autoscaler_could_not_hold_is_unknown(snapshot_document: dict[str, Any]) -> None:
    snapshot_document["sources"][0]["partitions"][0]["lag_events"] = 2**62

    sample = pod_sample(Snapshot.model_validate(snapshot_document))

    assert sample.sources[0].partitions[0].lag_events is None


@pytest.mark.parametrize(
    ("millis", "text"), [(0, "0"), (1, "1m"), (730, "730m"), (1000, "1"), (1250, "1250m"), (64_000, "64")]
)
def test_a_value_is_printed_as_a_quantity(millis: int, text: str) -> None:
    assert format_millis(millis) == text


@pytest.mark.parametrize("millis", [-1, MILLIS_MAX + 1])
def test_what_no_quantity_can_hold_is_never_printed(millis: int) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        format_millis(millis)


@pytest.mark.parametrize("ratio", [float("nan"), float("inf"), -0.1, 1e300])
def test_what_is_no_ratio_is_unknown(ratio: float) -> None:
    assert millis_from_ratio(ratio) is None


@given(st.integers(min_value=0, max_value=10_000_000), st.integers(min_value=1, max_value=1_000_000))
def test_a_ratio_is_rounded_up_and_by_less_than_a_thousandth(part: int, whole: int) -> None:
    millis = millis_from_ratio(part / whole)

    assert millis is not None
    exact = Fraction(part * 1000, whole)
    assert exact - Fraction(1, 10**6) <= millis < exact + 1
