"""Keeping the adapter's certificates and APIServices as they should be.

One pass reads both Secrets and all three APIServices by name, decides, and writes: Secrets
before APIServices, for a bundle must never name a CA whose key wasn't kept.
"""

from __future__ import annotations

import base64
import logging
from datetime import UTC, datetime, timedelta
from typing import Literal

from eventengine_contract.well_known import ADAPTER_CA_SECRET, ADAPTER_TLS_SECRET

from eventengine_operator.certificates.issuing import KeyPair
from eventengine_operator.certificates.rotating import Certificates, Policy, Rotation, rotate
from eventengine_operator.clients.errors import RefusedError
from eventengine_operator.clients.kubernetes_api import API_SERVICES, SECRETS, KubernetesApi
from eventengine_operator.manifests.metrics_apis import (
    AGGREGATED_APIS,
    CERTIFICATE_KEY,
    PREVIOUS_KEY,
    PRIVATE_KEY_KEY,
    AdapterPlace,
    certificate_secrets,
)
from eventengine_operator.measuring import Measurements
from eventengine_operator.reconciling.actions import Apply
from eventengine_operator.reconciling.comparing import differs
from eventengine_operator.reconciling.metrics_apis import is_ours, judge_apis, plan_api_services, wanted_apis
from eventengine_operator.reconciling.observations import MetricsApis
from eventengine_operator.reconciling.replicas import FIELD_MANAGER
from eventengine_operator.resources.objects import Object, mapping_at, resource_version_of, uid_of

_log = logging.getLogger(__name__)


class MetricsApiKeeper:
    """See the module."""

    def __init__(
        self,
        api: KubernetesApi,
        place: AdapterPlace,
        mode: Literal["auto", "custom-only", "keda"],
        policy: Policy,
        owner: Object | None,
        measurements: Measurements,
    ) -> None:
        self._api = api
        self._place = place
        self._wanted = wanted_apis(mode)
        self._policy = policy
        self._owner = owner
        self._measurements = measurements

    async def reconcile(self) -> MetricsApis:
        """One pass; returns what is to be said of the metrics APIs."""
        rotation = await self._keep_certificates()
        live = await self._api_services()
        for action in plan_api_services(self._wanted, live, self._place, rotation.bundle):
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
        return judge_apis(self._wanted, live, self._place)

    async def _api_services(self) -> dict[str, Object]:
        found = {api.name: await self._api.get(API_SERVICES, "", api.name) for api in AGGREGATED_APIS}
        return {name: item for name, item in found.items() if item is not None}

    async def _keep_certificates(self) -> Rotation:
        namespace = self._place.namespace
        secrets = [
            await self._api.get(SECRETS, namespace, name) for name in (ADAPTER_CA_SECRET, ADAPTER_TLS_SECRET)
        ]
        rotation = rotate(_read_certificates(*secrets), self._policy, datetime.now(UTC))
        for reason in rotation.reasons:
            _log.info("certificates: %s", reason)
        manifests = certificate_secrets(rotation, namespace, self._owner)
        for manifest, live in zip(manifests, secrets, strict=True):
            if live is None or differs(manifest, live):
                if live is not None:
                    manifest["metadata"]["resourceVersion"] = resource_version_of(live)
                await self._api.apply(manifest, FIELD_MANAGER)
        for name, expiry in rotation.expiries.items():
            self._measurements.certificate_expiry.labels(name).set(expiry.timestamp())
        return rotation


async def delete_api_services(api: KubernetesApi, namespace: str) -> list[str]:
    """Delete the APIServices that the installation in `namespace` made; returns their names."""
    deleted = []
    for aggregated in AGGREGATED_APIS:
        live = await api.get(API_SERVICES, "", aggregated.name)
        if live is not None and is_ours(live, namespace):
            await api.delete(API_SERVICES, "", aggregated.name, uid_of(live))
            deleted.append(aggregated.name)
    return deleted


def make_policy(place: AdapterPlace, authority_nanoseconds: int, certificate_nanoseconds: int) -> Policy:
    """The policy for an adapter's certificates."""
    authority = timedelta(microseconds=authority_nanoseconds // 1000)
    certificate = timedelta(microseconds=certificate_nanoseconds // 1000)
    # A CA must never be replaced twice while its successor still settles.
    settle = min(Policy.settle, authority / 6)
    return Policy(place.names, authority, certificate, settle)


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
