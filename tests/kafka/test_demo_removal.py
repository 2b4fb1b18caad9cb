"""What a run of the demo leaves in a Kafka is removed, and nothing else: other runs and users keep theirs."""

from __future__ import annotations

import threading

from confluent_kafka import Consumer
from eventengine_harness.brokers import Broker
from eventengine_harness.demo.runs import Run, remove_from_kafka, topics_and_groups
from eventengine_harness.waiting import wait_for

JOIN_DEADLINE_SECONDS = 30.0


def member(kafka: Broker, group: str, topic: str) -> Consumer:
    """A consumer that has joined its group."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": group, "log_level": 0})
    consumer.subscribe([topic])

    def joined() -> bool:
        consumer.poll(0.1)
        return bool(consumer.assignment())

    wait_for(joined, f"a member of {group}", JOIN_DEADLINE_SECONDS)
    return consumer


def test_topics_and_groups_of_the_run_go_and_others_stay(kafka: Broker) -> None:
    run, other = Run(), Run()
    for each in (run, other):
        kafka.create_topic(each.name("hunt-events"), 1)
        member(kafka, each.name("hunt"), each.name("hunt-events")).close()
    said: list[str] = []
    assert remove_from_kafka(kafka.bootstrap_servers, run, said.append)
    assert said == []
    wait_for(
        lambda: topics_and_groups(kafka.bootstrap_servers, run.prefix) == ([], []),
        "nothing of the run",
        JOIN_DEADLINE_SECONDS,
    )
    assert topics_and_groups(kafka.bootstrap_servers, other.prefix) == (
        [other.name("hunt-events")],
        [other.name("hunt")],
    )


def test_a_group_with_a_member_left_goes_when_that_leaves(kafka: Broker) -> None:
    run = Run()
    kafka.create_topic(run.name("hunt-events"), 1)
    straggler = member(kafka, run.name("hunt"), run.name("hunt-events"))
    removed: list[bool] = []
    said: list[str] = []
    removal = threading.Thread(
        target=lambda: removed.append(remove_from_kafka(kafka.bootstrap_servers, run, said.append))
    )
    removal.start()
    straggler.close()
    removal.join(JOIN_DEADLINE_SECONDS)
    assert (removed, said) == ([True], [])
    assert topics_and_groups(kafka.bootstrap_servers, run.prefix)[1] == []
