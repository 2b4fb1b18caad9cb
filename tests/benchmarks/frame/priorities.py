"""The highest ordinary priority, for as long as a program is measured.

Owns both numbers that the kernel weighs: a process' niceness and, where it schedules sessions as groups, that of this
session's group. Niceness alone counts only among the processes of one session: beside a program at nice -20, whatever
wakes in another session would get half of its CPU. The group's number is put back afterwards. Who may not raise them
keeps what there is, and the caller learns it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

HIGHEST: Final = -20
_AUTOGROUP: Final = Path("/proc/self/autogroup")
_GROUP_NICENESS: Final = re.compile(r"nice (-?\d+)$")


@contextmanager
def foremost(autogroup: Path = _AUTOGROUP) -> Iterator[tuple[int, list[str]]]:
    """Give this session's group the highest priority; yields the niceness, and what to put before a command for it."""
    if os.geteuid() != 0:
        yield 0, []
        return
    before = _group_niceness(autogroup)
    if before is not None:
        autogroup.write_text(str(HIGHEST))
    try:
        yield HIGHEST, ["nice", f"--adjustment={HIGHEST - os.getpriority(os.PRIO_PROCESS, 0)}"]
    finally:
        if before is not None:
            autogroup.write_text(str(before))


def _group_niceness(autogroup: Path) -> int | None:
    """The group's niceness; None where the kernel makes no such groups."""
    try:
        found = _GROUP_NICENESS.search(autogroup.read_text().strip())
    except OSError:
        return None
    return int(found.group(1)) if found else None
