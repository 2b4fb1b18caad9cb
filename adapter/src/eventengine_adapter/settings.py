"""What can be set, in one table: environment variable, default, meaning.

Kubernetes itself sets variables that start like ours, for the Service called
eventengine-adapter (EVENTENGINE_ADAPTER_PORT, EVENTENGINE_ADAPTER_SERVICE_HOST
and more). Those are left alone, and no setting may be called like one of them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eventengine_contract.well_known import PORT_ADAPTER, PORT_KEDA_SCALER, PORT_TELEMETRY

PREFIX: Final = "EVENTENGINE_ADAPTER_"
_SERVICE_LINK: Final = re.compile(r"EVENTENGINE_ADAPTER_(PORT|SERVICE_HOST|SERVICE_PORT)(_.*)?")


class SettingsError(Exception):
    """A setting that can't be used; the message names it and says what it may be."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one adapter."""

    listen: Address
    telemetry_listen: Address
    certificate_folder: Path
    kubeconfig: Path | None
    snapshot_port: int
    read_timeout_seconds: float
    reads_max: int
    broker_lag: bool
    keda_listen: Address | None
    keda_client_authority: Path | None
    chained_adapter: str
    chained_authority: Path | None
    drain_seconds: float
    anonymous: bool
    log_level: str


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    default: str
    parse: Callable[[str], Any]
    meaning: str

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return PREFIX + self.name.upper()


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ValueError("an address and a port, such as 0.0.0.0:6443 or [::]:6443")
    return Address(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - a server's default


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return value

    return parse


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def _choice(*values: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in values:
            raise ValueError(f"one of {', '.join(values)}")
        return text.lower()

    return parse


def _optional_path(text: str) -> Path | None:
    return Path(text) if text else None


def _https_server(text: str) -> str:
    if text and not re.fullmatch(r"https://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?", text):
        raise ValueError("a URL of https, a name or address, and no path")
    return text


def _switch(text: str) -> bool:
    return _choice("true", "false")(text) == "true"


SETTINGS: Final = (
    Setting("listen", f"0.0.0.0:{PORT_ADAPTER}", _address, "address of the metrics APIs (TLS)"),
    Setting("telemetry_listen", "0.0.0.0:9090", _address, "address of /metrics and the health pages (plain)"),
    Setting("certificate_folder", "/etc/eventengine/tls", Path, "folder with tls.crt and tls.key"),
    Setting(
        "kubeconfig",
        "",
        _optional_path,
        "kubeconfig; empty for the service account",
    ),
    Setting(
        "snapshot_port",
        str(PORT_TELEMETRY),
        _whole_number(1, 65_535),
        "port on which engine pods give samples",
    ),
    Setting("read_timeout_seconds", "0.8", _number(0.05, 5), "longest time that one read of a pod may take"),
    Setting("reads_max", "128", _whole_number(1, 1024), "pods that are read at the same time"),
    Setting(
        "broker_lag",
        "true",
        _switch,
        "whether Kafka brokers are asked for the lag of what no pod owns; false: no pod, no lag",
    ),
    Setting(
        "keda_listen",
        "",
        lambda text: _address(text) if text else None,
        f"address of the external scaler for KEDA (gRPC, TLS), such as 0.0.0.0:{PORT_KEDA_SCALER}; empty: none",
    ),
    Setting(
        "keda_client_authority",
        "",
        _optional_path,
        "file with the authority whose certificates may ask the external scaler; empty: anybody who reaches it",
    ),
    Setting(
        "chained_adapter",
        "",
        _https_server,
        "another adapter to ask for external metrics that are not EventEngine's, such as "
        "https://keda-operator-metrics-apiserver.keda.svc:443; empty: none",
    ),
    Setting(
        "chained_authority",
        "",
        _optional_path,
        "file with the authorities of that adapter's certificate; it is shown this adapter's own token",
    ),
    Setting("drain_seconds", "10", _number(0, 120), "time to go on serving after being told to stop"),
    Setting("anonymous", "true", _switch, "whether requests without credentials are reviewed as anonymous"),
    Setting(
        "log_level", "info", _choice("debug", "info", "warning", "error"), "least weight of what is logged"
    ),
)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings in `environment`.

    Raises:
        SettingsError: a value that can't be used, or a variable that no setting has.
    """
    known = {setting.variable: setting for setting in SETTINGS}
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in known and not _SERVICE_LINK.fullmatch(variable):
            nearest = difflib.get_close_matches(variable, known, 1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise SettingsError(f"{variable} is no setting{hint}")
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text = environment.get(setting.variable, setting.default)
        try:
            values[setting.name] = setting.parse(text)
        except ValueError as error:
            raise SettingsError(f"{setting.variable}={text!r} must be {error}") from error
    if bool(values["chained_adapter"]) != bool(values["chained_authority"]):
        raise SettingsError(f"{PREFIX}CHAINED_ADAPTER and {PREFIX}CHAINED_AUTHORITY go together")
    return Settings(**values)


def describe_settings() -> str:
    """The table as text, for --help."""
    width = max(len(setting.variable) for setting in SETTINGS)
    lines = [
        f"  {setting.variable:<{width}}  {setting.meaning}"
        + (f" (default {setting.default})" if setting.default else "")
        for setting in SETTINGS
    ]
    return "\n".join(lines)
