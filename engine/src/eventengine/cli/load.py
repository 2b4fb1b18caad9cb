"""`eventengine load`: an open-loop load generator for the treasure hunt.

The schedule lives in the native module. This side reads the arguments, shows one
line a second, and turns the result into a table, a file and an exit status.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final, TextIO

from eventengine_contract.quantities import format_duration

from eventengine.cli import arguments
from eventengine.cli.arguments import UsageError
from eventengine.native import NativeLoadGenerator, load_module
from eventengine.plans import (
    BURSTS_MAX,
    DURATION_MAX_NANOSECONDS,
    PRODUCERS_MAX,
    RATE_MAX,
    Burst,
    Hunt,
    KafkaTarget,
    LoadPlan,
    Schedule,
    TcpTarget,
    choose_first_producer,
    parse_burst,
)
from eventengine.running import EXIT_CLEAN, EXIT_FAILED

DESCRIPTION: Final = """\
Send treasure-hunt events on a schedule that no answer of the target ever changes
(open loop). Every event carries its intended send time; latency is acknowledged
minus intended, so that a target or generator that falls behind shows in the
percentiles instead of slowing the schedule down. Each event has a producer id and
a sequence number, from which `eventengine audit` proves exactly-once delivery."""

EPILOG: Final = """\
examples:
  steady:        eventengine load --bootstrap localhost:9092 --topic hunt-events --rate 2000 --duration 1m
  a burst:       … --rate 500 --burst at=10s,duration=20s,rate=5000
  ten districts opening at once:
                 … --rate 500 --burst at=10s,duration=20s,rate=5000,districts=10
  over TCP:      eventengine load --tcp localhost:9400 --rate 1000 --duration 10s

A burst adds its rate to the base rate. With Kafka the key decides the partition
(murmur2, as Java clients choose it): `district` keeps the events of one district in
one partition, `district-team` spreads the teams of a district over partitions.

