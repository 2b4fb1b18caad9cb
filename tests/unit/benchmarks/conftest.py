"""The benchmarks are a folder of scripts, not an installed package; its modules are found by their path."""

from __future__ import annotations

import sys

from eventengine_harness.locations import REPOSITORY, TESTS

sys.path[:0] = [str(TESTS / "benchmarks"), str(REPOSITORY / "tools")]
