"""The command `eventengine`.

Owns the parsing of arguments and the translation of errors into one line on
standard error and an exit status: 0 done, 1 failed (or an audit that is not
exact, or a load that was not acknowledged), 2 wrong usage or configuration.
Each subcommand is a module with `add` (its arguments) and `execute`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from eventengine_contract.loading import ConfigurationError

from eventengine.cli import audit, check, load, run, version
from eventengine.cli.arguments import UsageError
from eventengine.native import NativeModuleMissingError
from eventengine.running import EXIT_FAILED, EXIT_USAGE
from eventengine.serving.telemetry import TelemetryUnavailableError

DESCRIPTION: Final = """\
A low-latency event engine: it consumes events, applies a state machine on a core
of its own, and publishes the results, each exactly once."""

EPILOG: Final = """\
examples:
  eventengine check engine.yaml
  eventengine run engine.yaml
  eventengine load --bootstrap localhost:9092 --topic hunt-events --rate 1000 --duration 30s --result result.json
  eventengine audit --bootstrap localhost:9092 --topic hunt-standings --expect result.json

exit status:
  0  done
  1  failed: the engine died, the audit is not exact, or the load was not acknowledged
  2  the arguments or the configuration can't be used; standard error says where and why

`eventengine COMMAND --help` explains each command."""

EXIT_INTERRUPTED: Final = 130
"""What shells expect of a command that Ctrl-C ended."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="eventengine",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (run, check, load, audit, version):
        module.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.execute(options)
    except (ConfigurationError, UsageError) as error:
        print(f"eventengine: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (NativeModuleMissingError, TelemetryUnavailableError) as error:
        print(f"eventengine: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does; there is nobody left to tell.
        sys.stderr.close()
        return EXIT_FAILED
    return status
