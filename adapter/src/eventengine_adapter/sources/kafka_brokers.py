"""What Kafka brokers say of a topic and a group: the only code that talks to brokers.

It reads metadata, committed offsets and the ends of partitions, and looks at the
first record behind a committed offset where only markers may be left; it joins
no group, commits nothing, and keeps no payload. Calls block and run in threads
of their own (`broker_sampling`); each has a deadline.

Credentials come from the Secret that the source names (`broker_secrets`), never
from its properties. Which properties of a source are honoured is a list here: a
user who may declare an engine must not be able to make the adapter read its own
files, run a program, or show its identity to a broker.

A failure says which brokers refused whom, why, and what to do about it; never a
password. A client whose identity was refused is given up, so that it doesn't
knock again in the background with what is known to be wrong.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import admin as kafka_admin
from confluent_kafka.admin import AdminClient

from eventengine_adapter.samples.broker_lag import KafkaTopic, OffsetsOfPartition, start_of
from eventengine_adapter.samples.pod_samples import PARTITIONS_MAX

REQUEST_SECONDS_MAX: Final = 3.0
PEEK_SECONDS_MAX: Final = 1.5
PEEK_OFFSETS_MAX: Final = 1000
"""A tail longer than this is not taken for markers alone, and not looked at."""

CLIENTS_MAX: Final = 16
REPORTS_MAX: Final = 8
"""What a client said by itself of its connections, and is kept until it is asked for."""

WORDS_MAX: Final = 256
"""Characters of what librdkafka says that are shown."""

COORDINATOR_PAUSE_SECONDS: Final = 0.1
_COORDINATOR_MOVES: Final = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)
_IDENTITY: Final = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED}  # noqa: SLF001
)
"""Who asks isn't believed by the brokers, or they by who asks. (These names are public, for all their looks.)"""

_UNANSWERED: Final = frozenset(
    {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN}  # noqa: SLF001
)
"""Says no more than that there was no answer: the client's own reports say why."""

_OF_A_HANDSHAKE: Final = ("SSL routines", "in state SSL_HANDSHAKE")
"""OpenSSL's words of a failure, and librdkafka's of when it was; of a closed connection OpenSSL says nothing."""

_HONOURED: Final = frozenset(
    {
        "broker.address.family",
        "sasl.mechanism",
        "sasl.mechanisms",
        "security.protocol",
        "socket.connection.setup.timeout.ms",
        "ssl.endpoint.identification.algorithm",
    }
)
_PROTOCOLS: Final = frozenset({"plaintext", "ssl"})
_PROTOCOLS_WITH_CREDENTIALS: Final = frozenset({"ssl", "sasl_ssl", "sasl_plaintext"})
_MECHANISMS: Final = frozenset({"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"})
"""Those that need no more than a name and a password. Kerberos would read files and run a program."""

_SECURING: Final = ("sasl.", "ssl.")
# The package names these without types, and without exporting the class.
_EARLIEST: Final[Any] = kafka_admin.OffsetSpec.earliest()  # type: ignore[attr-defined,no-untyped-call]
_LATEST: Final[Any] = kafka_admin.OffsetSpec.latest()  # type: ignore[attr-defined,no-untyped-call]
_QUIET: Final = {"log_level": 0, "socket.timeout.ms": 3000, "client.id": "eventengine-adapter"}


NO_CREDENTIALS: Final[Mapping[str, str]] = MappingProxyType({})


class BrokerError(Exception):
    """Nothing is known of a topic. The message is shown to users who ask for its lag."""


class IdentityError(BrokerError):
    """The brokers don't accept what the Secret holds, or it is not enough to believe them."""


@dataclass(frozen=True, slots=True)
class _Client:
    """A client, and what it last said by itself, which is how a failed connection is told."""

    admin: AdminClient
    reports: deque[KafkaError]


