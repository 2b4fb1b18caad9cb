"""EngineConfig: the content of `engine.yaml`, and verbatim the `spec.engine` of an EventEngine.

Owns every key, default and bound of an engine's configuration. Knows nothing of
Kubernetes. The sections `runtime`, `arena`, `transport` and `monitoring` take the
article's arena-runtime-config.yaml as it stands; `inactive_reasons` says which of
them are accepted and do not act, and why, so that a start can say so.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.config import JsonDict

from .broker_credentials import CREDENTIAL_FILES
from .modelling import Model, validation
from .quantities import Duration

MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", max_length=63)]
Topic = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$", max_length=249)]
Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\s\[\]]*):[0-9]{1,5}$", max_length=260)]

KAFKA_PROPERTIES_REFUSED: Final = frozenset(
    {
        "bootstrap.servers",
        "client.rack",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "group.id",
        "group.instance.id",
        "isolation.level",
        "partition.assignment.strategy",
        "plugin.library.paths",
        "transactional.id",
    }
)
"""Properties that exactly-once delivery and the consumer group depend on, and one that loads code."""

Properties = Annotated[
    dict[
        Annotated[str, Field(max_length=128)],
        Annotated[str, Field(max_length=4096)],
    ],
    Field(max_length=64),
]


Credentials = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$", max_length=63)]
CREDENTIALS_DESCRIPTION: Final = (
    "Folder below /etc/eventengine/credentials with what is shown to brokers: username and password, tls.crt and "
    "tls.key, ca.crt, as far as they are needed. In Kubernetes the name of a Secret with these keys, which the "
    "operator mounts there. Read at start."
)


def _check_properties(properties: dict[str, str]) -> dict[str, str]:
    for name in sorted(properties):
        if name in KAFKA_PROPERTIES_REFUSED:
            raise ValueError(f"the property `{name}` is the engine's own to set; remove it")
    return properties


def _check_credentials(credentials: str | None, properties: dict[str, str]) -> None:
    if credentials is None:
        return
    for name in CREDENTIAL_FILES.values():
        if name in properties:
            raise ValueError(
                f"the property `{name}` comes with the credentials {credentials!r}; remove one of them"
            )


class Graph(Model):
    """For the program `graph`: edges with weights of one byte, and shortest paths over them."""

    vertices: int = Field(65_536, ge=2, le=4_194_304, description="Vertices are numbered below this.")
    path_vertices_max: int = Field(
        4096,
        ge=1,
        le=4_194_304,
        description=(
            "Vertices that the searches of one event look at together, at most: about a quarter of a "
            "microsecond each. A path beyond is answered as unknown."
        ),
    )


class Program(Model):
    """What is computed.

    `treasure-hunt`: players, puzzles and districts, standings per district, from JSON. `graph`: edges that change and
    shortest paths over them, from binary packets of 12 bytes; each partition has a graph of its own.
    """

    name: Literal["treasure-hunt", "graph"] = Field(
        "treasure-hunt", description="The built-in program to run."
    )
    graph: Graph = Field(
        default_factory=lambda: Graph.model_validate({}), description="For the program graph."
    )
    districts: int = Field(12, ge=1, le=65_536, description="Districts of the hunt.")
    puzzles_per_district: int = Field(40, ge=1, le=64, description="Puzzles in each district.")
    clues_per_puzzle: int = Field(5, ge=1, le=8, description="Clues that each puzzle hides.")
    service_time: Duration = Field(
        0,
        ge=0,
        le=10 * SECOND,
        description=(
            "Declared cost of one event: the core spends at least this long on each. It stands for a "
            "slower program, so that a small machine can show scaling; 0s means none."
        ),
    )


class KafkaSource(Model):
    """A topic consumed through a consumer group with cooperative rebalancing."""

    bootstrap_servers: list[Address] = Field(
        min_length=1, max_length=16, description="Brokers to ask first, host:port."
    )
    topic: Topic = Field(description="The topic to consume.")
    group_id: Annotated[str, Field(min_length=1, max_length=249)] | None = Field(
        None, description="Consumer group; the engine's name where it is left out."
    )
    start_from: Literal["earliest", "latest"] = Field(
        "earliest", description="Where a group without committed offsets begins."
    )
    properties: Properties = Field(
        {}, description="Further librdkafka properties, such as security.protocol."
    )
    credentials: Credentials | None = Field(None, description=CREDENTIALS_DESCRIPTION)

    _properties = field_validator("properties")(_check_properties)

    @model_validator(mode="after")
    def _say_it_once(self) -> KafkaSource:
        _check_credentials(self.credentials, self.properties)
        return self


class TcpSource(Model):
    """A listener for length-prefixed frames."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                validation(
                    "has(self.tokenFile) || has(self.token_file) || (has(self.insecure) && self.insecure)",
                    "name a tokenFile, or say insecure: true to take frames from anybody",
                )
            ]
        }
    )

    listen: Address = Field("0.0.0.0:9400", description="Address and port to listen on.")
    token_file: Annotated[str, Field(max_length=4096)] | None = Field(
        None, description="File that holds the token each connection must show first."
    )
    insecure: bool = Field(False, description="Take frames without a token; shown as a condition.")
    max_connections: int = Field(256, ge=1, le=65_536, description="Connections at the same time.")

    @model_validator(mode="after")
    def _need_a_token(self) -> TcpSource:
        if self.token_file is None and not self.insecure:
            raise ValueError("name a tokenFile, or say `insecure: true` to take frames from anybody")
        return self


