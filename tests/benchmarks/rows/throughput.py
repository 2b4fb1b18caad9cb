"""Throughput: the highest rate that each system sustains, and the article's 2.5 M events a second.

A search finds a system's rate: how many events it takes when it is given as many as it takes, then open-loop runs
at shares of that, above it as long as they are sustained, else below it until one is. The events of a corpus are the
same bytes for every system, the work is the same (tests/benchmarks/frame/load.py says what counts as sustained), and
systems take turns. First the rate of every system but ours is looked for; then ours and the best peer's, in pairs
whose two searches follow each other at once, for a machine's pace changes within minutes: the ratio is the median of
the pairs'.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Final

from frame import pictures
from frame.context import Context, alternating
from frame.load import COLUMNS, OURS, OWN, Load, Result, Systems, highest_sustained
from frame.tables import Detail, Row, Table, quantity, span

CORPORA: Final = {"148 B": "flat-148", "700 B": "hunt-700"}
RATIO: Final = 3.0
MARGIN: Final = 0.05
CHUNKS: Final = 10_240
"""Four milliseconds of the article's rate."""
ARTICLE_RATE: Final = 2_500_000
SHORT_SHARES: Final = (1.4, 1.2, 1.1, 1.0, 0.9, 0.8, 0.7, 0.55, 0.4, 0.25)
LONG_SHARES: Final = (1.5, 1.4, 1.3, 1.2, 1.1, 1.05, 1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.25)
PAIR_COLUMNS: Final = ("pair", "ours, events/s", "the peer's, events/s", "ratio", "CPUs' round trip")

JUST_IN_TIME: Final = ("java-g1", "java-zgc")
"""Compiled while they run."""

Found = Mapping[str, Sequence[Result | None]]
"""By system and round, the result at its highest rate; None if it sustained none of those that were tried."""
Pair = tuple[Result | None, Result | None]
"""Ours and the peer's, of one round."""


def warmup_seconds(context: Context, system: str) -> int:
    """Of one run in a search; compilers at run time need more of it."""
    return context.choose(2 if system in JUST_IN_TIME else 1, 3)


def search(
    context: Context, systems: Systems, corpus: str, names: Sequence[str], *, rounds: int, seconds: int
) -> Found:
    """Look for the rates of some systems, in turns; each rate is offered for so many seconds."""
    file = context.corpus(corpus)
    shares = LONG_SHARES if context.long else SHORT_SHARES
    found: dict[str, list[Result | None]] = {name: [] for name in names}

    def measure(system: str, number: int) -> dict[str, object]:
        context.say(f"{corpus}, round {number + 1} of {rounds}: {system}")

        def run(rate: int, short: bool) -> Result:
            load = Load(file, rate, 2 if short else seconds, warmup_seconds(context, system))
            return systems.run(context, system, load, for_rate_alone=True)

        found[system].append(highest_sustained(run, shares)[1])
        return {}

    alternating(names, rounds, measure)
    return found


def ratio(one: Result, other: Result) -> float:
    """How many times the other's rate the one's is."""
    return one.achieved_per_second / other.achieved_per_second


def best_result(results: Sequence[Result | None]) -> Result | None:
    """The one with the highest rate."""
    known = [result for result in results if result is not None]
    return max(known, key=lambda result: result.achieved_per_second, default=None)


def best_peer(found: Found) -> str | None:
    """The peer with the highest rate; None if none sustained any."""
    best = best_result([best_result(results) for name, results in found.items() if name not in OWN])
    return best.system if best else None


def ratio_row(what: str, pairs: Sequence[Pair], absent: Mapping[str, str]) -> Row:
    """Ours against the best peer."""
    whole = [(ours, peer) for ours, peer in pairs if ours and peer]
    if not whole:
        return Row.missed(what, f"≥ {RATIO:g}×", "no sustained rate was found for ours, or for every peer")
    ratios = [ratio(ours, peer) for ours, peer in whole]
    own, best = (Result.merged(results) for results in zip(*whole, strict=True))
    note = (
        f"{own.achieved_per_second:,.0f} events/s against {best.system}'s {best.achieved_per_second:,.0f}; "
        f"medians of {len(whole)} of {len(pairs)} pairs, whose ratios were {span(ratios, '×')}"
    )
    if absent:
        note += f"; not here: {', '.join(absent)}"
    return Row.at_least(what, statistics.median(ratios), RATIO, "×", margin=MARGIN, note=note)


def pairs_detail(size: str, pairs: Sequence[Pair]) -> Detail:
    """Each pair by itself."""
    lines = []
    for number, pair in enumerate(pairs, 1):
        known = [result for result in pair if result]
        rates = [quantity(result.achieved_per_second, "") if result else "none found" for result in pair]
        trips = [trip for result in known for trip in result.round_trips_nanoseconds]
        quotient = quantity(ratio(*known), "×") if len(known) == len(pair) else ""
        lines.append([str(number), *rates, quotient, span(trips, "ns")])
    return Detail(f"{size}, ours and the best peer, one search after the other:", PAIR_COLUMNS, lines)