def refusal(properties: Mapping[str, str], credentials: str = "") -> str:
    """Why a source with these properties, and that Secret for its credentials, is not asked about; empty if it is."""
    protocol = properties.get("security.protocol", "plaintext").lower()
    securing = sorted(name for name in properties if name.startswith(_SECURING))
    if not credentials:
        if protocol not in _PROTOCOLS or securing:
            what = securing[0] if securing else f"security.protocol {protocol}"
            return f"its source needs credentials ({what}), which the adapter has none of: name them in `credentials`"
        return ""
    if protocol not in _PROTOCOLS_WITH_CREDENTIALS:
        return (
            f"its source names credentials, and with security.protocol {protocol} nobody would ask for them"
        )
    for name in securing:
        if name not in _HONOURED:
            return f"its source sets {name}, which the adapter doesn't take: put it into the Secret {credentials}"
    for name in ("sasl.mechanism", "sasl.mechanisms"):
        mechanism = properties.get(name)
        if mechanism is not None and mechanism.upper() not in _MECHANISMS:
            return f"its source sets {name} {mechanism}; the adapter takes {', '.join(sorted(_MECHANISMS))}"
    if protocol.startswith("sasl_") and not {"sasl.mechanism", "sasl.mechanisms"} & set(properties):
        return "its source sets no sasl.mechanism, and librdkafka would take Kerberos"
    return ""


def code_of(error: KafkaError) -> int:
    """The code of an error, also of a failed handshake that librdkafka reports as a broken connection.

    It does so where the broker's answer is there before the handshake's first call returns.
    """
    code: int = error.code()
    text = error.str()
    if code == KafkaError._TRANSPORT and all(words in text for words in _OF_A_HANDSHAKE):  # noqa: SLF001
        return KafkaError._SSL  # noqa: SLF001
    return code


