"""The textual units of configuration: durations, Kubernetes quantities, counts or percentages.

Owns parsing and printing of both, and of counts that may be percentages. Durations are integers of nanoseconds inside
the program; quantities are integers of thousandths (millis), exact.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$"
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h)")
DURATION_TEXT_MAX: Final = 32

COUNT_PATTERN: Final = r"^([0-9]|[1-9][0-9]|100)%$"
COUNT_MAX: Final = 1000

QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")
_MULTIPLES: Final = {
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
}
QUANTITY_TEXT_MAX: Final = 32


def parse_duration(text: Any) -> int:
    """Nanoseconds of a text such as `100ms`, `15s` or `1m30s`; an integer is taken as nanoseconds.

    Raises:
        ValueError: the text is no duration.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    if not isinstance(text, str) or len(text) > DURATION_TEXT_MAX or not re.match(DURATION_PATTERN, text):
        raise ValueError(f"{text!r} is no duration; write a number and a unit, such as 100ms, 15s or 5m")
    total = sum(Fraction(number) * NANOSECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    return int(total)


def format_duration(nanoseconds: int) -> str:
    """The shortest exact text of a duration: `1500ms` rather than `1.5s`."""
    for unit in ("h", "m", "s", "ms", "us"):
        if nanoseconds and nanoseconds % NANOSECONDS[unit] == 0:
            return f"{nanoseconds // NANOSECONDS[unit]}{unit}"
    return f"{nanoseconds}ns" if nanoseconds else "0s"


def parse_quantity_millis(text: Any) -> int:
    """Thousandths of a Kubernetes quantity (`500`, `250m`, `0.8`, `2Gi`), rounded up as Kubernetes does.

    Raises:
        ValueError: the text is no quantity.
    """
    match = (
        _QUANTITY.match(str(text))
        if not isinstance(text, bool) and len(str(text)) <= QUANTITY_TEXT_MAX
        else None
    )
    if match is None:
        raise ValueError(
            f"{text!r} is no quantity; write a number with an optional unit, such as 500, 250m or 2Gi"
        )
    value = Fraction(match[1]) * _MULTIPLES[match[2] or ""] * 1000
    return -(-value.numerator // value.denominator)


def check_quantity(text: Any) -> str:
    """The quantity as text, after proving that it is one."""
    parse_quantity_millis(text)
    return str(text)


Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "maxLength": DURATION_TEXT_MAX}),
]
"""Nanoseconds; written as `100ms`, `15s`, `5m`."""

Quantity = Annotated[
    str,
    BeforeValidator(check_quantity),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "pattern": QUANTITY_PATTERN,
            "maxLength": QUANTITY_TEXT_MAX,
        }
    ),
]
"""A Kubernetes quantity, kept as written."""


def check_count(value: Any) -> int | str:
    """A number of things, or a percentage of them.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX:
        return value
    if isinstance(value, str) and re.match(COUNT_PATTERN, value):
        return value
    raise ValueError(
        f"{value!r} is no count; write a number from 0 to {COUNT_MAX} or a percentage such as 25%"
    )


Count = Annotated[
    int | str,
    BeforeValidator(check_count),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "pattern": COUNT_PATTERN,
            "maxLength": 4,
            "minimum": 0,
            "maximum": COUNT_MAX,
        }
    ),
]
"""A number, or a percentage such as `25%`."""
