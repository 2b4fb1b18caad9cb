"""What the subcommands share: reading files and texts given as arguments.

Owns the wording of usage errors. Every function here either returns a checked
value or raises what `main` turns into one line and exit status 2.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from eventengine_contract.engine_config import KAFKA_PROPERTIES_REFUSED, EngineConfig
from eventengine_contract.loading import ConfigurationError, load_engine_config
from eventengine_contract.quantities import parse_duration

FILE_BYTES_MAX: Final = 64 * 1024 * 1024


class UsageError(ValueError):
    """Arguments that can't be used together, or a file that can't be read."""


def read_text(path: Path) -> str:
    """The content of a file.

    Raises:
        UsageError: naming the file and why it can't be read.
    """
    try:
        if path.is_file() and path.stat().st_size > FILE_BYTES_MAX:
            raise UsageError(f"{path}: longer than {FILE_BYTES_MAX} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}") from None


def read_config(path: Path) -> EngineConfig:
    """Read and validate an engine.yaml.

    Raises:
        UsageError: the file can't be read.
        ConfigurationError: it says what can't be used.
    """
    return load_engine_config(read_text(path), origin=str(path))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UsageError: the file can't be read, or is no JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}: no JSON: {error}") from None


def write_result(path: Path, content: bytes) -> None:
    """Write JSON to a file as a whole or not at all; `-` is one line of standard output.

    Raises:
        UsageError: the file can't be written.
    """
    if str(path) == "-":
        print(json.dumps(json.loads(content)), flush=True)
        return
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as scratch:
            scratch.write(content)
        Path(scratch.name).chmod(0o666 & ~_umask())
        Path(scratch.name).replace(path)
    except OSError as error:
        raise UsageError(f"{path}: can't be written: {error.strerror or error}") from None


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def duration(text: str) -> int:
    """An argument such as `30s`, in nanoseconds."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """An argument that is a whole number within bounds."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {minimum} to {maximum}")
        return value

    return parse


def number(minimum: float, maximum: float) -> Callable[[str], float]:
    """An argument that is a number within bounds."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {minimum:g} to {maximum:g}")
        return value

    return parse


def address(text: str) -> str:
    """An argument `host:port`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is no address; write host:port")
    return text


def addresses(text: str) -> list[str]:
    """An argument `host:port[,host:port…]`."""
    return [address(part.strip()) for part in text.split(",")]


def kafka_property(text: str) -> tuple[str, str]:
    """An argument `name=value`: one librdkafka property."""
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is no property; write name=value")
    if name in KAFKA_PROPERTIES_REFUSED:
        raise argparse.ArgumentTypeError(f"the property {name} can't be set here; exactness depends on it")
    return name, value


def add_kafka_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The arguments with which a command reaches Kafka beyond its address."""
    parser.add_argument(
        "--property",
        dest="properties",
        type=kafka_property,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further librdkafka property, such as security.protocol=ssl (may be repeated)",
    )


def configuration_error(origin: str, error: Exception) -> ConfigurationError:
    """The native module's refusal (path, message) in the words of every other configuration error."""
    path, message = error.args if len(error.args) == 2 else ("", str(error))
    return ConfigurationError(origin, [(str(path), str(message))])
