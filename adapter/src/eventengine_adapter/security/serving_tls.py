"""The TLS context that requests are served with, kept up to date while it serves.

Ordering: a new certificate and key are tried on a context of their own first,
so that a half-written pair never replaces a good one; then they are loaded into
the live context and new handshakes use them. Authorities are only ever added to
it: one that is no longer trusted still passes the handshake here and is refused
afterwards, by `security.certificates`, which is what decides.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

_log = logging.getLogger(__name__)

CERTIFICATE_FILE: Final = "tls.crt"
KEY_FILE: Final = "tls.key"
POLL_SECONDS: Final = 2.0
_WAITING_LOG_SECONDS: Final = 30.0


class ServingTls:
    """Certificate and key from a folder, and the authorities that clients may come from."""

    def __init__(self, folder: Path) -> None:
        self._certificate = folder / CERTIFICATE_FILE
        self._key = folder / KEY_FILE
        self._loaded_digest = b""
        self._refused_digest = b""
        self._authority_digests: set[bytes] = set()
        self.expires_at_seconds: float | None = None
        """When the certificate being served ends; None before there is one."""
        self.context = _server_context()

    @property
    def loaded(self) -> bool:
        """Whether there is a certificate to serve with."""
        return self.expires_at_seconds is not None

    def reload(self) -> bool:
        """Load the files if they changed and fit together; whether they were loaded now."""
        try:
            certificate, key = self._certificate.read_bytes(), self._key.read_bytes()
        except OSError:
            return False
        digest = hashlib.sha256(certificate + b"\0" + key).digest()
        if digest in {self._loaded_digest, self._refused_digest}:
            return False
        try:
            expires_at = x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()
            _server_context().load_cert_chain(self._certificate, self._key)
            self.context.load_cert_chain(self._certificate, self._key)
        except (ssl.SSLError, OSError, ValueError) as error:
            self._refused_digest = digest
            _log.error("%s and %s can't be used: %s", self._certificate, self._key, error)
            return False
        self._loaded_digest, self.expires_at_seconds = digest, expires_at
        _log.info("serving with the certificate in %s", self._certificate)
        return True

    def trust(self, authorities: tuple[x509.Certificate, ...]) -> None:
        """Let clients of these authorities through the handshake, besides those before."""
        for authority in authorities:
            der = authority.public_bytes(Encoding.DER)
            digest = hashlib.sha256(der).digest()
            if digest not in self._authority_digests:
                self.context.load_verify_locations(cadata=der)
                self._authority_digests.add(digest)

    async def wait(self) -> None:
        """Return once there is a certificate. It is made by the operator, which may start after us."""
        waited_seconds = 0.0
        while not self.reload() and not self.loaded:
            if waited_seconds % _WAITING_LOG_SECONDS == 0:
                _log.info("waiting for %s and %s", self._certificate, self._key)
            await asyncio.sleep(POLL_SECONDS)
            waited_seconds += POLL_SECONDS

    async def run(self) -> None:
        """Follow the files until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self.reload()


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Asked for and not required: kubelet and Prometheus come without, the front proxy with one.
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # A resumed session would skip the certificate; every connection shows it.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context
