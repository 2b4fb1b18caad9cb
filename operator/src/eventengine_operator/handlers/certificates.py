"""The certificates of the adapter and the webhook: issued and kept by the operator, or read where others issue them.

Both say which CAs the API server has to trust. A private key that others issued is neither used nor kept.
"""

from __future__ import annotations

import base64
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from eventengine_operator.certificates.issuing import KeyPair
from eventengine_operator.certificates.provided import Provided, read_provided, with_former
from eventengine_operator.certificates.rotating import Certificates, Policy, rotate
from eventengine_operator.clients.kubernetes_api import SECRETS, KubernetesApi
from eventengine_operator.manifests.certificates import (
    ADAPTER,
    BUNDLE_KEY,
    CERTIFICATE_KEY,
    PREVIOUS_KEY,
    PRIVATE_KEY_KEY,
    CertificateOwner,
    ServicePlace,
    certificate_secrets,
)
from eventengine_operator.measuring import Measurements
from eventengine_operator.reconciling.comparing import differs
from eventengine_operator.reconciling.replicas import FIELD_MANAGER
from eventengine_operator.resources.objects import Object, mapping_at, resource_version_of

FORMER_SECONDS: Final = 600.0
"""A CA that was replaced is trusted for so long: a kubelet brings a new Secret to the adapter within two minutes."""
_log = logging.getLogger(__name__)


class CertificateKeeper:
    """The operator's own: issued, rotated and written here."""

    def __init__(
        self,
        api: KubernetesApi,
        place: ServicePlace,
        policy: Policy,
        owner: Object | None,
        measurements: Measurements,
        of: CertificateOwner = ADAPTER,
    ) -> None:
        self._of = of
        self._api = api
        self._place = place
        self._policy = policy
        self._owner = owner
        self._measurements = measurements

    async def bundle(self, _: bytes) -> tuple[bytes, str]:
        """One pass; returns the CAs to trust, and what is wrong with them (never anything)."""
        namespace = self._place.namespace
        secrets = [
            await self._api.get(SECRETS, namespace, name)
            for name in (self._of.authority_secret, self._of.serving_secret)
        ]
        rotation = rotate(_read_certificates(*secrets), self._policy, datetime.now(UTC))
        for reason in rotation.reasons:
            _log.info("certificates: %s", reason)
        manifests = certificate_secrets(self._of, rotation, namespace, self._owner)
        for manifest, live in zip(manifests, secrets, strict=True):
            if live is None or differs(manifest, live):
                if live is not None:
                    manifest["metadata"]["resourceVersion"] = resource_version_of(live)
                await self._api.apply(manifest, FIELD_MANAGER)
        for name, expiry in rotation.expiries.items():
            self._measurements.certificate_expiry.labels(self._of.expiry_prefix + name).set(
                expiry.timestamp()
            )
        return rotation.bundle, ""


class CertificateReader:
    """Another's: read, judged, and reported on."""

    def __init__(
        self,
        api: KubernetesApi,
        place: ServicePlace,
        measurements: Measurements,
        of: CertificateOwner = ADAPTER,
    ) -> None:
        self._of = of
        self._api = api
        self._place = place
        self._measurements = measurements
        self._present = b""
        self._former = b""
        self._former_until_seconds = 0.0
        self._told = ""

    async def bundle(self, trusted: bytes) -> tuple[bytes, str]:
        """One pass; `trusted` is what the API server trusts now.

        Returns the CAs to trust (empty: not known), and what is wrong with the certificates (empty: nothing).
        """
        secret = await self._api.get(SECRETS, self._place.namespace, self._of.serving_secret)
        provided = self._judge(secret)
        fault = f"Secret {self._of.serving_secret}: {provided.fault}" if provided.fault else ""
        if fault != self._told:
            _log.log(
                logging.WARNING if fault else logging.INFO, "certificates: %s", fault or "nothing is wrong"
            )
            self._told = fault
        if provided.expires_at is not None:
            self._measurements.certificate_expiry.labels(f"{self._of.expiry_prefix}serving").set(
                provided.expires_at.timestamp()
            )
        if not provided.bundle:
            return b"", fault
        now = time.monotonic()
        if provided.bundle != self._present:
            self._present, self._former = provided.bundle, trusted
            self._former_until_seconds = now + FORMER_SECONDS
        if now >= self._former_until_seconds:
            self._former = b""
        return with_former(provided.bundle, self._former, datetime.now(UTC)), fault

    def _judge(self, secret: Object | None) -> Provided:
        if secret is None:
            return Provided(fault="it doesn't exist; create it with tls.crt, tls.key and ca.crt")
        entries = (_entry(secret, BUNDLE_KEY), _entry(secret, CERTIFICATE_KEY))
        return read_provided(*entries, self._place.names, datetime.now(UTC))


def make_policy(
    place: ServicePlace,
    authority_nanoseconds: int,
    certificate_nanoseconds: int,
    of: CertificateOwner = ADAPTER,
) -> Policy:
    """The policy for the certificates of a Service."""
    authority = timedelta(microseconds=authority_nanoseconds // 1000)
    certificate = timedelta(microseconds=certificate_nanoseconds // 1000)
    # A CA must never be replaced twice while its successor still settles.
    settle = min(Policy.settle, authority / 6)
    return Policy(place.names, authority, certificate, settle, of.authority_secret)


def _read_certificates(authority: Object | None, serving: Object | None) -> Certificates:
    return Certificates(
        authority=_key_pair(authority),
        previous=_entry(authority, PREVIOUS_KEY),
        serving=_key_pair(serving),
    )


def _key_pair(secret: Object | None) -> KeyPair | None:
    certificate, key = _entry(secret, CERTIFICATE_KEY), _entry(secret, PRIVATE_KEY_KEY)
    return KeyPair(certificate, key) if certificate and key else None


def _entry(secret: Object | None, key: str) -> bytes | None:
    text = mapping_at(secret or {}, "data").get(key)
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except ValueError:
        return None
