"""What processes cost: time of the CPUs and memory, as the kernel counts them.

Owns the reading of /proc/<pid>. A process that is gone is a HarnessError that names it. How steady a use is, is said
by shares over windows that lie one behind the other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from eventengine_harness.exceptions import HarnessError
from eventengine_harness.processes import stat_fields

_USER_TIME_FIELD = 11
_SYSTEM_TIME_FIELD = 12


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far."""
    fields = stat_fields(pid)
    if fields is None:
        raise _ended(pid)
    return (int(fields[_USER_TIME_FIELD]) + int(fields[_SYSTEM_TIME_FIELD])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int, field: str) -> int:
    """A field of /proc/<pid>/status, such as `VmRSS` or `VmHWM`, which counts in KiB there."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise _ended(pid) from None
    for line in text.splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise HarnessError(f"/proc/{pid}/status has no {field}: process {pid} has ended")


def shares_of_windows(points: Sequence[tuple[float, float]], window_seconds: float) -> list[float]:
    """CPUs used on average over each window, of pairs of the time and the CPU time so far, both in seconds.

    A window ends at the first point that is far enough from its begin; what is left at the end is none.
    """
    shares = []
    begun, used = points[0]
    for now, used_now in points[1:]:
        if now - begun >= window_seconds:
            shares.append((used_now - used) / (now - begun))
            begun, used = now, used_now
    return shares


def _ended(pid: int) -> HarnessError:
    return HarnessError(f"process {pid}, which is measured, has ended")