Exit status 1: not every event was acknowledged."""

PROGRESS_INTERVAL_SECONDS: Final = 1.0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "load",
        help="send events on a fixed schedule",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_target(parser.add_argument_group("target"))
    _add_schedule(parser.add_argument_group("schedule"))
    _add_content(parser.add_argument_group("events"))
    parser.add_argument(
        "--result",
        type=Path,
        metavar="FILE",
        help="write the result as JSON, for the audit (- for standard output)",
    )
    parser.add_argument("--quiet", action="store_true", help="show no line a second")
    parser.set_defaults(execute=execute)


def _add_target(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--bootstrap", type=arguments.addresses, metavar="HOST:PORT[,…]", help="Kafka brokers to ask first"
    )
    group.add_argument("--topic", help="the topic to send to")
    group.add_argument(
        "--partitions",
        type=arguments.whole_number(1, 4096),
        metavar="N",
        help="make the topic with so many partitions if it is missing",
    )
    arguments.add_kafka_arguments(group)
    group.add_argument("--tcp", type=arguments.address, metavar="HOST:PORT", help="an engine's TCP source")
    group.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file with the token of the TCP source"
    )
    group.add_argument(
        "--connections",
        type=arguments.whole_number(1, 256),
        default=1,
        metavar="N",
        help="TCP connections to spread the producers over (default 1)",
    )
    group.add_argument(
        "--acknowledge-timeout",
        type=arguments.duration,
        default=60_000_000_000,
        metavar="DURATION",
        help="how long to wait for acknowledgements at the end (default 60s)",
    )


def _add_schedule(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--rate",
        type=arguments.number(0, RATE_MAX),
        default=1000.0,
        metavar="N",
        help="events per second (default 1000)",
    )
    group.add_argument(
        "--duration",
        type=arguments.duration,
        default=10_000_000_000,
        metavar="DURATION",
        help="length of the schedule, such as 30s or 5m (default 10s)",
    )
    group.add_argument(
        "--events",
        type=arguments.whole_number(1, 2**40),
        metavar="N",
        help="end the schedule after so many events, if it is not over before",
    )
    group.add_argument(
        "--arrivals",
        choices=("constant", "poisson"),
        default="constant",
        help="even gaps, or exponential ones (default constant)",
    )
    group.add_argument(
        "--burst",
        dest="bursts",
        type=_burst,
        action="append",
        default=[],
        metavar="at=T,duration=T,rate=N[,districts=N]",
        help="further events over a span; with districts, so many open at once and take the whole burst",
    )
    group.add_argument(
        "--seed",
        type=arguments.whole_number(0, 2**63 - 1),
        default=1,
        metavar="N",
        help="seed of arrivals and contents: the same seed gives the same events (default 1)",
    )


def _add_content(group: argparse._ArgumentGroup) -> None:
    counts = (
        ("--producers", 4, PRODUCERS_MAX, "logical producers, each with sequences from 0"),
        ("--players", 6000, 10_000_000, "players of the hunt"),
        ("--team-size", 5, 1000, "players of a team"),
        ("--districts", 12, 65_536, "districts of the hunt; the engine must know as many"),
        ("--puzzles", 40, 64, "puzzles of a district"),
        ("--clues", 5, 8, "clues of a puzzle"),
    )
    for name, default, maximum, text in counts:
        group.add_argument(
            name,
            type=arguments.whole_number(1, maximum),
            default=default,
            metavar="N",
            help=f"{text} (default {default})",
        )
    group.add_argument(
        "--first-producer",
        type=arguments.whole_number(0, 2**32 - PRODUCERS_MAX),
        metavar="ID",
        help="id of the first producer; by default a block that no other run is likely to hold",
    )
    group.add_argument(
        "--key",
        choices=("district", "district-team"),
        default="district",
        help="what events of one key share: their district, or district and team (default district)",
    )
    group.add_argument(
        "--payload-bytes",
        type=arguments.whole_number(300, 60_000),
        default=700,
        metavar="N",
        help="average size of an event (default 700)",
    )
    group.add_argument(
        "--malformed",
        type=arguments.number(0, 1),
        default=0.0,
        metavar="SHARE",
        help="share of events that are broken on purpose, such as 0.001; they carry no sequence number",
    )


def _burst(text: str) -> Burst:
    try:
        return parse_burst(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def build_plan(options: argparse.Namespace) -> LoadPlan:
    """The plan that the arguments ask for.

    Raises:
        UsageError: arguments that don't go together.
    """
    if len(options.bursts) > BURSTS_MAX:
        raise UsageError(f"--burst: at most {BURSTS_MAX} bursts")
    if not 0 < options.duration <= DURATION_MAX_NANOSECONDS:
        raise UsageError("--duration: must be above 0s and at most 24h")
    for burst in options.bursts:
        if burst.at_nanoseconds >= options.duration:
            raise UsageError(
                f"--burst: begins at {format_duration(burst.at_nanoseconds)}, after --duration has ended"
            )
        if burst.districts is not None and burst.districts > options.districts:
            raise UsageError(f"--burst: opens {burst.districts} districts of only {options.districts}")
    if options.rate == 0 and not options.bursts:
        raise UsageError("--rate: 0 without a --burst sends nothing")
    return LoadPlan(
        target=_build_target(options),
        schedule=Schedule(
            options.arrivals, options.rate, options.duration, options.events, tuple(options.bursts)
        ),
        hunt=Hunt(options.players, options.team_size, options.districts, options.puzzles, options.clues),
        key=options.key,
        seed=options.seed,
        producers=options.producers,
        first_producer=(
            options.first_producer if options.first_producer is not None else choose_first_producer()
        ),
        payload_bytes=options.payload_bytes,
        malformed_share=options.malformed,
        acknowledge_timeout_milliseconds=options.acknowledge_timeout // 1_000_000,
    )


def _build_target(options: argparse.Namespace) -> KafkaTarget | TcpTarget:
    if options.tcp is not None:
        if options.bootstrap or options.topic or options.partitions or options.properties:
            raise UsageError("--tcp: goes without --bootstrap, --topic, --partitions and --property")
        token = arguments.read_text(options.token_file).strip() if options.token_file else None
        return TcpTarget(options.tcp, options.connections, token)
    if not options.bootstrap or not options.topic:
        raise UsageError("load: name a target: --bootstrap with --topic, or --tcp")
    return KafkaTarget(tuple(options.bootstrap), options.topic, options.partitions, dict(options.properties))


def execute(options: argparse.Namespace) -> int:
    """Run the load and show what came of it."""
    plan = build_plan(options)
    native = load_module()
    try:
        generator: NativeLoadGenerator = native.LoadGenerator(json.dumps(plan.to_native()))
    except native.ConfigurationError as error:
        raise arguments.configuration_error("load", error) from None
    try:
        generator.start()
        drive(generator, None if options.quiet else sys.stderr)
        content = generator.result()
    except native.EngineError as error:
        print(f"eventengine: load: {error}", file=sys.stderr)
        return EXIT_FAILED
    if options.result is not None:
        arguments.write_result(options.result, content)
    result = json.loads(content)
    print(render_result(result))
    if result["unacknowledged"] or result["errors"]:
        first = f"; the first trouble: {result['first_error']}" if result["first_error"] else ""
        print(
            f"eventengine: load: {result['unacknowledged']} events were not acknowledged{first}",
            file=sys.stderr,
        )
        return EXIT_FAILED
    return EXIT_CLEAN


def drive(generator: NativeLoadGenerator, lines: TextIO | None) -> None:
    """Show a line a second until the run is over. The first Ctrl-C ends the schedule, the second the wait."""
    stopping = False
    while True:
        try:
            if generator.wait(PROGRESS_INTERVAL_SECONDS):
                return
            if lines is not None:
                print(render_progress(json.loads(generator.progress())), file=lines, flush=True)
        except KeyboardInterrupt:
            if stopping:
                raise
            stopping = True
            generator.stop()


def render_progress(progress: dict[str, Any]) -> str:
    """One line: time, events intended, sent, acknowledged, in flight, rates, delay against the schedule."""
    return (
        f"{progress['elapsed_nanoseconds'] / 1e9:7.1f} s"
        f"  intended {progress['intended']:>10,}"
        f"  sent {progress['sent']:>10,}"
        f"  acknowledged {progress['acknowledged']:>10,}"
        f"  errors {progress['errors']:>4,}"
        f"  {progress['acknowledged_per_second']:>9,.0f}/s"
        f"  behind {progress['behind_nanoseconds'] / 1e6:>8.1f} ms"
    )


def render_result(result: dict[str, Any]) -> str:
    """The table at the end."""
    latency, delay = result["latency"], result["send_delay"]
    counts = (
        ("events", result["intended"]),
        ("sent", result["sent"]),
        ("acknowledged", result["acknowledged"]),
        ("not acknowledged", result["unacknowledged"]),
        ("broken on purpose", sum(result["malformed"].values())),
    )
    lines = [f"{name:<20} {count:>14,}" for name, count in counts]
    lines.append(f"{'duration':<20} {result['elapsed_nanoseconds'] / 1e9:>12.1f} s")
    lines.append(f"{'rate acknowledged':<20} {result['acknowledged_per_second']:>12,.0f}/s")
    lines.append("")
    lines.append(f"{'':<28} {'p50':>10} {'p99':>10} {'p99.9':>10} {'max':>10}")
    for name, figures in (("intended → acknowledged", latency), ("intended → sent", delay)):
        cells = "".join(
            f" {figures[key] / 1e6:>7.2f} ms"
            for key in ("p50_nanoseconds", "p99_nanoseconds", "p999_nanoseconds", "max_nanoseconds")
        )
        lines.append(f"{name:<28}{cells}")
    if result["interrupted"]:
        lines.append("the schedule was ended early; producers and sequences cover what was sent")
    return "\n".join(lines)
