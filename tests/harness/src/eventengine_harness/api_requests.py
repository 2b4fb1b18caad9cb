"""Requests to a Kubernetes API over kept connections.

Owns the client made from a kubeconfig, and the map from the names that people use for kinds
(`deployment`, `hpa`, `ee`) to paths, which discovery tells. A test asks hundreds of questions, and a
kubectl started for each of them costs more than the API server's answer; what a user would type is
still typed (`KubernetesAccess.kubectl`).

Never does: decide what to do about a refusal. A request is sent once, apart from connections that
turn out to be closed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from eventengine_harness.exceptions import DeadlineError, HarnessError, RequestError
from eventengine_harness.waiting import wait_for

REQUEST_SECONDS_MAX: Final = 30.0
WATCH_SECONDS_MAX: Final = 3600
SERVED_DEADLINE_SECONDS: Final = 10.0
CONNECTIONS_KEPT: Final = 8
AGGREGATED_DISCOVERY: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
APPLY_PATCH: Final = "application/apply-patch+yaml"
NOT_FOUND: Final = 404


@dataclass(frozen=True)
class ResourceType:
    """A kind of object, the names that people use for it, and where it is served."""

    api_version: str
    kind: str
    plural: str
    names: frozenset[str]
    is_namespaced: bool

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """URL path of an object, or of all; of all namespaces where none is given."""
        parts = ["apis" if "/" in self.api_version else "api", self.api_version]
        if self.is_namespaced and namespace:
            parts += ["namespaces", namespace]
        return "/" + "/".join([*parts, self.plural, *([name] if name else [])])


def resource_types(discovery: Mapping[str, Any]) -> list[ResourceType]:
    """The types that an aggregated discovery document lists, each group's preferred version first."""
    return [
        ResourceType(
            api_version="/".join(filter(None, [group["metadata"].get("name", ""), version["version"]])),
            kind=found["responseKind"]["kind"],
            plural=found["resource"],
            names=frozenset(
                name.lower()
                for name in (
                    f"{found['resource']}.{group['metadata'].get('name', '')}",
                    *(found["resource"], found.get("singularResource"), found["responseKind"]["kind"]),
                    *found.get("shortNames", ()),
                )
                if name
            ),
            is_namespaced=found["scope"] == "Namespaced",
        )
        for group in discovery.get("items", ())
        for version in group["versions"]
        for found in version.get("resources", ())
        # Those of metrics APIs stand for metrics, not for objects.
        if found.get("responseKind") and "/" not in found["resource"]
    ]


class ApiRequests:
    """An API server, asked with the rights of a kubeconfig. Threads may share it."""

    def __init__(self, kubeconfig: Path) -> None:
        make_client: Any = config.new_client_from_config
        self._client = make_client(config_file=str(kubeconfig))
        self._client.rest_client.pool_manager.connection_pool_kw["maxsize"] = CONNECTIONS_KEPT
        self._kubeconfig = kubeconfig
        self._types: list[ResourceType] = []
        self._discovering = threading.Lock()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout_seconds: float = REQUEST_SECONDS_MAX,
    ) -> Any:
        """Send one request; returns the decoded answer.

        Args:
            method: The HTTP method.
            path: Below the server's address; it may hold a query of its own.
            query: Parameters to add to the path.
            body: What is sent as JSON.
            content_type: What the body is.
            accept: What the answer may be.
            timeout_seconds: For the whole of it.

        Raises:
            RequestError: the server refused, or did not answer (status 0).
        """
        url = f"{path}?{urlencode(query)}" if query else path
        parameters = self._client.param_serialize(
            method,
            url,
            header_params={"Accept": accept, **({"Content-Type": content_type} if body is not None else {})},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self._client.call_api(*parameters, _request_timeout=timeout_seconds)
            text = response.read()
        except (client.ApiException, HTTPError, OSError) as error:
            raise RequestError(method, url, 0, str(error)) from error
        if not 200 <= response.status < 300:
            raise RequestError(method, url, response.status, refusal_text(text))
        return json.loads(text) if text[:1] in {b"{", b"["} else text.decode()

    def watch(
        self, path: str, *, query: Mapping[str, str] | None = None, seconds: int = WATCH_SECONDS_MAX
    ) -> Iterator[dict[str, Any]]:
        """Events of a watch, as they come, until the server ends it.

        Raises:
            RequestError: the server refused, or the connection broke (status 0).
        """
        words = {"watch": "true", "timeoutSeconds": str(seconds), **(query or {})}
        url = f"{path}?{urlencode(words)}"
        parameters = self._client.param_serialize(
            "GET", url, header_params={"Accept": "application/json"}, auth_settings=["BearerToken"]
        )
        rest = b""
        try:
            response = self._client.call_api(*parameters, _request_timeout=seconds + REQUEST_SECONDS_MAX)
            if not 200 <= response.status < 300:
                raise RequestError("GET", url, response.status, refusal_text(response.read()))
            for chunk in response.response.stream():
                *lines, rest = (rest + chunk).split(b"\n")
                yield from map(json.loads, lines)
        except (client.ApiException, HTTPError, OSError) as error:
            raise RequestError("GET", url, 0, str(error)) from error

    def type_of(self, name: str) -> ResourceType:
        """The type that people call `name`: plural (with or without `.group`), singular, kind, short name."""
        return self._find(lambda found: name.lower() in found.names, name)

    def type_of_object(self, document: Mapping[str, Any]) -> ResourceType:
        """The type of a manifest."""
        version, kind = document["apiVersion"], document["kind"]
        return self._find(
            lambda found: (found.api_version, found.kind) == (version, kind), f"{kind} ({version})"
        )

    def _find(self, matches: Any, what: str) -> ResourceType:
        def known() -> ResourceType | None:
            return next(filter(matches, self._types), None)

        def discovered() -> ResourceType | None:
            # A definition that was made a moment ago is served a moment later.
            with self._discovering:
                self._types = [
                    found
                    for root in ("/api", "/apis")
                    for found in resource_types(self.send("GET", root, accept=AGGREGATED_DISCOVERY))
                ]
            return known()

        try:
            return known() or wait_for(discovered, f"{what} to be served", SERVED_DEADLINE_SECONDS)
        except DeadlineError as error:
            raise HarnessError(
                f"the API server of {self._kubeconfig} serves nothing called {what}"
            ) from error


def refusal_text(body: bytes) -> str:
    """What kubectl would print of a refusal: reason and message of the Status, or the body as it is."""
    try:
        status = json.loads(body)
        return f"Error from server ({status.get('reason', 'Unknown')}): {status['message']}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return body.decode(errors="replace")