def _needs(kind: str) -> JsonDict:
    return validation(f"self.type != '{kind}' || has(self.{kind})", f"type {kind} needs the section `{kind}`")


class Source(Model):
    """One origin of events. `type` says which section describes it."""

    model_config = ConfigDict(
        json_schema_extra={"x-kubernetes-validations": [_needs("kafka"), _needs("tcp")]}
    )

    name: Name = Field(description="Name in metrics and logs.")
    type: Literal["kafka", "tcp"] = Field(description="Kind of source.")
    kafka: KafkaSource | None = Field(None, description="For type kafka.")
    tcp: TcpSource | None = Field(None, description="For type tcp.")
    payload: Literal["schema", "tree", "auto"] = Field(
        "schema",
        description="How payloads are read: by the program's schema; as trees, which takes `7.0` for 7, numbers written"
        " as text and null for nothing; or as trees only where the schema doesn't do.",
    )

    @model_validator(mode="after")
    def _section_matches_type(self) -> Source:
        for kind, section in (("kafka", self.kafka), ("tcp", self.tcp)):
            if (section is not None) != (self.type == kind):
                fault = "needs the section" if self.type == kind else "has no section"
                raise ValueError(f"a source of type {self.type} {fault} `{kind}`")
        return self


class KafkaSink(Model):
    """A topic that outputs are written to, in the transaction that commits their offsets."""

    bootstrap_servers: list[Address] = Field(
        min_length=1, max_length=16, description="Brokers to ask first, host:port."
    )
    topic: Topic = Field(
        description="The topic to write; made with the source's partition count where missing."
    )
    properties: Properties = Field({}, description="Further librdkafka properties, such as compression.type.")
    credentials: Credentials | None = Field(None, description=CREDENTIALS_DESCRIPTION)

    _properties = field_validator("properties")(_check_properties)

    @model_validator(mode="after")
    def _say_it_once(self) -> KafkaSink:
        _check_credentials(self.credentials, self.properties)
        return self


class Sink(Model):
    """One destination of outputs."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [_needs("kafka")]})

    name: Name = Field(description="Name in metrics and logs.")
    type: Literal["kafka"] = Field(description="Kind of sink.")
    kafka: KafkaSink | None = Field(None, description="For type kafka.")

    @model_validator(mode="after")
    def _section_matches_type(self) -> Sink:
        if self.kafka is None:
            raise ValueError("a sink of type kafka needs the section `kafka`")
        return self


class Changelog(Model):
    """Where state is kept, per source partition, so that a new owner can restore it."""

    topic: Topic | None = Field(None, description="Compacted topic; `<group>-changelog` where left out.")


class DeadLetter(Model):
    """Where events go that can't be applied, with reason and offset."""

    topic: Topic | None = Field(None, description="Topic; `<group>-dead-letter` where left out.")
    max_payload_bytes: int = Field(4096, ge=0, le=65_536, description="Longer payloads are cut to this.")


class Transactions(Model):
    """How outputs, offsets and state are committed together."""

    commit_interval: Duration = Field(
        100 * MILLISECOND,
        ge=MILLISECOND,
        le=10 * SECOND,
        description="Time between commits: the latency that readers of committed outputs see.",
    )
    timeout: Duration = Field(
        15 * SECOND,
        ge=SECOND,
        le=900 * SECOND,
        description="A transaction of a dead engine is ended by the broker after this.",
    )


