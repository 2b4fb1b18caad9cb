"""Certificates that others issue (cert-manager, or you): what the API server has to trust, and what is wrong with them.

Pure. A CA that was trusted until now stays in the bundle for a while after another took its place: until its mount
is refreshed the adapter serves with the old certificate. How long is the caller's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from .issuing import names_in

AUTHORITIES_MAX: Final = 8
BUNDLE_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True)
class Provided:
    """What there is. Without a bundle the API server can't be told whom to trust."""

    bundle: bytes = b""
    fault: str = ""
    """What somebody has to see to, or an empty text."""
    expires_at: datetime | None = None


def read_provided(
    authorities: bytes | None, serving: bytes | None, names: tuple[str, ...], now: datetime
) -> Provided:
    """Judge `ca.crt` and `tls.crt` of a server's Secret; None where the entry doesn't exist."""
    if not authorities:
        return Provided(fault="it has no ca.crt, which the API server needs to trust it by")
    trusted = certificates_in(authorities)
    if not trusted:
        return Provided(fault="its ca.crt holds no certificate")
    bundle = joined(trusted)
    presented = certificates_in(serving or b"")
    if not presented:
        return Provided(bundle, "its tls.crt holds no certificate")
    own = presented[0]
    expires_at = own.not_valid_after_utc
    if expires_at <= now:
        return Provided(bundle, f"its certificate expired at {expires_at.isoformat()}", expires_at)
    if names[0] not in names_in(own):
        return Provided(bundle, f"its certificate is not for {names[0]}", expires_at)
    return Provided(bundle, "", expires_at)


def with_former(bundle: bytes, former: bytes, now: datetime) -> bytes:
    """The bundle, and behind it those certificates of a former one that are not in it and haven't expired."""
    present = certificates_in(bundle)
    kept = [
        item for item in certificates_in(former) if item not in present and item.not_valid_after_utc > now
    ]
    return joined([*present, *kept][:AUTHORITIES_MAX])


def certificates_in(pem: bytes) -> list[x509.Certificate]:
    """Every certificate, or none where one can't be read."""
    try:
        return x509.load_pem_x509_certificates(pem) if 0 < len(pem) <= BUNDLE_BYTES_MAX else []
    except ValueError:
        return []


def joined(certificates: list[x509.Certificate]) -> bytes:
    """As PEM, in this order."""
    return b"".join(item.public_bytes(Encoding.PEM) for item in certificates)
