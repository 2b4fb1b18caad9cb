"""Latency: the third article's 120,000 events of 700 B a second, a fifth of them in bursts.

Every ten milliseconds 240 events are due in one instant and 960 evenly after it. Each system is measured at that rate,
and if it can't sustain it, at half of it and at a quarter; ours is measured beside it at the same rate, and only
there the two are compared. Beside them stands the machine's own floor: the same schedule through two threads that do
nothing. Ours alone is then measured at shares of its own capacity, with even arrivals and arrivals
at random, for orientation. The last rows are of ours alone, too: every quarter of a second 8,000 events of the
lowest priority are due in one instant, as when 8,000 players open a district; beside them come events of priority 0.
"""

from __future__ import annotations

from typing import Final

from frame import pictures
from frame.context import Context, alternating
from frame.histograms import Histogram
from frame.load import COLUMNS, FLOOR, OURS, RATE_STEP, Load, Result, Systems
from frame.tables import Detail, Row, Table

RATES: Final = (120_000, 60_000, 30_000)
BURST_SHARE: Final = 0.2
PERIODS_PER_SECOND: Final = 100
RATIO: Final = 10.0
MARGIN: Final = 0.1
COMPARED: Final = ("go-std", "go-sonic", "java-g1", "java-zgc")
SHARES_OF_CAPACITY: Final = (0.5, 0.8, 0.95)
ARRIVALS: Final = {"even": "even arrivals", "random": "arrivals at random (Poisson)"}
MIXED: Final = ("--rate", "40000", "--burst", "8000", "--period", "250", "--urgent-rate", "20000")
DISTRICT_CHUNKS: Final = 10_240
"""Room for the 8,000 events of one opened district and for what comes beside them."""
URGENT_LIMIT_MILLISECONDS: Final = 1.0


def load_of(context: Context, rate: int) -> Load:
    """The load at a rate."""
    burst = int(rate / PERIODS_PER_SECOND * BURST_SHARE)
    return Load(context.corpus("hunt-700"), rate, context.choose(4, 20), context.choose(3, 6), burst)


def at_rate(context: Context, systems: Systems, names: list[str], rate: int) -> dict[str, Result]:
    """Each system over all rounds at a rate."""
    load = load_of(context, rate)
    found: dict[str, list[Result]] = {name: [] for name in names}

    def measure(system: str, _: int) -> dict[str, object]:
        found[system].append(systems.run(context, system, load))
        return {}

    alternating(names, context.choose(2, 5), measure)
    return {name: Result.merged(results) for name, results in found.items()}


def own_rows(ours: Result) -> list[Row]:
    """What is to be reached without regard to anybody else."""
    what = "120,000 events/s of 700 B in bursts"
    native = (ours.most("native_resident_bytes") - ours.most("payload_file_bytes")) / 1e6
    return [
        Row(
            f"{what}: sustained",
            "yes" if ours.sustained else "no",
            "yes",
            ours.sustained,
            f"{ours.achieved_per_second:,.0f} events/s",
        ),
        ours.latency_row(f"{what}: p99", "p99", 0.2, "the article: 1.4 ms"),
        ours.latency_row(f"{what}: p99.9", "p999", 1.0),
        Row.shown(f"{what}: p50", ours.percentile("p50")),
        Row.shown(f"{what}: max", ours.percentile("max")),
        Row.at_most(
            f"{what}: native memory",
            native,
            32,
            "MB",
            note="jemalloc's resident bytes less the payload file; the article: 192 MB",
        ),
        Row.at_most(f"{what}: whole process", ours.most("peak_rss_bytes") / 1e6, 96, "MB", note="peak RSS"),
        Row.at_most(f"{what}: events lost", ours.lost, 0, "events"),
        Row.at_most(
            f"{what}: allocated by the core thread after warm-up",
            ours.most("core_thread_allocated_bytes"),
            0,
            "B",
            note="the article: 128 KB/s",
        ),
    ]


def ratio_row(name: str, absent: dict[str, str], pairs: dict[str, tuple[int, Result, Result]]) -> Row:
    """Ours against one peer, at the highest of the rates that the peer sustains."""
    what = f"p99 against {name}"
    if name in absent:
        return Row.missed(what, f"≥ {RATIO:g}×", absent[name])
    if name not in pairs:
        return Row.missed(what, f"≥ {RATIO:g}×", f"it sustains none of {', '.join(map(str, RATES))} events/s")
    rate, peer, ours = pairs[name]
    theirs, own = (result.latency.quantile(0.99) for result in (peer, ours))
    note = f"{theirs / 1e6:.3g} ms against {own / 1e6:.3g} ms at {rate:,} events/s"
    if rate != RATES[0]:
        note += f"; {RATES[0]:,} it can't sustain"
    return Row.at_least(what, theirs / max(own, 1), RATIO, "×", margin=MARGIN, note=note)


