"""Keeping the adapter's APIServices as they should be.

One pass reads all three APIServices by name, sees to the certificates, decides, and writes: Secrets
before APIServices, for a bundle must never name a CA whose key wasn't kept.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from typing import Literal

from eventengine_operator.clients.errors import RefusedError
from eventengine_operator.clients.kubernetes_api import API_SERVICES, KubernetesApi
from eventengine_operator.manifests.certificates import ServicePlace
from eventengine_operator.manifests.metrics_apis import AGGREGATED_APIS
from eventengine_operator.reconciling.actions import Apply
from eventengine_operator.reconciling.metrics_apis import is_ours, judge_apis, plan_api_services, wanted_apis
from eventengine_operator.reconciling.observations import MetricsApis
from eventengine_operator.reconciling.replicas import FIELD_MANAGER
from eventengine_operator.resources.objects import Object, text_at, uid_of

from .certificates import CertificateKeeper, CertificateReader

_log = logging.getLogger(__name__)


class MetricsApiKeeper:
    """See the module."""

    def __init__(
        self,
        api: KubernetesApi,
        place: ServicePlace,
        mode: Literal["auto", "custom-only", "keda"],
        certificates: CertificateKeeper | CertificateReader,
    ) -> None:
        self._api = api
        self._place = place
        self._wanted = wanted_apis(mode)
        self._certificates = certificates
        self.bundle = b""
        """The CAs of the adapter's certificate; empty until they were known once."""

    async def reconcile(self) -> MetricsApis:
        """One pass; returns what is to be said of the metrics APIs."""
        live = await self._api_services()
        bundle, fault = await self._certificates.bundle(bundle_in(live, self._place.namespace))
        self.bundle = bundle or self.bundle
        for action in plan_api_services(self._wanted, live, self._place, bundle):
            if isinstance(action, Apply) and not bundle:
                continue
            try:
                if isinstance(action, Apply):
                    name = action.manifest["metadata"]["name"]
                    _log.info("applying APIService %s: %s", name, action.reason)
                    live[name] = await self._api.apply(action.manifest, FIELD_MANAGER)
                else:
                    _log.info("deleting %s: %s", action.reference, action.reason)
                    await self._api.delete(
                        API_SERVICES, "", action.reference.name, action.uid, action.resource_version
                    )
                    live.pop(action.reference.name, None)
            except RefusedError as error:
                _log.warning("refused: %s", error)
        return judge_apis(self._wanted, live, self._place, fault)

    async def _api_services(self) -> dict[str, Object]:
        found = {api.name: await self._api.get(API_SERVICES, "", api.name) for api in AGGREGATED_APIS}
        return {name: item for name, item in found.items() if item is not None}


async def delete_api_services(api: KubernetesApi, namespace: str) -> list[str]:
    """Delete the APIServices that the installation in `namespace` made; returns their names."""
    deleted = []
    for aggregated in AGGREGATED_APIS:
        live = await api.get(API_SERVICES, "", aggregated.name)
        if live is not None and is_ours(live, namespace):
            await api.delete(API_SERVICES, "", aggregated.name, uid_of(live))
            deleted.append(aggregated.name)
    return deleted


def bundle_in(live: Mapping[str, Object], namespace: str) -> bytes:
    """The CAs that the API server trusts for the adapter of the installation in `namespace` now."""
    for item in live.values():
        if is_ours(item, namespace):
            try:
                return base64.b64decode(text_at(item, "spec", "caBundle"), validate=True)
            except ValueError:
                return b""
    return b""
