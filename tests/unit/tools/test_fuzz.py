"""What is made of the lines that a fuzzer prints."""

from __future__ import annotations

import fuzz

PANIC = """\
#2	INITED cov: 3125 ft: 9876 corp: 12/3456b exec/s: 0 rss: 68Mb
#4096	pulse  cov: 3201 ft: 9999 corp: 15/4000b lim: 256 exec/s: 2048 rss: 70Mb

thread '<unnamed>' (7) panicked at crates/eventengine-core/tests/differential/mod.rs:262:13:
refused with OutOfRange at byte 12 what the reference accepts: {"producer":1}
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
==7== ERROR: libFuzzer: deadly signal
stat::number_of_executed_units: 4711
"""


def test_a_finding_is_shown_with_the_byte_that_it_is_about() -> None:
    report = fuzz.report_of(PANIC.splitlines())
    assert (report.executions, report.coverage) == (4711, 3201)
    assert report.findings == (
        'refused with OutOfRange at byte 12 what the reference accepts: {"producer":1}',
        "libFuzzer: deadly signal",
    )


def test_a_run_that_is_not_done_says_how_far_it_is() -> None:
    assert fuzz.report_of(["   Compiling eventengine-core v0.1.0"]) == fuzz.Report(0, 0, ())
    assert fuzz.report_of(PANIC.splitlines()[:2]) == fuzz.Report(4096, 3201, ())


def test_a_run_that_found_nothing_has_no_findings() -> None:
    lines = ["#1000 DONE   cov: 12 ft: 13 corp: 2/20b lim: 6 exec/s: 0 rss: 30Mb"]
    assert fuzz.report_of([*lines, "stat::number_of_executed_units: 1000"]) == fuzz.Report(1000, 12, ())


def test_every_target_has_kept_inputs() -> None:
    assert fuzz.targets() == ["layout", "schema", "tree"]
    for target in fuzz.targets():
        assert any((fuzz.FUZZ / "corpus" / target).iterdir()), target
