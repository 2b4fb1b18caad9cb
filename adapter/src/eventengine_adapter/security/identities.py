"""The user behind a request, as an access review describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

GROUP_AUTHENTICATED: Final = "system:authenticated"
GROUP_UNAUTHENTICATED: Final = "system:unauthenticated"
GROUP_MASTERS: Final = "system:masters"
USER_ANONYMOUS: Final = "system:anonymous"


class AuthenticationError(Exception):
    """Credentials were shown and don't hold. The message is for the log and names no secret."""


@dataclass(frozen=True)
class Identity:
    """A user: name, UID, groups and further facts by key."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def authenticated(self) -> Identity:
        """The same user, in the group that every authenticated user is in.

        The aggregation layer's own requests come without any group, and are
        allowed by what that group may do.
        """
        if self.username == USER_ANONYMOUS or GROUP_AUTHENTICATED in self.groups:
            return self
        return Identity(self.username, self.uid, (*self.groups, GROUP_AUTHENTICATED), self.extra)

    def key(self) -> tuple[Any, ...]:
        """What an answer about this user is remembered by."""
        extra = tuple(sorted((key, tuple(values)) for key, values in self.extra.items()))
        return (self.username, self.uid, tuple(sorted(self.groups)), extra)


ANONYMOUS: Final = Identity(USER_ANONYMOUS, groups=(GROUP_UNAUTHENTICATED,))
