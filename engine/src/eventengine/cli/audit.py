"""`eventengine audit`: prove from the output topic that every event was applied exactly once.

Reading and counting are the native module's. This side reads the load's results,
waits in a way that Ctrl-C can end, and turns the report into a table, a file and
an exit status.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
from pathlib import Path
from typing import Any, Final

from eventengine.cli import arguments
from eventengine.cli.arguments import UsageError
from eventengine.native import load_module
from eventengine.plans import AuditPlan, DeadLetterPlan, read_expectations
from eventengine.running import EXIT_CLEAN, EXIT_FAILED

DESCRIPTION: Final = """\
Read an output topic with read_committed from its beginning to its end, and check
that every (producer, sequence) of the load's results is there exactly once, in
order within its partition. Says what is missing, doubled or extra, with the first
examples of each. With --dead-letter it also counts dead letters by reason and
compares them with the events that the load broke on purpose."""

EPILOG: Final = """\
example:
  eventengine load  --bootstrap localhost:9092 --topic hunt-events --rate 2000 --duration 1m --result result.json
  eventengine audit --bootstrap localhost:9092 --topic hunt-standings --expect result.json --wait 30s

With --wait the audit goes on reading while events are missing or a transaction is
open, at most so long. Exit status 1: not exact."""

KINDS: Final = ("missing", "duplicates", "extra", "out_of_order", "unreadable")
POLL_SECONDS: Final = 0.2


class AuditFailedError(RuntimeError):
    """The audit could not be made, so there is no verdict."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "audit",
        help="prove that every event was applied exactly once",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--bootstrap",
        type=arguments.addresses,
        required=True,
        metavar="HOST:PORT[,…]",
        help="Kafka brokers to ask first",
    )
    parser.add_argument("--topic", required=True, help="the output topic")
    arguments.add_kafka_arguments(parser)
    parser.add_argument(
        "--expect",
        type=Path,
        action="append",
        required=True,
        metavar="result.json",
        help="a result of `eventengine load --result` (may be repeated)",
    )
    parser.add_argument("--dead-letter", metavar="TOPIC", help="count this dead-letter topic by reason too")
    parser.add_argument(
        "--allow-other-producers",
        action="store_true",
        help="the topic holds other runs too: outputs of producers that no --expect names are no fault",
    )
    parser.add_argument(
        "--start",
        dest="starts",
        type=_start,
        action="append",
        default=[],
        metavar="PARTITION=OFFSET",
        help="begin a partition at this offset instead of its beginning (may be repeated)",
    )
    parser.add_argument(
        "--wait",
        type=arguments.duration,
        default=0,
        metavar="DURATION",
        help="go on reading while something is missing, at most so long (default 0s)",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write the report as JSON (- for standard output)"
    )
    parser.set_defaults(execute=execute)


def _start(text: str) -> tuple[int, int]:
    partition, separator, offset = text.partition("=")
    if not separator or not (
        partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit()
    ):
        raise argparse.ArgumentTypeError(f"{text!r}: write PARTITION=OFFSET, such as 3=1200")
    return int(partition), int(offset)


def build_plan(options: argparse.Namespace) -> AuditPlan:
    """The plan that the arguments ask for.

    Raises:
        UsageError: a result can't be read, or two results don't go together.
    """
    try:
        producers, malformed = read_expectations(
            [(str(path), arguments.read_json(path)) for path in options.expect]
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    dead_letter = None
    if options.dead_letter is not None:
        # Beside other runs' dead letters only the counts can be told, not whether they are exact.
        expected = None if options.allow_other_producers else malformed
        dead_letter = DeadLetterPlan(options.dead_letter, expected)
    return AuditPlan(
        bootstrap_servers=tuple(options.bootstrap),
        topic=options.topic,
        producers=producers,
        properties=dict(options.properties),
        start_offsets=dict(options.starts),
        allow_other_producers=options.allow_other_producers,
        dead_letter=dead_letter,
        wait_milliseconds=options.wait // 1_000_000,
    )


def execute(options: argparse.Namespace) -> int:
    """Audit and show the report."""
    plan = build_plan(options)
    try:
        content = run_audit(json.dumps(plan.to_native()))
    except AuditFailedError as error:
        print(f"eventengine: {error}", file=sys.stderr)
        return EXIT_FAILED
    if options.report is not None:
        arguments.write_result(options.report, content)
    report = json.loads(content)
    print(render_report(report))
    return EXIT_CLEAN if report["exact"] else EXIT_FAILED


def run_audit(plan_json: str) -> bytes:
    """Run the native audit in a thread of its own, so that Ctrl-C ends the command at once.

    Raises:
        AuditFailedError: the topic can't be read, or doesn't exist.
    """
    native = load_module()
    outcomes: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcomes.put(native.audit(plan_json))
        except Exception as error:  # noqa: BLE001 - raised again where it is awaited
            outcomes.put(error)

    threading.Thread(target=work, name="audit", daemon=True).start()
    while True:
        try:
            outcome = outcomes.get(timeout=POLL_SECONDS)
        except queue.Empty:
            continue
        if isinstance(outcome, native.ConfigurationError):
            raise arguments.configuration_error("audit", outcome)
        if isinstance(outcome, native.EngineError):
            raise AuditFailedError(f"audit: {outcome}")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def render_report(report: dict[str, Any]) -> str:
    """The verdict, the counts, and the first examples of what is wrong."""
    verdict = "exact: every event was applied exactly once" if report["exact"] else "NOT exact"
    lines = [verdict, ""]
    lines += [f"{name:<14} {report[name]:>14,}" for name in ("expected", "records", "unique")]
    lines += [f"{kind.replace('_', ' '):<14} {report[kind]['count']:>14,}" for kind in KINDS]
    for kind in KINDS:
        for example in report[kind]["examples"]:
            facts = ", ".join(f"{name} {value}" for name, value in example.items() if value is not None)
            lines.append(f"  {kind.replace('_', ' ')}: {facts}")
    if not report["settled"]:
        lines.append("a transaction was still open at the end; a longer --wait reads past it")
    if (dead := report["dead_letters"]) is not None:
        lines.append("")
        lines.append(f"dead letters   {dead['records']:>14,}")
        lines += [f"  {reason:<18} {count:>8,}" for reason, count in sorted(dead["reasons"].items())]
        if dead["duplicates"]:
            lines.append(f"  doubled            {dead['duplicates']:>8,}")
        if dead["expected"] is not None and not dead["exact"]:
            expected = ", ".join(f"{reason} {count}" for reason, count in sorted(dead["expected"].items()))
            lines.append(f"  NOT as expected: {expected or 'none'}")
    return "\n".join(lines)