def same_work_row(results: dict[str, Result]) -> Row:
    """Whether all systems that kept up wrote the same outputs, byte for byte in number."""
    sizes = {
        name: {document["output_bytes"] for document in result.documents}
        for name, result in results.items()
        if result.sustained and name != FLOOR
    }
    different = sorted({size for found in sizes.values() for size in found})
    return Row(
        "output bytes of all systems that kept up",
        ", ".join(f"{size:,}" for size in different) or "none kept up",
        "one figure",
        len(different) == 1,
        f"{', '.join(sizes)}: the same work",
    )


def loaded_rows(context: Context, systems: Systems) -> tuple[list[Row], list[Result]]:
    """Ours at shares of what it takes when it is given as much as it takes."""
    file = context.corpus("hunt-700")
    capacity = systems.run(context, OURS, Load(file, 0, 2, 2)).achieved_per_second
    rows, results = [], []
    for share in SHARES_OF_CAPACITY:
        load = Load(
            file, int(capacity * share) // RATE_STEP * RATE_STEP, context.choose(3, 15), context.choose(2, 4)
        )
        for arrivals, words in ARRIVALS.items():
            result = systems.run(context, OURS, load, "--arrivals", arrivals)
            results.append(result)
            rows.append(
                result.tail_row(f"{share:.0%} of the capacity, {load.rate:,} events/s of 700 B, {words}")
            )
    return rows, results


def mixed_row(context: Context) -> tuple[Row, Result]:
    """Priority 0 beside bursts of 8,000 events of the lowest priority."""
    systems = Systems(context, DISTRICT_CHUNKS)
    load = Load(context.corpus("hunt-700"), 0, context.choose(4, 20), context.choose(2, 5))
    result = Result.merged([systems.run(context, OURS, load, *MIXED) for _ in range(context.choose(2, 5))])
    urgent = Histogram.merged(Histogram.read(document["answered"]) for document in result.documents)
    lowest = Histogram.merged(Histogram.read(document["answered_lowest"]) for document in result.documents)
    hiccup = max(document["disturbance"]["hiccups"]["max"] for document in result.documents)
    row = Row.at_most(
        "8,000 events of the lowest priority at once: the longest that priority 0 waits",
        urgent.greatest / 1e6,
        URGENT_LIMIT_MILLISECONDS,
        "ms",
        note=f"intended to answered, {urgent.total:,} events, p99.9 {urgent.quantile(0.999) / 1e6:.3g} ms; the "
        f"lowest priority's p99 {lowest.quantile(0.99) / 1e6:.3g} ms; the platform's longest hiccup "
        f"{hiccup / 1e6:.3g} ms",
        gates=False,
    )
    return row, result


def measure(context: Context) -> Table:
    """The rates from the top, each with the systems that still need one; then the mixed bursts."""
    systems = Systems(context, floor=True)
    pending = systems.peers
    pairs: dict[str, tuple[int, Result, Result]] = {}
    details: list[Detail] = []
    data: dict[str, object] = {"absent": systems.absent}
    first: dict[str, Result] = {}
    for rate in RATES:
        if rate != RATES[0] and not pending:
            break
        floor = [] if first else [FLOOR]
        results = at_rate(context, systems, [OURS, *floor, *pending], rate)
        first = first or results
        for name in list(pending):
            if results[name].sustained:
                pairs[name] = (rate, results[name], results[OURS])
                pending.remove(name)
        lines = [result.cells() for result in results.values()]
        details.append(Detail(f"{rate:,} events/s of 700 B, a fifth of them in bursts:", COLUMNS, lines))
        data[str(rate)] = [result.data() for result in results.values()]
    loaded, at_shares = loaded_rows(context, systems)
    details.append(
        Detail(
            "Ours at shares of its capacity, even and random arrivals in turns:",
            COLUMNS,
            [result.cells() for result in at_shares],
        )
    )
    data["loaded"] = [result.data() for result in at_shares]
    mixed, result = mixed_row(context)
    data["mixed"] = result.data()
    rows = [*own_rows(first[OURS]), first[FLOOR].tail_row("the machine's floor, two threads that do nothing")]
    rows += [ratio_row(name, systems.absent, pairs) for name in COMPARED]
    rows += [same_work_row(first), *loaded, mixed]
    curves = {name: result.latency for name, result in first.items() if result.sustained}
    what = f"{RATES[0]:,} events of 700 B a second, a fifth of them in bursts: the systems that sustain it"
    picture = pictures.latencies("latency", what, curves)
    title = "Latency under bursts: applied minus intended, in process, 2 cores"
    return Table(title, rows, details, data, [picture])
