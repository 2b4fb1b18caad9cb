"""Reading whole topics as consumers see them.

Owns a consumer that joins no group and commits nothing. It reads each partition
from its beginning to the end that its isolation level shows, and no further.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from eventengine_harness.exceptions import DeadlineError

POLL_SECONDS = 1.0
SILENT_POLLS_MAX = 30
REQUEST_TIMEOUT_SECONDS = 10.0

Isolation = Literal["read_committed", "read_uncommitted"]


@dataclass(frozen=True)
class Record:
    """One record."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]


def read_topic(bootstrap_servers: str, topic: str, isolation: Isolation = "read_committed") -> list[Record]:
    """All records of a topic, ordered by partition and offset."""
    consumer = Consumer(_settings(bootstrap_servers, isolation))
    try:
        return sorted(_read(consumer, topic), key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()


def end_offsets(
    bootstrap_servers: str, topic: str, isolation: Isolation = "read_uncommitted"
) -> dict[int, int]:
    """Each partition's high watermark, or its last stable offset for read_committed."""
    consumer = Consumer(_settings(bootstrap_servers, isolation))
    try:
        return {
            partition: consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=REQUEST_TIMEOUT_SECONDS
            )[1]
            for partition in _partitions(consumer, topic)
        }
    finally:
        consumer.close()


def committed_offsets(bootstrap_servers: str, group: str, topic: str) -> dict[int, int]:
    """The offsets that a group has committed; partitions without one are left out."""
    consumer = Consumer({**_settings(bootstrap_servers, "read_committed"), "group.id": group})
    try:
        asked = [TopicPartition(topic, partition) for partition in _partitions(consumer, topic)]
        answered = consumer.committed(asked, timeout=REQUEST_TIMEOUT_SECONDS)
        return {item.partition: item.offset for item in answered if item.offset >= 0}
    finally:
        consumer.close()


def _settings(bootstrap_servers: str, isolation: Isolation) -> dict[str, str | bool | int]:
    return {
        "bootstrap.servers": bootstrap_servers,
        "group.id": "eventengine-harness-reader",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": isolation,
        "log_level": 0,
    }


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    metadata = consumer.list_topics(topic, timeout=REQUEST_TIMEOUT_SECONDS).topics[topic]
    return sorted(metadata.partitions)


def _read(consumer: Consumer, topic: str) -> Iterator[Record]:
    left = set(_partitions(consumer, topic))
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in sorted(left)])
    silent_polls = 0
    while left:
        message = consumer.poll(POLL_SECONDS)
        if message is None:
            silent_polls += 1
            if silent_polls >= SILENT_POLLS_MAX:
                raise DeadlineError(f"no end of partitions {sorted(left)} of {topic} in sight")
            continue
        silent_polls = 0
        error = message.error()
        if error is None:
            yield _record(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            left.discard(message.partition())
        else:
            raise KafkaException(error)


def _record(message: Message) -> Record:
    partition, offset, key, value = message.partition(), message.offset(), message.key(), message.value()
    if partition is None or offset is None:
        raise DeadlineError("a record without a place")
    pairs = message.headers() or []
    headers = {
        str(name): _bytes(value) for name, value in (pairs.items() if isinstance(pairs, dict) else pairs)
    }
    return Record(partition, offset, None if key is None else _bytes(key), _bytes(value), headers)


def _bytes(value: bytes | str | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
