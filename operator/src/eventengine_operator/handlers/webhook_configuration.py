"""Telling the API server whom to trust as the webhook. The chart makes the configuration; only its caBundle is ours."""

from __future__ import annotations

import base64
import logging

from eventengine_contract.well_known import WEBHOOK, WEBHOOK_CONFIGURATION

from eventengine_operator.clients.errors import RefusedError
from eventengine_operator.clients.kubernetes_api import WEBHOOK_CONFIGURATIONS, KubernetesApi
from eventengine_operator.reconciling.replicas import FIELD_MANAGER
from eventengine_operator.resources.objects import Object, list_at, resource_version_of, text_at

from .certificates import CertificateKeeper, CertificateReader

_log = logging.getLogger(__name__)


class WebhookKeeper:
    """See the module."""

    def __init__(self, api: KubernetesApi, certificates: CertificateKeeper | CertificateReader) -> None:
        self._api = api
        self._certificates = certificates

    async def reconcile(self) -> None:
        """One pass: the certificates, and what the API server is told of them."""
        live = await self._api.get(WEBHOOK_CONFIGURATIONS, "", WEBHOOK_CONFIGURATION)
        trusted = trusted_by(live or {})
        bundle, _ = await self._certificates.bundle(trusted)
        if live is None or not bundle or bundle == trusted:
            return
        _log.info("telling the API server whom to trust as the webhook")
        try:
            await self._api.apply(trust(bundle, live), FIELD_MANAGER)
        except RefusedError as error:
            _log.warning("refused: %s", error)


def trusted_by(live: Object) -> bytes:
    """The CAs that the API server trusts as the webhook now."""
    for item in list_at(live, "webhooks"):
        if text_at(item, "name") == WEBHOOK:
            try:
                return base64.b64decode(text_at(item, "clientConfig", "caBundle"), validate=True)
            except ValueError:
                return b""
    return b""


def trust(bundle: bytes, live: Object) -> Object:
    """What is applied: the bundle and nothing else, to the configuration that was seen."""
    return {
        "apiVersion": WEBHOOK_CONFIGURATIONS.api_version,
        "kind": WEBHOOK_CONFIGURATIONS.kind,
        "metadata": {"name": WEBHOOK_CONFIGURATION, "resourceVersion": resource_version_of(live)},
        "webhooks": [{"name": WEBHOOK, "clientConfig": {"caBundle": base64.b64encode(bundle).decode()}}],
    }
