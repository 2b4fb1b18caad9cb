"""Brokers as they are on the internet: SCRAM-SHA-512 over TLS, and rights by ACL.

What goes through, and what is said where it doesn't: which brokers refused whom, why, and what to do about it,
never with a password. What was mended goes on by itself; only the engine has to be started anew to read other
credentials, as the operator does when their Secret changes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AclOperation, ResourceType
from eventengine_adapter.samples.broker_lag import KafkaTopic, lag_of
from eventengine_adapter.sources.kafka_brokers import BrokerError, IdentityError, KafkaBrokers
from eventengine_contract.broker_credentials import credential_properties
from eventengine_harness.brokers import SCRAM, USERS, Broker
from eventengine_harness.certificates import Authority
from eventengine_harness.engines import RunningEngine
from eventengine_harness.hunt_stages import HuntStage
from eventengine_harness.waiting import wait_for

SECURED = {"security.protocol": "sasl_ssl", "sasl.mechanism": SCRAM}
((USER, PASSWORD),) = USERS.items()
GUESSED = "guessed-password"
SECRET = "hunt-user"
EVENTS = 7
REASON_SECONDS_MAX = 30.0


@pytest.fixture
def secret(kafka: Broker) -> dict[str, bytes]:
    """What the Secret should hold."""
    return {
        "username": USER.encode(),
        "password": PASSWORD.encode(),
        "ca.crt": kafka.authority.read_bytes(),
    }


@pytest.fixture
def foreign_authority(tmp_path: Path) -> bytes:
    """The certificate of an authority that issued nothing to the broker."""
    return Authority.create(tmp_path, "foreign").files.certificate.read_bytes()


# --- the adapter ---------------------------------------------------------------------------------------------


@pytest.fixture
def topic(kafka: Broker, unique: str) -> KafkaTopic:
    """A topic of one partition that nobody has consumed."""
    kafka.create_topic(unique, 1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    for _ in range(EVENTS):
        producer.produce(unique, b"event")
    assert producer.flush(20) == 0
    servers = (kafka.encrypted_bootstrap_servers,)
    return KafkaTopic(
        "moves", servers, unique, f"group-of-{unique}", True, tuple(sorted(SECURED.items())), SECRET
    )


def lags(brokers: KafkaBrokers, topic: KafkaTopic, secret: Mapping[str, bytes]) -> dict[int, int | None]:
    offsets = brokers.offsets(topic, credential_properties(secret))
    return {number: lag_of(found, from_earliest=True) for number, found in offsets.items()}


def test_the_adapter_is_told_the_lag(topic: KafkaTopic, secret: dict[str, bytes]) -> None:
    assert lags(KafkaBrokers(), topic, secret) == {0: EVENTS}


def test_the_adapter_says_who_was_refused_and_what_to_mend_and_then_it_goes_on(
    topic: KafkaTopic, secret: dict[str, bytes], foreign_authority: bytes
) -> None:
    brokers = KafkaBrokers()
    credentials = "correct username and password in"
    faults = {
        "username": (b"nobody", credentials),
        "password": (GUESSED.encode(), credentials),
        "ca.crt": (foreign_authority, "ca.crt of"),
    }

    def check(key: str) -> None:
        wrong, remedy = faults[key]
        shown = {**secret, key: wrong}
        # The second time as well, when librdkafka would no longer repeat a reason that it gave.
        for _ in range(2):
            with pytest.raises(IdentityError) as error:
                lags(brokers, topic, shown)
            message = str(error.value)
            assert f"Kafka at {topic.bootstrap_servers[0]} as user {shown['username'].decode()}" in message
            assert f"{remedy} the Secret {SECRET}" in message
            assert PASSWORD not in message
            assert GUESSED not in message

    # Side by side: each question waits for seconds, in case the brokers come to answer.
    with ThreadPoolExecutor(len(faults)) as beside:
        list(beside.map(check, faults))

    assert lags(brokers, topic, secret) == {0: EVENTS}


def test_the_adapter_says_which_right_is_missing_and_goes_on_when_it_is_given(
    kafka: Broker, topic: KafkaTopic, secret: dict[str, bytes]
) -> None:
    brokers = KafkaBrokers()
    rights = ((ResourceType.TOPIC, "topic", topic.topic), (ResourceType.GROUP, "group", topic.group))
    for kind, word, name in rights:
        kafka.allow("somebody", AclOperation.READ, kind, name)
        with pytest.raises(BrokerError, match=f"as user {USER}.*allow the user to Read {word} {name}"):
            lags(brokers, topic, secret)
        kafka.allow(USER, AclOperation.READ, kind, name)
        wait_for(lambda: told(brokers, topic, secret), "the lag", REASON_SECONDS_MAX)


def told(brokers: KafkaBrokers, topic: KafkaTopic, secret: Mapping[str, bytes]) -> bool:
    """Whether the right has reached the broker."""
    try:
        return lags(brokers, topic, secret) == {0: EVENTS}
    except BrokerError:
        return False


def test_the_adapter_does_not_call_a_lag_known_that_it_may_not_look_at(
    kafka: Broker, topic: KafkaTopic, secret: dict[str, bytes]
) -> None:
    """With Describe alone, nobody would know whether a tail is markers: such an engine would never rest."""
    kafka.allow(USER, AclOperation.DESCRIBE, ResourceType.TOPIC, topic.topic)

    with pytest.raises(BrokerError, match=f"allow the user to Read topic {topic.topic}"):
        lags(KafkaBrokers(), topic, secret)


# --- the engine ----------------------------------------------------------------------------------------------


def start(stage: HuntStage, secret: Mapping[str, bytes], root: Path) -> RunningEngine:
    """An engine whose source and sink are behind the port, with a folder that holds the Secret."""
    folder = root / SECRET
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in secret.items():
        (folder / name).write_bytes(content)
    config = stage.config()
    shown = {"bootstrapServers": [stage.broker.encrypted_bootstrap_servers], "credentials": SECRET}
    for part in (*config["sources"], *config["sinks"]):
        part["kafka"] |= shown | {"properties": {**part["kafka"].get("properties", {}), **SECURED}}
    return stage.processes.run(config, {"EVENTENGINE_CREDENTIALS_FOLDER": str(root)})


def wait_for_reason(engine: RunningEngine, *words: str) -> None:
    """Wait until /readyz says all of that; no password is in it, nor in the log."""
    seen: list[Any] = []

    def said() -> bool:
        seen[:] = [engine.get("/readyz")]
        return seen[0][0] != 200 and all(word in seen[0][1] for word in words)

    wait_for(said, f"a reason with {words}", REASON_SECONDS_MAX, last_seen=lambda: str(seen))
    for text in (seen[0][1], engine.log):
        assert PASSWORD not in text
        assert GUESSED not in text


def test_an_engine_consumes_and_publishes_exactly_once(
    stage: HuntStage, secret: dict[str, bytes], tmp_path: Path
) -> None:
    engine = start(stage, secret, tmp_path)
    engine.wait_until_ready()

    result = stage.load("--rate", "1000", "--duration", "1s")

    stage.wait_until_drained(engine)
    assert stage.check_outputs() == result["acknowledged"]


def test_an_engine_says_who_was_refused_and_what_to_mend_and_runs_when_it_was(
    stage: HuntStage, secret: dict[str, bytes], foreign_authority: bytes, tmp_path: Path
) -> None:
    whom = f"Kafka at {stage.broker.encrypted_bootstrap_servers} as user {USER}"
    guessing = start(stage, {**secret, "password": GUESSED.encode()}, tmp_path / "guessing")
    doubting = start(stage, {**secret, "ca.crt": foreign_authority}, tmp_path / "doubting")
    for part in ("source", "publisher"):
        wait_for_reason(guessing, f"{part}: {whom}", "correct username and password of the credentials")
        wait_for_reason(doubting, f"{part}: {whom}", "into ca.crt of the credentials")
    for engine in (guessing, doubting):
        engine.terminate()
        assert engine.wait() == 0

    start(stage, secret, tmp_path / "guessing").wait_until_ready()


def test_an_engine_says_which_right_is_missing_and_goes_on_when_it_is_given(
    stage: HuntStage, secret: dict[str, bytes], tmp_path: Path
) -> None:
    broker, group = stage.broker, stage.name
    broker.create_topic(stage.outputs_topic, 8)
    broker.allow("somebody", AclOperation.READ, ResourceType.GROUP, group)
    broker.allow(USER, AclOperation.DESCRIBE, ResourceType.TOPIC, stage.events_topic)
    broker.allow(USER, AclOperation.DESCRIBE, ResourceType.TOPIC, stage.outputs_topic)
    result = stage.load("--rate", "1000", "--duration", "1s")
    engine = start(stage, secret, tmp_path)

    wait_for_reason(engine, f"as user {USER}", f"allow the user to Read the group {group}")
    broker.allow(USER, AclOperation.READ, ResourceType.GROUP, group)

    wait_for_reason(engine, f"as user {USER}", f"allow the user Read on topic {stage.events_topic}")
    broker.allow(USER, AclOperation.READ, ResourceType.TOPIC, stage.events_topic)

    whom = f"publisher: Kafka at {broker.encrypted_bootstrap_servers} as user {USER}"
    wait_for_reason(engine, whom, f"Write on {stage.dead_letter_topic}, {stage.outputs_topic}")
    broker.allow(USER, AclOperation.WRITE, ResourceType.TOPIC, stage.outputs_topic)

    stage.wait_until_drained(engine)
    engine.wait_until_ready()
    assert stage.check_outputs() == result["acknowledged"]
