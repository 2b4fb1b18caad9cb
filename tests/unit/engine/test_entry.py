"""The command's first moments: as process 1 it can be told to end before it has begun."""

from __future__ import annotations

import signal
import subprocess
import sys

SCRIPT = """
import os, signal, sys, types
process = os.getpid()
os.getpid = lambda: {seen_as}

class SlowImport:
    # Stands for the modules that take a second to import; the signal comes in the middle of it.
    def find_spec(self, name, path, target=None):
        if name == "eventengine.cli":
            os.kill(process, signal.SIGTERM)
            raise SystemExit("the signal was not obeyed")

sys.meta_path.insert(0, SlowImport())
from eventengine.entry import main
sys.exit(main())
"""


def end_of_a_process_seen_as(number: int) -> int:
    """Exit status of a process that gets a SIGTERM while the command is being imported."""
    script = SCRIPT.format(seen_as=number)
    return subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode


def test_process_1_obeys_a_sigterm_that_comes_before_the_engine_is_there():
    assert end_of_a_process_seen_as(1) == 128 + signal.SIGTERM


def test_any_other_process_keeps_the_default_action():
    assert end_of_a_process_seen_as(4711) == -signal.SIGTERM
