"""Calls to the API server on plain objects: get, list, watch, apply, patch, delete.

Owns paths, headers, timeouts, the bounds on concurrent calls and on their rate, and their counting.
Decides nothing and repeats nothing: what failed is decided anew by the next reconcile.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from eventengine_contract.well_known import API_GROUP, API_VERSION, KIND, PLURAL
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from eventengine_operator.measuring import Measurements
from eventengine_operator.resources.objects import (
    Object,
    mapping_at,
    name_of,
    namespace_of,
    number_at,
    text_at,
)

from .echoes import Echoes
from .errors import ApiError, NotFoundError, UnavailableError, error_of_answer
from .pacing import Pace

CALLS_AT_ONCE_MAX: Final = 16
CALL_SECONDS_MAX: Final = 15.0
CONNECT_SECONDS_MAX: Final = 5.0
WATCH_SECONDS: Final = 300
"""The API server ends a watch after this time, and it is taken up again where it ended."""
WATCH_SILENT_SECONDS_MAX: Final = 100.0
"""The API server sends a bookmark about once a minute: a watch without one for longer is dead."""
PAGE_OBJECTS: Final = 100
"""Read into objects, a page takes many times its length, and the memory that it took is kept by the interpreter."""
PAGES_MAX: Final = 1000
APPLY_PATCH: Final = "application/apply-patch+yaml"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON: Final = "application/json"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""Has the API server leave out everything but metadata."""
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class ResourceType:
    """A kind of object and where the API server serves it."""

    api_version: str
    kind: str
    plural: str
    is_namespaced: bool = True

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """URL path of the collection, an object, or a part of it."""
        root = "api" if "/" not in self.api_version else "apis"
        parts = [root, self.api_version]
        if self.is_namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(parts)


