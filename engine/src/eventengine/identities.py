"""Who this engine is, as told by its environment.

Owns the reading of the `EVENTENGINE_…` variables that whatever starts the engine
sets; without any of them the engine runs as a local one. Never asks Kubernetes.
`incarnation` is new with every start of the process.
"""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal, get_args

from eventengine_contract import well_known
from eventengine_contract.engine_config import EngineConfig
from eventengine_contract.loading import ConfigurationError

Pinning = Literal["Required", "Preferred", "Off"]

ORIGIN: Final = "environment"


@dataclass(frozen=True)
class Identity:
    """What the native engine puts into each sample, and the limits that it runs under."""

    engine: str
    namespace: str
    pod: str
    incarnation: str
    cpu_limit_millicores: int | None
    memory_limit_bytes: int | None
    pinning: Pinning

    def to_native(self) -> str:
        """The JSON that the native module reads."""
        return json.dumps(asdict(self))


def read_identity(environ: Mapping[str, str], config: EngineConfig) -> Identity:
    """Read the identity; a name given in the environment goes before the configuration's.

    Raises:
        ConfigurationError: a variable holds what can't be used.
    """
    return Identity(
        engine=environ.get(well_known.ENV_ENGINE) or config.name,
        namespace=environ.get(well_known.ENV_NAMESPACE) or "default",
        pod=environ.get(well_known.ENV_POD) or socket.gethostname(),
        incarnation=uuid.uuid4().hex,
        cpu_limit_millicores=_read_positive(environ, well_known.ENV_CPU_LIMIT_MILLICORES),
        memory_limit_bytes=_read_positive(environ, well_known.ENV_MEMORY_LIMIT_BYTES),
        pinning=_read_pinning(environ),
    )


def name_from_environment(environ: Mapping[str, str], config: EngineConfig) -> EngineConfig:
    """The configuration under the engine's given name, unless it names itself."""
    name = environ.get(well_known.ENV_ENGINE)
    if not name or "name" in config.model_fields_set:
        return config
    return config.model_copy(update={"name": name})


def _read_positive(environ: Mapping[str, str], variable: str) -> int | None:
    text = environ.get(variable)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ConfigurationError(ORIGIN, [(variable, f"must be a whole number above 0, not {text!r}")])
    return int(text)


def _read_pinning(environ: Mapping[str, str]) -> Pinning:
    text = environ.get(well_known.ENV_PINNING) or "Off"
    for pinning in get_args(Pinning):
        if text == pinning:
            known: Pinning = pinning
            return known
    raise ConfigurationError(
        ORIGIN,
        [(well_known.ENV_PINNING, f"must be one of {', '.join(get_args(Pinning))}, not {text!r}")],
    )
