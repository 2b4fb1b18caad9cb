"""Secrets that an EventEngine's pods mount, by name, and what is known of each: its version, never its content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eventengine_contract.engine_config import EngineConfig, KafkaSink, KafkaSource
from eventengine_contract.event_engine import EventEngineSpec

from .objects import Object, list_at, mapping_at, resource_version_of, text_at, uid_of

MISSING = ""
"""Version of a Secret that doesn't exist."""


@dataclass(frozen=True, order=True)
class SecretReference:
    """A Secret that pods mount; without an optional one they start all the same."""

    name: str
    is_optional: bool = False


def referenced_secrets(spec: EventEngineSpec) -> tuple[SecretReference, ...]:
    """Every Secret in the volumes and of credentials, sorted by name; optional where all that mount it say so."""
    mounts = [mount for volume in spec.pod.template.volumes for mount in _mounts_of(volume)]
    mounts += [SecretReference(name) for name in credential_names(spec.engine)]
    needed = {mount.name for mount in mounts if not mount.is_optional}
    names = sorted({mount.name for mount in mounts})
    return tuple(SecretReference(name, name not in needed) for name in names)


def credential_names(config: EngineConfig) -> list[str]:
    """The Secrets that Kafka sources and sinks name in `credentials`, each once."""
    ends: list[KafkaSource | KafkaSink | None] = [part.kafka for part in config.sources]
    ends += [part.kafka for part in config.sinks]
    return sorted({end.credentials for end in ends if end and end.credentials})


def _mounts_of(volume: Object) -> list[SecretReference]:
    found = [(text_at(volume, "secret", "secretName"), mapping_at(volume, "secret"))]
    found += [
        (text_at(source, "secret", "name"), mapping_at(source, "secret"))
        for source in list_at(volume, "projected", "sources")
    ]
    return [SecretReference(name, secret.get("optional") is True) for name, secret in found if name]


def version_of(metadata: Object | None) -> str:
    """What changes with every change of the Secret, and when it is made anew."""
    return MISSING if metadata is None else f"{uid_of(metadata)}/{resource_version_of(metadata)}"


def missing_secrets(
    references: Sequence[SecretReference], versions: Mapping[str, str | None]
) -> tuple[str, ...]:
    """Names of Secrets that the pods can't start without and that are known not to exist."""
    return tuple(
        item.name for item in references if not item.is_optional and versions.get(item.name) == MISSING
    )
