"""What another adapter answers, checked before it is passed on.

Pure. A list is taken apart and put together again, so that nothing but what
the API knows gets through, and so that it can be told in protobuf, too. A refusal stays the
refusal it is, but for one that is about ourselves. It never says when to come back (see `apis.statuses`).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from typing import Any, Final

from eventengine_adapter.apis import statuses
from eventengine_adapter.apis.routing import EXTERNAL_GROUP
from eventengine_adapter.apis.statuses import ApiError

KIND: Final = "ExternalMetricValueList"
NAMES_MAX: Final = 1000
"""Names that are listed. Large discovery documents cost every client; what is not listed is served all the same."""

_NAME_LENGTH_MAX: Final = 253
_MESSAGE_LENGTH_MAX: Final = 1024
_QUANTITY: Final = re.compile(
    r"[+-]?[0-9]{0,20}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,3}|[KMGTPE]i|[numkMGTPE])?"
)
_OURSELVES: Final = frozenset({401, 403})


class AnswerError(ValueError):
    """The other adapter answered with something that is no such document; the message says what."""


def read_values(body: bytes, version: str) -> dict[str, Any]:
    """The metric values in an answer, written as ours are.

    Raises:
        AnswerError: it is no list of external metric values, or one of them has no time or no number.
    """
    document = _read_object(body)
    items = document.get("items")
    if document.get("kind") != KIND or not isinstance(items, list):
        raise AnswerError(f"it is no {KIND}")
    return {
        "kind": KIND,
        "apiVersion": f"{EXTERNAL_GROUP}/{version}",
        "metadata": {},
        "items": [_read_item(item) for item in items],
    }


def read_refusal(code: int, body: bytes, asked: str) -> ApiError:
    """What the caller is told where the other adapter, `asked`, refused with this status code."""
    try:
        status = _read_object(body)
    except AnswerError:
        status = {}
    message = str(status.get("message") or f"status {code}")[:_MESSAGE_LENGTH_MAX]
    if code in _OURSELVES:
        # The caller was authorised; it is the adapter that must not ask, and the caller's credentials are sound.
        return statuses.unavailable(f"{asked} does not let this adapter ask: {message}")
    if status.get("kind") != "Status" or not 400 <= code < 600:
        return statuses.unavailable(f"{asked} answered with status {code}")
    return ApiError(code, str(status.get("reason") or ""), message)


def read_names(body: bytes, ours: Iterable[str]) -> tuple[str, ...]:
    """Names of the metrics that a discovery document lists, without those that are ours, at most `NAMES_MAX`.

    Raises:
        AnswerError: it is no list of resources.
    """
    resources = _read_object(body).get("resources")
    if not isinstance(resources, list):
        raise AnswerError("it is no APIResourceList")
    names = {resource.get("name") for resource in resources if isinstance(resource, dict)}
    found = sorted(name for name in names if isinstance(name, str) and _is_name(name))
    known = set(ours)
    return tuple(name for name in found if name.lower() not in known)[:NAMES_MAX]


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _NAME_LENGTH_MAX and name.isprintable() and "/" not in name and "%" not in name


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise AnswerError("it is not JSON") from error
    if not isinstance(document, dict):
        raise AnswerError("it is no object")
    return document


def _read_item(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise AnswerError("an item is no object")
    name, labels, window = item.get("metricName"), item.get("metricLabels") or {}, item.get("window")
    if not isinstance(name, str) or not _are_texts(labels):
        raise AnswerError("an item has no name, or labels that are no texts")
    if window is not None and (type(window) is not int or not 0 <= window < 1 << 63):
        raise AnswerError(f"the window of {name[:_NAME_LENGTH_MAX]} is no number of seconds")
    return {
        "metricName": name,
        "metricLabels": labels,
        "timestamp": _read_time(item.get("timestamp")),
        **({} if window is None else {"window": window}),
        "value": _read_quantity(item.get("value")),
    }


def _are_texts(labels: Any) -> bool:
    return isinstance(labels, dict) and all(isinstance(text, str) for text in labels.values())


def _read_time(stamp: Any) -> str:
    """A time as `metav1.Time` is written. A value without one can't be told from an old one."""
    try:
        time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")
    except (TypeError, ValueError) as error:
        raise AnswerError("an item has no timestamp") from error
    return str(stamp)


def _read_quantity(value: Any) -> str:
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value) or not any(map(str.isdigit, value)):
        raise AnswerError("an item has a value that is no quantity")
    return value