class BufferPool(Model):
    """The slab that every event passes through; nothing is allocated beside it."""

    chunk_bytes: int = Field(2048, ge=1024, le=4096, multiple_of=64, description="Size of one chunk.")
    chunks: int = Field(16_384, ge=64, le=1_048_576, description="Number of chunks.")


class Payload(Model):
    """Limits that an event is checked against before anything of it is stored."""

    max_bytes: int = Field(65_536, ge=64, le=1_048_576, description="Longest payload.")
    max_depth: int = Field(32, ge=1, le=128, description="Deepest nesting.")
    max_array_length: int = Field(1024, ge=1, le=65_536, description="Longest array.")
    max_string_bytes: int = Field(16_384, ge=16, le=1_048_576, description="Longest string.")


class Shedding(Model):
    """When directly ingested events of low priority may be refused. Kafka events never are."""

    above: float = Field(0.8, ge=0.1, le=1.0, description="Pool or ring utilisation that starts it.")
    priority_at_least: int = Field(1, ge=1, le=2, description="Priorities from this number on are sheddable.")


class Runtime(Model):
    """The boundary between deterministic state and the managed layer (seeds: arena-runtime-config)."""

    hot_path: Literal["native_arena"] = Field("native_arena", description="Where state lives.")
    gc_managed_layer: Literal["discovery_fanout"] = Field(
        "discovery_fanout", description="What the managed layer does."
    )


class ArenaTenant(Model):
    """What the events of one source may hold of the arena, so that its spike can't exhaust the others."""

    source: Name = Field(description="Name of the source whose events make the slots.")
    reserved: int = Field(0, ge=0, le=4_194_304, description="Slots that are this source's alone.")
    burst: int | None = Field(
        None,
        ge=0,
        le=4_194_304,
        description=(
            "Slots beyond the reserve that it may take from what no source has reserved; all where left "
            "out. An event that needs more is refused as tenant_exhausted."
        ),
    )


class Arena(Model):
    """The slots that hold state."""

    capacity: int = Field(65_536, ge=64, le=4_194_304, description="Number of slots.")
    slot_size_bytes: Literal[256] = Field(256, description="Size of one slot.")
    preallocate: Literal[True] = Field(True, description="The arena is always allocated at start.")
    fragmentation_threshold: float = Field(
        0.05,
        ge=0,
        le=1,
        description=(
            "Share of holes among the slots above which slots are moved together, a few at a time, while "
            "the core has nothing else to do. Nothing is refused for it."
        ),
    )
    tenants: list[ArenaTenant] = Field(
        [],
        max_length=8,
        description="Bounds per source; a source that isn't named shares what no source has reserved.",
    )

    @model_validator(mode="after")
    def _reserves_fit(self) -> Arena:
        reserved = sum(tenant.reserved for tenant in self.tenants)
        if reserved > self.capacity:
            raise ValueError(
                f"the tenants reserve {reserved} slots, but `capacity` is {self.capacity}; "
                "raise it or lower the reserves"
            )
        return self


class Identifiers(Model):
    """The table of whom events came from lately, such as players. It feeds figures, never state."""

    capacity: int = Field(
        65_536,
        ge=64,
        le=16_777_216,
        description="Identifiers at most, rounded up to a power of two; 16 bytes each. The oldest make way.",
    )
    lifetime: Duration = Field(
        300 * SECOND,
        ge=SECOND,
        le=86_400 * SECOND,
        description="How long an identifier counts after it was last seen.",
    )


class Transport(Model):
    """Transport of direct ingest (seeds: arena-runtime-config)."""

    protocol: Literal["quic", "tcp"] = Field("tcp", description="Preferred protocol.")
    zero_copy: bool = Field(True, description="Parse frames where they were received.")
    stream_multiplexing: int = Field(128, ge=1, le=65_536, description="Streams per connection.")
    tls_handshake_target_ms: int = Field(
        3, ge=1, le=60_000, description="Handshake time that raises an event."
    )


