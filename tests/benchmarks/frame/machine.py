"""What was measured on: the machine and the versions of everything that took part.

Owns the description that stands beside every result. A tool that isn't there is described as absent, never left out
silently.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

CPU_INFORMATION: Final = Path("/proc/cpuinfo")
MEMORY_INFORMATION: Final = Path("/proc/meminfo")
HUGE_PAGES: Final = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PROBE_DEADLINE_SECONDS: Final = 20.0


def first_field(text: str, name: str) -> str | None:
    """The value of the first `name : value` line."""
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator and key.strip() == name:
            return value.strip()
    return None


def version_of(command: Sequence[str]) -> str:
    """The first line that a tool says of itself; `absent` if it doesn't run."""
    if shutil.which(command[0]) is None:
        return "absent"
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=PROBE_DEADLINE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return "absent"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines and done.returncode == 0 else "absent"


def counts_instructions() -> bool:
    """Whether perf reaches the CPU's counters; in many virtual machines it doesn't."""
    if shutil.which("perf") is None:
        return False
    done = subprocess.run(
        ["perf", "stat", "-x,", "-e", "instructions", "true"],
        check=False,
        capture_output=True,
        text=True,
        timeout=PROBE_DEADLINE_SECONDS,
    )
    return done.returncode == 0 and "not supported" not in done.stderr and "not counted" not in done.stderr


def describe() -> dict[str, Any]:
    """Machine and versions, for the JSON results."""
    processor = CPU_INFORMATION.read_text()
    return {
        "processor": first_field(processor, "model name") or platform.machine(),
        "processor_model": first_field(processor, "model"),
        "cores": os.cpu_count(),
        "memory": first_field(MEMORY_INFORMATION.read_text(), "MemTotal"),
        "kernel": platform.release(),
        "hypervisor": "hypervisor" in (first_field(processor, "flags") or ""),
        "transparent_huge_pages": HUGE_PAGES.read_text().strip() if HUGE_PAGES.exists() else "absent",
        "load_average": list(os.getloadavg()),
        "perf_counters": counts_instructions(),
        "versions": {
            "python": platform.python_version(),
            "rustc": version_of(["rustc", "--version"]),
            "go": version_of(["go", "version"]),
            "java": version_of(["java", "-version"]),
            "valgrind": version_of(["valgrind", "--version"]),
        },
    }


def one_line(description: dict[str, Any]) -> str:
    """The machine in one line, for the head of the tables."""
    return (
        f"{description['processor']} (model {description['processor_model']}), {description['cores']} cores, "
        f"{description['memory']}, Linux {description['kernel']}, load average at the start "
        f"{description['load_average'][0]:.2f}"
    )
