"""Throughput: the highest rate that each system sustains, and the article's 2.5 M events a second.

A sweep finds each system's rate: how many events it takes when it is given as many as it takes, then open-loop runs
at shares of that, above it as long as they are sustained, else below it until one is. The events of a corpus are the
same bytes for every system, the work is the same (tests/benchmarks/frame/load.py says what counts as sustained), and
systems take turns.
"""

from __future__ import annotations

from typing import Final

from frame.context import Context, alternating
from frame.load import COLUMNS, OURS, OWN, Load, Result, Systems, highest_sustained
from frame.tables import Detail, Row, Table

CORPORA: Final = {"148 B": "flat-148", "700 B": "hunt-700"}
RATIO: Final = 3.0
MARGIN: Final = 0.05
CHUNKS: Final = 10_240
"""Four milliseconds of the article's rate."""
ARTICLE_RATE: Final = 2_500_000
SHORT_SHARES: Final = (1.4, 1.2, 1.1, 1.0, 0.95, 0.9, 0.8, 0.7, 0.55, 0.4, 0.25)
LONG_SHARES: Final = (1.5, 1.4, 1.3, 1.2, 1.1, 1.05, 1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.25)


def sweep(context: Context, systems: Systems, corpus: str) -> dict[str, list[Result]]:
    """The best sustained result of each system and round; a round in which nothing was sustained has none."""
    file = context.corpus(corpus)
    seconds = context.choose(3, 5)
    shares = LONG_SHARES if context.long else SHORT_SHARES
    found: dict[str, list[Result]] = {name: [] for name in systems.commands}

    def measure(system: str, number: int) -> dict[str, object]:
        context.say(f"{corpus}, round {number + 1}: {system}")

        def run(rate: int, short: bool) -> Result:
            warmup = context.choose(2, 3)
            load = Load(file, rate, 2 if short else seconds, warmup)
            return systems.run(context, system, load, for_rate_alone=True)

        _, best = highest_sustained(run, shares)
        if best is not None:
            found[system].append(best)
        return {}

    alternating(list(systems.commands), context.choose(1, 3), measure)
    return found


def median_result(results: list[Result]) -> Result | None:
    """The result with the median rate; the lower one of two."""
    ordered = sorted(results, key=lambda result: result.achieved_per_second)
    return ordered[(len(ordered) - 1) // 2] if ordered else None


def ratio_row(what: str, found: dict[str, list[Result]], absent: dict[str, str]) -> Row:
    """Ours against the best peer."""
    ours = median_result(found[OURS])
    peers = [result for name in found if name not in OWN and (result := median_result(found[name]))]
    if ours is None or not peers:
        missing = "ours" if ours is None else "every peer"
        return Row.missed(what, f"≥ {RATIO:g}×", f"no sustained rate was found for {missing}")
    best = max(peers, key=lambda result: result.achieved_per_second)
    note = f"{ours.achieved_per_second:,.0f} events/s against {best.system}'s {best.achieved_per_second:,.0f}"
    if absent:
        note += f"; not here: {', '.join(absent)}"
    ratio = ours.achieved_per_second / best.achieved_per_second
    return Row.at_least(what, ratio, RATIO, "×", margin=MARGIN, note=note)


def executors_row(what: str, found: dict[str, list[Result]]) -> Row:
    """Our two executors beside each other: which one suits a workload is for its user to decide."""
    pinned, stealing = (median_result(found[name]) for name in OWN)
    if pinned is None or stealing is None:
        return Row(what, "none found", "", None, "an executor sustained no rate")
    ratio = stealing.achieved_per_second / pinned.achieved_per_second
    note = f"{stealing.achieved_per_second:,.0f} events/s; with two CPUs the worker shares the core thread's"
    return Row.shown(what, ratio, "×", note=note)


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


def measure(context: Context) -> Table:
    """The sweeps, then the article's rate."""
    systems = Systems(context, CHUNKS, executors=True)
    rows: list[Row] = []
    details: list[Detail] = []
    data: dict[str, object] = {"absent": systems.absent}
    for size, corpus in CORPORA.items():
        found = sweep(context, systems, corpus)
        rows.append(ratio_row(f"{size}: highest sustained rate against the best peer", found, systems.absent))
        rows.append(executors_row(f"{size}: work-stealing over pinned, highest sustained rate", found))
        chosen = [result for name in found if (result := median_result(found[name]))]
        lines = [result.cells() for result in chosen]
        lines += [[name, "", "", "none found", *[""] * 7] for name in found if not found[name]]
        lines += [[name, "", "", why, *[""] * 7] for name, why in systems.absent.items()]
        details.append(Detail(f"{size}, each system at its highest sustained rate:", COLUMNS, lines))
        data[corpus] = {name: [result.data() for result in found[name]] for name in found}
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
    )
