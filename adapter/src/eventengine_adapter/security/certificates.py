"""Whether a peer's certificate was issued by one given set of authorities.

The handshake accepts certificates of both authorities, the cluster's clients'
and the front proxy's, because it can't tell what the caller will claim to be.
Which of the two it is decides everything, so it is decided here, from the
certificate: issuer, signature, validity, usage. Only certificates issued
directly by an authority in the bundle count; an intermediate one has to be in
the bundle itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from .identities import AuthenticationError

_KNOWN_CRITICAL = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
_CLIENT_USAGES = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})


_PEERS_REMEMBERED = 256
"""Certificates of peers that were read, and whose issuers were found. Every request on a connection shows the same."""


def parse_authorities(bundle: str | None) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM bundle; none if there is no bundle.

    Raises:
        ValueError: it is no PEM bundle of certificates.
    """
    if not bundle or not bundle.strip():
        return ()
    return tuple(x509.load_pem_x509_certificates(bundle.encode()))


@lru_cache(maxsize=_PEERS_REMEMBERED)
def parse_peer(certificate: bytes) -> x509.Certificate:
    """The certificate that the peer showed in the handshake.

    Raises:
        AuthenticationError: it can't be read.
    """
    try:
        return x509.load_der_x509_certificate(certificate)
    except ValueError as error:
        raise AuthenticationError("the client certificate can't be read") from error


def verify_client(
    certificate: x509.Certificate, authorities: Sequence[x509.Certificate], now_seconds: float
) -> None:
    """Check that one of `authorities` issued `certificate` to a client and that both are valid now.

    Raises:
        AuthenticationError: it did not, or they aren't; the message says which check failed.
    """
    now = datetime.fromtimestamp(now_seconds, UTC)
    _check_validity(certificate, now, "the client certificate")
    _check_purpose(certificate)
    issuer = _issuer(certificate, tuple(authorities))
    if issuer is None:
        raise AuthenticationError("the client certificate was issued by another authority")
    _check_validity(issuer, now, "the authority of the client certificate")


@lru_cache(maxsize=_PEERS_REMEMBERED)
def _issuer(
    certificate: x509.Certificate, authorities: tuple[x509.Certificate, ...]
) -> x509.Certificate | None:
    """The first of `authorities` that issued `certificate`, if any: what no time changes, and costs most."""
    for authority in authorities:
        if (
            authority.subject == certificate.issuer
            and _may_issue(authority)
            and _signed_by(certificate, authority)
        ):
            return authority
    return None


def common_name(certificate: x509.Certificate) -> str:
    """The subject's common name; empty if it has none."""
    return _first(certificate, NameOID.COMMON_NAME)


def organizations(certificate: x509.Certificate) -> tuple[str, ...]:
    """The subject's organizations, which are a user's groups."""
    attributes = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return tuple(str(attribute.value) for attribute in attributes)


def _first(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    attributes = certificate.subject.get_attributes_for_oid(oid)
    return str(attributes[0].value) if attributes else ""


def _check_validity(certificate: x509.Certificate, now: datetime, what: str) -> None:
    if now < certificate.not_valid_before_utc:
        raise AuthenticationError(f"{what} is not valid yet")
    if now > certificate.not_valid_after_utc:
        raise AuthenticationError(f"{what} has expired")


@lru_cache(maxsize=_PEERS_REMEMBERED)
def _check_purpose(certificate: x509.Certificate) -> None:
    try:
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension) as error:
        raise AuthenticationError("the client certificate has extensions that can't be read") from error
    for extension in extensions:
        if extension.critical and extension.oid not in _KNOWN_CRITICAL:
            raise AuthenticationError(
                "the client certificate has a critical extension that is not understood"
            )
    try:
        usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not _CLIENT_USAGES & set(usages):
        raise AuthenticationError("the client certificate was not issued for clients")


def _may_issue(authority: x509.Certificate) -> bool:
    try:
        if not authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension):
        return False
    try:
        return authority.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    if isinstance(certificate.signature_hash_algorithm, (hashes.MD5, hashes.SHA1)):
        return False
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True
