"""What is shown to brokers: read from files at start, given to the native module, and kept nowhere else.

Ordering: the configuration was validated before; a folder that can't be used is an
error of its own, with the path of the key that names it. Nothing here logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eventengine_contract.broker_credentials import (
    CREDENTIAL_BYTES_MAX,
    CREDENTIAL_FILES,
    credential_properties,
)
from eventengine_contract.engine_config import EngineConfig, Sink, Source
from eventengine_contract.loading import ConfigurationError


def native_form(config: EngineConfig, root: Path, origin: str) -> dict[str, Any]:
    """The configuration as the native module reads it, with the properties that its credentials stand for.

    Raises:
        ConfigurationError: a folder below `root` can't be read, or doesn't hold what it should.
    """
    native = config.to_native()
    sections: dict[str, Sequence[Source | Sink]] = {"sources": config.sources, "sinks": config.sinks}
    for section, parts in sections.items():
        for index, part in enumerate(parts):
            if part.kafka is None or part.kafka.credentials is None:
                continue
            try:
                properties = credential_properties(_read(root / part.kafka.credentials))
            except (OSError, ValueError) as error:
                path = f"{section}[{index}].kafka.credentials"
                words = error.strerror if isinstance(error, OSError) else str(error)
                sentence = f"the folder {root / part.kafka.credentials}: {words}"
                raise ConfigurationError(origin, [(path, sentence)]) from None
            native[section][index]["kafka"]["properties"].update(properties)
    return native


def _read(folder: Path) -> dict[str, bytes]:
    """The known files of a folder, none further than one byte past what is allowed."""
    if not folder.is_dir():
        raise ValueError("is missing; in Kubernetes it is the Secret of that name")
    files = {}
    for name in CREDENTIAL_FILES:
        path = folder / name
        if path.is_file():
            with path.open("rb") as handle:
                files[name] = handle.read(CREDENTIAL_BYTES_MAX + 1)
    return files
