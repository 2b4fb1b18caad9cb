"""Errors as Kubernetes clients understand them: `Status` objects.

Owns codes, reasons and the shape. It never says when to come back: clients of
Kubernetes sleep inside their workers for as long as a Retry-After tells them.
"""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A request that ends in an error. The message is what a user reads in `kubectl describe hpa`."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message

    def to_object(self) -> dict[str, Any]:
        """The error as a Status object."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            # What a request names may hold bytes that are no text.
            "message": self.message.encode(errors="replace").decode(),
            "reason": self.reason,
            "code": self.code,
        }


def bad_request(message: str) -> ApiError:
    """The request can't be understood."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """The credentials that were shown prove nobody."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(message: str) -> ApiError:
    """The user may not do this."""
    return ApiError(403, "Forbidden", message)


def not_found(message: str) -> ApiError:
    """There is no such metric, object or path."""
    return ApiError(404, "NotFound", message)


def method_not_allowed(method: str) -> ApiError:
    """Metrics can only be read, and not be watched."""
    return ApiError(405, "MethodNotAllowed", f"{method} is not supported: metrics can only be read (get)")


def not_acceptable(*media_types: str) -> ApiError:
    """The client takes none of the representations that there are."""
    return ApiError(
        406, "NotAcceptable", f"only the following media types are accepted: {', '.join(media_types)}"
    )


def internal_error(message: str) -> ApiError:
    """The adapter could not do its part."""
    return ApiError(500, "InternalError", message)


def unavailable(message: str) -> ApiError:
    """The metric is not known to be fresh."""
    return ApiError(503, "ServiceUnavailable", message)
