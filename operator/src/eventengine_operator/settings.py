"""Settings of the operator, all from environment variables called EVENTENGINE_OPERATOR_*.

Owns names, defaults and bounds. Read once at start; everything else gets values.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from eventengine_contract.quantities import NANOSECONDS, parse_duration
from eventengine_contract.well_known import (
    ADAPTER_SERVICE,
    PORT_OPERATOR,
    PORT_WEBHOOK,
    SYSTEM_NAMESPACE,
)

PREFIX: Final = "EVENTENGINE_OPERATOR_"
MetricsMode = Literal["auto", "custom-only", "keda", "off"]
CertificatesMode = Literal["operator", "cert-manager", "existing"]
_NAME: Final = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")


class SettingsError(ValueError):
    """A variable that can't be used; the message names it and what it may be."""


@dataclass(frozen=True)
class Settings:
    """One field for each variable: `lease_seconds` is EVENTENGINE_OPERATOR_LEASE_SECONDS."""

    namespace: str = SYSTEM_NAMESPACE
    """Where the operator itself lives: its Lease, and the adapter's Secrets and Service."""
    identity: str = ""
    """Name of this process in the Lease; the host's name (in a pod: the pod's) where empty."""
    deployment: str = ""
    """The operator's own Deployment: owner of its Lease and Secrets, so that they go when it goes."""
    default_image: str = "eventengine/engine:0.1.0"
    """Image of EventEngines that name none."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces to serve; empty: all."""
    listen_host: str = "0.0.0.0"  # noqa: S104 - a pod's probes come from outside
    listen_port: int = PORT_OPERATOR
    metrics_mode: MetricsMode = "auto"
    """auto: both metrics APIs, external only where nobody has it. off: neither; ours are deleted."""
    certificates: CertificatesMode = "operator"
    """Who issues the certificates of adapter and webhook; what others issue is only read."""
    broker_credentials: bool = False
    """Let the adapter read the Secrets that sources name, by a Role; needs `get` on Secrets and rights on Roles."""
    adapter_service: str = ADAPTER_SERVICE
    adapter_service_port: int = 443
    webhook: bool = False
    """Keep the certificate of the validating webhook, and tell the API server whom to trust."""
    webhook_port: int = PORT_WEBHOOK
    """Where the command `webhook` answers the API server, by TLS."""
    webhook_certificates: str = "/etc/eventengine/tls"
    """Folder with its tls.crt and tls.key."""
    follow_secrets: bool = True
    """Roll pods out when a Secret that they mount changes; needs to read Secrets' metadata."""
    canary_seconds: float = 0.0
    """Between beats of the canary, which proves that changes are heard of; 0: no canary."""
    taint_seconds: float = 0.0
    """How long a node that refused pods is tainted; 0: never."""
    workers: int = 4
    """EventEngines reconciled at the same time."""
    calls_per_second: float = 200.0
    """Calls to the API server, the Lease's aside, at an even pace."""
    calls_burst: int = 400
    """Calls that may go out at once after a rest."""
    resync_seconds: float = 300.0
    """Every EventEngine is reconciled at least this often, whatever the watches say."""
    metrics_resync_seconds: float = 30.0
    """Certificates, APIServices and the webhook's configuration are checked this often."""
    lease_seconds: float = 15.0
    """A leader that was silent for this long is taken to be dead."""
    renew_deadline_seconds: float = 10.0
    """A leader that could not renew for this long ends itself."""
    retry_seconds: float = 2.0
    """Between attempts to get or renew the Lease."""
    authority_lifetime: int = parse_duration("8760h")
    """Lifetime of the CAs, in nanoseconds; written as a duration."""
    certificate_lifetime: int = parse_duration("2160h")
    """Lifetime of the serving certificates."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def __post_init__(self) -> None:
        """Refuse values that can't work together.

        Raises:
            SettingsError: naming the variable.
        """
        for name in ("namespace", "adapter_service", *(["deployment"] if self.deployment else [])):
            if not _NAME.match(getattr(self, name)):
                raise SettingsError(f"{_variable(name)}: {getattr(self, name)!r} is no object's name")
        positive = ("workers", "resync_seconds", "metrics_resync_seconds", "retry_seconds")
        for name in (*positive, "calls_per_second", "calls_burst"):
            if not 0 < getattr(self, name) <= 86_400:
                raise SettingsError(f"{_variable(name)}: must be above 0 and at most 86400")
        if not 0 <= self.canary_seconds <= 3600:
            raise SettingsError(f"{_variable('canary_seconds')}: must be 0 (none) to 3600")
        if not 0 <= self.taint_seconds <= 86_400:
            raise SettingsError(f"{_variable('taint_seconds')}: must be 0 (never) to 86400")
        for name in ("listen_port", "adapter_service_port", "webhook_port"):
            if not 0 <= getattr(self, name) <= 65_535:
                raise SettingsError(f"{_variable(name)}: must be a port, 0 to 65535")
        if not self.retry_seconds < self.renew_deadline_seconds < self.lease_seconds <= 3600:
            raise SettingsError(
                f"{_variable('lease_seconds')}: needs RETRY_SECONDS < RENEW_DEADLINE_SECONDS < LEASE_SECONDS <= 3600"
            )
        if (
            self.certificate_lifetime > self.authority_lifetime
            or self.certificate_lifetime < NANOSECONDS["s"]
        ):
            raise SettingsError(
                f"{_variable('certificate_lifetime')}: must be at least 1s and at most AUTHORITY_LIFETIME"
            )

    @property
    def canary_namespace(self) -> str:
        """Where the canary lives: in the operator's own namespace, or else in the first that it serves."""
        served = self.watch_namespaces
        return self.namespace if not served or self.namespace in served else served[0]

    @property
    def write_seconds(self) -> float:
        """A write that takes longer is given up: it must not outlive the Lease it was made under."""
        return (self.lease_seconds - self.renew_deadline_seconds) * 0.8

    @property
    def holder(self) -> str:
        """Name of this process in the Lease."""
        return self.identity or socket.gethostname()


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: an unknown variable with our prefix, or a value that can't be used.
    """
    known = {_variable(field.name): field for field in fields(Settings)}
    values: dict[str, Any] = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(PREFIX) or text == "":
            continue
        if variable not in known:
            raise SettingsError(f"{variable}: unknown; known are {', '.join(sorted(known))}")
        name = known[variable].name
        try:
            values[name] = _parse(name, text)
        except ValueError as error:
            raise SettingsError(f"{variable}: {error}") from None
    return Settings(**values)


def _parse(name: str, text: str) -> Any:
    choices = {
        "metrics_mode": get_args(MetricsMode),
        "certificates": get_args(CertificatesMode),
        "log_level": ("DEBUG", "INFO", "WARNING", "ERROR"),
        "follow_secrets": ("true", "false"),
        "webhook": ("true", "false"),
        "broker_credentials": ("true", "false"),
    }
    if name in choices and text not in choices[name]:
        raise ValueError(f"{text!r} is none of {', '.join(choices[name])}")
    if name in ("authority_lifetime", "certificate_lifetime"):
        return parse_duration(text)
    if name == "watch_namespaces":
        names = tuple(sorted({part.strip() for part in text.split(",") if part.strip()}))
        for part in names:
            if not _NAME.match(part):
                raise ValueError(f"{part!r} is no namespace's name; write names separated by commas")
        return names
    default = getattr(Settings, name)
    if isinstance(default, bool):
        return {"true": True, "false": False}[text]
    if isinstance(default, int):
        return int(text)
    if isinstance(default, float):
        return float(text)
    return text


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def describe_settings() -> str:
    """One line for each variable, with its default."""
    lines = []
    for field in sorted(fields(Settings), key=lambda item: item.name):
        default = field.default
        if isinstance(default, bool):
            default = str(default).lower()
        elif field.name in ("authority_lifetime", "certificate_lifetime"):
            default = f"{int(str(default)) // NANOSECONDS['h']}h"
        lines.append(f"  {_variable(field.name):<44} {default if default not in ('', ()) else '(empty)'}")
    return "\n".join(lines)
