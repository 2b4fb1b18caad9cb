"""`make bench` as a program: how it ends when it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys

from eventengine_harness.locations import TESTS

BLOCKED = """
import signal, sys
sys.path.insert(0, sys.argv.pop())
import run
def measure(name, **_):
    print(name, flush=True)
    signal.pause()
run.measure = measure
sys.exit(run.main())
"""


def test_an_interrupt_ends_it_in_order_even_where_the_shell_had_it_ignored() -> None:
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    command = [*ignoring, sys.executable, "-c", BLOCKED, "--only", "parse", str(TESTS / "benchmarks")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "parse\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
