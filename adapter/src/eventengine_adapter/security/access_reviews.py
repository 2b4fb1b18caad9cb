"""Whether a user may ask this, by SubjectAccessReview.

Answers, yes and no, are remembered for ten seconds. An API that can't be asked
means no: the request fails. The health pages are open, and the group of
superusers needs no review, as everywhere in Kubernetes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from eventengine_adapter.apis.routing import EXTERNAL_GROUP, Route, RouteKind
from eventengine_adapter.cluster.client import KubernetesError

from .identities import GROUP_MASTERS, Identity
from .remembering import Memory
from .tokens import Creator

_PATH: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_SECONDS_REMEMBERED: Final = 10.0
_REVIEW_SECONDS_MAX: Final = 3.0
_ATTEMPTS_MAX: Final = 3
_ATTEMPT_WAIT_SECONDS: Final = 0.2
_ANSWERS_MAX: Final = 4096
_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is asked for, in the words of a review."""

    verb: str
    path: str = ""
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""

    def to_spec(self) -> dict[str, Any]:
        """The part of a SubjectAccessReview's spec that says what is asked for."""
        if self.path:
            return {"nonResourceAttributes": {"path": self.path, "verb": self.verb}}
        fields = ("verb", "group", "version", "namespace", "resource", "subresource", "name")
        values = {name: getattr(self, name) for name in fields}
        return {"resourceAttributes": {name: value for name, value in values.items() if value}}

    def describe(self) -> str:
        """What is asked for, as Kubernetes words it in a refusal."""
        if self.path:
            return f'cannot {self.verb} path "{self.path}"'
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        where = f' in the namespace "{self.namespace}"' if self.namespace else " at the cluster scope"
        return f'cannot {self.verb} resource "{resource}" in API group "{self.group}"{where}'


def attributes(route: Route, method: str) -> Attributes | None:
    """What a request needs leave for; None for what is open to everybody."""
    if route.kind is RouteKind.HEALTH:
        return None
    if not route.is_metric:
        return Attributes(method.lower(), path=route.path)
    verb = _VERBS.get(method)
    where = (route.group, route.version, route.namespace)
    if route.group == EXTERNAL_GROUP:
        return Attributes(verb or "list", "", *where, resource=route.resource)
    if route.kind is RouteKind.NAMESPACE_METRIC:
        return Attributes(verb or "get", "", *where, resource=route.resource, name=route.name)
    return Attributes(
        verb or "get", "", *where, resource=route.resource, subresource=route.metric, name=route.name
    )


class AccessReviews:
    """Asks the Kubernetes API whether a user may do something."""

    def __init__(
        self,
        creator: Creator,
        clock: Callable[[], float],
        on_review: Callable[[str, float], None] = lambda _outcome, _seconds: None,
        on_question: Callable[[bool], None] = lambda _remembered: None,
    ) -> None:
        self._creator = creator
        self._clock = clock
        self._on_review = on_review
        self._memory: Memory[tuple[bool, str]] = Memory(_SECONDS_REMEMBERED, _ANSWERS_MAX, clock, on_question)

    async def allowed(self, identity: Identity, wish: Attributes) -> tuple[bool, str]:
        """Whether the user may, and the reason that was given.

        Raises:
            KubernetesError: the API could not be asked.
        """
        if GROUP_MASTERS in identity.groups:
            return True, ""
        return await self._memory.answer((identity.key(), wish), lambda: self._review(identity, wish))

    async def _review(self, identity: Identity, wish: Attributes) -> tuple[bool, str]:
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": identity.username,
                "uid": identity.uid,
                "groups": list(identity.groups),
                "extra": {key: list(values) for key, values in identity.extra.items()},
                **wish.to_spec(),
            },
        }
        started = self._clock()
        answer = await self._ask(body)
        status = answer.get("status") or {}
        allowed = status.get("allowed") is True and status.get("denied") is not True
        self._on_review("allowed" if allowed else "denied", self._clock() - started)
        return allowed, str(status.get("reason") or "")

    async def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        attempt = 1
        while True:
            started = self._clock()
            try:
                return await self._creator.create(_PATH, body, _REVIEW_SECONDS_MAX)
            except KubernetesError as error:
                self._on_review("error", self._clock() - started)
                if attempt == _ATTEMPTS_MAX or 400 <= error.code < 500:
                    raise
            await asyncio.sleep(_ATTEMPT_WAIT_SECONDS * attempt)
            attempt += 1