class Monitoring(Model):
    """Limits whose crossing is reported (seeds: arena-runtime-config)."""

    heap_profile_directory: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        None,
        description="Writable directory for jemalloc heap profiles; none are written where it is left out.",
    )
    heap_profile_interval: Duration = Field(
        30 * SECOND, ge=SECOND, le=86_400 * SECOND, description="Time between heap profiles."
    )
    gc_pause_alert_ms: int = Field(
        5, ge=1, le=60_000, description="A stall of the core thread longer than this is reported."
    )
    rss_flatness_window: Duration = Field(
        300 * SECOND,
        ge=10 * SECOND,
        le=86_400 * SECOND,
        description="Window over which resident memory must not grow.",
    )
    rss_growth_alert_ratio: float = Field(
        0.05, gt=0, le=10, description="Growth over the window, as a share, beyond which it is reported."
    )
    rollback_sla_ms: int = Field(200, ge=1, le=60_000, description="A rollback slower than this is reported.")
    ci_native_integration: Literal[True] = Field(
        True, description="The native module is tested in process; a statement that holds, not a switch."
    )


class Telemetry(Model):
    """Where `/metrics`, `/snapshot`, `/livez` and `/readyz` are served."""

    listen: Address = Field("0.0.0.0:9464", description="Address and port to listen on.")


