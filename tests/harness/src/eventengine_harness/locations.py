"""Where things lie: the checkout, the user's cache, the run folder.

The cache outlives clones and is keyed by hashes of inputs. The run folder holds
one folder per running instance (ledger, logs, data); it lies in the cache and
not in /run because Kafka and containerd need a real disk. Nothing is written
anywhere else.
"""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[4]
TESTS = REPOSITORY / "tests"
BUILDS = TESTS / "cluster" / "builds"


def user_cache() -> Path:
    """`$XDG_CACHE_HOME/eventengine`, or `~/.cache/eventengine`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eventengine"


def run_folder() -> Path:
    """The folder of running instances."""
    return user_cache() / "run"
