"""What a trigger's metadata may say, and the words for what it may not."""

from __future__ import annotations

from typing import Any

import pytest
from eventengine_adapter.keda.triggers import TriggerError, read_trigger
from eventengine_contract.metric_names import METRICS, Aggregation
from eventengine_operator.manifests.scaled_objects import KedaScaler, scaled_object
from eventengine_operator.resources.engines import read_engine

LAG = {"metric": "kafka_consumer_lag", "engine": "hunt", "target": "1k"}


def test_the_least_that_a_trigger_says_is_metric_engine_and_target() -> None:
    trigger = read_trigger(LAG)

    assert trigger.metric is METRICS["kafka_consumer_lag"]
    assert (trigger.engine, trigger.target_millis, trigger.activation_millis) == ("hunt", 1_000_000, 0)
    assert trigger.selector.matches({"engine": "hunt", "partition": "3"})
    assert not trigger.selector.matches({"engine": "other", "partition": "3"})


def test_how_keda_connects_is_none_of_the_triggers_business() -> None:
    connection = {"scalerAddress": "eventengine-adapter.eventengine.svc:9095", "enableTLS": "true"}

    assert read_trigger(LAG | connection) == read_trigger(LAG)


def test_a_partition_counts_for_at_most_the_target_unless_that_is_turned_off() -> None:
    assert read_trigger(LAG).cap_events == 1000
    assert read_trigger(LAG | {"target": "1500m"}).cap_events == 1
    assert read_trigger(LAG | {"limitToPartitionsWithLag": "false"}).cap_events == 0
    assert read_trigger(LAG | {"limitToPartitionsWithLag": "false", "target": "500m"}).target_millis == 500


def test_a_cap_of_the_users_own_stays() -> None:
    trigger = read_trigger(LAG | {"selector": "cap_events=50"})

    assert trigger.cap_events == 0
    assert trigger.capped_selector.only({"cap_events"}).requirements[0].values == ("50",)


def test_what_has_no_partitions_has_no_cap() -> None:
    ratio = {"metric": "ring_utilisation", "engine": "hunt", "target": "700m"}

    assert read_trigger(ratio).cap_events == 0
    assert read_trigger(ratio | {"limitToPartitionsWithLag": "false"}).cap_events == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": ""}, "metric: is missing"),
        ({"engine": ""}, "engine: is missing"),
        ({"target": ""}, "target: is missing"),
        ({"metric": "consumer_lagg"}, "there is no metric 'consumer_lagg'; did you mean consumer_lag?"),
        ({"activationLag": "3"}, "'activationLag' is no key of a trigger; did you mean activation?"),
        ({"target": "many"}, "target: 'many' is no quantity"),
        ({"target": "0"}, "target: must be greater than 0"),
        ({"target": "-3"}, "target: '-3' is no quantity"),
        ({"target": "999999999999999999T"}, "target: is more than an autoscaler can count"),
        ({"target": "500m"}, "needs a target from 1 to"),
        ({"activation": "few"}, "activation: 'few' is no quantity"),
        ({"selector": "a=b=c"}, "selector: "),
        ({"selector": "engine=other"}, "selector: says nothing of engine"),
        ({"engine": "a,pod=b"}, None),
        ({"limitToPartitionsWithLag": "yes"}, "must be true or false"),
        ({"metric": "ring_utilisation", "limitToPartitionsWithLag": "true"}, "has no partitions"),
        ({f"key-{number}": "1" for number in range(100)}, "may have 64 keys"),
    ],
)
def test_a_key_that_can_not_be_used_is_named(change: dict[str, str], message: str | None) -> None:
    if message is None:
        # A name is never read as a selector: it can only fail to match.
        assert not read_trigger(LAG | change).selector.matches({"engine": "a", "pod": "b"})
        return
    with pytest.raises(TriggerError) as error:
        read_trigger(LAG | change)

    assert message in str(error.value)


def metrics_of(source: str) -> list[dict[str, Any]]:
    """Every metric that this source has, each with a target that it can have."""
    return [
        {"name": name, "source": source, "target": {"averageValue": "100"}}
        for name, metric in METRICS.items()
        if source != "Pods" or metric.aggregation is not Aggregation.PER_SOURCE
    ][:8]


@pytest.mark.parametrize("source", ["External", "Object", "Pods"])
@pytest.mark.parametrize("scale_to_zero", [{}, {"scaleToZero": {}}])
def test_every_trigger_that_the_operator_writes_is_understood(
    source: str, scale_to_zero: dict[str, Any]
) -> None:
    kafka = {"bootstrapServers": ["broker:9092"], "topic": "moves"}
    source_of_moves = {"name": "moves", "type": "kafka", "kafka": kafka}
    autoscaling = {"driver": "keda", "metrics": metrics_of(source), **scale_to_zero}
    engine = read_engine(
        {
            "metadata": {"name": "hunt", "namespace": "games", "uid": "1", "generation": 1},
            "spec": {"autoscaling": autoscaling, "engine": {"sources": [source_of_moves]}},
        }
    )
    assert engine.spec is not None, engine.faults
    made = scaled_object(
        engine, engine.spec.autoscaling, 5, KedaScaler("adapter.system.svc:9095"), with_tolerance=False
    )

    found = [read_trigger(trigger["metadata"]) for trigger in made["spec"]["triggers"]]

    assert [trigger.metric.name for trigger in found] == [item["name"] for item in metrics_of(source)]
    assert {trigger.engine for trigger in found} == {"hunt"}
    assert {trigger.target_millis for trigger in found} == {100_000}
