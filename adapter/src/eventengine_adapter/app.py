"""One request from its first byte to its answer.

Order: what it is about, who asks, whether they may, in what representation;
only then is anything looked up, and only in memory. External metrics that nobody
here knows may be another adapter's (`chaining`), which is then asked. Whatever goes wrong ends as a
Status object, in the representation that was asked for. While the adapter drains every answer closes its
connection, so that a client's next request finds a pod that stays.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from . import __version__
from .apis import discovery, openapi, protobuf, statuses
from .apis.custom import custom_metric_list, namespace_metric_list
from .apis.discovery import Document
from .apis.external import external_metric_list
from .apis.health import Health
from .apis.metric_values import MetricView, find_subject
from .apis.negotiation import (
    JSON,
    PROTOBUF,
    metric_media_type,
    takes_aggregated_discovery,
    takes_json,
)
from .apis.routing import Route, RouteKind, resolve
from .apis.statuses import ApiError
from .chaining.asking import ChainedAdapter
from .cluster.client import KubernetesError
from .monitoring import Monitoring
from .samples.fleets import Fleet
from .samples.last_known_good import LastKnownGood
from .samples.store import SampleStore
from .security.access_reviews import AccessReviews, attributes
from .security.authentication import Authenticator
from .security.identities import AuthenticationError
from .security.request_headers import Headers

_log = logging.getLogger(__name__)

_IMMUTABLE_SECONDS: Final = 365 * 24 * 3600
_QUERY_LENGTH_MAX: Final = 32_768
_QUERY_FIELDS_MAX: Final = 64
_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})


@dataclass(slots=True)
class Draining:
    """Whether the adapter was told to stop."""

    begun: bool = False


class MetricsApi:
    """Answers the requests of the metrics APIs."""

    def __init__(
        self,
        fleet: Callable[[], Fleet],
        store: SampleStore,
        authenticator: Authenticator,
        reviews: AccessReviews,
        health: Health,
        monitoring: Monitoring,
        draining: Draining,
        clock: Callable[[], float],
        endpoint_store: SampleStore | None = None,
        chained: ChainedAdapter | None = None,
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._authenticator = authenticator
        self._reviews = reviews
        self._health = health
        self._monitoring = monitoring
        self._draining = draining
        self._clock = clock
        self._endpoint_store = endpoint_store or SampleStore()
        self._chained = chained
        self._last_known_good = LastKnownGood()
        self._groups = discovery.groups()
        self._openapi_v2 = openapi.version_2()
        self._openapi_v3_root = openapi.version_3_root()

    def application(self) -> web.Application:
        """The application; one handler takes every request, because paths are read in one place only.

        It stands before the server's own routing, which would answer some without a review. The one route there is for
        speed: where none is found, the server makes an error before it asks anybody.
        """

        @web.middleware
        async def everything(request: web.Request, handler: object) -> web.StreamResponse:
            del handler
            return await self.handle(request)

        application = web.Application(middlewares=[everything])
        application.router.add_route("*", "/{path:.*}", self.handle)
        return application

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        started = time.perf_counter()
        raw_path, _, raw_query = request.raw_path.partition("?")
        route = resolve(raw_path)
        try:
            response = await self._answer(request, route, raw_query)
        except ApiError as error:
            response = object_response(error.to_object(), _media_type(request) or JSON, error.code)
        except Exception:  # noqa: BLE001 - a fault of ours must reach the client as a Status, too
            _log.exception("a request for %s failed", route.kind)
            failure = statuses.internal_error("the adapter failed to answer; its log says why")
            response = object_response(failure.to_object(), JSON, failure.code)
        if self._draining.begun:
            response.force_close()
        self._monitoring.request_seconds.labels(route.kind.value, str(response.status)).observe(
            time.perf_counter() - started
        )
        return response

    async def _answer(self, request: web.Request, route: Route, raw_query: str) -> web.Response:
        query = _parse_query(raw_query)
        if route.kind is RouteKind.HEALTH:
            return health_response(self._health, route.path, query)
        await self._authorize(request, route)
        if request.method != "GET":
            raise statuses.method_not_allowed(request.method)
        if route.is_metric:
            media_type = _media_type(request)
            if media_type is None:
                raise statuses.not_acceptable(JSON, PROTOBUF)
            return object_response(await self._metric(request, route, query), media_type)
        accept = _accept(request)
        if route.kind is RouteKind.GROUPS and takes_aggregated_discovery(accept):
            names = (self._fleet().endpoint_metrics, self._chained_names())
            return _document_response(request, discovery.aggregated(*names))
        if not takes_json(accept):
            raise statuses.not_acceptable(JSON)
        return self._document(request, route, query)

    async def _authorize(self, request: web.Request, route: Route) -> None:
        headers = Headers(list(request.headers.items()))
        try:
            identity = await self._authenticator.identity(_peer_certificate(request), headers, self._clock())
        except AuthenticationError as error:
            _log.info("unauthenticated request for %s: %s", route.kind, error)
            raise statuses.unauthorized() from error
        except KubernetesError as error:
            _log.warning("a token could not be reviewed: %s", error)
            raise statuses.internal_error("the token could not be reviewed") from error
        wish = attributes(route, request.method)
        if wish is None:
            return
        try:
            allowed, reason = await self._reviews.allowed(identity, wish)
        except KubernetesError as error:
            _log.warning("access could not be reviewed: %s", error)
            raise statuses.internal_error("access could not be reviewed") from error
        if not allowed:
            target = f"{route.metric}.{route.group}" if route.is_metric else route.path
            suffix = f": {reason}" if reason else ""
            raise statuses.forbidden(
                f'{target} is forbidden: User "{identity.username}" {wish.describe()}{suffix}'
            )

    async def _metric(
        self, request: web.Request, route: Route, query: Mapping[str, str]
    ) -> Mapping[str, Any]:
        if query.get("watch") in _TRUE:
            raise statuses.method_not_allowed("watch")
        if query.get("fieldSelector"):
            raise statuses.bad_request("fieldSelector: metrics have no fields to select by")
        view = MetricView(
            self._fleet(),
            self._store,
            self._clock(),
            self._last_known_good,
            endpoint_store=self._endpoint_store,
        )
        if route.kind is RouteKind.EXTERNAL:
            if self._chained is not None and find_subject(view, route.namespace, route.metric) is None:
                return await self._chained.values(
                    route, query.get("labelSelector"), request.headers.getall("Via", [])
                )
            content = external_metric_list(view, route, query.get("labelSelector"))
        elif route.kind is RouteKind.CUSTOM:
            content = custom_metric_list(
                view, route, query.get("labelSelector"), query.get("metricLabelSelector")
            )
        else:
            content = namespace_metric_list(view, route, query.get("metricLabelSelector"))
        self._monitoring.note_served(
            route.group, route.metric, view.served_ages_seconds(), view.served_last_known_good
        )
        return content

    def _chained_names(self) -> tuple[str, ...]:
        """What the other adapter listed last; nothing is asked of it here."""
        return self._chained.names if self._chained is not None else ()

    def _document(self, request: web.Request, route: Route, query: Mapping[str, str]) -> web.Response:
        match route.kind:
            case RouteKind.GROUPS:
                return _document_response(request, self._groups)
            case RouteKind.GROUP:
                return _document_response(request, discovery.group(route.group))
            case RouteKind.RESOURCES:
                names = (self._fleet().endpoint_metrics, self._chained_names())
                return _document_response(request, discovery.resources(route.group, route.version, *names))
            case RouteKind.OPENAPI_V2:
                return _document_response(request, self._openapi_v2)
            case RouteKind.OPENAPI_V3_ROOT:
                return _document_response(request, self._openapi_v3_root)
            case RouteKind.OPENAPI_V3:
                return _openapi_v3_response(request, route, query.get("hash"))
            case RouteKind.VERSION:
                major, minor, *_ = __version__.split(".")
                version = {"major": major, "minor": minor, "gitVersion": f"v{__version__}"}
                return object_response(version, JSON)
        raise statuses.not_found("the server could not find the requested resource")


def telemetry_application(health: Health, monitoring: Monitoring) -> web.Application:
    """The plain port: the adapter's own metrics and its health, nothing that belongs to anybody."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=monitoring.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def pages(request: web.Request) -> web.Response:
        return health_response(health, request.path, request.query)

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    for page in ("livez", "readyz", "healthz"):
        application.router.add_get(f"/{page}", pages)
        application.router.add_get(f"/{page}/{{check}}", pages)
    return application


