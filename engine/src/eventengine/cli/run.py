"""`eventengine run`: run one engine until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Final

from eventengine_contract import well_known
from eventengine_contract.engine_config import SECOND, EngineConfig

from eventengine import logs
from eventengine.cli.arguments import configuration_error, read_config
from eventengine.credentials import native_form
from eventengine.identities import Identity, name_from_environment, read_identity
from eventengine.native import NativeEngine, load_module
from eventengine.running import EngineProcess

logger = logging.getLogger(__name__)

DESCRIPTION: Final = """\
Run one engine until SIGTERM or SIGINT. The first signal drains: the engine stops
fetching, applies and commits what it has, leaves its consumer group, and exits 0
within drainTimeout. A second signal exits at once; what was not committed is
applied again by the next owner. If the engine itself fails, the exit status is 1.

While it runs, telemetry.listen serves /metrics, /snapshot, /snapshot?at=SECOND,
/livez and /readyz."""

EPILOG: Final = f"""\
environment, all optional, set by whatever starts the engine:
  {well_known.ENV_ENGINE}                the engine's name
  {well_known.ENV_NAMESPACE}, {well_known.ENV_POD}  where it runs; default and the host's name
  {well_known.ENV_CPU_LIMIT_MILLICORES}  CPU limit, for reporting
  {well_known.ENV_MEMORY_LIMIT_BYTES}    memory limit, for allocator_pressure
  {well_known.ENV_PINNING}               Required, Preferred or Off (default)
  {well_known.ENV_CREDENTIALS_FOLDER}    where `credentials` are; {well_known.CREDENTIALS_FOLDER} unless set"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "run",
        help="run one engine until it is told to stop",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, metavar="engine.yaml", help="the engine's configuration")
    parser.add_argument("--log-level", choices=logs.LEVELS, default="info", help="least level that is logged")
    parser.add_argument(
        "--log-format",
        choices=("json", "text"),
        help="form of the log on standard error; text on a terminal, json otherwise",
    )
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Run the engine."""
    form = logs.set_up(options.log_level, options.log_format)
    config = name_from_environment(os.environ, read_config(options.config))
    identity = read_identity(os.environ, config)
    load_module().set_up_log(options.log_level, form)
    credentials = Path(os.environ.get(well_known.ENV_CREDENTIALS_FOLDER) or well_known.CREDENTIALS_FOLDER)
    engine = build_engine(config, identity, credentials, origin=str(options.config))
    report_start(config, identity)
    process = EngineProcess(engine, config.telemetry.listen, config.drain_timeout / SECOND)
    return asyncio.run(process.run())


def build_engine(config: EngineConfig, identity: Identity, credentials: Path, origin: str) -> NativeEngine:
    """Let the native module allocate everything that the configuration asks for.

    Raises:
        ConfigurationError: credentials can't be read, or the native module refuses the configuration.
    """
    native = load_module()
    content = native_form(config, credentials, origin)
    try:
        engine: NativeEngine = native.Engine(json.dumps(content), identity.to_native())
    except native.ConfigurationError as error:
        raise configuration_error(origin, error) from None
    return engine


def report_start(config: EngineConfig, identity: Identity) -> None:
    """Say who starts with what, and which keys were given that don't act, and why."""
    logger.info(
        "starting",
        extra=logs.fields(
            engine=identity.engine,
            namespace=identity.namespace,
            pod=identity.pod,
            incarnation=identity.incarnation,
            pinning=identity.pinning,
            program=config.program.name,
            sources=[source.name for source in config.sources],
            sinks=[sink.name for sink in config.sinks],
        ),
    )
    for key, reason in config.inactive_reasons().items():
        logger.warning("a key that is accepted and doesn't act", extra=logs.fields(key=key, reason=reason))
