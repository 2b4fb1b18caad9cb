"""The adapter's questions to brokers, asked of a real one: what is left for a group that nobody runs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from eventengine_adapter.samples.broker_lag import KafkaTopic, lag_of
from eventengine_adapter.sources.kafka_brokers import BrokerError, KafkaBrokers
from eventengine_harness.brokers import Broker
from eventengine_harness.hunt_stages import HuntStage
from eventengine_harness.records import end_offsets


def topic_of(broker: Broker, name: str, *, from_earliest: bool = True) -> KafkaTopic:
    return KafkaTopic("moves", (broker.bootstrap_servers,), name, f"group-of-{name}", from_earliest)


def lags(topic: KafkaTopic) -> dict[int, int | None]:
    """The lag of every partition, as an adapter that was just started finds it."""
    offsets = KafkaBrokers().offsets(topic)
    return {number: lag_of(found, from_earliest=topic.from_earliest) for number, found in offsets.items()}


def commit(broker: Broker, topic: KafkaTopic, offsets: dict[int, int]) -> None:
    """Commit as an owner would have, without one running."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    wish = ConsumerGroupTopicPartitions(
        topic.group, [TopicPartition(topic.topic, number, offset) for number, offset in offsets.items()]
    )
    admin.alter_consumer_group_offsets([wish])[topic.group].result(10)


def produce(broker: Broker, topic: KafkaTopic, counts: dict[int, int], *, abort: bool = False) -> None:
    """One transaction with that many records per partition."""
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "transactional.id": f"producer-of-{topic.topic}",
            "log_level": 0,
        }
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    for number, count in counts.items():
        for _ in range(count):
            producer.produce(topic.topic, b"event", partition=number)
    producer.flush(20)
    if abort:
        producer.abort_transaction(20)
    else:
        producer.commit_transaction(20)


def test_a_group_that_never_ran_has_everything_to_do_or_nothing_is_known(kafka: Broker, unique: str) -> None:
    kafka.create_topic(unique, 2)
    produce(kafka, topic_of(kafka, unique), {0: 5})

    found = lags(topic_of(kafka, unique))

    assert found == {0: 6, 1: 0}, "five events and one marker: never too small"
    assert lags(topic_of(kafka, unique, from_earliest=False)) == {0: None, 1: None}


def test_a_drained_topic_reads_zero_whatever_markers_are_left(kafka: Broker, unique: str) -> None:
    """An owner that stops after its last event has not stepped over the markers behind it."""
    topic = topic_of(kafka, unique)
    kafka.create_topic(unique, 1)
    produce(kafka, topic, {0: 5})
    produce(kafka, topic, {0: 3}, abort=True)
    commit(kafka, topic, {0: 5})

    assert lags(topic) == {0: 0}

    produce(kafka, topic, {0: 2})
    found = lags(topic)[0]
    assert found is not None
    assert found >= 2


def test_what_an_engine_left_is_the_lag_when_it_is_gone(stage: HuntStage) -> None:
    """The engine's own transactions and commits, read from outside: drained is zero, what comes later is counted."""
    engine = stage.run_engine()
    stage.load("--rate", "1000", "--duration", "2s")
    sample = stage.wait_until_drained(engine)
    engine.terminate()
    assert engine.wait() == 0
    group = sample.sources[0].group
    assert group is not None
    topic = KafkaTopic("moves", (stage.broker.bootstrap_servers,), stage.events_topic, group, True)

    drained = lags(topic)
    assert len(drained) > 1
    assert set(drained.values()) == {0}

    ends = end_offsets(stage.broker.bootstrap_servers, stage.events_topic)
    stage.load("--rate", "500", "--duration", "1s")
    grown = end_offsets(stage.broker.bootstrap_servers, stage.events_topic)
    assert lags(topic) == {number: grown[number] - ends[number] for number in ends}


def test_an_open_transaction_is_no_lag_yet(kafka: Broker, unique: str) -> None:
    """The last stable offset ends before it: no reader of committed data could read it now."""
    topic = topic_of(kafka, unique)
    kafka.create_topic(unique, 1)
    commit(kafka, topic, {0: 0})
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "transactional.id": f"open-{unique}",
            "log_level": 0,
        }
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    for _ in range(5):
        producer.produce(unique, b"event", partition=0)
    producer.flush(20)

    assert lags(topic) == {0: 0}

    producer.commit_transaction(20)
    assert lags(topic) == {0: 6}


def test_a_topic_that_does_not_exist_is_an_error_that_names_it(kafka: Broker, unique: str) -> None:
    with pytest.raises(BrokerError, match=unique):
        KafkaBrokers().offsets(topic_of(kafka, unique))


def test_a_broker_that_is_away_is_an_error_within_seconds(unique: str) -> None:
    away = KafkaTopic("moves", ("127.0.0.1:1",), unique, "group", True)

    with pytest.raises(BrokerError):
        KafkaBrokers().offsets(away)


IMPATIENT = """
import sys
from eventengine_adapter.samples.broker_lag import KafkaTopic
from eventengine_adapter.sources import kafka_brokers

kafka_brokers.REQUEST_SECONDS_MAX = 0.004
failures = 0
for number in range(40):
    topic = KafkaTopic("moves", (sys.argv[1],), sys.argv[2], f"group-{number}", True)
    brokers = kafka_brokers.KafkaBrokers()
    brokers._client(topic).admin.list_topics(timeout=10)
    try:
        brokers.offsets(topic)
    except kafka_brokers.BrokerError:
        failures += 1
print(failures)
"""


def test_questions_that_run_out_of_time_are_errors_and_nothing_worse(kafka: Broker, unique: str) -> None:
    """In a process of its own, for the late answers would end it."""
    kafka.create_topic(unique, 1)
    command = [sys.executable, "-c", IMPATIENT, kafka.bootstrap_servers, unique]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_asking_leaves_no_trace_in_the_group(kafka: Broker, unique: str) -> None:
    topic = topic_of(kafka, unique)
    kafka.create_topic(unique, 1)
    produce(kafka, topic, {0: 1})
    lags(topic)

    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": topic.group})
    try:
        committed = consumer.committed([TopicPartition(unique, 0)], timeout=10)
    finally:
        consumer.close()
    assert committed[0].offset < 0
