"""A real Apache Kafka broker in KRaft mode, fit for transactions though it is alone.

Owns its configuration, storage, start, orderly stop and kill -9, topics, and the
command-line classes. On the machine's loopback (`LoopbackKafka`), or at the
node's address in a cluster's sandbox, where pods reach it as well.

On loopback it listens three times: for anybody, who may do anything; for those who log in
with a password in the clear; and for those who do so as brokers on the internet have it, with
SCRAM over TLS. Who logged in may do what no ACL keeps from them: a topic that has an ACL is
for those whom one allows it.

Restarting keeps the data: `stop()` or `kill()` then `start()` is "Kafka was away".
"""

from __future__ import annotations

import secrets
import socket
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from eventengine_harness import builds, debian_packages
from eventengine_harness.certificates import Authority
from eventengine_harness.control_planes import LOOPBACK, free_port
from eventengine_harness.exceptions import HarnessError
from eventengine_harness.ledgers import Ledger
from eventengine_harness.ownership import OwnedInstance
from eventengine_harness.processes import ComponentProcess, Launcher
from eventengine_harness.running import run
from eventengine_harness.waiting import wait_for

LOOPBACK_INSTANCE = "kafka"
LOG_CONFIGURATION = Path(__file__).resolve().parent / "programs" / "log4j2.properties"
HEAP_MEBIBYTES = 768
START_DEADLINE_SECONDS = 60.0
STOP_GRACE_SECONDS = 30.0
REQUEST_TIMEOUT_SECONDS = 10.0
TOPIC_DEADLINE_SECONDS = 20.0
JAVA_OPTIONS = (
    f"-Xms{HEAP_MEBIBYTES // 3}m",
    f"-Xmx{HEAP_MEBIBYTES}m",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
)
USERS = {"hunt": "swordfish"}
"""Who may log in where a broker asks for it."""
SCRAM = "SCRAM-SHA-512"

TOOL_OPTIONS = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


