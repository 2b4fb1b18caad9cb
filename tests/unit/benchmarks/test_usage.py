"""What is read of a process' cost, and how its shares are told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from eventengine_harness.exceptions import HarnessError
from frame.usage import cpu_seconds, memory_bytes, shares_of_windows


def test_time_and_memory_of_this_process_are_told() -> None:
    assert cpu_seconds(os.getpid()) > 0
    # The peak is read last: between two readings this process may grow.
    resident = memory_bytes(os.getpid(), "VmRSS")
    assert memory_bytes(os.getpid(), "VmHWM") >= resident > 1_000_000


def test_a_process_that_has_ended_is_named() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for read in (lambda: cpu_seconds(ended.pid), lambda: memory_bytes(ended.pid, "VmRSS")):
        with pytest.raises(HarnessError, match=f"process {ended.pid}"):
            read()


def test_windows_lie_one_behind_the_other_and_a_started_one_does_not_count() -> None:
    points = [(0.0, 0.0), (20.0, 9.0), (31.0, 15.5), (50.0, 30.0), (61.0, 45.5), (70.0, 50.0)]
    assert shares_of_windows(points, 30) == [0.5, 1.0]


def test_one_look_makes_no_window() -> None:
    assert shares_of_windows([(5.0, 1.0)], 30) == []
