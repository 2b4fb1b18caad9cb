"""The pure parts of the benchmark frame: tables, histograms, pressure, corpora, alternation."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from eventengine_harness.exceptions import HarnessError
from frame import corpora, machine, pressure, programs
from frame.context import alternating
from frame.histograms import Histogram
from frame.priorities import foremost
from frame.tables import Detail, Row, Table, quantity, span


def test_a_row_holds_within_its_margin_and_says_which() -> None:
    row = Row.at_least("ratio", 2.9, 3.0, "×", margin=0.05)
    assert row.holds
    assert row.cells() == ["ratio", "2.9×", "≥ 3×", "5%", "yes", ""]
    assert Row.at_least("ratio", 2.8, 3.0, "×", margin=0.05).holds is False
    assert Row.at_most("p99", 0.21, 0.2, "ms").holds is False
    assert Row.at_most("allocations", 0, 0, "B").holds


def test_a_lost_row_stays_in_the_table_and_loses_it_only_if_it_gates() -> None:
    won = Row.at_least("ratio", 4, 3, "×")
    lost = Row.at_most("p99", 3, 1, "ms", gates=False)
    assert Table("t", [won, lost, Row.shown("rate", 5.0, "events/s")]).holds
    missed = Table("t", [won, Row.missed("peer", "≥ 3×", "no Java here")])
    assert not missed.holds
    assert "| peer | not measured | ≥ 3× |  | **no** | no Java here |" in missed.to_markdown()


def test_a_table_keeps_its_details_and_its_data() -> None:
    table = Table("Title", [Row.shown("a", "b|c")], [Detail("By system:", ["x"], [["1"]])], {"raw": [1]})
    assert table.to_markdown().splitlines()[0] == "### Title"
    assert "b\\|c" in table.to_markdown()
    assert "| x |\n|---|\n| 1 |" in table.to_markdown()
    document = json.loads(json.dumps(table.to_json()))
    assert document["data"] == {"raw": [1]}
    assert document["rows"][0]["holds"] is None


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.12345, "ms", "0.123 ms"),
        (12.34, "ms", "12.3 ms"),
        (120_000.4, "events/s", "120,000 events/s"),
        (32, "MB", "32 MB"),
    ],
)
def test_quantities_show_the_digits_that_mean_something(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_a_span_shows_its_ends_and_one_figure_only_once() -> None:
    assert span([510, 105, 110], "ns") == "105 to 510 ns"
    assert span([2.004, 2.001], "×") == "2×"
    assert span([], "ns") == ""


def test_merged_histograms_give_the_percentiles_of_all_runs_together() -> None:
    quiet = Histogram.read({"counts": [[10, 990], [20, 10]], "max": 20})
    loud = Histogram.read({"counts": [[10, 900], [5000, 100]], "max": 5003})
    both = Histogram.merged([quiet, loud])
    assert both.total == 2000
    assert both.quantile(0.5) == 10
    assert both.quantile(0.95) == 20
    assert both.quantile(0.99) == 5000
    assert both.figures() == {"count": 2000, "p50": 10, "p99": 5000, "p999": 5000, "max": 5003}


def test_a_histogram_without_values_has_percentiles_of_zero() -> None:
    assert Histogram().quantile(0.99) == 0


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="no negative"):
        Histogram.read({"counts": [[10, -1]], "max": 10})


def a_meter(folder: Path, metering: str) -> Path:
    """Stands in for the meter; it counts the round trips that are asked for, and refuses them beside its metering."""
    meter = folder / "meter"
    meter.write_text(
        f"""#!/bin/sh
cd {folder}
if [ "$1" = --round-trip ]; then
    [ -e metering ] && exit 3
    echo asked >> asked
    echo '{{"round_trip_nanoseconds": '$(wc -l < asked)'}}'
    exit
