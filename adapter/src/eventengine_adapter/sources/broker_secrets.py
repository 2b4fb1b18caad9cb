"""The Secrets that engines show their brokers: read one by one, by name, and only where the operator granted it.

No list, no watch: the adapter's rights name each Secret, so it asks for each. What was
read holds for a minute, so that a changed Secret is noticed soon and the API server
is spared; what brokers refused is read anew for the next question. Never logs a content;
a failure says which Secret and what to do.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from eventengine_contract.broker_credentials import credential_properties

from eventengine_adapter.cluster.client import KubernetesError

from .kafka_brokers import BrokerError

SECONDS_REMEMBERED: Final = 60.0
SECRETS_MAX: Final = 256


class Getter(Protocol):
    """What is needed of the Kubernetes client."""

    async def get(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = "application/json"
    ) -> dict[str, Any]:
        """One object."""
        ...


class BrokerSecrets:
    """Gives the properties that a Secret stands for."""

    def __init__(self, client: Getter, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], tuple[float, dict[str, str]]] = OrderedDict()

    async def properties(self, namespace: str, name: str) -> dict[str, str]:
        """Properties of librdkafka; none where `name` is empty.

        Raises:
            BrokerError: the Secret doesn't exist, may not be read, or doesn't hold what it should.
        """
        if not name:
            return {}
        known = self._known.get((namespace, name))
        if known is not None and 0 <= self._clock() - known[0] < SECONDS_REMEMBERED:
            return known[1]
        self._known.pop((namespace, name), None)
        properties = _read(await self._get(namespace, name), name)
        self._known[namespace, name] = (self._clock(), properties)
        while len(self._known) > SECRETS_MAX:
            self._known.popitem(last=False)
        return properties

    def forget(self, namespace: str, name: str) -> None:
        """Read it anew the next time: it was of no use, and may be mended at any moment."""
        self._known.pop((namespace, name), None)

    async def _get(self, namespace: str, name: str) -> dict[str, Any]:
        try:
            return await self._client.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
        except KubernetesError as error:
            if error.code == 403:
                raise BrokerError(
                    f"its credentials (Secret {name}) may not be read by the adapter: the operator grants that where "
                    "the chart's operator.brokerCredentials is true"
                ) from None
            if error.code == 404:
                raise BrokerError(f"its credentials (Secret {name}) do not exist") from None
            raise BrokerError(f"its credentials (Secret {name}) could not be read: {error}") from None


def _read(secret: Mapping[str, Any], name: str) -> dict[str, str]:
    data = secret.get("data")
    try:
        files = {
            key: base64.b64decode(value, validate=True)
            for key, value in (data if isinstance(data, dict) else {}).items()
            if isinstance(value, str)
        }
        return credential_properties(files)
    except (binascii.Error, ValueError) as error:
        raise BrokerError(f"its credentials (Secret {name}) can't be used: {error}") from None
