"""Parse: the engine's parser beside sonic-rs and serde_json, over the same payloads, on one core.

Each program run reads one corpus with all three, in turns, and gives nanoseconds per event for each round; the ratio
of a round is between neighbours in time, so that what slows the machine slows both. Every system reads into a typed
event and takes a digest over all of it, escaped text unescaped; digests that differ end the run. The program is
compiled for machines with AVX2 and with link-time optimisation: sonic-rs asks for both. The engine's parser picks its
instructions at run time either way, and may pick wider ones; the table says which. The levels below the picked one are
measured beside it, for whoever has no wider one; the peers keep what they were compiled for.
"""

from __future__ import annotations

from statistics import median
from typing import Any, Final

from frame import programs
from frame.context import Context
from frame.tables import Detail, Row, Table

CORPORA: Final = ("flat-148", "hunt-700", "telemetry-722", "text-690")
ENGINE: Final = "eventengine"
SONIC: Final = "sonic-rs"
SERDE: Final = "serde_json"
SYSTEMS: Final = (ENGINE, SONIC, SERDE)
NOISE: Final = 0.1
"""Share of a target that is left to noise: runs of one build differ by about as much on a shared machine."""

LEVELS: Final = ("Avx512", "Avx2", "Sse2", "Scalar")
"""What the engine's parser can be told to use, the widest first."""

PREDICTED_RATIOS: Final = ((SONIC, 3.0), (SERDE, 5.0))
SHUFFLED_RATIOS: Final = ((SONIC, 1.5),)
THROUGHPUT_CORPUS: Final = "telemetry-722"
THROUGHPUT_GIGABYTES_PER_SECOND: Final = 2.0


def rounds_of(document: dict[str, Any], system: str) -> list[float]:
    """Nanoseconds per event of a system, round by round."""
    found: list[float] = document["systems"][system]["nanoseconds_per_event"]
    return found


def ratio(document: dict[str, Any], peer: str) -> float:
    """How many times as long as the engine a peer takes: the median over the rounds."""
    pairs = zip(rounds_of(document, peer), rounds_of(document, ENGINE), strict=True)
    return median(theirs / ours for theirs, ours in pairs)


def gigabytes_per_second(document: dict[str, Any], system: str) -> float:
    """Payload bytes that a system reads in a nanosecond, by its median round."""
    return float(document["bytes_per_event"]) / median(rounds_of(document, system))


def rows_of(documents: dict[tuple[str, bool], dict[str, Any]]) -> list[Row]:
    """The targets, corpus by corpus."""
    rows = []
    for (corpus, shuffled), document in documents.items():
        order = "shuffled" if shuffled else "predicted"
        for peer, target in SHUFFLED_RATIOS if shuffled else PREDICTED_RATIOS:
            what = f"{corpus}, {order} order, times as fast as {peer}"
            rows.append(Row.at_least(what, ratio(document, peer), target, "×", margin=NOISE))
        if corpus == THROUGHPUT_CORPUS and not shuffled:
            rows.append(
                Row.at_least(
                    f"{corpus}, {order} order",
                    gigabytes_per_second(document, ENGINE),
                    THROUGHPUT_GIGABYTES_PER_SECOND,
                    "GB/s",
                    margin=NOISE,
                    gates=False,
                    note="depends on the machine",
                )
            )
    return rows


def details_of(documents: dict[tuple[str, bool], dict[str, Any]]) -> Detail:
    """What each system showed: nanoseconds per event, and the same as rates."""
    columns = ("corpus", "order", "system", "min ns", "median ns", "max ns", "M events/s", "GB/s")
    lines = []
    for (corpus, shuffled), document in documents.items():
        for system in SYSTEMS:
            taken = rounds_of(document, system)
            middle = median(taken)
            lines.append(
                (
                    corpus,
                    "shuffled" if shuffled else "predicted",
                    system,
                    *(f"{value:.0f}" for value in (min(taken), middle, max(taken))),
                    f"{1e3 / middle:.2f}",
                    f"{gigabytes_per_second(document, system):.2f}",
                )
            )
    instructions = ", ".join(sorted({document["instructions"] for document in documents.values()}))
    title = f"Time for one event on one core, over the rounds of a run; the engine picked {instructions}:"
    return Detail(title, columns, lines)


def levels_of(documents: dict[tuple[str, str], dict[str, Any]]) -> Detail:
    """What the engine shows without the widest instructions, members in predicted order."""
    columns = (
        "corpus",
        "instructions",
        "median ns",
        "GB/s",
        *(f"times as fast as {peer}" for peer in (SONIC, SERDE)),
    )
    lines = [
        (
            corpus,
            level,
            f"{median(rounds_of(document, ENGINE)):.0f}",
            f"{gigabytes_per_second(document, ENGINE):.2f}",
            *(f"{ratio(document, peer):.2f}×" for peer in (SONIC, SERDE)),
        )
        for (corpus, level), document in documents.items()
    ]
    return Detail(
        "The engine with narrower instructions, predicted order; no row above depends on it:", columns, lines
    )


def measure(context: Context) -> Table:
    """All corpora, in both orders."""
    program = programs.program_with_vectors("parse")
    rounds, milliseconds = context.choose(15, 61), context.choose(20, 100)
    words = ["--rounds", str(rounds), "--round-milliseconds", str(milliseconds)]
    documents = {}
    narrower = {}
    for corpus in CORPORA:
        for shuffled in (False, True):
            context.say(f"{corpus}, {'shuffled' if shuffled else 'predicted'} order")
            file = context.corpus(corpus, shuffled=shuffled)
            documents[corpus, shuffled] = programs.measured([program, "--payloads", file, *words])
        picked = LEVELS.index(documents[corpus, False]["instructions"])
        for level in LEVELS[picked + 1 :]:
            narrower[corpus, level] = programs.measured(
                [program, "--payloads", context.corpus(corpus), *words, "--instructions", level]
            )
    return Table(
        "Parse: typed events from JSON, one core",
        rows_of(documents),
        [details_of(documents), levels_of(narrower)],
        {
            **{
                f"{corpus}{'-shuffled' if shuffled else ''}": document
                for (corpus, shuffled), document in documents.items()
            },
            **{f"{corpus}-{level.lower()}": document for (corpus, level), document in narrower.items()},
        },
    )