fi
touch metering
{metering}
"""
    )
    meter.chmod(0o755)
    return meter


def test_the_round_trip_is_measured_before_and_after_the_run_and_never_beside_it(tmp_path: Path) -> None:
    document = '{"hiccups": {"counts": [[7, 1]], "max": 7}, "real_time": true}'
    meter = a_meter(tmp_path, f"cat; rm metering; echo '{document}'")
    with pressure.Disturbance(meter) as disturbance:
        assert (tmp_path / "asked").read_text() == "asked\n"
    assert disturbance.report["round_trip_nanoseconds"] == [1, 2]
    assert disturbance.report["quiet"]


@pytest.mark.parametrize(
    ("counts", "is_quiet"), [([[999_000, 5]], True), ([[2_000_000, 5]], False), ([], False)]
)
def test_a_run_is_quiet_only_if_the_meter_had_its_turns_and_in_time(
    tmp_path: Path, counts: list[list[int]], is_quiet: bool
) -> None:
    document = json.dumps({"hiccups": {"counts": counts, "max": 2_000_000}, "real_time": True})
    with pressure.Disturbance(a_meter(tmp_path, f"cat; rm metering; echo '{document}'")) as disturbance:
        pass
    assert disturbance.report["quiet"] is is_quiet


def test_an_interrupt_that_ends_the_meter_as_well_is_still_an_interrupt(tmp_path: Path) -> None:
    meter = a_meter(tmp_path, "exit 130")
    with pytest.raises(KeyboardInterrupt), pressure.Disturbance(meter) as disturbance:
        raise KeyboardInterrupt
    assert disturbance.report == {}


def test_pressure_and_stolen_time_become_shares_of_the_run() -> None:
    text = (
        "some avg10=1.00 avg60=0.00 avg300=0.00 total=5000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
    )
    assert pressure.stalled_microseconds(text) == 5000
    assert pressure.stolen_ticks("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1") == 8
    before = {"at_seconds": 10.0, "cpu_stall_microseconds": 0.0, "steal_microseconds": 50.0}
    after = {"at_seconds": 12.0, "cpu_stall_microseconds": 20_000.0, "steal_microseconds": 50.0}
    assert pressure.shares(before, after) == {"cpu_stall_percent": 1.0, "steal_percent": 0.0}
    with pytest.raises(ValueError, match="no `some` line"):
        pressure.stalled_microseconds("full total=1")


@pytest.mark.parametrize("name", list(corpora.CORPORA))
def test_a_corpus_is_the_same_every_time_and_has_the_size_in_its_name(name: str) -> None:
    payloads = list(corpora.payloads(name))
    assert payloads == list(corpora.payloads(name))
    assert len(payloads) == corpora.EVENTS
    wanted = int(name.rpartition("-")[2])
    assert abs(statistics.mean(len(payload) for payload in payloads) - wanted) < 2
    assert all(len(payload) <= 1024 for payload in payloads), "a payload fits the smallest pool chunk"


@pytest.mark.parametrize("name", list(corpora.CORPORA))
def test_the_shuffled_variant_says_the_same_in_another_order(name: str) -> None:
    plain = list(corpora.payloads(name, events=50))
    shuffled = list(corpora.payloads(name, events=50, shuffled=True))
    assert [json.loads(payload) for payload in plain] == [json.loads(payload) for payload in shuffled]
    orders = {tuple(json.loads(payload)) for payload in shuffled}
    assert len(orders) > 40
    assert len({tuple(json.loads(payload)) for payload in plain}) == 1


def test_the_text_corpus_escapes_and_goes_beyond_ascii() -> None:
    text = b"".join(corpora.payloads("text-690", events=200))
    assert all(escape in text for escape in (b'\\"', b"\\n", b"\\u0001", b"\\\\", "\u65e5".encode()))


def test_an_unknown_corpus_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="flat-148"):
        list(corpora.payloads("flat"))


def test_a_damaged_corpus_file_is_written_anew(tmp_path: Path) -> None:
    path = corpora.file(tmp_path, "flat-148")
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    assert corpora.file(tmp_path, "flat-148").read_bytes() == content
    assert len(content.splitlines()) == corpora.EVENTS


def test_systems_alternate_and_none_is_always_first() -> None:
    order: list[tuple[str, int]] = []

    def measure(system: str, number: int) -> dict[str, Any]:
        order.append((system, number))
        return {"system": system}

    results = alternating(["a", "b", "c"], 2, measure)
    assert order == [("a", 0), ("b", 0), ("c", 0), ("b", 1), ("c", 1), ("a", 1)]
    assert {system: len(runs) for system, runs in results.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_debug_build_is_not_measured() -> None:
    assert programs.document_of('{"profile": "release", "x": 1}', ["p"])["x"] == 1
    with pytest.raises(HarnessError, match="dev build"):
        programs.document_of('{"profile": "dev"}', ["p"])
    with pytest.raises(HarnessError, match="no JSON document"):
        programs.document_of("panic", ["p"])


def test_cachegrind_totals_are_read_by_name() -> None:
    text = (
        "desc: x\nevents: Ir I1mr ILmr Dr D1mr DLmr Dw D1mw DLmw\nfn=main\nsummary: 100 1 2 30 4 5 20 6 7\n"
    )
    assert programs.cachegrind_totals(text) == {
        "instructions": 100,
        "first_level_misses": 11,
        "last_level_misses": 14,
    }
    with pytest.raises(ValueError, match="no summary"):
        programs.cachegrind_totals("events: Ir\n")


def test_a_tool_that_is_not_there_is_called_absent() -> None:
    assert machine.version_of(["no-such-tool-anywhere", "--version"]) == "absent"
    assert machine.first_field("a: 1\nmodel name\t: X\n", "model name") == "X"


def test_a_measured_program_goes_before_other_sessions_and_what_was_before_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    group = tmp_path / "autogroup"
    group.write_text("/autogroup-7 nice 5\n")

    def run_that_fails() -> None:
        with foremost(group) as (niceness, prefix):
            assert (niceness, prefix[0]) == (-20, "nice")
            assert group.read_text() == "-20"
            raise HarnessError("no result")

    with pytest.raises(HarnessError):
        run_that_fails()
    assert group.read_text() == "5"


@pytest.mark.parametrize(
    ("user", "files", "niceness"), [(1000, ["autogroup"], 0), (0, [], -20)], ids=["no right", "no groups"]
)
def test_priority_is_left_as_it_is_without_the_right_or_without_groups(
    user: int, files: list[str], niceness: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    for name in files:
        (tmp_path / name).write_text("/autogroup-7 nice 0\n")
    with foremost(tmp_path / "autogroup") as (given, prefix):
        assert given == niceness
        assert bool(prefix) == bool(niceness)
    assert [file.name for file in tmp_path.iterdir()] == files
    assert all((tmp_path / name).read_text() == "/autogroup-7 nice 0\n" for name in files)