class KafkaBrokers:
    """Asks brokers about topics. Its methods block, and may be called from several threads for different topics."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clients: OrderedDict[tuple[Any, ...], _Client] = OrderedDict()
        self._members: OrderedDict[tuple[Any, ...], Consumer] = OrderedDict()
        """Clients by group. None of them subscribes, so none joins."""
        self._looked_at: dict[tuple[Any, ...], bool] = {}
        self._lock = threading.Lock()
        """Held for the two dictionaries, never during a call."""

    def offsets(
        self, topic: KafkaTopic, credentials: Mapping[str, str] = NO_CREDENTIALS
    ) -> dict[int, OffsetsOfPartition]:
        """The offsets of every partition of `topic`; `credentials` are the properties of its Secret.

        Raises:
            IdentityError: the brokers and the adapter don't believe each other; other credentials may help.
            BrokerError: the brokers can't be reached, the topic doesn't exist, a right is missing, or the answer is
                incomplete.
        """
        why_not = refusal(dict(topic.properties), topic.credentials)
        if why_not:
            raise BrokerError(why_not)
        try:
            client = self._client(topic, credentials)
            admin = client.admin
            partitions = self._partitions(admin, topic)
            committed = self._committed(self._member(topic, credentials), topic, partitions)
            earliest = self._ends(admin, topic, partitions, _EARLIEST)
            # The last stable offset: the end as a reader of committed data sees it.
            last_stable = self._ends(admin, topic, partitions, _LATEST)
            found = {
                number: OffsetsOfPartition(earliest[number], last_stable[number], committed[number])
                for number in partitions
            }
            found = self._look_at_tails(topic, found, credentials)
        except KafkaException as error:
            raise self._failure(topic, credentials, error) from error
        except TimeoutError as error:
            asked = _asked(topic, credentials)
            raise BrokerError(f"{asked}: no answer within {REQUEST_SECONDS_MAX:g} s") from error
        # What was said before they answered explains no later failure.
        admin.poll(0)
        client.reports.clear()
        return found

    def _failure(
        self, topic: KafkaTopic, credentials: Mapping[str, str], error: KafkaException
    ) -> BrokerError:
        cause = error.args[0] if error.args else None
        if not isinstance(cause, KafkaError):
            return BrokerError(str(error)[:WORDS_MAX])
        if cause.code() in _UNANSWERED:
            cause = self._report(topic, credentials) or cause
        code = code_of(cause)
        sentence = f"{_asked(topic, credentials)}: {cause.str()[:WORDS_MAX]}"
        remedy = _remedy(code, topic)
        if remedy:
            sentence = f"{sentence}; {remedy}"
        if code not in _IDENTITY:
            return BrokerError(sentence)
        self._give_up(topic, credentials)
        return IdentityError(sentence)

    def _report(self, topic: KafkaTopic, credentials: Mapping[str, str]) -> KafkaError | None:
        """Why there is no connection, as the client said last."""
        client = self._client(topic, credentials)
        client.admin.poll(0)
        # That none is left follows from what was said of each.
        said = [one for one in client.reports if one.code() != KafkaError._ALL_BROKERS_DOWN]  # noqa: SLF001
        return said[-1] if said else None

    def _give_up(self, topic: KafkaTopic, credentials: Mapping[str, str]) -> None:
        shown = _configuration(topic, credentials)
        with self._lock:
            self._clients.pop(tuple(sorted(shown.items())), None)
            self._members.pop(tuple(sorted(_of_member(topic, shown).items())), None)

    def _client(self, topic: KafkaTopic, credentials: Mapping[str, str] = NO_CREDENTIALS) -> _Client:
        configuration = _configuration(topic, credentials)
        key = tuple(sorted(configuration.items()))
        with self._lock:
            client = self._clients.pop(key, None)
            if client is None:
                reports: deque[KafkaError] = deque(maxlen=REPORTS_MAX)
                settings: dict[str, Any] = {**configuration, "error_cb": reports.append}
                client = _Client(AdminClient(settings), reports)
            self._clients[key] = client
            while len(self._clients) > CLIENTS_MAX:
                self._clients.popitem(last=False)
        return client

    def _member(self, topic: KafkaTopic, credentials: Mapping[str, str]) -> Consumer:
        configuration = _of_member(topic, _configuration(topic, credentials))
        key = tuple(sorted(configuration.items()))
        with self._lock:
            member = self._members.pop(key, None)
            if member is None:
                member = Consumer(configuration)
            self._members[key] = member
            while len(self._members) > CLIENTS_MAX:
                self._members.popitem(last=False)
        return member

    def _partitions(self, admin: AdminClient, topic: KafkaTopic) -> list[int]:
        found = admin.list_topics(topic.topic, timeout=REQUEST_SECONDS_MAX).topics[topic.topic]
        if found.error is not None:
            raise KafkaException(found.error)
        if not 0 < len(found.partitions) <= PARTITIONS_MAX:
            raise BrokerError(f"topic {topic.topic} has {len(found.partitions)} partitions")
        return sorted(found.partitions)

    def _committed(self, member: Consumer, topic: KafkaTopic, partitions: list[int]) -> dict[int, int | None]:
        """Where the group stands.

        Not by the admin client: a question of its to a coordinator that runs out of time ends the whole process
        (librdkafka 2.x frees what the late answer still needs).
        """
        asked = [TopicPartition(topic.topic, number) for number in partitions]
        committed: dict[int, int | None] = {}
        for found in self._ask_coordinator(member, asked):
            if found.error is not None:
                raise KafkaException(found.error)
            committed[found.partition] = None if found.offset == OFFSET_INVALID else found.offset
        if set(committed) != set(partitions):
            raise BrokerError(f"group {topic.group}: the brokers left partitions out")
        return committed

    def _ask_coordinator(self, member: Consumer, asked: list[TopicPartition]) -> list[TopicPartition]:
        """Once more while the group's coordinator moves, for as long as one question may take."""
        deadline = self._clock() + REQUEST_SECONDS_MAX
        while True:
            try:
                return member.committed(asked, timeout=max(deadline - self._clock(), 0.001))
            except KafkaException as error:
                is_moving = error.args[0].code() in _COORDINATOR_MOVES
                if not is_moving or self._clock() + COORDINATOR_PAUSE_SECONDS >= deadline:
                    raise
            time.sleep(COORDINATOR_PAUSE_SECONDS)

    def _ends(self, admin: AdminClient, topic: KafkaTopic, partitions: list[int], end: Any) -> dict[int, int]:
        futures = admin.list_offsets(
            {TopicPartition(topic.topic, number): end for number in partitions},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=REQUEST_SECONDS_MAX,
        )
        return {
            asked.partition: int(future.result(REQUEST_SECONDS_MAX).offset)
            for asked, future in futures.items()
        }

    def _look_at_tails(
        self, topic: KafkaTopic, offsets: dict[int, OffsetsOfPartition], credentials: Mapping[str, str]
    ) -> dict[int, OffsetsOfPartition]:
        """Find out which short tails are markers alone; what was found holds until an offset moves."""
        starts: dict[int, int] = {}
        for number, found in offsets.items():
            start = start_of(found, from_earliest=topic.from_earliest)
            if start is not None and 0 < found.last_stable - start <= PEEK_OFFSETS_MAX:
                starts[number] = start
        keys = {
            number: (topic.bootstrap_servers, topic.topic, number, start, offsets[number].last_stable)
            for number, start in starts.items()
        }
        with self._lock:
            known = {number: self._looked_at[key] for number, key in keys.items() if key in self._looked_at}
        unknown = {number: start for number, start in starts.items() if number not in known}
        if unknown:
            known |= self._peek(topic, unknown, credentials)
        with self._lock:
            if len(self._looked_at) > PARTITIONS_MAX:
                self._looked_at.clear()
            self._looked_at |= {keys[number]: drained for number, drained in known.items()}
        return {number: replace(found, drained=known.get(number, False)) for number, found in offsets.items()}

    def _peek(
        self, topic: KafkaTopic, starts: dict[int, int], credentials: Mapping[str, str]
    ) -> dict[int, bool]:
        """Whether each partition ends without a record from that offset on; left out where time ran out."""
        consumer = Consumer(
            _configuration(topic, credentials)
            | {
                "group.id": "eventengine-adapter-never-committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "fetch.message.max.bytes": 1024,
                "queued.max.messages.kbytes": 1024,
            }
        )
        drained: dict[int, bool] = {}
        deadline = self._clock() + PEEK_SECONDS_MAX
        try:
            consumer.assign([TopicPartition(topic.topic, number, start) for number, start in starts.items()])
            while len(drained) < len(starts) and (remaining := deadline - self._clock()) > 0:
                message = consumer.poll(remaining)
                if message is None:
                    break
                number = message.partition()
                error = message.error()
                if number is None or number in drained:
                    continue
                if error is None:
                    drained[number] = False
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                    drained[number] = True
                elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    # What may not be looked at would never be known to be drained.
                    raise KafkaException(error)
        finally:
            consumer.close()
        return drained