def health_response(health: Health, path: str, query: Mapping[str, str]) -> web.Response:
    """A health page, as text."""
    excluded = frozenset(name for name in query.get("exclude", "").split(",") if name)
    answer = health.answer(path, verbose="verbose" in query, excluded=excluded)
    return web.Response(
        text=answer.text,
        status=answer.code,
        headers={"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"},
    )


def object_response(content: Mapping[str, Any], media_type: str, code: int = 200) -> web.Response:
    """An object that nobody keeps, as JSON or protobuf."""
    body = protobuf.encode(content) if media_type == PROTOBUF else msgspec.json.encode(content)
    return web.Response(
        body=body,
        status=code,
        headers={"Content-Type": media_type, "Cache-Control": "no-cache, private", "Vary": "Accept"},
    )


def _accept(request: web.Request) -> str | None:
    return ", ".join(request.headers.getall("Accept", [])) or None


def _media_type(request: web.Request) -> str | None:
    return metric_media_type(_accept(request))


def _document_response(
    request: web.Request, document: Document, further: Mapping[str, str] | None = None
) -> web.Response:
    etag = f'"{document.etag}"'
    headers = {"ETag": etag, "Vary": "Accept", "Cache-Control": "public", **(further or {})}
    seen = request.headers.get("If-None-Match", "")
    if seen == "*" or etag in {tag.strip().removeprefix("W/") for tag in seen.split(",")}:
        return web.Response(status=304, headers=headers)
    return web.Response(body=document.body, headers={**headers, "Content-Type": document.content_type})