ENGINES: Final = ResourceType(f"{API_GROUP}/{API_VERSION}", KIND, PLURAL)
DEPLOYMENTS: Final = ResourceType("apps/v1", "Deployment", "deployments")
STATEFUL_SETS: Final = ResourceType("apps/v1", "StatefulSet", "statefulsets")
CLAIMS: Final = ResourceType("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
REPLICA_SETS: Final = ResourceType("apps/v1", "ReplicaSet", "replicasets")
CONFIG_MAPS: Final = ResourceType("v1", "ConfigMap", "configmaps")
SERVICES: Final = ResourceType("v1", "Service", "services")
PODS: Final = ResourceType("v1", "Pod", "pods")
SECRETS: Final = ResourceType("v1", "Secret", "secrets")
AUTOSCALERS: Final = ResourceType("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
LEASES: Final = ResourceType("coordination.k8s.io/v1", "Lease", "leases")
EVENTS: Final = ResourceType("events.k8s.io/v1", "Event", "events")
DISRUPTION_BUDGETS: Final = ResourceType("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICIES: Final = ResourceType("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
ROLES: Final = ResourceType("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDINGS: Final = ResourceType("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
SERVICE_MONITORS: Final = ResourceType("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors")
SCALED_OBJECTS: Final = ResourceType("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")
TRIGGER_AUTHENTICATIONS: Final = ResourceType(
    "keda.sh/v1alpha1", "TriggerAuthentication", "triggerauthentications"
)
API_SERVICES: Final = ResourceType(
    "apiregistration.k8s.io/v1", "APIService", "apiservices", is_namespaced=False
)

EXTERNAL_METRICS: Final = ResourceType("external.metrics.k8s.io/v1beta1", "ExternalMetricValueList", "")
"""The resource is the metric's name."""
NODES: Final = ResourceType("v1", "Node", "nodes", is_namespaced=False)
PRIORITY_CLASSES: Final = ResourceType(
    "scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", is_namespaced=False
)
STORAGE_CLASSES: Final = ResourceType(
    "storage.k8s.io/v1", "StorageClass", "storageclasses", is_namespaced=False
)
WEBHOOK_CONFIGURATIONS: Final = ResourceType(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    is_namespaced=False,
)
VERSION: Final = ResourceType("", "Version", "version", is_namespaced=False)

CHILD_TYPES: Final = (CONFIG_MAPS, SERVICES, NETWORK_POLICIES, DISRUPTION_BUDGETS, DEPLOYMENTS)
"""Listed by label for each reconcile. Autoscalers are listed without, for others' count too."""
STORAGE_TYPES: Final = (STATEFUL_SETS, CLAIMS)
"""Listed only for EventEngines with storage."""
OPTIONAL_TYPES: Final = (SERVICE_MONITORS, TRIGGER_AUTHENTICATIONS, ROLES, ROLE_BINDINGS)
"""Written where the cluster serves them, or where the operator was given the rights."""
_BY_KIND: Final = {
    item.kind: item
    for item in (
        *CHILD_TYPES,
        *STORAGE_TYPES,
        *OPTIONAL_TYPES,
        AUTOSCALERS,
        SCALED_OBJECTS,
        PODS,
        SECRETS,
        LEASES,
        API_SERVICES,
        WEBHOOK_CONFIGURATIONS,
        ENGINES,
    )
}


def type_of(kind: str) -> ResourceType:
    """The resource type of a kind that the operator writes."""
    return _BY_KIND[kind]


class KubernetesApi:
    """The API server. Without a `pace` calls go out at once, which is for the Lease alone.

    A write is given up after `write_seconds`: before another leader may be at work.
    """

    def __init__(
        self,
        client: ApiClient,
        measurements: Measurements,
        pace: Pace | None = None,
        write_seconds: float = CALL_SECONDS_MAX,
    ) -> None:
        self._client = client
        self._measurements = measurements
        self._pace = pace
        self._write_seconds = min(write_seconds, CALL_SECONDS_MAX)
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE_MAX)
        self.echoes = Echoes()
        """What was applied, for whoever hears of it."""
        self.when_applied: Callable[[Object], None] = lambda _: None
        """Told what an object is after it was applied."""

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def get(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        """The object, or None where there is none."""
        try:
            return await self._call("GET", "get", resource, resource.path(namespace, name))
        except NotFoundError:
            return None

    async def get_metadata(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        """The object's metadata alone, or None where there is none: its content never gets here."""
        path = resource.path(namespace, name)
        try:
            return await self._call("GET", "get", resource, path, accept=METADATA)
        except NotFoundError:
            return None

    async def newest_version(self, resource: ResourceType, namespace: str) -> str:
        """The version of a collection as it is now, to watch it from there."""
        path = resource.path(namespace)
        page = await self._call("GET", "list", resource, path, {"limit": "1"}, accept=METADATA_LIST)
        return text_at(page, "metadata", "resourceVersion")

    async def watch(
        self,
        resource: ResourceType,
        namespace: str,
        since: str,
        *,
        labels: Mapping[str, str] | None = None,
        fields: str = "",
        with_content: bool = False,
        seconds: float = WATCH_SECONDS,
    ) -> AsyncIterator[tuple[str, Object]]:
        """(type, object) of every change since a version, bookmarks too, until the API server ends it: in `seconds`.

        Raises:
            OutdatedError: the version is too old to go on from.
            NotFoundError: the kind isn't served.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        if labels:
            query["labelSelector"] = _selector(labels)
        if fields:
            query["fieldSelector"] = fields
        url = f"{resource.path(namespace)}?{urlencode(query)}"
        request = f"watch {resource.plural}"
        code = "none"
        if self._pace is not None:
            self._measurements.api_wait_seconds.inc(await self._pace.turn())
        try:
            accept = JSON if with_content else METADATA
            limits = aiohttp.ClientTimeout(
                total=seconds + 30, connect=CONNECT_SECONDS_MAX, sock_read=WATCH_SILENT_SECONDS_MAX
            )
            response = await self._request("GET", url, None, JSON, accept, limits)
            code = str(response.status)
            stream: aiohttp.ClientResponse = response.response
            async with stream:
                if response.status != 200:
                    raise error_of_answer(response.status, request, await stream.read(), None)
                async for line in stream.content:
                    event = _decoded(request, line)
                    item = mapping_at(event, "object")
                    if event.get("type") == "ERROR":
                        raise error_of_answer(
                            number_at(item, "code"), request, json.dumps(item).encode(), None
                        )
                    yield text_at(event, "type"), item
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, ApiException) as error:
            raise UnavailableError(0, request, f"broken off ({type(error).__name__}: {error})") from error
        finally:
            self._measurements.api_calls.labels("watch", resource.plural, code).inc()

    async def pages(
        self,
        resource: ResourceType,
        namespace: str,
        labels: Mapping[str, str] | None = None,
        accept: str = JSON,
        fields: Mapping[str, str] | None = None,
    ) -> AsyncIterator[tuple[str, list[Object]]]:
        """A list as it comes: the version of the collection, and some of its objects."""
        query = {"limit": str(PAGE_OBJECTS)}
        if labels:
            query["labelSelector"] = _selector(labels)
        if fields:
            query["fieldSelector"] = _selector(fields)
        for _ in range(PAGES_MAX):
            page = await self._call("GET", "list", resource, resource.path(namespace), query, accept=accept)
            kind = {"apiVersion": resource.api_version, "kind": resource.kind}
            version = text_at(page, "metadata", "resourceVersion")
            yield version, [item | kind for item in page.get("items") or ()]
            following = text_at(page, "metadata", "continue")
            if not following:
                return
            query["continue"] = following
        raise UnavailableError(0, f"list {resource.plural}", f"more than {PAGES_MAX * PAGE_OBJECTS} objects")

    async def list_metadata(self, resource: ResourceType, namespace: str) -> list[Object]:
        """The metadata alone of every object."""
        pages = self.pages(resource, namespace, accept=METADATA_LIST)
        return [item async for _, items in pages for item in items]

    async def list(
        self,
        resource: ResourceType,
        namespace: str,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Object]:
        """Every object with these labels and fields, of one namespace or (empty) of all."""
        pages = self.pages(resource, namespace, labels, fields=fields)
        return [item async for _, items in pages for item in items]

    async def apply(self, manifest: Object, manager: str, subresource: str = "") -> Object:
        """Server-side apply; conflicts with other field managers are won.

        A uid or resourceVersion in the manifest's metadata is a precondition.
        """
        resource = type_of(manifest["kind"])
        path = resource.path(namespace_of(manifest), name_of(manifest), subresource)
        query = {"fieldManager": manager, "force": "true"}
        applied = await self._call("PATCH", "apply", resource, path, query, manifest, APPLY_PATCH)
        self.echoes.expect(applied)
        self.when_applied(applied)
        return applied

    async def merge_patch(
        self,
        resource: ResourceType,
        namespace: str,
        name: str,
        patch: Object,
        manager: str,
        subresource: str = "",
    ) -> Object:
        """JSON merge patch."""
        path = resource.path(namespace, name, subresource)
        return await self._call(
            "PATCH", "patch", resource, path, {"fieldManager": manager}, patch, MERGE_PATCH
        )

    async def create(self, resource: ResourceType, manifest: Object, manager: str) -> Object:
        """Create; an existing object is a ConflictError."""
        path = resource.path(namespace_of(manifest))
        return await self._call("POST", "create", resource, path, {"fieldManager": manager}, manifest)

    async def replace(self, resource: ResourceType, manifest: Object, manager: str) -> Object:
        """Replace the whole object; its resourceVersion is a precondition."""
        path = resource.path(namespace_of(manifest), name_of(manifest))
        return await self._call("PUT", "update", resource, path, {"fieldManager": manager}, manifest)

    async def delete(
        self, resource: ResourceType, namespace: str, name: str, uid: str, resource_version: str = ""
    ) -> None:
        """Delete exactly this object; its dependents follow. Being gone already is no error."""
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        body = {"propagationPolicy": "Background", "preconditions": preconditions}
        try:
            await self._call("DELETE", "delete", resource, resource.path(namespace, name), None, body)
        except NotFoundError:
            return

    async def external_metric(self, namespace: str, metric: str, labels: Mapping[str, str]) -> Object:
        """The answer of the external metrics API about one metric; 503 while it isn't known."""
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        path = EXTERNAL_METRICS.path(namespace, metric)
        return await self._call("GET", "list", EXTERNAL_METRICS, path, {"labelSelector": selector})

    async def version(self) -> tuple[int, int]:
        """Major and minor version of Kubernetes."""
        answer = await self._call("GET", "version", VERSION, "/version")
        numbers = re.match(r"^v(\d+)\.(\d+)", text_at(answer, "gitVersion"))
        return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)

    async def serves(self, resource: ResourceType) -> bool:
        """Whether the API server knows the resource type."""
        try:
            answer = await self._call("GET", "discover", resource, f"/apis/{resource.api_version}")
        except NotFoundError:
            return False
        return any(text_at(item, "name") == resource.plural for item in answer.get("resources") or ())

    async def _call(
        self,
        method: str,
        verb: str,
        resource: ResourceType,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Object:
        request = f"{verb} {path.removeprefix('/apis/').removeprefix('/api/')}"
        url = f"{path}?{urlencode(query)}" if query else path
        code = "none"
        if self._pace is not None:
            self._measurements.api_wait_seconds.inc(await self._pace.turn())
        try:
            async with self._slots:
                with self._measurements.api_call_seconds.labels(verb).time():
                    status, retry_after, data = await self._exchange(method, url, body, content_type, accept)
            code = str(status)
        except (aiohttp.ClientError, TimeoutError, OSError, ApiException) as error:
            raise UnavailableError(0, request, f"no answer ({type(error).__name__}: {error})") from error
        finally:
            self._measurements.api_calls.labels(verb, resource.plural, code).inc()
        if not 200 <= status < 300:
            refusal = error_of_answer(status, request, data, retry_after)
            if status == 429 and self._pace is not None:
                self._pace.hold(refusal.retry_after_seconds)
            raise refusal
        return _decoded(request, data)

    async def _exchange(
        self, method: str, url: str, body: Object | None, content_type: str, accept: str
    ) -> tuple[int, str | None, bytes]:
        seconds = CALL_SECONDS_MAX if method == "GET" else self._write_seconds
        limits = aiohttp.ClientTimeout(total=seconds, connect=min(CONNECT_SECONDS_MAX, seconds))
        response = await self._request(method, url, body, content_type, accept, limits)
        data: bytes = await response.read() or b""
        return response.status, response.headers.get("Retry-After"), data

    async def _request(
        self,
        method: str,
        url: str,
        body: Object | None,
        content_type: str,
        accept: str,
        limits: aiohttp.ClientTimeout,
    ) -> Any:
        # The client's own way to a request copies the whole body first, for models that there are none of here.
        client: Any = self._client
        headers = {**client.default_headers, "Accept": accept, "Content-Type": content_type}
        await client.update_params_for_auth(headers, None, ["BearerToken"], url, method, body)
        url = f"{client.configuration.host}{url}"
        return await client.rest_client.request(
            method, url, headers=headers, body=body, _request_timeout=limits
        )


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _decoded(request: str, data: bytes) -> Object:
    try:
        answer = json.loads(data)
    except ValueError as error:
        raise ApiError(0, request, "the answer is no JSON") from error
    return answer if isinstance(answer, dict) else {}
