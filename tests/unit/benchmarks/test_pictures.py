"""What the pictures of results show, read back from their text."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from frame import peers, pictures
from frame.histograms import Histogram
from frame.load import FLOOR, OURS, WORK_STEALING

QUICK = Histogram(Counter({1_000: 990, 100_000: 10}), 100_000)
SLOW = Histogram(Counter({50_000: 1_000}), 50_000)


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_a_picture_of_latencies_names_each_system_and_its_axes() -> None:
    picture = pictures.latencies("latency", "A title", {OURS: QUICK, FLOOR: QUICK, "go-std": SLOW})
    assert picture.file_name == "latency.svg"
    assert "Generated" in picture.svg.splitlines()[1]
    shown = texts(picture.svg)
    assert {"A title", OURS, FLOOR, "go-std", "99.9", "applied minus intended, ms"} <= set(shown)
    assert (
        picture.svg
        == pictures.latencies("latency", "A title", {OURS: QUICK, FLOOR: QUICK, "go-std": SLOW}).svg
    )


@pytest.mark.parametrize(("total", "last_percentile"), [(10_000, 99.9), (1_000_000, 99.999)])
def test_no_percentile_is_drawn_that_a_few_chance_values_decide(total: int, last_percentile: float) -> None:
    shares = pictures.drawn_shares(total)
    assert shares == sorted(shares)
    assert shares[0] <= 0.5
    assert 100 * shares[-1] == pytest.approx(last_percentile, abs=(100 - last_percentile) / 5)
    assert total * (1 - shares[-1]) >= 10


def test_a_system_without_values_has_no_curve() -> None:
    assert pictures.drawn_shares(0) == []
    shown = texts(pictures.latencies("latency", "t", {OURS: Histogram(), "go-std": SLOW}).svg)
    assert "go-std" in shown
    assert OURS not in shown
    assert texts(pictures.latencies("latency", "t", {OURS: Histogram()}).svg)


def test_a_picture_of_rates_has_a_bar_with_its_figure_for_each_system_of_each_corpus() -> None:
    groups = {"148 B": {OURS: 4e6, "rust-tokio": 1.25e6}, "700 B": {OURS: 3e6}}
    shown = texts(pictures.rates("throughput", "t", groups).svg)
    assert {"148 B", "700 B", "4 M/s", "1.25 M/s", "3 M/s"} <= set(shown)
    assert shown.count(OURS) == 1, "in the legend"


def test_a_corpus_at_which_nothing_was_sustained_has_its_place_and_no_bars() -> None:
    shown = texts(pictures.rates("throughput", "t", {"148 B": {}}).svg)
    assert "148 B" in shown
    assert not any("M/s" in text for text in shown)


def test_each_system_has_a_colour_of_its_own() -> None:
    systems = [OURS, WORK_STEALING, FLOOR, *(peer.name for peer in peers.ALL)]
    assert sorted(pictures.COLOURS) == sorted(systems)
    assert len(set(pictures.COLOURS.values())) == len(systems)
