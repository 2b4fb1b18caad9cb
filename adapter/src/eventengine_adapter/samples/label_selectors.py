"""Label selectors, in the whole grammar of Kubernetes.

Owns parsing (`a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`,
`a>1`, `a<1`, comma-joined) and matching. As in Kubernetes `!=` and `notin` also
match where the label is absent, and an empty selector matches everything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

SELECTOR_LENGTH_MAX: Final = 8192
REQUIREMENTS_MAX: Final = 64
"""Each is looked at for each item of an answer; people write a handful."""

_TOKEN: Final = re.compile(r"\s*(?:(==|!=|[=!(),<>])|([^\s=!(),<>]+))")
_NAME: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]")
_PREFIX: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_PREFIX_LENGTH_MAX: Final = 253
_PARSED_MAX: Final = 256
"""Selectors that are remembered. Each autoscaler asks with the same one again and again."""


class SelectorError(ValueError):
    """The text is no label selector; the message says where and what was expected."""


class Operator(StrEnum):
    """How a requirement compares, named as in a LabelSelector object."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GREATER_THAN = "Gt"
    LESS_THAN = "Lt"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()
    _set: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())
    """The values again, to be found at once however many there are."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_set", frozenset(self.values))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` meet this condition."""
        value = labels.get(self.key)
        match self.operator:
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None
            case Operator.IN:
                return value is not None and value in self._set
            case Operator.NOT_IN:
                return value is None or value not in self._set
            case Operator.GREATER_THAN | Operator.LESS_THAN:
                if value is None or not _INTEGER.fullmatch(value):
                    return False
                bound = int(self.values[0])
                return int(value) > bound if self.operator is Operator.GREATER_THAN else int(value) < bound


@dataclass(frozen=True, slots=True)
class Selector:
    """Conditions that must all hold. Without any it selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether all conditions hold for `labels`."""
        # A loop and no generator: this is asked of each pod or partition of an answer.
        for requirement in self.requirements:  # noqa: SIM110
            if not requirement.matches(labels):
                return False
        return True

    def mentions(self, key: str) -> bool:
        """Whether any condition is about the label `key`."""
        return any(requirement.key == key for requirement in self.requirements)

    def only(self, keys: Collection[str]) -> Selector:
        """The conditions on the labels in `keys`."""
        return Selector(tuple(r for r in self.requirements if r.key in keys))

    def without(self, keys: Collection[str]) -> Selector:
        """The conditions on all labels but those in `keys`."""
        return Selector(tuple(r for r in self.requirements if r.key not in keys))

    def to_object(self) -> dict[str, Any] | None:
        """The selector as a LabelSelector object; None if empty or not expressible as one."""
        if not self.requirements:
            return None
        match_labels: dict[str, str] = {}
        expressions: list[dict[str, Any]] = []
        for requirement in self.requirements:
            if requirement.operator in {Operator.GREATER_THAN, Operator.LESS_THAN}:
                return None
            single = requirement.operator is Operator.IN and len(requirement.values) == 1
            if single and requirement.key not in match_labels:
                match_labels[requirement.key] = requirement.values[0]
                continue
            expression: dict[str, Any] = {"key": requirement.key, "operator": requirement.operator.value}
            if requirement.values:
                expression["values"] = list(requirement.values)
            expressions.append(expression)
        selector: dict[str, Any] = {}
        if match_labels:
            selector["matchLabels"] = match_labels
        if expressions:
            selector["matchExpressions"] = expressions
        return selector


EVERYTHING: Final = Selector()


@lru_cache(_PARSED_MAX)
def parse_selector(text: str | None) -> Selector:
    """The selector that `text` spells; None and the empty text select everything.

    Raises:
        SelectorError: the text is no label selector.
    """
    if not text or not text.strip():
        return EVERYTHING
    if len(text) > SELECTOR_LENGTH_MAX:
        raise SelectorError(
            f"a label selector may have {SELECTOR_LENGTH_MAX} characters, this one has {len(text)}"
        )
    return Selector(_Parser(text).requirements())


class _Parser:
    """Reads one selector from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, bool]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            found = _TOKEN.match(text, position)
            if found is None:
                raise SelectorError(f"unable to parse the label selector {text!r} at character {position}")
            symbol, word = found.groups()
            self._tokens.append((symbol, True) if symbol else (word, False))
            position = found.end()
        self._next = 0

    def requirements(self) -> tuple[Requirement, ...]:
        found = [self._requirement()]
        while self._peek() is not None:
            self._expect(",")
            if len(found) == REQUIREMENTS_MAX:
                raise SelectorError(f"a label selector may have {REQUIREMENTS_MAX} conditions")
            found.append(self._requirement())
        return tuple(found)

    def _requirement(self) -> Requirement:
        if self._take_symbol("!"):
            return Requirement(self._key(), Operator.DOES_NOT_EXIST)
        key = self._key()
        token = self._peek()
        if token is None or token == (",", True):
            return Requirement(key, Operator.EXISTS)
        self._next += 1
        match token:
            case ("=" | "==", True):
                return Requirement(key, Operator.IN, (self._exact_value(),))
            case ("!=", True):
                return Requirement(key, Operator.NOT_IN, (self._exact_value(),))
            case (">" | "<" as sign, True):
                return Requirement(
                    key, Operator.GREATER_THAN if sign == ">" else Operator.LESS_THAN, (self._integer(),)
                )
            case ("in" | "notin" as word, False):
                return Requirement(key, Operator.IN if word == "in" else Operator.NOT_IN, self._values())
        raise self._unexpected(token, "one of: in, notin, =, ==, !=, >, <")

    def _key(self) -> str:
        word = self._word("a label key")
        prefix, slash, name = word.rpartition("/")
        if not _NAME.fullmatch(name) or (
            slash and (not _PREFIX.fullmatch(prefix) or len(prefix) > _PREFIX_LENGTH_MAX)
        ):
            raise SelectorError(f"{word!r} is no label key, in the label selector {self._text!r}")
        return word

    def _exact_value(self) -> str:
        token = self._peek()
        if token is None or token == (",", True):
            return ""
        return self._value()

    def _values(self) -> tuple[str, ...]:
        self._expect("(")
        values = []
        while True:
            values.append("" if self._peek() in {(",", True), (")", True)} else self._value())
            if self._take_symbol(")"):
                break
            self._expect(",")
        if values == [""]:
            raise SelectorError(f"a set needs at least one value, in the label selector {self._text!r}")
        return tuple(dict.fromkeys(values))

    def _value(self) -> str:
        word = self._word("a label value")
        if not _NAME.fullmatch(word):
            raise SelectorError(f"{word!r} is no label value, in the label selector {self._text!r}")
        return word

    def _integer(self) -> str:
        word = self._word("an integer")
        if not _INTEGER.fullmatch(word):
            raise SelectorError(f"{word!r} is no integer, in the label selector {self._text!r}")
        return word

    def _word(self, expected: str) -> str:
        token = self._peek()
        if token is None or token[1]:
            raise self._unexpected(token, expected)
        self._next += 1
        return token[0]

    def _peek(self) -> tuple[str, bool] | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take_symbol(self, symbol: str) -> bool:
        if self._peek() != (symbol, True):
            return False
        self._next += 1
        return True

    def _expect(self, symbol: str) -> None:
        if not self._take_symbol(symbol):
            raise self._unexpected(self._peek(), f"{symbol!r}")

    def _unexpected(self, token: tuple[str, bool] | None, expected: str) -> SelectorError:
        found = repr(token[0]) if token else "the end"
        return SelectorError(f"found {found}, expected {expected}, in the label selector {self._text!r}")