def _configuration(topic: KafkaTopic, credentials: Mapping[str, str]) -> dict[str, Any]:
    honoured = {name: value for name, value in topic.properties if name in _HONOURED}
    return {**_QUIET, **honoured, **credentials, "bootstrap.servers": ",".join(topic.bootstrap_servers)}


def _of_member(topic: KafkaTopic, configuration: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **configuration,
        "group.id": topic.group,
        "enable.auto.commit": False,
        # Stable: an offset inside a transaction that is still open is not committed yet, and not refused either.
        "isolation.level": "read_committed",
    }


def _asked(topic: KafkaTopic, credentials: Mapping[str, str]) -> str:
    """Which brokers were asked about what, and as whom."""
    user = credentials.get("sasl.username")
    whom = f" as user {user}" if user else ""
    servers = ",".join(topic.bootstrap_servers)
    return f"Kafka at {servers}{whom}, asked about topic {topic.topic} and group {topic.group}"


def _remedy(code: int, topic: KafkaTopic) -> str:
    """What has to be done about a refusal by those whom it concerns; empty for what may pass by itself."""
    secret = (
        f"the Secret {topic.credentials}"
        if topic.credentials
        else "a Secret named in the source's credentials"
    )
    match code:
        case KafkaError._AUTHENTICATION | KafkaError.SASL_AUTHENTICATION_FAILED:  # noqa: SLF001
            return f"correct username and password in {secret}, or the source's sasl.mechanism"
        case KafkaError._SSL:  # noqa: SLF001
            return (
                f"put the authority of the brokers' certificates into ca.crt of {secret}, and a certificate that they "
                "trust into tls.crt and tls.key if they ask for one"
            )
        case KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return f"allow the user to Read topic {topic.topic}"
        case KafkaError.GROUP_AUTHORIZATION_FAILED:
            return f"allow the user to Read group {topic.group}"
    return ""