def _openapi_v3_response(request: web.Request, route: Route, asked_hash: str | None) -> web.Response:
    document = openapi.version_3(route.group, route.version)
    if asked_hash is None:
        return _document_response(request, document)
    if asked_hash != document.etag:
        return web.Response(status=301, headers={"Location": f"{route.path}?hash={document.etag}"})
    immutable = {
        "Cache-Control": f"public, immutable, max-age={_IMMUTABLE_SECONDS}",
        "Expires": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + _IMMUTABLE_SECONDS)),
    }
    return _document_response(request, document, immutable)


def _peer_certificate(request: web.Request) -> bytes | None:
    """The certificate that the peer of this connection proved to own; None without one."""
    transport = request.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    if not isinstance(tls, (ssl.SSLObject, ssl.SSLSocket)):
        return None
    return tls.getpeercert(binary_form=True)


def _parse_query(raw_query: str) -> dict[str, str]:
    """The first value of each parameter, as Kubernetes takes it."""
    if len(raw_query) > _QUERY_LENGTH_MAX:
        raise statuses.bad_request(f"the query has more than {_QUERY_LENGTH_MAX} characters")
    try:
        parsed = parse_qs(raw_query, keep_blank_values=True, max_num_fields=_QUERY_FIELDS_MAX)
    except ValueError as error:
        raise statuses.bad_request(f"the query has more than {_QUERY_FIELDS_MAX} parameters") from error
    return {name: values[0] for name, values in parsed.items()}
