"""An EventEngine as the operator works with it: identity, validated spec, faults of the spec.

Owns the second line of validation. The API server has applied the CRD's schema and CEL
rules; what they can't express (duplicate names, forbidden Kafka properties, ports that the
rest of the system relies on) is found here, with the path as the user wrote it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eventengine_contract.engine_config import EngineConfig
from eventengine_contract.event_engine import EventEngineSpec
from eventengine_contract.loading import ConfigurationError, faults_of, parse_engine_config
from eventengine_contract.well_known import (
    ANNOTATION_PAUSED,
    ANNOTATION_PAUSED_SCALE_IN,
    ANNOTATION_PAUSED_SCALE_OUT,
    CONFIG_MAP_KEY,
    ENGINE_CONFIG_PATH,
    PORT_TELEMETRY,
)
from pydantic import ValidationError

from .objects import (
    Object,
    annotations_of,
    generation_of,
    is_being_deleted,
    mapping_at,
    name_of,
    namespace_of,
    resource_version_of,
    uid_of,
)

CONFIG_VOLUME_NAME: Final = "engine-config"
CREDENTIALS_VOLUME_PREFIX: Final = "engine-credentials-"
LAGS: Final = frozenset({"consumer_lag", "kafka_consumer_lag"})
DATA_VOLUME_NAME: Final = "engine-data"
CONFIG_FOLDER: Final = ENGINE_CONFIG_PATH.removesuffix(f"/{CONFIG_MAP_KEY}")
LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, order=True)
class EngineKey:
    """Which EventEngine."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a spec: where, and what to do about it."""

    path: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}" if self.path else self.sentence


@dataclass(frozen=True)
class Engine:
    """One EventEngine. `spec` is None exactly when `faults` is not empty."""

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    spec: EventEngineSpec | None
    faults: tuple[Fault, ...]
    engine_section: Object
    """`spec.engine` as the user wrote it: the content of engine.yaml."""
    status: Object
    """The status as it stands."""
    is_paused: bool
    is_scale_in_paused: bool
    is_scale_out_paused: bool
    is_being_deleted: bool


def read_engine(source: Object) -> Engine:
    """Read an EventEngine; faults of the spec are collected, never raised."""
    section = mapping_at(source, "spec", "engine")
    spec, faults = _read_spec(mapping_at(source, "spec"), section)
    return Engine(
        name=name_of(source),
        namespace=namespace_of(source),
        uid=uid_of(source),
        generation=generation_of(source),
        resource_version=resource_version_of(source),
        spec=spec,
        faults=faults,
        engine_section=section,
        status=mapping_at(source, "status"),
        is_paused=_says_true(source, ANNOTATION_PAUSED),
        is_scale_in_paused=_says_true(source, ANNOTATION_PAUSED_SCALE_IN),
        is_scale_out_paused=_says_true(source, ANNOTATION_PAUSED_SCALE_OUT),
        is_being_deleted=is_being_deleted(source),
    )


def _says_true(source: Object, annotation: str) -> bool:
    return annotations_of(source).get(annotation, "").lower() == "true"


def _read_spec(source: Object, section: Object) -> tuple[EventEngineSpec | None, tuple[Fault, ...]]:
    try:
        config = parse_engine_config(section, "spec.engine")
    except ConfigurationError as error:
        return None, tuple(Fault(_join("spec.engine", path), sentence) for path, sentence in error.faults)
    try:
        spec = EventEngineSpec.model_validate(source | {"engine": config})
    except ValidationError as error:
        return None, tuple(
            Fault(_join("spec", path), sentence) for path, sentence in faults_of(error, EventEngineSpec)
        )
    faults = (*_faults_of_ports(config), *_faults_of_template(spec), *_faults_of_scaling(spec))
    return (None if faults else spec), faults


def _join(prefix: str, path: str) -> str:
    return f"{prefix}.{path}" if path else prefix


