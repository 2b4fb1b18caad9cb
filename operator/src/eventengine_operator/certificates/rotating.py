"""Deciding when to issue, from what the two Secrets hold now.

Order of a rotation, each step in a pass of its own, so that no client ever meets a certificate
that its bundle doesn't cover:
1. At two thirds of the CA's life a new CA is made; the old one stays in the bundle as `previous`.
2. The bundle with both goes to the APIServices.
3. Once the new CA is older than SETTLE, the serving certificate is issued anew, by the new CA.
4. The previous CA leaves the bundle when it expires: until then nothing is lost by keeping it.

A serving certificate that is missing, broken, expired or for other names is replaced at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from eventengine_contract.well_known import ADAPTER_CA_SECRET

from .issuing import (
    CLOCK_SKEW_MAX,
    KeyPair,
    issue_authority,
    issue_serving,
    key_matches,
    names_in,
    was_issued_by,
)

SETTLE: Final = timedelta(seconds=60)
"""Time for a new bundle to reach every API server."""


@dataclass(frozen=True)
class Policy:
    """What to issue, and for how long."""

    names: tuple[str, ...]
    authority_lifetime: timedelta
    certificate_lifetime: timedelta
    settle: timedelta = SETTLE
    authority_name: str = ADAPTER_CA_SECRET


@dataclass(frozen=True)
class Certificates:
    """What there is; None where nothing usable is."""

    authority: KeyPair | None = None
    previous: bytes | None = None
    """The certificate, without key, of the CA before."""
    serving: KeyPair | None = None


@dataclass(frozen=True)
class Rotation:
    """What there should be from now on, and why it differs (empty: it doesn't)."""

    authority: KeyPair
    previous: bytes | None
    serving: KeyPair
    reasons: tuple[str, ...]

    @property
    def bundle(self) -> bytes:
        """All CA certificates to trust, the present one first."""
        return self.authority.certificate + (self.previous or b"")

    @property
    def expiries(self) -> dict[str, datetime]:
        """When each certificate ends."""
        return {
            "authority": _load(self.authority.certificate).not_valid_after_utc,
            "serving": _load(self.serving.certificate).not_valid_after_utc,
        }


def rotate(current: Certificates, policy: Policy, now: datetime) -> Rotation:
    """Decide. Called again with its own result at the same time, it changes nothing."""
    reasons: list[str] = []
    authority, previous = current.authority, current.previous
    fault = _fault_of_authority(authority, now)
    if authority is None or fault:
        kept = authority.certificate if authority is not None else previous
        reasons.append(f"new CA: {fault}")
        authority, previous = issue_authority(now, policy.authority_lifetime, policy.authority_name), kept
    if previous is not None and (not _is_usable_ca(previous, now) or previous == authority.certificate):
        previous = None
        if not reasons:
            reasons.append("the previous CA expired")
    serving = current.serving
    fault = _fault_of_serving(serving, authority, previous, policy, now)
    if serving is None or fault:
        reasons.append(f"new serving certificate: {fault}")
        serving = issue_serving(authority, policy.names, now, policy.certificate_lifetime)
    return Rotation(authority, previous, serving, tuple(reasons))


def _fault_of_authority(authority: KeyPair | None, now: datetime) -> str:
    if authority is None:
        return "there is none"
    if not key_matches(authority):
        return "its key doesn't match its certificate"
    certificate = _load(authority.certificate)
    if _is_due(certificate, now):
        return f"the present one ends at {certificate.not_valid_after_utc.isoformat()}"
    return ""


def _fault_of_serving(
    serving: KeyPair | None, authority: KeyPair, previous: bytes | None, policy: Policy, now: datetime
) -> str:
    if serving is None:
        return "there is none"
    if not key_matches(serving):
        return "its key doesn't match its certificate"
    certificate, issuer = _load(serving.certificate), _load(authority.certificate)
    if names_in(certificate) != frozenset(policy.names):
        return "it is for other names"
    if previous is not None and was_issued_by(certificate, _load(previous)):
        if certificate.not_valid_after_utc <= now:
            return "the present one has expired"
        # However old it is: the new CA may not sign before everybody trusts it.
        return "the CA was renewed" if now - _issued_at(issuer) >= policy.settle else ""
    if not was_issued_by(certificate, issuer):
        return "it was issued by an unknown CA"
    if _is_due(certificate, now):
        return f"the present one ends at {certificate.not_valid_after_utc.isoformat()}"
    return ""


def _is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether two thirds of its life are over."""
    issued = _issued_at(certificate)
    return now >= issued + (certificate.not_valid_after_utc - issued) * 2 / 3


def _issued_at(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_before_utc + CLOCK_SKEW_MAX


def _is_usable_ca(pem: bytes, now: datetime) -> bool:
    try:
        return _load(pem).not_valid_after_utc > now
    except ValueError:
        return False


def _load(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)
