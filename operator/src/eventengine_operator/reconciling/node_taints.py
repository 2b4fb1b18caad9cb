"""The taint on a node that refused pods: what it looks like, and when it is over. Pure.

Its value is the second (Unix time) at which it ends, so that whoever leads by then can take it away.
"""

from __future__ import annotations

from typing import Final

from eventengine_operator.resources.objects import Object, list_at, text_at

TAINT: Final = "eventengine.dev/refused-pods"
EFFECT: Final = "NoSchedule"
"""Pods stay, new ones go elsewhere, or stay pending and bring a node."""
NODES_TAINTED_MAX: Final = 5
"""At a time, so that one engine that asks for the impossible can't close a whole cluster."""
DIGITS_MAX: Final = 12


def ends_at(node: Object) -> int | None:
    """When the taint on the node ends; 0 where it can't be read, None where there is none."""
    for taint in list_at(node, "spec", "taints"):
        if taint.get("key") == TAINT:
            value = text_at(taint, "value")
            return int(value) if value.isdecimal() and len(value) <= DIGITS_MAX else 0
    return None


def taints_with(node: Object, end: int) -> list[Object]:
    """The node's taints with ours until `end`; all others as they are."""
    return [*taints_without(node), {"key": TAINT, "value": str(end), "effect": EFFECT}]


def taints_without(node: Object) -> list[Object]:
    """The node's taints but for ours."""
    return [taint for taint in list_at(node, "spec", "taints") if taint.get("key") != TAINT]
