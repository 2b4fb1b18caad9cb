"""Secrets with the certificates of what the API server calls: adapter and webhook, each with a CA of its own."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from eventengine_contract.well_known import (
    ADAPTER_CA_SECRET,
    ADAPTER_TLS_SECRET,
    LABEL_COMPONENT,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    MANAGED_BY,
    PART_NAME,
    WEBHOOK_CA_SECRET,
    WEBHOOK_TLS_SECRET,
)

from eventengine_operator.certificates.rotating import Rotation
from eventengine_operator.resources.objects import Object

LABEL_INSTALLATION: Final = "eventengine.dev/installation"
CERTIFICATE_KEY: Final = "tls.crt"
PRIVATE_KEY_KEY: Final = "tls.key"
BUNDLE_KEY: Final = "ca.crt"
PREVIOUS_KEY: Final = "previous.crt"


@dataclass(frozen=True)
class ServicePlace:
    """Where a Service is that the API server calls."""

    namespace: str
    service: str
    port: int

    @property
    def names(self) -> tuple[str, ...]:
        """DNS names that its certificate must carry."""
        host = f"{self.service}.{self.namespace}.svc"
        return (host, f"{host}.cluster.local")


@dataclass(frozen=True)
class CertificateOwner:
    """Whose certificates they are, and in which Secrets."""

    component: str
    authority_secret: str
    serving_secret: str
    expiry_prefix: str = ""
    """What its expiries begin with among the operator's metrics."""


ADAPTER: Final = CertificateOwner("adapter", ADAPTER_CA_SECRET, ADAPTER_TLS_SECRET)
WEBHOOK: Final = CertificateOwner("webhook", WEBHOOK_CA_SECRET, WEBHOOK_TLS_SECRET, "webhook-")


def installation_labels(namespace: str, component: str = ADAPTER.component) -> dict[str, str]:
    """Labels of what the installation in `namespace` makes for one of its components."""
    return {
        LABEL_NAME: PART_NAME,
        LABEL_COMPONENT: component,
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_INSTALLATION: namespace,
    }


def certificate_secrets(
    of: CertificateOwner, rotation: Rotation, namespace: str, owner: Object | None
) -> list[Object]:
    """The CA's Secret and the server's. The CA's comes first: nothing may be signed by a lost key."""
    authority = {
        CERTIFICATE_KEY: rotation.authority.certificate,
        PRIVATE_KEY_KEY: rotation.authority.key,
    }
    if rotation.previous is not None:
        authority[PREVIOUS_KEY] = rotation.previous
    serving = {
        CERTIFICATE_KEY: rotation.serving.certificate,
        PRIVATE_KEY_KEY: rotation.serving.key,
        BUNDLE_KEY: rotation.bundle,
    }
    labels = installation_labels(namespace, of.component)
    return [
        _secret(of.authority_secret, namespace, labels, "Opaque", authority, owner),
        _secret(of.serving_secret, namespace, labels, "kubernetes.io/tls", serving, owner),
    ]


def _secret(
    name: str, namespace: str, labels: dict[str, str], kind: str, data: dict[str, bytes], owner: Object | None
) -> Object:
    metadata: Object = {"name": name, "namespace": namespace, "labels": labels}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": kind,
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
