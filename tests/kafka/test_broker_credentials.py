"""Brokers that ask who you are: the adapter shows what the Secret holds, and the engine what its folder holds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer
from eventengine_adapter.samples.broker_lag import KafkaTopic, lag_of
from eventengine_adapter.sources.kafka_brokers import BrokerError, KafkaBrokers
from eventengine_contract.broker_credentials import credential_properties
from eventengine_harness.brokers import USERS, Broker
from eventengine_harness.engines import EngineProcesses, lag_events

SECURED = {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN"}
((USER, PASSWORD),) = USERS.items()
EVENTS = 7


@pytest.fixture
def topic(kafka: Broker, unique: str) -> KafkaTopic:
    """A topic of one partition that nobody has consumed, behind the port where clients log in."""
    kafka.create_topic(unique, 1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    for _ in range(EVENTS):
        producer.produce(unique, b"event")
    assert producer.flush(20) == 0
    properties = tuple(sorted(SECURED.items()))
    return KafkaTopic(
        "moves",
        (kafka.secured_bootstrap_servers,),
        unique,
        f"group-of-{unique}",
        True,
        properties,
        "hunt-user",
    )


def test_the_lag_is_told_to_who_shows_the_secret(topic: KafkaTopic) -> None:
    shown = credential_properties({"username": USER.encode(), "password": PASSWORD.encode()})

    offsets = KafkaBrokers().offsets(topic, shown)

    assert {number: lag_of(found, from_earliest=True) for number, found in offsets.items()} == {0: EVENTS}


@pytest.mark.parametrize("shown", [{}, {"sasl.username": USER, "sasl.password": "guessed"}])
def test_without_it_nothing_is_told_within_seconds_and_no_password_is_in_the_reason(
    topic: KafkaTopic, shown: dict[str, str]
) -> None:
    started = time.monotonic()

    with pytest.raises(BrokerError) as error:
        KafkaBrokers().offsets(topic, shown)

    assert time.monotonic() - started < 20
    assert "guessed" not in str(error.value)


def engine_config(topic: KafkaTopic) -> dict[str, object]:
    kafka = {
        "bootstrapServers": list(topic.bootstrap_servers),
        "properties": dict(topic.properties),
        "credentials": topic.credentials,
    }
    source = {
        "name": "moves",
        "type": "kafka",
        "kafka": {**kafka, "topic": topic.topic, "groupId": topic.group},
    }
    sink = {"name": "out", "type": "kafka", "kafka": {**kafka, "topic": f"{topic.topic}-out"}}
    return {"name": "hunt", "sources": [source], "sinks": [sink]}


def test_an_engine_consumes_and_commits_with_what_its_folder_holds(
    topic: KafkaTopic, processes: EngineProcesses, tmp_path: Path
) -> None:
    folder = tmp_path / topic.credentials
    folder.mkdir()
    (folder / "username").write_text(USER)
    (folder / "password").write_text(f"{PASSWORD}\n")

    engine = processes.run(engine_config(topic), {"EVENTENGINE_CREDENTIALS_FOLDER": str(tmp_path)})
    engine.wait_until_ready()
    engine.wait_for_sample(lambda sample: lag_events(sample) == 0, "nothing left to do")

    assert PASSWORD not in engine.log


def test_an_engine_without_its_credentials_says_which_key_names_them_and_ends(
    topic: KafkaTopic, processes: EngineProcesses, tmp_path: Path
) -> None:
    engine = processes.run(engine_config(topic), {"EVENTENGINE_CREDENTIALS_FOLDER": str(tmp_path)})

    assert engine.wait() == 2
    assert "sources[0].kafka.credentials" in engine.log
