"""Listening for KEDA: one port, TLS always, and what a client may cost.

With an authority for clients, only holders of a certificate of that authority
get through the handshake. Certificates and authority are read from their files
again at each handshake where these changed, and only as a pair that fits:
what can't be used never replaces what can.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from eventengine_adapter.security.serving_tls import CERTIFICATE_FILE, KEY_FILE
from eventengine_adapter.settings import Address

from .service import STREAM_LIFE_SECONDS_MAX, ExternalScaler

_log = logging.getLogger(__name__)

CALLS_MAX: Final = 512
"""Calls at a time, streams among them; the next ones are refused."""

STOP_SECONDS_MAX: Final = 5.0
MESSAGE_BYTES_MAX: Final = 1 << 16
_FILE_BYTES_MAX: Final = 1 << 20
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", 1 << 14),
    ("grpc.absolute_max_metadata_size", 1 << 14),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    # KEDA spreads over the adapter's replicas when it connects, so it is made to connect again now and then.
    ("grpc.max_connection_age_ms", 1_800_000),
    ("grpc.max_connection_age_grace_ms", int(STREAM_LIFE_SECONDS_MAX * 1000)),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_allowed_incoming_connections", 256),
    # Two processes on one port would share its connections without a word.
    ("grpc.so_reuseport", 0),
)


class KedaTlsError(OSError):
    """The files can't be served with; the message names them."""


class KedaTls:
    """Certificate, key and authority of clients, as gRPC asks for them."""

    def __init__(self, folder: Path, client_authority: Path | None) -> None:
        self._files = [folder / CERTIFICATE_FILE, folder / KEY_FILE]
        self._client_authority = client_authority
        self._seen_digest = b""

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files.

        Raises:
            KedaTlsError: there is nothing to begin with.
        """
        first = self._read()
        if first is None:
            raise AssertionError("files that were never read are new")
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._follow,  # type: ignore[arg-type]  # it may give None for what did not change
            require_client_authentication=self._client_authority is not None,
        )

    def _follow(self) -> grpc.ServerCertificateConfiguration | None:
        """The files where they changed and can be used. Called by gRPC's threads before a handshake."""
        try:
            return self._read()
        except KedaTlsError as error:
            _log.error("KEDA is served with the certificates from before: %s", error)
            return None

    def _read(self) -> grpc.ServerCertificateConfiguration | None:
        """What to serve with, None where nothing changed."""
        files = [*self._files, *([self._client_authority] if self._client_authority else [])]
        try:
            contents = [file.read_bytes()[:_FILE_BYTES_MAX] for file in files]
        except OSError as error:
            raise KedaTlsError(f"{error.filename}: {error.strerror}") from error
        digest = hashlib.sha256(b"\0".join(contents)).digest()
        if digest == self._seen_digest:
            return None
        self._seen_digest = digest
        try:
            _check_pair(contents[0], contents[1])
            if self._client_authority:
                x509.load_pem_x509_certificates(contents[2])
        except (TypeError, ValueError, UnsupportedAlgorithm) as error:
            raise KedaTlsError(f"{', '.join(map(str, files))}: {error}") from error
        return grpc.ssl_server_certificate_configuration(
            [(contents[1], contents[0])], root_certificates=contents[2] if self._client_authority else None
        )


def _check_pair(certificate: bytes, key: bytes) -> None:
    if (
        x509.load_pem_x509_certificate(certificate).public_key()
        != load_pem_private_key(key, None).public_key()
    ):
        raise ValueError("the key is not the certificate's")


class KedaServer:
    """The port that KEDA asks."""

    def __init__(self, scaler: ExternalScaler, address: Address, tls: KedaTls) -> None:
        self._scaler = scaler
        self._address = address
        self._tls = tls
        self._server: grpc.aio.Server | None = None
        self.port = 0
        """The port that is listened on, once there is one."""

    async def start(self) -> None:
        """Listen.

        Raises:
            KedaTlsError: there are no certificates.
            OSError: the address is taken or not ours.
        """
        server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=CALLS_MAX)
        server.add_generic_rpc_handlers([self._scaler.handler()])
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        try:
            self.port = server.add_secure_port(f"{host}:{self._address.port}", self._tls.credentials())
        except RuntimeError as error:
            raise OSError(f"can't listen on {host} port {self._address.port}: {error}") from error
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """End in good order: no new call, and a little time for those that run."""
        if self._server is not None:
            await self._server.stop(STOP_SECONDS_MAX)
