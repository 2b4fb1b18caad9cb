"""Metric lists and Status objects as Kubernetes writes them in protobuf.

Owns field numbers and order, as in the `generated.proto` files of k8s.io/metrics
and k8s.io/apimachinery, and the envelope around every object. It encodes the
same dictionaries that JSON answers are made of, byte for byte as the Go types
do: texts are written even if empty, messages always, maps in the order of keys.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

_TIMES_REMEMBERED: Final = 64
_NAMES_REMEMBERED: Final = 4096
"""Names of objects, and labels with their values; the same ones come back in each answer."""

_MAGIC: Final = b"k8s\x00"
_VARINT: Final = 0
_BYTES: Final = 2
_TEXTS_OF_A_REFERENCE: Final = (
    "kind",
    "namespace",
    "name",
    "uid",
    "apiVersion",
    "resourceVersion",
    "fieldPath",
)


def encode(content: Mapping[str, Any]) -> bytes:
    """The object in `content`: a metric list or a Status.

    Raises:
        ValueError: it is an object of another kind.
    """
    kind, api_version = content["kind"], content["apiVersion"]
    if kind == "ExternalMetricValueList":
        raw = _list(content, _external_item)
    elif kind == "MetricValueList":
        raw = _list(content, _item_v1beta1 if api_version.endswith("/v1beta1") else _item_v1beta2)
    elif kind == "Status":
        raw = _status(content)
    else:
        raise ValueError(f"{kind} has no protobuf form here")
    envelope = _message(1, _text(1, api_version) + _text(2, kind)) + _message(2, raw)
    return _MAGIC + envelope + _text(3, "") + _text(4, "")


_SMALL: Final = tuple(bytes((number,)) for number in range(0x80))


def _varint(number: int) -> bytes:
    if 0 <= number < len(_SMALL):
        return _SMALL[number]
    # Go writes an int64 below zero as its two's complement.
    number &= 2**64 - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _integer(field: int, number: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(number)


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(body)) + body


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _text_map(field: int, texts: Mapping[str, str]) -> bytes:
    return b"".join(_map_entry(field, key, texts[key]) for key in sorted(texts))


@lru_cache(_NAMES_REMEMBERED)
def _map_entry(field: int, key: str, text: str) -> bytes:
    return _message(field, _text(1, key) + _text(2, text))


@lru_cache(_NAMES_REMEMBERED)
def _name(field: int, text: str) -> bytes:
    return _text(field, text)


_LIST_METADATA: Final = _message(1, _text(1, "") + _text(2, "") + _text(3, ""))


def _list(content: Mapping[str, Any], item: Any) -> bytes:
    return _LIST_METADATA + b"".join(_message(2, item(found)) for found in content["items"])


@lru_cache(_TIMES_REMEMBERED)
def _time(field: int, stamp: str) -> bytes:
    seconds = calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))
    return _message(field, _integer(1, seconds) + _integer(2, 0))


def _quantity(field: int, value: str) -> bytes:
    return _message(field, _text(1, value))


def _reference(field: int, about: Mapping[str, str]) -> bytes:
    body = b"".join(
        _name(number, about.get(name, "")) for number, name in enumerate(_TEXTS_OF_A_REFERENCE, 1)
    )
    return _message(field, body)


def _selector(field: int, selector: Mapping[str, Any] | None) -> bytes:
    if selector is None:
        return b""
    expressions = b"".join(
        _message(
            2,
            _text(1, expression["key"])
            + _text(2, expression["operator"])
            + b"".join(_text(3, value) for value in expression.get("values", ())),
        )
        for expression in selector.get("matchExpressions", ())
    )
    return _message(field, _text_map(1, selector.get("matchLabels", {})) + expressions)


def _external_item(item: Mapping[str, Any]) -> bytes:
    return (
        _text(1, item["metricName"])
        + _text_map(2, item["metricLabels"])
        + _time(3, item["timestamp"])
        # Another adapter may leave it open.
        + (_integer(4, item["window"]) if "window" in item else b"")
        + _quantity(5, item["value"])
    )


def _item_v1beta1(item: Mapping[str, Any]) -> bytes:
    return (
        _reference(1, item["describedObject"])
        + _text(2, item["metricName"])
        + _time(3, item["timestamp"])
        + _integer(4, item["window"])
        + _quantity(5, item["value"])
        + _selector(6, item["selector"])
    )


def _item_v1beta2(item: Mapping[str, Any]) -> bytes:
    metric = item["metric"]
    return (
        _reference(1, item["describedObject"])
        + _message(2, _text(1, metric["name"]) + _selector(2, metric["selector"]))
        + _time(3, item["timestamp"])
        + _integer(4, item["windowSeconds"])
        + _quantity(5, item["value"])
    )


def _status(content: Mapping[str, Any]) -> bytes:
    return (
        _LIST_METADATA
        + _text(2, content["status"])
        + _text(3, content["message"])
        + _text(4, content["reason"])
        + _integer(6, content["code"])
    )