def _faults_of_ports(config: EngineConfig) -> list[Fault]:
    """The probes, the adapter and the Service find an engine at fixed places."""
    faults = []
    host, port = split_address(config.telemetry.listen)
    if port != PORT_TELEMETRY or host in LOOPBACK_HOSTS:
        faults.append(
            Fault(
                "spec.engine.telemetry.listen",
                f"probes and metrics need port {PORT_TELEMETRY} on all addresses; "
                f"remove the key or write 0.0.0.0:{PORT_TELEMETRY}",
            )
        )
    ports = {PORT_TELEMETRY: "spec.engine.telemetry.listen"}
    for index, source in enumerate(config.sources):
        if source.tcp is None:
            continue
        path = f"spec.engine.sources[{index}].tcp.listen"
        _, port = split_address(source.tcp.listen)
        if not 1 <= port <= 65_535:
            faults.append(Fault(path, f"{port} is no port; choose one from 1 to 65535"))
        elif port in ports:
            faults.append(Fault(path, f"port {port} is taken by {ports[port]}; choose another"))
        ports[port] = path
    return faults


def _faults_of_template(spec: EventEngineSpec) -> list[Fault]:
    faults = [
        Fault(
            f"spec.pod.template.volumes[{index}].name",
            f"the name {volume['name']!r} is the operator's own; rename the volume",
        )
        for index, volume in enumerate(spec.pod.template.volumes)
        if volume.get("name") in (CONFIG_VOLUME_NAME, DATA_VOLUME_NAME)
        or str(volume.get("name", "")).startswith(CREDENTIALS_VOLUME_PREFIX)
    ]
    taken = {str(mount.get("mountPath", "")).rstrip("/") for mount in spec.pod.template.volume_mounts}
    if spec.storage is not None and spec.storage.mount_path in {CONFIG_FOLDER, *taken}:
        faults.append(
            Fault(
                "spec.storage.mountPath",
                f"{spec.storage.mount_path} is taken by another mount; choose another path",
            )
        )
    return faults


def _faults_of_scaling(spec: EventEngineSpec) -> list[Fault]:
    """Without pods nobody listens: only what waits in a topic can bring them back."""
    if spec.autoscaling.scale_to_zero is None:
        return []
    if is_bound_by_partitions(spec.engine):
        return _faults_of_activation(spec)
    others = ", ".join(source.name for source in spec.engine.sources if source.kafka is None)
    sentence = f"{others} is no Kafka topic and" if others else "there is no Kafka topic that"
    return [
        Fault(
            "spec.autoscaling.scaleToZero",
            f"{sentence} could not bring an engine without pods back; remove the key, or read from topics only",
        )
    ]


def _faults_of_activation(spec: EventEngineSpec) -> list[Fault]:
    scaling = spec.autoscaling
    if scaling.driver != "keda" or any(metric.name in LAGS for metric in scaling.metrics):
        return []
    return [
        Fault(
            "spec.autoscaling.scaleToZero",
            f"KEDA brings pods back for a lag alone; add one of {', '.join(sorted(LAGS))} to metrics",
        )
    ]


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`, which the contract has already checked for its form."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def tcp_ports(config: EngineConfig) -> list[tuple[str, int]]:
    """(source name, port) of every TCP source that can be reached from outside the pod."""
    addresses = [
        (source.name, *split_address(source.tcp.listen))
        for source in config.sources
        if source.tcp is not None
    ]
    return [(name, port) for name, host, port in addresses if host not in LOOPBACK_HOSTS]


def is_bound_by_partitions(config: EngineConfig) -> bool:
    """Whether pods beyond the number of partitions would have nothing to do: every source is a topic."""
    return bool(config.sources) and all(source.kafka is not None for source in config.sources)


def insecure_sources(config: EngineConfig) -> list[str]:
    """Names of sources that take events from anybody who can reach them."""
    return [source.name for source in config.sources if source.tcp is not None and source.tcp.insecure]


def workload_kind(spec: EventEngineSpec) -> str:
    """The kind of object that makes the pods."""
    return "Deployment" if spec.storage is None else "StatefulSet"


def metric_sources(spec: EventEngineSpec) -> frozenset[str]:
    """Which metrics APIs the autoscaler of this EventEngine needs: Pods, Object, External."""
    scaling = spec.autoscaling
    if scaling.driver == "none":
        return frozenset()
    own = frozenset({"External"} if scaling.scale_to_zero else ())
    return own | frozenset[str](metric.source for metric in scaling.metrics)
