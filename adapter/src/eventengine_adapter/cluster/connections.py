"""Where the Kubernetes API is and how to prove who we are.

Owns reading the service account of a pod, or a kubeconfig. Credentials in files
are read again as they change: the kubelet replaces a pod's token every hour.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CREDENTIAL_BYTES_MAX: Final = 1 << 20


class ConnectionSettingsError(Exception):
    """The Kubernetes API can't be reached with what was given; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Connection:
    """An address, the trust in it, and the proof of our identity (a certificate inside `tls`, or a token)."""

    server: str
    tls: ssl.SSLContext | None
    token: str | None = None
    token_file: Path | None = None

    def authorization(self) -> str | None:
        """The Authorization header as of now; the token's file is read each time, it is small and local."""
        if self.token_file is not None:
            token = self.token_file.read_bytes()[:_CREDENTIAL_BYTES_MAX].decode().strip()
            return f"Bearer {token}"
        return f"Bearer {self.token}" if self.token else None


def connection(kubeconfig: Path | None, folder: Path = SERVICE_ACCOUNT) -> Connection:
    """The connection that a kubeconfig describes, or else that of the pod we run in.

    Raises:
        ConnectionSettingsError: there is neither, or what is there is incomplete.
    """
    return _from_kubeconfig(kubeconfig) if kubeconfig else _from_service_account(folder)


def _from_service_account(folder: Path) -> Connection:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    token_file, authority = folder / "token", folder / "ca.crt"
    if not host or not token_file.exists() or not authority.exists():
        raise ConnectionSettingsError(
            "this is no pod with a service account; outside a cluster set EVENTENGINE_ADAPTER_KUBECONFIG"
        )
    address = f"[{host}]" if ":" in host else host
    return Connection(
        f"https://{address}:{port}",
        ssl.create_default_context(cafile=str(authority)),
        token_file=token_file,
    )


def _named(entries: Any, name: Any, kind: str) -> dict[str, Any]:
    for entry in entries or []:
        if entry.get("name") == name:
            found = entry.get(kind)
            if isinstance(found, dict):
                return found
    raise ConnectionSettingsError(f"the kubeconfig has no {kind} called {name!r}")


def _from_kubeconfig(path: Path) -> Connection:
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConnectionSettingsError(f"the kubeconfig {path} can't be read: {error}") from error
    if not isinstance(document, dict):
        raise ConnectionSettingsError(f"the kubeconfig {path} holds no object")
    context = _named(document.get("contexts"), document.get("current-context"), "context")
    cluster = _named(document.get("clusters"), context.get("cluster"), "cluster")
    user = _named(document.get("users"), context.get("user"), "user") if context.get("user") else {}
    if "exec" in user or "auth-provider" in user:
        raise ConnectionSettingsError(
            f"the kubeconfig {path} gets its credentials from a program, which the adapter does not run; "
            "use one with a token or a client certificate"
        )
    server = str(cluster.get("server", "")).rstrip("/")
    if not server.startswith("https://"):
        return Connection(server, None, token=user.get("token"))
    tls = _tls_context(path, cluster, user)
    token_file = Path(user["tokenFile"]) if user.get("tokenFile") else None
    return Connection(server, tls, token=user.get("token"), token_file=token_file)


def _material(kubeconfig: Path, section: dict[str, Any], name: str) -> bytes | None:
    if section.get(f"{name}-data"):
        try:
            return base64.b64decode(section[f"{name}-data"], validate=True)
        except binascii.Error as error:
            raise ConnectionSettingsError(
                f"{name}-data in the kubeconfig {kubeconfig} is not base64"
            ) from error
    if section.get(name):
        file = kubeconfig.parent / str(section[name])
        try:
            return file.read_bytes()
        except OSError as error:
            raise ConnectionSettingsError(f"{name} of the kubeconfig {kubeconfig}: {error}") from error
    return None


def _tls_context(kubeconfig: Path, cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    authority = _material(kubeconfig, cluster, "certificate-authority")
    tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate = _material(kubeconfig, user, "client-certificate")
    key = _material(kubeconfig, user, "client-key")
    if certificate and key:
        # The ssl module takes a key only from a file; this one is readable by us alone and gone at once.
        with tempfile.TemporaryDirectory() as folder:
            pair = Path(folder) / "pair.pem"
            pair.touch(mode=0o600)
            pair.write_bytes(certificate + b"\n" + key)
            tls.load_cert_chain(pair)
    return tls
