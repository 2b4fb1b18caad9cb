"""Users behind bearer tokens, by TokenReview. Remembered for ten seconds by a hash of the token."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from .identities import AuthenticationError, Identity
from .remembering import Memory

_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_SECONDS_REMEMBERED: Final = 10.0
_REVIEW_SECONDS_MAX: Final = 5.0
_ANSWERS_MAX: Final = 1024
_TOKEN_LENGTH_MAX: Final = 16_384


class Creator(Protocol):
    """What reviews need of the Kubernetes client."""

    async def create(self, path: str, body: Mapping[str, Any], seconds_max: float) -> dict[str, Any]:
        """Post an object, and the object that comes back."""
        ...


class TokenReviews:
    """Asks the Kubernetes API whose token it is."""

    def __init__(
        self,
        creator: Creator,
        clock: Callable[[], float],
        on_question: Callable[[bool], None] = lambda _remembered: None,
    ) -> None:
        self._creator = creator
        self._memory: Memory[Identity | None] = Memory(_SECONDS_REMEMBERED, _ANSWERS_MAX, clock, on_question)

    async def identity(self, token: str) -> Identity:
        """The user whose token this is.

        Raises:
            AuthenticationError: it is nobody's.
            KubernetesError: the API could not be asked.
        """
        if len(token) > _TOKEN_LENGTH_MAX:
            raise AuthenticationError("the bearer token is longer than any token is")
        question = hashlib.sha256(token.encode()).digest()
        identity = await self._memory.answer(question, lambda: self._review(token))
        if identity is None:
            raise AuthenticationError("the bearer token is not valid")
        return identity

    async def _review(self, token: str) -> Identity | None:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        answer = await self._creator.create(_PATH, body, _REVIEW_SECONDS_MAX)
        status = answer.get("status") or {}
        user = status.get("user") or {}
        if status.get("authenticated") is not True or not user.get("username"):
            return None
        return Identity(
            username=str(user["username"]),
            uid=str(user.get("uid") or ""),
            groups=tuple(str(group) for group in user.get("groups") or []),
            extra={str(key): tuple(values) for key, values in (user.get("extra") or {}).items()},
        )