class EngineConfig(Model):
    """Everything that an engine is told."""

    model_config = ConfigDict(title="EngineConfig")

    name: Name = Field("engine", description="The engine's name; the operator gives it the EventEngine's.")
    program: Program = Field(
        default_factory=lambda: Program.model_validate({}), description="What is computed."
    )
    sources: list[Source] = Field([], max_length=8, description="Where events come from.")
    sinks: list[Sink] = Field([], max_length=8, description="Where outputs go.")
    changelog: Changelog = Field(
        default_factory=lambda: Changelog.model_validate({}), description="Kept state."
    )
    dead_letter: DeadLetter = Field(
        default_factory=lambda: DeadLetter.model_validate({}),
        description="Events that can't be applied.",
    )
    transactions: Transactions = Field(
        default_factory=lambda: Transactions.model_validate({}), description="Commits."
    )
    buffer_pool: BufferPool = Field(
        default_factory=lambda: BufferPool.model_validate({}),
        description="The slab of event chunks.",
    )
    executor: Literal["pinned", "work-stealing"] = Field(
        "pinned", description="One pinned core, or parsing spread over a pool."
    )
    shedding: Shedding = Field(default_factory=lambda: Shedding.model_validate({}), description="Shedding.")
    durability: Literal["memory", "page", "fsync"] = Field(
        "memory", description="How durable a directly ingested event is before it is acknowledged."
    )
    payload: Payload = Field(
        default_factory=lambda: Payload.model_validate({}), description="Payload limits."
    )
    runtime: Runtime = Field(
        default_factory=lambda: Runtime.model_validate({}), description="Runtime boundary."
    )
    arena: Arena = Field(default_factory=lambda: Arena.model_validate({}), description="State slots.")
    identifiers: Identifiers = Field(
        default_factory=lambda: Identifiers.model_validate({}), description="Whom events came from lately."
    )
    transport: Transport = Field(
        default_factory=lambda: Transport.model_validate({}), description="Direct ingest."
    )
    monitoring: Monitoring = Field(
        default_factory=lambda: Monitoring.model_validate({}), description="Reported limits."
    )
    telemetry: Telemetry = Field(
        default_factory=lambda: Telemetry.model_validate({}), description="HTTP telemetry."
    )
    drain_timeout: Duration = Field(
        20 * SECOND,
        ge=0,
        le=600 * SECOND,
        description="How long a stop may take to flush and commit.",
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> EngineConfig:
        for kind, names in (
            ("source", [source.name for source in self.sources]),
            ("sink", [sink.name for sink in self.sinks]),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"two {kind}s are called {name!r}; rename one")
        tenants = [tenant.source for tenant in self.arena.tenants]
        for name in tenants:
            if name not in [source.name for source in self.sources]:
                raise ValueError(f"arena.tenants names the source {name!r}, which is not among the sources")
            if tenants.count(name) > 1:
                raise ValueError(f"two tenants of the arena are the source {name!r}; merge them")
        if sum(source.type == "kafka" for source in self.sources) > 1:
            raise ValueError("at most one source of type kafka is supported; run one engine per topic")
        if len(self.sinks) > 1:
            raise ValueError("at most one sink is supported")
        return self

    @property
    def group_id(self) -> str:
        """Consumer group of the Kafka source, or the engine's name."""
        for source in self.sources:
            if source.kafka is not None and source.kafka.group_id is not None:
                return source.kafka.group_id
        return self.name

    def inactive_keys(self) -> list[str]:
        """Paths of keys that were set, are accepted, and do not act, sorted."""
        return sorted(self.inactive_reasons())

    def inactive_reasons(self) -> dict[str, str]:
        """Why each key that was set, is accepted, and does not act has no effect, by path."""
        given = _set_paths(self)
        reasons = {path: reason for path, reason in INACTIVE_KEYS.items() if path in given}
        if self.monitoring.heap_profile_directory is None and "monitoring.heapProfileInterval" in given:
            reasons["monitoring.heapProfileInterval"] = (
                "heap profiles are written only where monitoring.heapProfileDirectory says where"
            )
        return reasons

    def to_native(self) -> dict[str, Any]:
        """The form that the native module reads: snake_case, defaults filled in, units in the names."""
        return {
            "name": self.name,
            "program": {
                **self.program.model_dump(by_alias=False, exclude={"service_time"}),
                "service_time_nanoseconds": self.program.service_time,
            },
            "sources": [self._native_source(source) for source in self.sources],
            "sinks": [_without_credentials(sink.model_dump(by_alias=False)) for sink in self.sinks],
            "changelog": {"topic": self.changelog.topic or f"{self.group_id}-changelog"},
            "dead_letter": {
                "topic": self.dead_letter.topic or f"{self.group_id}-dead-letter",
                "max_payload_bytes": self.dead_letter.max_payload_bytes,
            },
            "transactions": {
                "commit_interval_milliseconds": self.transactions.commit_interval // MILLISECOND,
                "timeout_milliseconds": self.transactions.timeout // MILLISECOND,
            },
            "buffer_pool": self.buffer_pool.model_dump(by_alias=False),
            "executor": self.executor,
            "shedding": self.shedding.model_dump(by_alias=False),
            "durability": self.durability,
            "payload": self.payload.model_dump(by_alias=False),
            "arena": self.arena.model_dump(by_alias=False),
            "monitoring": {
                "stall_alert_nanoseconds": self.monitoring.gc_pause_alert_ms * MILLISECOND,
                "rollback_sla_nanoseconds": self.monitoring.rollback_sla_ms * MILLISECOND,
                "rss_flatness_window_nanoseconds": self.monitoring.rss_flatness_window,
                "rss_growth_alert_ratio": self.monitoring.rss_growth_alert_ratio,
                "heap_profile_directory": self.monitoring.heap_profile_directory,
                "heap_profile_interval_nanoseconds": self.monitoring.heap_profile_interval,
            },
            "identifiers": {
                "capacity": self.identifiers.capacity,
                "lifetime_nanoseconds": self.identifiers.lifetime,
            },
            "telemetry": self.telemetry.model_dump(by_alias=False),
            "drain_timeout_milliseconds": self.drain_timeout // MILLISECOND,
        }

    def _native_source(self, source: Source) -> dict[str, Any]:
        native = _without_credentials(source.model_dump(by_alias=False))
        if native["kafka"] is not None:
            native["kafka"]["group_id"] = self.group_id
        return native


def _without_credentials(native: dict[str, Any]) -> dict[str, Any]:
    """The native module gets properties; whoever starts it adds those that the credentials stand for."""
    if native["kafka"] is not None:
        del native["kafka"]["credentials"]
    return native


INACTIVE_KEYS: Final = {
    "durability": "a directly ingested event is acknowledged when its output is committed, and only then",
    "monitoring.ciNativeIntegration": "a statement about this project's tests; nothing at run time depends on it",
    "runtime.gcManagedLayer": "the managed layer only starts, observes and stops the engine so far",
    "transport.protocol": "direct sources speak TCP so far",
    "transport.streamMultiplexing": "direct sources speak TCP so far, one stream per connection",
    "transport.tlsHandshakeTargetMs": "direct sources speak TCP without TLS so far",
}
"""Why each accepted key without an effect has none; each leaves this table with the change that makes it act."""


def _set_paths(model: Model, prefix: str = "") -> set[str]:
    """Dotted camelCase paths of the scalar keys that were given explicitly."""
    paths: set[str] = set()
    for name in model.model_fields_set:
        alias = type(model).model_fields[name].alias or name
        value = getattr(model, name)
        if isinstance(value, Model):
            paths |= _set_paths(value, f"{prefix}{alias}.")
        else:
            paths.add(prefix + alias)
    return paths
