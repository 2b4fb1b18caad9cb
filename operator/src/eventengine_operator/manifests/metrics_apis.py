"""The adapter's place in the API server: its APIServices, and the Secrets with its certificates.

An APIService is cluster-wide and can't be owned by anything in a namespace. Ours are known by
their labels, which name the namespace of the installation that made them.
"""

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
)

from eventengine_operator.certificates.rotating import Rotation
from eventengine_operator.resources.objects import Object

LABEL_INSTALLATION: Final = "eventengine.dev/installation"
COMPONENT_ADAPTER: Final = "adapter"
GROUP_PRIORITY: Final = 100
CERTIFICATE_KEY: Final = "tls.crt"
PRIVATE_KEY_KEY: Final = "tls.key"
BUNDLE_KEY: Final = "ca.crt"
PREVIOUS_KEY: Final = "previous.crt"


@dataclass(frozen=True)
class AggregatedApi:
    """One version of a metrics API."""

    group: str
    version: str
    version_priority: int

    @property
    def name(self) -> str:
        """Name of its APIService."""
        return f"{self.version}.{self.group}"


CUSTOM_APIS: Final = (
    AggregatedApi("custom.metrics.k8s.io", "v1beta1", 100),
    AggregatedApi("custom.metrics.k8s.io", "v1beta2", 200),
)
EXTERNAL_API: Final = AggregatedApi("external.metrics.k8s.io", "v1beta1", 100)
AGGREGATED_APIS: Final = (*CUSTOM_APIS, EXTERNAL_API)


@dataclass(frozen=True)
class AdapterPlace:
    """Where the adapter's Service is."""

    namespace: str
    service: str
    port: int

    @property
    def names(self) -> tuple[str, ...]:
        """DNS names that its certificate must carry."""
        host = f"{self.service}.{self.namespace}.svc"
        return (host, f"{host}.cluster.local")


def installation_labels(namespace: str) -> dict[str, str]:
    """Labels of what the installation in `namespace` makes for its adapter."""
    return {
        LABEL_NAME: PART_NAME,
        LABEL_COMPONENT: COMPONENT_ADAPTER,
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_INSTALLATION: namespace,
    }


def api_service(api: AggregatedApi, place: AdapterPlace, bundle: bytes) -> Object:
    """The APIService that hands one version of a metrics API to the adapter."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": api.name, "labels": installation_labels(place.namespace)},
        "spec": {
            "group": api.group,
            "version": api.version,
            "groupPriorityMinimum": GROUP_PRIORITY,
            "versionPriority": api.version_priority,
            "service": {"namespace": place.namespace, "name": place.service, "port": place.port},
            "caBundle": base64.b64encode(bundle).decode(),
        },
    }


def certificate_secrets(rotation: Rotation, namespace: str, owner: Object | None) -> list[Object]:
    """The CA's Secret and the adapter's. The CA's comes first: nothing may be signed by a lost key."""
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
    return [
        _secret(ADAPTER_CA_SECRET, namespace, "Opaque", authority, owner),
        _secret(ADAPTER_TLS_SECRET, namespace, "kubernetes.io/tls", serving, owner),
    ]


def _secret(name: str, namespace: str, kind: str, data: dict[str, bytes], owner: Object | None) -> Object:
    metadata: Object = {"name": name, "namespace": namespace, "labels": installation_labels(namespace)}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": kind,
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
