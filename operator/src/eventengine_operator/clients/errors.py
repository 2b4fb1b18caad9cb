"""Errors of the API server, translated once.

ApiError
├── NotFoundError         404: the object (or the namespace, or the CRD) isn't there
├── ConflictError         409: somebody else was faster; decide anew
├── OutdatedError         410: a watch can't go on from where it was; look anew
├── NamespaceEndingError  403: nothing can be made in a namespace that is being deleted
├── RefusedError          400, 403, 422, and 500 for what doesn't fit the kind's schema: repeating the same request
│                         won't help; its message is for people
└── UnavailableError      429, 5xx, no connection, no answer in time: repeat later
"""

from __future__ import annotations

import json
from typing import Final

from eventengine_operator.resources.objects import Object, list_at

MESSAGE_CHARACTERS_MAX: Final = 500
UNFIT_FOR_SCHEMA: Final = "failed to create typed patch object"
"""So begins the answer, of status 500, to a field that the kind hasn't, or of another type: pod templates are free."""


class ApiError(Exception):
    """A request that the API server did not carry out."""

    def __init__(self, status: int, request: str, message: str, retry_after_seconds: float = 0.0) -> None:
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{request}: {message[:MESSAGE_CHARACTERS_MAX]}")


class NotFoundError(ApiError):
    """See the module."""


class ConflictError(ApiError):
    """See the module."""


class OutdatedError(ApiError):
    """See the module."""


class NamespaceEndingError(ApiError):
    """See the module."""


class RefusedError(ApiError):
    """See the module."""


class UnavailableError(ApiError):
    """See the module."""


def error_of_answer(status: int, request: str, body: bytes, retry_after: str | None) -> ApiError:
    """The error for an answer that isn't a success. Only the Status object's message is shown."""
    answer = _status_object(body)
    message = str(answer.get("message") or f"HTTP {status}")
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
    kind: type[ApiError]
    if status == 404:
        kind = NotFoundError
    elif status == 409:
        kind = ConflictError
    elif status == 410:
        kind = OutdatedError
    elif status == 500 and message.startswith(UNFIT_FOR_SCHEMA):
        kind = RefusedError
    elif status == 429 or status >= 500:
        kind = UnavailableError
    elif any(cause.get("reason") == "NamespaceTerminating" for cause in list_at(answer, "details", "causes")):
        kind = NamespaceEndingError
    else:
        kind = RefusedError
    return kind(status, request, message, seconds)


def _status_object(body: bytes) -> Object:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