@dataclass
class Broker:
    """One broker that is its own controller.

    Attributes:
        folder: For configuration and data; a real disk.
        launcher: Starts the process.
        jars: The folder of the broker's jars.
        host: The address it listens on and advertises.
        port: The port for clients.
        controller_port: The port of its controller, on its own loopback.
        settings: Broker settings that override the ones here.
        secured_port: A further port, for clients that log in (SASL PLAIN) as one of USERS; 0 for none.
        encrypted_port: Another one, for those who do so with SCRAM over TLS; 0 for none, and given together.
        advertised_port: Where clients are to reach it instead of at `port`, through a proxy; 0 for no such thing.
    """

    folder: Path
    launcher: Launcher
    jars: Path
    host: str
    port: int
    controller_port: int
    process: ComponentProcess | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    secured_port: int = 0
    encrypted_port: int = 0
    advertised_port: int = 0

    @property
    def secured_bootstrap_servers(self) -> str:
        """What clients that log in are given as `bootstrap.servers`."""
        return f"{self.host}:{self.secured_port}"

    @property
    def encrypted_bootstrap_servers(self) -> str:
        """What clients that log in over TLS are given as `bootstrap.servers`."""
        return f"{self.host}:{self.encrypted_port}"

    @property
    def authority(self) -> Path:
        """The certificate of the authority that the broker's own is from."""
        return self.folder / "tls" / "broker-ca.crt"

    @property
    def bootstrap_servers(self) -> str:
        """What clients are given as `bootstrap.servers`."""
        return f"{self.host}:{self.advertised_port or self.port}"

    @property
    def data_folder(self) -> Path:
        """Where the partitions lie."""
        return self.folder / "data"

    def start(self) -> None:
        """Start the broker, formatting its storage the first time; `wait_until_ready` follows."""
        if self.process is not None and self.process.is_running():
            raise HarnessError("the broker is running already")
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.encrypted_port and not self.authority.exists():
            self._issue_certificate()
        configuration = self.folder / "server.properties"
        configuration.write_text("".join(f"{key}={value}\n" for key, value in self._configuration().items()))
        if not (self.data_folder / "meta.properties").exists():
            identifier = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
            self.tool(
                "kafka.tools.StorageTool",
                # Joined: one identifier in 64 begins with a dash, and would be taken for an option.
                *("format", f"--cluster-id={identifier}", "--config", str(configuration)),
                *(
                    f"--add-scram={SCRAM}=[name={name},password={password}]"
                    for name, password in (USERS.items() if self.encrypted_port else ())
                ),
            )
        self.process = self.launcher.launch(
            "kafka", [*self._java(JAVA_OPTIONS), "kafka.Kafka", configuration]
        )

    def wait_until_ready(self) -> None:
        """Wait until the broker answers a metadata request."""
        if self.process is None:
            raise HarnessError("the broker was not started")
        self.process.wait_ready(self.answers, "Kafka", START_DEADLINE_SECONDS)

    def answers(self) -> bool:
        """Whether the broker answers a metadata request now."""
        try:
            # Asked first, since the client would log each refused connection.
            socket.create_connection((self.host, self.port), timeout=1).close()
            return bool(self._admin().list_topics(timeout=REQUEST_TIMEOUT_SECONDS).brokers)
        except (OSError, KafkaException):
            return False

    def stop(self) -> None:
        """End the broker in an orderly way; its data stays."""
        if self.process is not None:
            self.process.stop(STOP_GRACE_SECONDS)
            self.process = None

    def kill(self) -> None:
        """Kill -9 the broker; what it had not written to disk is up to the page cache."""
        if self.process is not None:
            self.process.stop(grace_seconds=0)
            self.process = None

    def restart(self) -> None:
        """Stop in an orderly way, start, and wait until it answers."""
        self.stop()
        self.start()
        self.wait_until_ready()

    def create_topic(self, name: str, partitions: int, settings: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until clients see all its partitions with a leader."""
        admin = self._admin()
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(settings or {}))
        admin.create_topics([topic], operation_timeout=TOPIC_DEADLINE_SECONDS)[name].result()

        def visible() -> bool:
            metadata = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics.get(name)
            return (
                metadata is not None
                and len(metadata.partitions) == partitions
                and all(partition.leader >= 0 for partition in metadata.partitions.values())
            )

        wait_for(visible, f"topic {name}", TOPIC_DEADLINE_SECONDS)

    def allow(self, user: str, operation: AclOperation, resource: ResourceType, name: str) -> None:
        """Allow a user something; from now on nobody whom no ACL allows anything has a right to it."""
        binding = AclBinding(
            *(resource, name, ResourcePatternType.LITERAL, f"User:{user}", "*"),
            *(operation, AclPermissionType.ALLOW),
        )
        admin = self._admin()  # kept: with it would go what it was asked
        admin.create_acls([binding])[binding].result(REQUEST_TIMEOUT_SECONDS)

    def delete_topic(self, name: str) -> None:
        """Delete a topic."""
        self._admin().delete_topics([name])[name].result()

    def topics(self) -> dict[str, int]:
        """The topics with their partition counts, Kafka's own left out."""
        found = self._admin().list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
        return {name: len(topic.partitions) for name, topic in found.items() if not name.startswith("__")}

    def tool(
        self,
        main_class: str,
        *arguments: str,
        stdin: str | None = None,
        timeout_seconds: float = 60.0,
    ) -> str:
        """Run one of Kafka's command-line classes; returns its standard output.

        Examples of classes: `org.apache.kafka.tools.TopicCommand`,
        `org.apache.kafka.tools.consumer.group.ConsumerGroupCommand`.
        """
        command = [*self._java(TOOL_OPTIONS, log_level="ERROR"), main_class, *arguments]
        return run(command, stdin=stdin, timeout_seconds=timeout_seconds)

    def _admin(self) -> AdminClient:
        return AdminClient(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "socket.timeout.ms": int(REQUEST_TIMEOUT_SECONDS * 1000),
                "log_level": 0,
            }
        )

    def _java(self, options: Sequence[str], log_level: str = "INFO") -> list[str]:
        return [
            "java",
            *options,
            f"-Dlog4j2.configurationFile={LOG_CONFIGURATION}",
            f"-Deventengine.log.level={log_level}",
            "-cp",
            f"{self.jars}/*",
        ]

    def _configuration(self) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{LOOPBACK}:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": (
                f"PLAINTEXT://{self.host}:{self.port},CONTROLLER://{LOOPBACK}:{self.controller_port}"
            ),
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self.data_folder),
            "auto.create.topics.enable": "false",
            # One broker must be enough for everything that wants three.
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # Groups start at once, and may choose short sessions, so that tests are short.
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            # A killed producer's transaction ends at its timeout, not ten seconds after.
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
            # How long a killed broker is still believed to live, which its restart waits out.
            "broker.session.timeout.ms": "5000",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
            **(self._secured_listeners() if self.secured_port else {}),
            **self.settings,
        }

    @property
    def _key_store(self) -> Path:
        return self.folder / "tls" / "broker.pem"

    def _issue_certificate(self) -> None:
        folder = self._key_store.parent
        folder.mkdir()
        authority = Authority.create(folder, self.authority.stem)
        pair = authority.issue(folder, "broker", common_name="broker", hosts=[self.host])
        self._key_store.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())

    def _secured_listeners(self) -> dict[str, str]:
        secured = f"SECURED://{self.secured_bootstrap_servers},ENCRYPTED://{self.encrypted_bootstrap_servers}"
        users = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
        login = "org.apache.kafka.common.security"
        return {
            "listeners": (
                f"PLAINTEXT://{self.host}:{self.port},{secured},CONTROLLER://{LOOPBACK}:{self.controller_port}"
            ),
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers},{secured}",
            "listener.security.protocol.map": (
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:SASL_PLAINTEXT,ENCRYPTED:SASL_SSL"
            ),
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.name.secured.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.secured.plain.sasl.jaas.config": f"{login}.plain.PlainLoginModule required {users};",
            "listener.name.encrypted.sasl.enabled.mechanisms": SCRAM,
            f"listener.name.encrypted.{SCRAM.lower()}.sasl.jaas.config": (
                f"{login}.scram.ScramLoginModule required;"
            ),
            "listener.name.encrypted.ssl.keystore.type": "PEM",
            "listener.name.encrypted.ssl.keystore.location": str(self._key_store),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
            "super.users": "User:ANONYMOUS",
        }