def executors_row(what: str, best: Mapping[str, Result | None]) -> Row:
    """Our two executors beside each other: which one suits a workload is for its user to decide."""
    pinned, stealing = (best[name] for name in OWN)
    if pinned is None or stealing is None:
        return Row(what, "none found", "", None, "an executor sustained no rate")
    note = f"{stealing.achieved_per_second:,.0f} events/s; with two CPUs the worker shares the core thread's"
    return Row.shown(what, ratio(stealing, pinned), "×", note=note)


def article_rows(context: Context, systems: Systems) -> tuple[list[Row], Result]:
    """2.5 M events of 148 B a second, as the second article has it."""
    load = Load(context.corpus("flat-148"), ARTICLE_RATE, context.choose(4, 30), context.choose(2, 4))
    rounds = context.choose(2, 5)
    result = Result.merged([systems.run(context, OURS, load) for _ in range(rounds)])
    what = "2.5 M events/s of 148 B"
    achieved = Row.at_least(
        f"{what}: achieved over offered",
        result.achieved_per_second / ARTICLE_RATE,
        0.999,
        "",
        note=f"{result.achieved_per_second:,.0f} events/s, {result.lost} lost",
        gates=False,
    )
    limits = (("p50", 0.2, "1.6 ms"), ("p99", 2.0, "8.2 ms"), ("p999", 8.0, "22 ms"))
    rows = [
        result.latency_row(f"{what}: {name.replace('p999', 'p99.9')}", name, limit, f"the article: {article}")
        for name, limit, article in limits
    ]
    rss = result.most("peak_rss_bytes") / 1e6
    return [
        achieved,
        *rows,
        Row.at_most(f"{what}: peak RSS", rss, 128, "MB", note="the article: 1.4 GB"),
    ], result


def data_of(results: Sequence[Result | None]) -> list[object]:
    """For the JSON result, a round without a sustained rate as null."""
    return [result and result.data() for result in results]


def measure(context: Context) -> Table:
    """The searches, then the article's rate."""
    systems = Systems(context, CHUNKS, executors=True)
    rows: list[Row] = []
    details: list[Detail] = []
    data: dict[str, object] = {"absent": systems.absent}
    rates: dict[str, dict[str, float]] = {}
    for size, corpus in CORPORA.items():
        others = [name for name in systems.commands if name != OURS]
        rounds = context.choose(1, 2)
        found = search(context, systems, corpus, others, rounds=rounds, seconds=context.choose(2, 5))
        peer = best_peer(found)
        paired = [OURS, peer] if peer else [OURS]
        again = search(
            context, systems, corpus, paired, rounds=context.choose(3, 5), seconds=context.choose(3, 5)
        )
        pairs = list(zip(again[OURS], again[peer], strict=True)) if peer else []
        # Of as many searches for each: whoever has more would seem better.
        best = {name: best_result(results) for name, results in {OURS: again[OURS][:rounds], **found}.items()}
        rows.append(ratio_row(f"{size}: highest sustained rate against the best peer", pairs, systems.absent))
        rows.append(executors_row(f"{size}: work-stealing over pinned, highest sustained rate", best))
        rates[size] = {name: result.achieved_per_second for name, result in best.items() if result}
        lines = [result.cells() for result in best.values() if result]
        unknown = {**{name: "none found" for name in best if not best[name]}, **systems.absent}
        lines += [[name, "", "", why, *[""] * (len(COLUMNS) - 4)] for name, why in unknown.items()]
        details.append(Detail(f"{size}, each system at its highest sustained rate:", COLUMNS, lines))
        details.append(pairs_detail(size, pairs))
        data[corpus] = {
            "searches": {name: data_of(found[name]) for name in found},
            "pairs": {name: data_of(again[name]) for name in again},
        }
    more, result = article_rows(context, systems)
    work = context.instructions_per_event(
        "steps", "--file", context.corpus("flat-148"), count_flag="--count", few=10_000, many=30_000
    )
    rows += more
    rows.append(
        Row.shown(
            "148 B: instructions of the core per event",
            work["instructions"],
            note=f"by cachegrind; {work['first_level_misses']:.1f} first-level and "
            f"{work['last_level_misses']:.2f} last-level misses",
        )
    )
    details.append(Detail("2.5 M events/s of 148 B:", COLUMNS, [result.cells()]))
    data["article"] = result.data()
    data["work_per_event"] = work
    return Table(
        "Throughput: parse, look up, update, render; one injecting thread, in process, 2 cores",
        rows,
        details,
        data,
        [pictures.rates("throughput", "The highest rate that each system sustained", rates)],
    )
