"""`eventengine check`: validate an engine.yaml without starting anything."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

from eventengine.cli.arguments import read_config

DESCRIPTION: Final = """\
Validate an engine.yaml. A mistake is answered with its path, the fault and the
nearest known key, and exit status 2. Keys that are accepted and don't act are
listed with the reason. Nothing is started and nothing is connected to."""

HIDDEN: Final = "(hidden)"
SECRET_MARKS: Final = (".password", "secret", "jaas", ".pem")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "check",
        help="validate an engine.yaml",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, metavar="engine.yaml", help="the configuration to check")
    parser.add_argument(
        "--show", action="store_true", help="print the configuration with every default filled in, as JSON"
    )
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Check the file and say what it means."""
    config = read_config(options.config)
    if options.show:
        print(json.dumps(hide_secrets(config.model_dump(mode="json")), indent=2))
        return 0
    print(f"{options.config}: valid")
    if inactive := config.inactive_reasons():
        print("keys that are accepted and don't act:")
        for key, reason in inactive.items():
            print(f"  {key}: {reason}")
    return 0


def hide_secrets(value: Any) -> Any:
    """The same data with the values of secret-looking Kafka properties hidden, since output gets pasted."""
    if isinstance(value, list):
        return [hide_secrets(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: HIDDEN
        if isinstance(item, str) and any(mark in name for mark in SECRET_MARKS)
        else hide_secrets(item)
        for name, item in value.items()
    }