class LoopbackKafka(OwnedInstance[Path]):
    """A broker of its own for a process: `with LoopbackKafka() as kafka:`.

    It needs no root; several may run at once, each with free ports and data of its own.

    Args:
        name: Of the instance; a name of its own unless given.
        settings: Broker settings that override the ones of `Broker`.
        host: The address to listen on and advertise; another one of this machine for clients elsewhere.
        port: The port for clients; a free one unless given.
        advertised_port: As `Broker`'s.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        host: str = LOOPBACK,
        port: int = 0,
        advertised_port: int = 0,
    ) -> None:
        super().__init__(name or f"{LOOPBACK_INSTANCE}-{secrets.token_hex(4)}")
        self._settings = dict(settings or {})
        self._host = host
        self._port = port
        self._advertised_port = advertised_port
        self._broker: Broker | None = None

    @property
    def broker(self) -> Broker:
        """The broker."""
        if self._broker is None:
            raise HarnessError("Kafka is not up; call up() or use `with`")
        return self._broker

    def _prepare(self) -> Path:
        debian_packages.ensure_installed(debian_packages.JAVA)
        return builds.kafka()

    def _start(self, ledger: Ledger, needs: Path) -> None:
        launcher = Launcher(ledger.marker, ledger.folder / "logs", ledger)
        self._broker = Broker(
            *(ledger.folder, launcher, needs, self._host, self._port or free_port(self._host), free_port()),
            settings=self._settings,
            secured_port=free_port(self._host),
            encrypted_port=free_port(self._host),
            advertised_port=self._advertised_port,
        )
        self._broker.start()
        self._broker.wait_until_ready()

    def _children(self) -> Iterable[ComponentProcess]:
        return [self._broker.process] if self._broker and self._broker.process else []

    def _forget(self) -> None:
        self._broker = None
