"""Entry point of `python -m eventengine_harness`."""

from __future__ import annotations

import sys

from eventengine_harness.cli import main

if __name__ == "__main__":
    sys.exit(main())
