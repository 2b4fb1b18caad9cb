"""Lag that brokers tell: from offsets to a number, when it is asked for, and beside what pods tell."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError
from eventengine_adapter.apis.statuses import ApiError
from eventengine_adapter.cluster.client import KubernetesError
from eventengine_adapter.samples import forecasts
from eventengine_adapter.samples.broker_lag import BrokerSample, KafkaTopic, OffsetsOfPartition, lag_of
from eventengine_adapter.sources.broker_sampling import BrokerSampling
from eventengine_adapter.sources.broker_secrets import BrokerSecrets
from eventengine_adapter.sources.engine_pods import keep_engine
from eventengine_adapter.sources.kafka_brokers import BrokerError, KafkaBrokers, code_of, refusal

if TYPE_CHECKING:
    from conftest import World

LAG = "kafka_consumer_lag"
ENGINES = "eventengines.eventengine.dev"
TOPIC = KafkaTopic("moves", ("broker:9092",), "hunt-events", "hunt", True)


def refused(world: World, selector: str | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        world.external(LAG, selector)
    return caught.value


# --- from offsets to a lag -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offsets", "earliest", "latest"),
    [
        pytest.param(OffsetsOfPartition(0, 100, 60), 40, 40, id="behind"),
        pytest.param(OffsetsOfPartition(0, 100, 100), 0, 0, id="at the end"),
        pytest.param(OffsetsOfPartition(0, 100, 99, drained=True), 0, 0, id="only a marker is left"),
        pytest.param(OffsetsOfPartition(70, 100, 60), 30, 30, id="retention deleted what was not read"),
        pytest.param(OffsetsOfPartition(10, 100, None), 90, None, id="the group never committed"),
        pytest.param(OffsetsOfPartition(0, 5, 60), None, None, id="the topic was made anew"),
        pytest.param(OffsetsOfPartition(0, 0, None), 0, None, id="nothing was ever written"),
    ],
)
def test_a_lag_is_what_the_next_owner_has_to_read(
    offsets: OffsetsOfPartition, earliest: int | None, latest: int | None
) -> None:
    assert lag_of(offsets, from_earliest=True) == earliest
    assert lag_of(offsets, from_earliest=False) == latest


# --- in answers ----------------------------------------------------------------------------------------------


def tell(world: World, lags: dict[int, int | None], *, age_seconds: int = 2, failure: str = "") -> None:
    """Let the brokers have said this of engine hunt."""
    world.engine("hunt", topic=TOPIC)
    world.store.record_broker_sample("uid-hunt", BrokerSample(world.second - age_seconds, lags, failure))


def test_an_engine_without_pods_has_the_lag_that_the_brokers_tell(world: World) -> None:
    tell(world, {0: 10, 1: 0})

    items = world.external(LAG)

    assert [(i["metricLabels"], i["value"]) for i in items] == [
        ({"engine": "hunt", "source": "moves", "topic": "hunt-events", "partition": "0"}, "10"),
        ({"engine": "hunt", "source": "moves", "topic": "hunt-events", "partition": "1"}, "0"),
    ]
    assert {i["timestamp"] for i in items} == {"2026-11-21T09:59:58Z"}
    assert world.custom(f"{ENGINES}/hunt/{LAG}")[0]["value"] == "10"


def test_an_owned_partition_is_its_owner_s_and_never_counted_twice(world: World) -> None:
    tell(world, {0: 500, 1: 600, 2: 7})
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={0: 1, 1: 2}, total=3)

    items = world.external(LAG)

    assert [(i["metricLabels"].get("pod"), i["value"]) for i in items] == [
        ("hunt-a", "1"),
        ("hunt-a", "2"),
        (None, "7"),
    ]
    assert world.custom(f"{ENGINES}/hunt/{LAG}")[0]["value"] == "10"
    assert world.custom(f"pods/*/{LAG}")[0]["value"] == "3", "what nobody owns is no pod's"


def test_pods_that_only_start_do_not_hide_what_the_brokers_tell(world: World) -> None:
    tell(world, {0: 10})
    world.pod("hunt-a", ready=False)

    assert [i["value"] for i in world.external(LAG)] == ["10"]


def test_what_the_brokers_said_gets_too_old_as_well(world: World) -> None:
    tell(world, {0: 10}, age_seconds=11)

    assert "has no running pod; the brokers: not asked of late" in refused(world).message


def test_why_the_brokers_said_nothing_is_in_the_message(world: World) -> None:
    tell(world, {}, failure="topic hunt-events: Broker: Unknown topic or partition")

    assert "the brokers: topic hunt-events: Broker: Unknown topic" in refused(world).message


def test_a_group_that_nobody_knows_is_an_error_and_not_the_most(world: World) -> None:
    tell(world, {0: 10, 1: None})

    assert "lag of partitions 1 of engine hunt could not be measured" in refused(world).message
    assert [i["value"] for i in world.external(LAG, "partition=0")] == ["10"]


def test_a_window_needs_owners(world: World) -> None:
    tell(world, {0: 10})

    assert "the brokers know only how it is now" in refused(world, selector="window_seconds=5").message


# --- when brokers are asked ----------------------------------------------------------------------------------


class Brokers:
    """Brokers that answer what they are told."""

    def __init__(self, answer: dict[int, OffsetsOfPartition] | BrokerError) -> None:
        self.answer = answer
        self.asked = 0
        self.shown: dict[str, dict[str, str]] = {}
        """What was shown, by the name of the Secret."""

    def offsets(self, topic: KafkaTopic, credentials: Mapping[str, str]) -> dict[int, OffsetsOfPartition]:
        self.asked += 1
        self.shown[topic.credentials] = dict(credentials)
        if isinstance(self.answer, BrokerError):
            raise self.answer
        return self.answer


class Secrets:
    """A Kubernetes API that holds one Secret, or refuses to give it."""

    def __init__(self, data: dict[str, bytes] | None = None, refusal_code: int = 404) -> None:
        self.data = data
        self.refusal_code = refusal_code
        self.paths: list[str] = []

    async def get(self, path: str, query: Any = None, accept: str = "") -> dict[str, Any]:
        self.paths.append(path)
        if self.data is None:
            raise KubernetesError(self.refusal_code, "refused")
        return {"data": {key: base64.b64encode(value).decode() for key, value in self.data.items()}}


async def ask(world: World, brokers: Brokers, secrets: Secrets | None = None) -> BrokerSampling:
    """One round, until it has ended."""
    credentials = BrokerSecrets(secrets or Secrets(), lambda: world.now)
    sampling = BrokerSampling(world.fleet, brokers, credentials, world.store, lambda: world.now)
    sampling.start_round()
    async with asyncio.timeout(5):
        await asyncio.gather(*sampling._asking.values())
    return sampling


async def test_brokers_are_asked_about_an_engine_that_nobody_runs(world: World) -> None:
    world.engine("hunt", topic=TOPIC)

    await ask(world, Brokers({0: OffsetsOfPartition(0, 10, 4)}))

    assert [i["value"] for i in world.external(LAG)] == ["6"]


async def test_brokers_are_not_asked_while_pods_tell_the_whole_lag(world: World) -> None:
    world.engine("hunt", topic=TOPIC)
    world.pod("hunt-a")
    world.sample("hunt-a", partitions={0: 1}, total=1)
    (engine,) = world.fleet().all_engines()
    forecasts.observe(engine, world.store, world.second + 1)
    brokers = Brokers({})

    await ask(world, brokers)
    assert brokers.asked == 0

    world.now += 5
    await ask(world, brokers)
    assert brokers.asked == 1


async def test_brokers_that_fail_leave_the_reason_and_are_asked_again(world: World) -> None:
    world.engine("hunt", topic=TOPIC)
    brokers = Brokers(BrokerError("no broker answers"))
    await ask(world, brokers)
    assert "the brokers: no broker answers" in refused(world).message

    brokers.answer = {0: OffsetsOfPartition(0, 10, 4)}
    await ask(world, brokers)
    assert [i["value"] for i in world.external(LAG)] == ["6"]


CERTIFIED = replace(
    TOPIC,
    properties=(("sasl.mechanism", "SCRAM-SHA-512"), ("security.protocol", "sasl_ssl")),
    credentials="hunt-user",
)


async def test_brokers_are_shown_the_engines_own_credentials_and_no_others(world: World) -> None:
    world.engine("hunt", topic=CERTIFIED)
    world.engine("open", "other", topic=TOPIC)
    secrets = Secrets({"username": b"hunt", "password": b"swordfish", "unrelated": b"x"})
    brokers = Brokers({0: OffsetsOfPartition(0, 10, 4)})

    await ask(world, brokers, secrets)

    assert secrets.paths == ["/api/v1/namespaces/default/secrets/hunt-user"]
    assert [i["value"] for i in world.external(LAG)] == ["6"]
    assert brokers.shown == {
        "": {},
        "hunt-user": {"sasl.username": "hunt", "sasl.password": "swordfish"},
    }


@pytest.mark.parametrize(
    ("secrets", "words"),
    [
        (Secrets(refusal_code=403), "operator.brokerCredentials"),
        (Secrets(refusal_code=404), "(Secret hunt-user) do not exist"),
        (Secrets(refusal_code=500), "could not be read"),
        (Secrets({"password": b"swordfish"}), "username and password"),
        (Secrets({"ca.crt": b"\xff\xfeswordfish"}), "no UTF-8"),
    ],
)
async def test_without_its_credentials_a_broker_is_not_asked_and_the_reason_is_told(
    world: World, secrets: Secrets, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.engine("hunt", topic=CERTIFIED)
    brokers = Brokers({})

    await ask(world, brokers, secrets)

    assert brokers.asked == 0
    assert words in refused(world).message
    assert "hunt-user" in refused(world).message
    assert "swordfish" not in refused(world).message + caplog.text


async def test_a_secret_is_read_again_after_a_minute_and_not_before(world: World) -> None:
    api = Secrets({"username": b"hunt", "password": b"old"})
    secrets = BrokerSecrets(api, lambda: world.now)
    await secrets.properties("default", "hunt-user")
    api.data = {"username": b"hunt", "password": b"new"}

    assert (await secrets.properties("default", "hunt-user"))["sasl.password"] == "old"
    world.now += 61
    assert (await secrets.properties("default", "hunt-user"))["sasl.password"] == "new"
    world.now += 61
    api.data, api.refusal_code = None, 403
    with pytest.raises(BrokerError, match="may not be read"):
        await secrets.properties("default", "hunt-user")


async def test_what_brokers_said_is_forgotten_with_the_engine(world: World) -> None:
    world.store.record_broker_sample("uid-gone", BrokerSample(world.second, {0: 1}))

    await ask(world, Brokers({}))

    assert world.store.broker_sample("uid-gone") is None


# --- what is asked about -------------------------------------------------------------------------------------


def engine(**kafka: Any) -> dict[str, Any]:
    source = {
        "name": "moves",
        "type": "kafka",
        "kafka": {"bootstrapServers": ["broker:9092"], "topic": "hunt-events", **kafka},
    }
    return {
        "metadata": {"name": "hunt", "namespace": "default", "uid": "ee-1"},
        "spec": {"engine": {"sources": [source]}},
    }


def test_the_topic_is_the_one_that_the_engine_declares() -> None:
    kept = keep_engine(engine(startFrom="latest"))

    assert kept is not None
    assert kept.topic == KafkaTopic("moves", ("broker:9092",), "hunt-events", "hunt", False)
    named = keep_engine(engine(groupId="other"))
    assert named is not None
    assert named.topic is not None
    assert named.topic.group == "other"


@pytest.mark.parametrize("spec", [None, {}, {"engine": {"no": "such key"}}, {"engine": {"sources": "none"}}])
def test_an_engine_that_can_not_be_read_still_has_its_pods(spec: Any) -> None:
    kept = keep_engine({"metadata": {"name": "hunt", "namespace": "default", "uid": "ee-1"}, "spec": spec})

    assert kept is not None
    assert (kept.identity.uid, kept.topic, kept.last_known_good_seconds) == ("ee-1", None, 0)


@pytest.mark.parametrize(
    ("properties", "named"),
    [
        ({"security.protocol": "SASL_SSL"}, "sasl_ssl"),
        ({"sasl.password": "swordfish"}, "sasl.password"),
        ({"ssl.key.location": "/etc/eventengine/tls/tls.key"}, "ssl.key.location"),
    ],
)
def test_a_source_that_needs_credentials_is_not_asked_about_and_none_is_shown(
    properties: dict[str, str], named: str
) -> None:
    topic = KafkaTopic("moves", ("127.0.0.1:1",), "t", "g", True, tuple(properties.items()))

    with pytest.raises(BrokerError, match=named) as caught:
        KafkaBrokers().offsets(topic)

    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "words", "meant"),
    [
        # What librdkafka says where the broker's certificate was there at once.
        (
            KafkaError._TRANSPORT,
            "error:0A000086:SSL routines::certificate verify failed (after 4ms in state SSL_HANDSHAKE)",
            KafkaError._SSL,
        ),
        (
            KafkaError._SSL,
            "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed (after 5ms in state "
            "SSL_HANDSHAKE)",
            KafkaError._SSL,
        ),
        (
            KafkaError._TRANSPORT,
            "Disconnected: connection reset by peer (after 4ms in state SSL_HANDSHAKE)",
            KafkaError._TRANSPORT,
        ),
        (
            KafkaError._TRANSPORT,
            "SSL transport error: error:0A000119:SSL routines::bad record mac (after 60000ms in state UP)",
            KafkaError._TRANSPORT,
        ),
    ],
)
def test_a_handshake_that_fails_at_once_is_no_broken_connection(code: int, words: str, meant: int) -> None:
    assert code_of(KafkaError(code, f"sasl_ssl://127.0.0.1:9094/bootstrap: {words}")) == meant


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({}, "nobody would ask for them"),
        ({"security.protocol": "sasl_ssl"}, "sets no sasl.mechanism"),
        ({"security.protocol": "sasl_ssl", "sasl.mechanism": "GSSAPI"}, "sasl.mechanism GSSAPI"),
        ({"security.protocol": "sasl_ssl", "sasl.mechanism": "OAUTHBEARER"}, "OAUTHBEARER"),
        ({"security.protocol": "ssl", "sasl.kerberos.kinit.cmd": "touch /tmp/x"}, "sasl.kerberos.kinit.cmd"),
        ({"security.protocol": "ssl", "ssl.ca.location": "/etc/shadow"}, "ssl.ca.location"),
        ({"security.protocol": "ssl", "ssl.engine.location": "/tmp/x.so"}, "ssl.engine.location"),
    ],
)
def test_with_credentials_too_only_what_is_harmless_is_honoured(
    properties: dict[str, str], words: str
) -> None:
    assert words in refusal(properties, "hunt-user")


@pytest.mark.parametrize(
    "properties",
    [
        {"security.protocol": "ssl"},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "scram-sha-256"},
        {"security.protocol": "sasl_plaintext", "sasl.mechanisms": "PLAIN"},
    ],
)
def test_a_name_and_a_password_or_a_certificate_are_shown(properties: dict[str, str]) -> None:
    assert refusal(properties, "hunt-user") == ""


@pytest.mark.parametrize("properties", [{}, {"security.protocol": "ssl"}, {"fetch.wait.max.ms": "5"}])
def test_other_properties_are_no_hindrance(properties: dict[str, str]) -> None:
    assert refusal(properties) == ""
