"""`eventengine version`: which build this is."""

from __future__ import annotations

import argparse
from typing import Final

from eventengine.native import load_module

DESCRIPTION: Final = "Print the version of the engine and of its native module, with profile and source hash."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "version", help="print which build this is", description=DESCRIPTION, allow_abbrev=False
    )
    parser.set_defaults(execute=execute)


def execute(_options: argparse.Namespace) -> int:
    """Print the build's facts."""
    build = load_module().build_info()
    for name in ("version", "profile", "source_hash"):
        print(f"{name}: {build[name]}")
    return 0
