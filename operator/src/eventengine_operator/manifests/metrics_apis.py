"""The adapter's place in the API server: its APIServices.

An APIService is cluster-wide and can't be owned by anything in a namespace. Ours are known by
their labels, which name the namespace of the installation that made them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from eventengine_operator.resources.objects import Object

from .certificates import ServicePlace, installation_labels

GROUP_PRIORITY: Final = 100


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


def api_service(api: AggregatedApi, place: ServicePlace, bundle: bytes) -> Object:
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
