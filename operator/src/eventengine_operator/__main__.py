"""The command `eventengine-operator`: composition, and nothing else."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from kubernetes.aio.config import ConfigException

from .clients.errors import ApiError
from .commands import clean_up, run_operator, run_webhook
from .settings import SettingsError, describe_settings, read_settings

EXIT_USAGE = 2
COMMANDS = {"run": run_operator, "webhook": run_webhook, "cleanup": clean_up}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="eventengine-operator",
        description="Turns EventEngine objects into workloads, and keeps them so.",
        epilog="Settings, from the environment, with their defaults:\n" + describe_settings(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command",
        nargs="?",
        default="run",
        choices=COMMANDS,
        help=(
            "run (default): operate. webhook: validate EventEngines for the API server. "
            "cleanup: delete this installation's APIServices, before an uninstallation"
        ),
    )
    options = parser.parse_args(arguments)
    try:
        settings = read_settings()
    except SettingsError as error:
        print(f"eventengine-operator: {error}", file=sys.stderr)
        return EXIT_USAGE
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLogger().level))
    # It warns at each start that it won't handle signals; the main thread does.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    try:
        return asyncio.run(COMMANDS[options.command](settings))
    except (ApiError, ConfigException, OSError) as error:
        print(f"eventengine-operator: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
