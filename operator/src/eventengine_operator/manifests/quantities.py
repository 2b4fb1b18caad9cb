"""Kubernetes quantities in the spelling that the API server stores.

Desired objects are compared with live ones; a quantity that came back respelt
(`1000` as `1k`) would look like drift for ever.
"""

from __future__ import annotations

from typing import Final

from eventengine_contract.quantities import parse_quantity_millis

DECIMAL_SUFFIXES: Final = ("", "k", "M", "G", "T", "P", "E")
BINARY_SUFFIXES: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def decimal_quantity(text: str) -> str:
    """A quantity of things: cores, events, ratios."""
    millis = parse_quantity_millis(text)
    if millis % 1000:
        return f"{millis}m"
    return _scaled(millis // 1000, 1000, DECIMAL_SUFFIXES)


def memory_quantity(text: str) -> str:
    """A quantity of bytes, binary where it was written so; parts of a byte are rounded up."""
    count = -(-parse_quantity_millis(text) // 1000)
    is_binary = str(text).endswith("i") and count >= 1024
    return _scaled(count, 1024, BINARY_SUFFIXES) if is_binary else _scaled(count, 1000, DECIMAL_SUFFIXES)


def _scaled(value: int, base: int, suffixes: tuple[str, ...]) -> str:
    index = 0
    while value and value % base == 0 and index + 1 < len(suffixes):
        value //= base
        index += 1
    return f"{value}{suffixes[index]}"
