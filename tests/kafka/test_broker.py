"""The broker of this tier is a real one: transactions hold, and it can be away and come back."""

from __future__ import annotations

from confluent_kafka import Consumer, Producer, TopicPartition
from eventengine_harness.brokers import Broker
from eventengine_harness.waiting import wait_for


def committed_values(broker: Broker, topic: str, count: int) -> list[bytes]:
    """Read `count` values of partition 0 as a consumer that sees committed records alone."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": f"reader-of-{topic}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes] = []

    def complete() -> bool:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            values.append(bytes(message.value() or b""))
        return len(values) >= count

    try:
        wait_for(complete, f"{count} records of {topic}", 20, last_seen=lambda: repr(values))
    finally:
        consumer.close()
    return values


def transactional_producer(broker: Broker, identifier: str) -> Producer:
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "transactional.id": identifier,
            "transaction.timeout.ms": 10_000,
            "log_level": 0,
        }
    )
    producer.init_transactions(20)
    return producer


def test_a_committed_transaction_is_seen_and_an_aborted_one_is_not(kafka: Broker, unique: str) -> None:
    kafka.create_topic(unique, 1)
    producer = transactional_producer(kafka, unique)
    producer.begin_transaction()
    producer.produce(unique, b"kept 1")
    producer.commit_transaction(20)
    producer.begin_transaction()
    producer.produce(unique, b"thrown away")
    producer.flush(20)
    producer.abort_transaction(20)
    producer.begin_transaction()
    producer.produce(unique, b"kept 2")
    producer.commit_transaction(20)
    assert committed_values(kafka, unique, 2) == [b"kept 1", b"kept 2"]


def test_offsets_commit_inside_the_transaction(kafka: Broker, unique: str) -> None:
    kafka.create_topic(unique, 1)
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": unique,
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    producer = transactional_producer(kafka, unique)
    position = TopicPartition(unique, 0, 7)
    producer.begin_transaction()
    producer.send_offsets_to_transaction([position], consumer.consumer_group_metadata(), 20)
    producer.commit_transaction(20)
    committed = consumer.committed([TopicPartition(unique, 0)], timeout=20)
    consumer.close()
    assert committed[0].offset == 7


def test_a_topic_that_nobody_created_does_not_appear_by_itself(kafka: Broker, unique: str) -> None:
    errors: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "message.timeout.ms": 3000,
            "topic.metadata.propagation.max.ms": 500,
            "log_level": 0,
        }
    )
    producer.produce(unique, b"x", on_delivery=lambda error, _message: errors.append(error.name()))
    producer.flush(20)
    assert errors == ["UNKNOWN_TOPIC_OR_PART"]
    assert unique not in kafka.topics()


def test_kafkas_own_commands_reach_it(kafka: Broker, unique: str) -> None:
    kafka.create_topic(unique, 3, {"cleanup.policy": "compact"})
    output = kafka.tool(
        "org.apache.kafka.tools.TopicCommand",
        *("--bootstrap-server", kafka.bootstrap_servers, "--describe", "--topic", unique),
    )
    assert "PartitionCount: 3" in output
    assert "cleanup.policy=compact" in output


def test_what_was_committed_survives_a_killed_broker(own_kafka: Broker, unique: str) -> None:
    own_kafka.create_topic(unique, 1)
    producer = transactional_producer(own_kafka, unique)
    producer.begin_transaction()
    producer.produce(unique, b"before the crash")
    producer.commit_transaction(20)
    own_kafka.kill()
    assert not own_kafka.answers()
    own_kafka.start()
    own_kafka.wait_until_ready()
    assert committed_values(own_kafka, unique, 1) == [b"before the crash"]


def test_a_producer_outlives_an_orderly_restart(own_kafka: Broker, unique: str) -> None:
    own_kafka.create_topic(unique, 1)
    producer = transactional_producer(own_kafka, unique)
    own_kafka.restart()
    producer.begin_transaction()
    producer.produce(unique, b"after the restart")
    producer.commit_transaction(30)
    assert committed_values(own_kafka, unique, 1) == [b"after the restart"]
