"""What counts as sustained, how rates are searched, and how peers are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eventengine_harness.exceptions import HarnessError
from frame import peers
from frame.context import Context
from frame.load import (
    COLUMNS,
    WORK_STEALING,
    Load,
    Result,
    achieved,
    counts,
    engine_files,
    highest_sustained,
    keeps_up,
)
from rows import latency, throughput


def document(
    offered: int = 10_000,
    completed: int | None = None,
    elapsed_seconds: float = 1.0,
    p99: int = 1_000,
    **more: Any,
) -> dict[str, Any]:
    return {
        "offered": offered,
        "completed": offered if completed is None else completed,
        "seconds": 1,
        "elapsed_nanoseconds": int(elapsed_seconds * 1e9),
        "overrun": False,
        "output_bytes": 7,
        "peak_rss_bytes": 1_000_000,
        "latency": {"counts": [[p99, offered]], "max": p99},
        "disturbance": {
            "quiet": True,
            "hiccups": {"p999": 5_000, "max": 9_000},
            "round_trip_nanoseconds": [510, 510],
        },
        **more,
    }


def result(system: str = "eventengine", **fields: Any) -> Result:
    return Result(system, [document(**fields)])


def test_a_rate_is_sustained_if_the_last_event_came_out_in_time() -> None:
    assert keeps_up(document(elapsed_seconds=1.0009))
    assert not keeps_up(document(elapsed_seconds=1.002)), "0.998 of the rate"
    assert not keeps_up(document(completed=9_999)), "one was lost"
    assert not keeps_up(document(overrun=True)), "it was given up"
    assert not keeps_up(document(offered=0)), "nothing was sent"
    assert achieved(document(elapsed_seconds=2.0)) == pytest.approx(5_000)


def test_runs_of_one_system_are_merged_and_one_that_failed_loses_the_rate() -> None:
    merged = Result.merged([result(p99=100), result(p99=900), result(elapsed_seconds=2.0)])
    assert not merged.sustained
    assert merged.latency.total == 30_000
    assert merged.latency.quantile(0.34) == 900
    assert merged.achieved_per_second == pytest.approx(10_000)
    assert len(merged.cells()) == len(COLUMNS)


def test_a_figure_that_one_run_did_not_report_is_an_error_and_no_zero() -> None:
    with pytest.raises(HarnessError, match="native_resident_bytes"):
        Result("x", [document(native_resident_bytes=1), document(native_resident_bytes=None)]).most(
            "native_resident_bytes"
        )


def test_the_sweep_falls_from_the_capacity_to_the_first_rate_that_is_sustained() -> None:
    asked: list[int] = []

    def run(rate: int, short: bool) -> Result:
        asked.append(rate)
        assert short == (rate == 0)
        if rate == 0:
            return result(offered=100_000)
        return result(offered=rate, elapsed_seconds=1.0 if rate <= 80_000 else 1.1)

    capacity, best = highest_sustained(run, (0.95, 0.9, 0.8, 0.7))
    assert asked == [0, 95_000, 90_000, 80_000]
    assert capacity.achieved_per_second == pytest.approx(100_000)
    assert best is not None
    assert best.offered_per_second == 80_000


@pytest.mark.parametrize(
    ("limit", "asked", "found"),
    [
        (125_000, [0, 100_000, 110_000, 120_000, 140_000], 120_000),
        (1_000_000, [0, 100_000, 110_000, 120_000, 140_000], 140_000),
        (96_000, [0, 100_000, 95_000], 95_000),
    ],
)
def test_a_system_that_sustains_more_than_it_takes_with_a_full_queue_is_asked_for_more(
    limit: int, asked: list[int], found: int
) -> None:
    rates: list[int] = []

    def run(rate: int, short: bool) -> Result:
        rates.append(rate)
        if short:
            return result(offered=100_000)
        return result(offered=rate, elapsed_seconds=1.0 if rate <= limit else 1.1)

    _, best = highest_sustained(run, (1.4, 1.2, 1.1, 1.0, 0.95, 0.9))
    assert rates == asked
    assert best is not None
    assert best.offered_per_second == found


def test_a_system_that_sustains_nothing_has_no_rate() -> None:
    _, best = highest_sustained(
        lambda rate, _: result(offered=max(rate, 10_000), elapsed_seconds=3), (0.9, 0.5)
    )
    assert best is None


@pytest.mark.parametrize(
    ("rate", "elapsed_seconds", "quiet", "for_rate_alone", "expected"),
    [
        (10_000, 1.0, True, False, True),
        (10_000, 1.0, False, False, False),
        (10_000, 1.0, False, True, True),
        (10_000, 2.0, False, True, False),
        (10_000, 2.0, True, True, True),
        (0, 2.0, False, True, True),
    ],
)
def test_a_stalled_run_is_repeated_unless_it_shows_the_rate_that_was_asked_for(
    rate: int, elapsed_seconds: float, quiet: bool, for_rate_alone: bool, expected: bool
) -> None:
    run = document(elapsed_seconds=elapsed_seconds, disturbance={"quiet": quiet})
    assert counts(run, rate, for_rate_alone=for_rate_alone) is expected


def test_every_system_takes_the_same_arguments() -> None:
    load = Load(Path("f.jsonl"), 100, 2, 1, 5)
    assert [str(word) for word in load.arguments()] == [
        *("--file", "f.jsonl", "--rate", "100", "--burst", "5", "--seconds", "2", "--warmup", "1")
    ]


def test_the_measured_engine_is_told_in_the_form_of_the_contract(tmp_path: Path) -> None:
    flags = engine_files(tmp_path, 512)
    config = json.loads(Path(flags[1]).read_text())
    identity = json.loads(Path(flags[3]).read_text())
    assert (flags[0], flags[2]) == ("--config", "--identity")
    assert config["buffer_pool"] == {"chunk_bytes": 1024, "chunks": 512}
    assert identity["pinning"] == "Required"
    assert config["executor"] == "pinned"
    other = json.loads(Path(engine_files(tmp_path, 512, "work-stealing")[1]).read_text())
    assert other == {**config, "executor": "work-stealing"}


def test_the_best_peer_is_the_one_with_the_highest_rate_and_none_of_ours() -> None:
    found = {
        "eventengine": [result(offered=30_000)],
        WORK_STEALING: [result(WORK_STEALING, offered=15_000)],
        "slow": [result("slow", offered=1_000), result("slow", offered=2_000)],
        "fast": [result("fast", offered=9_000), None],
        "none": [None, None],
    }
    assert throughput.best_peer(found) == "fast"
    assert throughput.best_peer({"eventengine": [result()], "none": [None]}) is None


def test_executors_stand_beside_each_other_and_neither_gates() -> None:
    best = {"eventengine": result(offered=30_000), WORK_STEALING: result(WORK_STEALING, offered=15_000)}
    row = throughput.executors_row("148 B", best)
    assert (row.reached, row.holds) == ("0.5×", None)
    assert throughput.executors_row("148 B", {**best, "eventengine": None}).reached == "none found"


@pytest.mark.parametrize(
    ("system", "long", "seconds"), [("java-g1", False, 2), ("rust-tokio", False, 1), ("rust-tokio", True, 3)]
)
def test_a_search_warms_up_longer_where_compilers_run_beside(
    tmp_path: Path, system: str, long: bool, seconds: int
) -> None:
    assert throughput.warmup_seconds(Context("throughput", long, tmp_path, tmp_path), system) == seconds


def test_throughput_is_the_median_of_the_pairs_ratios_and_their_spread_is_told() -> None:
    rates = ((30_000, 10_000), (20_000, 10_000), (40_000, 8_000))
    pairs = [(result(offered=ours), result("fast", offered=peer)) for ours, peer in rates]
    row = throughput.ratio_row("148 B", [*pairs, (None, result("fast"))], {"gone": "no JDK"})
    assert row.holds
    assert row.reached == "3×"
    assert "30,000 events/s against fast's 10,000" in row.note
    assert "3 of 4 pairs, whose ratios were 2 to 5×" in row.note
    assert "gone" in row.note
    assert throughput.ratio_row("148 B", pairs[1:2], {}).holds is False
    assert throughput.ratio_row("148 B", [], {}).holds is False


def test_each_pair_stands_by_itself_with_the_cpus_round_trips_beside_it() -> None:
    near = {"quiet": True, "hiccups": {"p999": 5_000}, "round_trip_nanoseconds": [105, 110]}
    pairs = [
        (result(offered=30_000, disturbance=near), result("fast", offered=10_000)),
        (None, result("fast", offered=10_000)),
    ]
    assert throughput.pairs_detail("148 B", pairs).rows == [
        ["1", "30,000", "10,000", "3×", "105 to 510 ns"],
        ["2", "none found", "10,000", "", "510 ns"],
    ]


def test_latency_is_compared_only_at_a_rate_that_the_peer_sustains() -> None:
    ours, peer = result(p99=100), result("go-std", p99=1_100)
    assert latency.ratio_row("go-std", {}, {"go-std": (120_000, peer, ours)}).holds
    lower = latency.ratio_row("go-std", {}, {"go-std": (60_000, peer, ours)})
    assert "120,000 it can't sustain" in lower.note
    assert latency.ratio_row("go-std", {}, {}).holds is False
    assert latency.ratio_row("go-std", {"go-std": "no Go"}, {}).note == "no Go"


def test_a_percentile_without_samples_is_lost_and_so_is_one_of_a_rate_that_was_not_sustained() -> None:
    held = result(p99=100_000).latency_row("p99", "p99", 0.2, "the article: 1 ms")
    assert (held.reached, held.holds, held.gates) == ("0.1 ms", True, False)
    late = result(p99=100_000, elapsed_seconds=2.0).latency_row("p99", "p99", 0.2)
    assert late.holds is False
    assert "not sustained" in late.note
    given_up = result(overrun=True, latency={"counts": [], "max": 0}).latency_row("p99", "p99", 0.2)
    assert (given_up.reached, given_up.holds) == ("not measured", False)
    assert "given up" in given_up.note


def test_a_run_that_was_given_up_in_its_warm_up_shows_the_rate_that_was_meant_and_no_latencies() -> None:
    run = result(offered=600, rate=4_000_000, overrun=True, latency={"counts": [], "max": 0})
    cells = dict(zip(COLUMNS, run.cells(), strict=True))
    assert cells["offered/s"] == "4,000,000"
    assert {cells[name] for name in ("p50", "p99", "p99.9", "max")} == {"not measured"}
    row = run.tail_row("80% of the capacity")
    assert (row.reached, row.holds) == ("not measured", None)
    assert row.note == "the run was given up: the rate is not sustained"


def test_a_tail_is_shown_with_the_figures_around_it_and_whether_the_rate_was_sustained() -> None:
    assert result(p99=2_000).tail_row("x").cells()[:2] == ["x: p99", "0.002 ms"]
    assert result(p99=2_000).tail_row("x").note == "p50 0.002 ms, p99.9 0.002 ms, max 0.002 ms"
    assert result(overrun=True).tail_row("x").note.endswith("; not sustained")


def test_systems_that_did_other_work_lose_the_row() -> None:
    same = {"a": result("a"), "b": result("b"), "c": result("c", overrun=True, output_bytes=1)}
    assert latency.same_work_row(same).holds
    assert not latency.same_work_row({**same, "d": result("d", output_bytes=8)}).holds


@pytest.mark.parametrize(
    ("text", "version"),
    [('openjdk version "17.0.15" 2025-04-15', 17), ('openjdk version "25" 2025-09-16 LTS', 25)],
)
def test_a_jdk_tells_its_feature_release(text: str, version: int) -> None:
    assert peers.java_version(text) == version


def test_a_jar_with_another_hash_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"x")
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    peers._checked_jars(tmp_path, f"{digest}  a.jar\n")
    with pytest.raises(HarnessError, match=r"a\.jar"):
        peers._checked_jars(tmp_path, f"{'0' * 64}  a.jar\n")
    with pytest.raises(HarnessError, match=r"b\.jar"):
        peers._checked_jars(tmp_path, f"{digest}  a.jar\n{digest}  b.jar\n")
