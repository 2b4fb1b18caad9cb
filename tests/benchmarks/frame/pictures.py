"""Pictures of results: latencies by percentile, and rates as bars.

Owns how they look: one colour for a system wherever it appears, ours drawn last and thickest, what is no system (the
machine's floor) dashed. A picture is text (SVG) and the same for the same figures. Reads no files and writes none.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frame import peers
from frame.histograms import Histogram
from frame.load import FLOOR, OURS, WORK_STEALING
from frame.tables import Picture, quantity

INCHES: Final = (9.0, 5.0)
in_our_style: Final = mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "eventengine", "font.size": 10})
PEERS_COLOURS: Final = ("#56b4e9", "#0072b2", "#f0b000", "#a6761d", "#009e73", "#cc79a7")
"""Told apart by people who see few colours, too (after Okabe and Ito)."""
COLOURS: Final[Mapping[str, str]] = {
    OURS: "#d55e00",
    WORK_STEALING: "#eeaf80",
    FLOOR: "#777777",
    **dict(zip((peer.name for peer in peers.ALL), PEERS_COLOURS, strict=True)),
}
PERCENTILES: Final = ("50", "90", "99", "99.9", "99.99", "99.999", "99.9999")
NINES_MIN: Final = 0.3
POINTS_PER_NINE: Final = 20
FEWEST_BEYOND: Final = 10
"""Values beyond the last percentile that is drawn: fewer are chance."""


@in_our_style
def latencies(name: str, title: str, histograms: Mapping[str, Histogram]) -> Picture:
    """A curve for each system with values: the time that a share of its events did not exceed; logarithmic axes."""
    figure, axes = blank(title)
    for system, histogram in histograms.items():
        shares = drawn_shares(histogram.total)
        if not shares:
            continue
        axes.plot(
            [1 / (1 - share) for share in shares],
            [max(histogram.quantile(share), 1) / 1e6 for share in shares],
            label=system,
            color=COLOURS[system],
            linestyle="--" if system == FLOOR else "-",
            linewidth=3 if system == OURS else 1.5,
            zorder=3 if system == OURS else 2,
        )
    axes.set(xscale="log", yscale="log", xlabel="percentile", ylabel="applied minus intended, ms")
    axes.set_xticks([1 / (1 - float(mark) / 100) for mark in PERCENTILES], PERCENTILES)
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    figure.legend(handles=axes.lines, frameon=False, fontsize="small", loc="outside right upper")
    return Picture(name, title, drawn(figure))


@in_our_style
def rates(name: str, title: str, groups: Mapping[str, Mapping[str, float]]) -> Picture:
    """A group of bars for each corpus, one for each system, events per second."""
    figure, axes = blank(title)
    systems = list(dict.fromkeys(system for group in groups.values() for system in group))
    height = 0.8 / len(systems)
    for place, system in enumerate(systems):
        known = [(number, group[system]) for number, group in enumerate(groups.values()) if system in group]
        bars = axes.barh(
            [number + (place - (len(systems) - 1) / 2) * height for number, _ in known],
            [rate / 1e6 for _, rate in known],
            height,
            label=system,
            color=COLOURS[system],
        )
        texts = [quantity(rate / 1e6, "M/s") for _, rate in known]
        axes.bar_label(bars, texts, padding=3, fontsize="x-small")
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.set(xlabel="million events per second")
    axes.grid(visible=False, axis="y")
    axes.legend(frameon=False, fontsize="small", loc="lower right")
    return Picture(name, title, drawn(figure))


def drawn_shares(total: int) -> list[float]:
    """Shares from the lowest percentile that is drawn to the last one that enough values lie beyond."""
    shares: list[float] = []
    while True:
        share = 1 - 10 ** -(NINES_MIN + len(shares) / POINTS_PER_NINE)
        if total * (1 - share) < FEWEST_BEYOND:
            return shares
        shares.append(share)


def blank(title: str) -> tuple[Figure, Axes]:
    """A picture without anything in it."""
    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize="medium", loc="left")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def drawn(figure: Figure) -> str:
    """The picture as SVG, without a date."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
