"""/livez, /readyz and /healthz, as the API servers of Kubernetes answer them.

A failing check says on these pages only that it failed; why is in the log,
because the pages are open to anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Check = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """Status code and text of a health page."""

    code: int
    text: str


@dataclass(slots=True)
class Health:
    """The checks behind each page, by name, in the order shown."""

    live: Mapping[str, Check] = field(default_factory=dict)
    ready: Mapping[str, Check] = field(default_factory=dict)

    def is_ready(self) -> bool:
        """Whether every check of /readyz passes."""
        return all(check() for check in {**self.live, **self.ready}.values())

    def answer(self, path: str, *, verbose: bool, excluded: frozenset[str] = frozenset()) -> HealthAnswer:
        """The page at `path`, such as `/readyz` or `/readyz/<check>`."""
        page, _, single = path.strip("/").partition("/")
        checks = {**self.live, **self.ready} if page == "readyz" else dict(self.live)
        if single:
            if single not in checks:
                return HealthAnswer(404, f"no check {single}\n")
            checks = {single: checks[single]}
        lines, failed = [], False
        for name, check in checks.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
            elif check():
                lines.append(f"[+]{name} ok")
            else:
                failed = True
                lines.append(f"[-]{name} failed: reason withheld")
        lines.append(f"{page} check {'failed' if failed else 'passed'}")
        if failed:
            return HealthAnswer(500, "\n".join(lines) + "\n")
        return HealthAnswer(200, "\n".join(lines) + "\n" if verbose else "ok")
