"""Talking to a Kubernetes API: requests, waiting on conditions, kubectl, helm.

Everything goes over the network with a kubeconfig, so the same class serves the
loopback control plane, the cluster in its sandbox (the machine has a route to its
API server) and a cluster of the user's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from eventengine_harness import builds
from eventengine_harness.api_requests import APPLY_PATCH, NOT_FOUND, ApiRequests
from eventengine_harness.exceptions import RequestError
from eventengine_harness.running import run
from eventengine_harness.waiting import wait_for

Object = Mapping[str, Any]

WAIT_SECONDS = 60.0
COMMAND_SECONDS = 60.0
HELM_SECONDS = 300.0
FIELD_MANAGER = "tests"
DEFAULT_NAMESPACE = "default"


class KubernetesAccess:
    """One kubeconfig and the tools to use it."""

    def __init__(self, kubeconfig: Path, kubectl_program: Path) -> None:
        self.kubeconfig = kubeconfig
        self.kubectl_program = kubectl_program

    @property
    def environment(self) -> dict[str, str]:
        """What a child process needs to reach this API (KUBECONFIG)."""
        return {"KUBECONFIG": str(self.kubeconfig)}

    @cached_property
    def requests(self) -> ApiRequests:
        """Plain requests with the rights of the kubeconfig."""
        return ApiRequests(self.kubeconfig)

    def kubectl(
        self,
        *arguments: str | Path,
        stdin: str | None = None,
        timeout_seconds: float = COMMAND_SECONDS,
    ) -> str:
        """Run kubectl; returns its standard output."""
        command = [self.kubectl_program, f"--kubeconfig={self.kubeconfig}", *arguments]
        return run(command, stdin=stdin, timeout_seconds=timeout_seconds)

    def helm(
        self,
        *arguments: str | Path,
        major: int = 4,
        stdin: str | None = None,
        timeout_seconds: float = HELM_SECONDS,
    ) -> str:
        """Run helm 4 (or 3); its caches and settings lie beside the kubeconfig, not in the home."""
        home = self.kubeconfig.parent / f"helm{major}"
        environment = {
            **self.environment,
            "HELM_CACHE_HOME": str(home / "cache"),
            "HELM_CONFIG_HOME": str(home / "config"),
            "HELM_DATA_HOME": str(home / "data"),
        }
        return run(
            [builds.helm(major), *arguments],
            stdin=stdin,
            environment=environment,
            timeout_seconds=timeout_seconds,
        )

    def apply(self, *documents: str | Path | Object | Iterable[Object], namespace: str | None = None) -> None:
        """Apply manifests on the server's side: YAML text, a file's path, or objects."""
        for document in _objects(documents):
            found = self.requests.type_of_object(document)
            metadata = document["metadata"]
            where = metadata.get("namespace") or namespace or DEFAULT_NAMESPACE
            self.requests.send(
                "PATCH",
                found.path(where, metadata["name"]),
                query={"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"},
                body=document,
                content_type=APPLY_PATCH,
            )

    def delete(self, kind: str, name: str, namespace: str | None = None, *, wait: bool = True) -> None:
        """Delete an object and wait for its end; it is no error if there is none."""
        path = self.requests.type_of(kind).path(namespace or DEFAULT_NAMESPACE, name)
        found = self._read(path)
        if found is None:
            return
        try:
            self.requests.send("DELETE", path, query={"propagationPolicy": "Background"})
        except RequestError as error:
            if error.status != NOT_FOUND:
                raise
        if not wait:
            return

        def gone() -> bool:
            present = self._read(path)
            return present is None or present["metadata"]["uid"] != found["metadata"]["uid"]

        wait_for(gone, f"the end of {kind}/{name}", WAIT_SECONDS * 2)

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """Read one object; None if there is none."""
        return self._read(self.requests.type_of(kind).path(namespace or DEFAULT_NAMESPACE, name))

    def list(
        self, kinds: str, namespace: str | None = None, selector: str | None = None
    ) -> list[dict[str, Any]]:
        """Read the objects of a kind, or of several with commas; without a namespace, of all namespaces."""
        query = {"labelSelector": selector} if selector else None
        found = []
        for name in kinds.split(","):
            kind = self.requests.type_of(name)
            items = self.requests.send("GET", kind.path(namespace), query=query)["items"]
            found += [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in items]
        return found

    def raw(self, path: str) -> Any:
        """GET a path of the API, for example /apis/external.metrics.k8s.io/v1beta1, as JSON."""
        return self.requests.send("GET", path)

    def _read(self, path: str) -> dict[str, Any] | None:
        try:
            return dict(self.requests.send("GET", path))
        except RequestError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def wait_until(
        self,
        kind: str,
        name: str,
        condition: Callable[[dict[str, Any]], bool],
        what: str,
        *,
        namespace: str | None = None,
        deadline_seconds: float = WAIT_SECONDS,
    ) -> dict[str, Any]:
        """Wait until an object exists and satisfies a condition; returns the object."""
        seen: list[dict[str, Any] | None] = [None]

        def satisfied() -> dict[str, Any] | None:
            seen[0] = self.get(kind, name, namespace)
            return seen[0] if seen[0] is not None and condition(seen[0]) else None

        def last_seen() -> str:
            return json.dumps((seen[0] or {}).get("status", "no such object"))[:1500]

        return wait_for(satisfied, f"{kind}/{name}: {what}", deadline_seconds, last_seen=last_seen)

    def wait_for_condition(
        self,
        kind: str,
        name: str,
        condition_type: str,
        *,
        status: str = "True",
        namespace: str | None = None,
        deadline_seconds: float = WAIT_SECONDS,
    ) -> dict[str, Any]:
        """Wait until a status condition has a status; returns the object."""
        return self.wait_until(
            kind,
            name,
            lambda found: condition_of(found, condition_type).get("status") == status,
            f"condition {condition_type}={status}",
            namespace=namespace,
            deadline_seconds=deadline_seconds,
        )

    def wait_until_gone(
        self,
        kind: str,
        name: str,
        *,
        namespace: str | None = None,
        deadline_seconds: float = WAIT_SECONDS,
    ) -> None:
        """Wait until an object is gone."""
        wait_for(
            lambda: self.get(kind, name, namespace) is None,
            f"the end of {kind}/{name}",
            deadline_seconds,
        )

    def wait_until_usable(self, deadline_seconds: float = WAIT_SECONDS) -> None:
        """Wait until pods can be created: their default service account is made by a controller."""

        def exists() -> bool:
            try:
                return self.get("serviceaccount", "default", "default") is not None
            except RequestError:
                return False

        wait_for(exists, "the default service account", deadline_seconds)


def condition_of(found: Object, condition_type: str) -> dict[str, Any]:
    """The status condition of a type; an empty one if the object has none."""
    for condition in (found.get("status") or {}).get("conditions") or ():
        if condition["type"] == condition_type:
            return dict(condition)
    return {}


def _objects(documents: Iterable[str | Path | Object | Iterable[Object]]) -> Iterator[Object]:
    for document in documents:
        if isinstance(document, str | Path):
            text = document if isinstance(document, str) else document.read_text()
            yield from filter(None, yaml.safe_load_all(text))
        elif isinstance(document, Mapping):
            yield document
        else:
            yield from document
