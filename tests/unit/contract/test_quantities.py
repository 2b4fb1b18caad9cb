"""Durations and quantities are exact, and refuse what they can't mean."""

from __future__ import annotations

import pytest
from eventengine_contract.quantities import format_duration, parse_duration, parse_quantity_millis
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("100ms", 100_000_000), ("15s", 15_000_000_000), ("1m30s", 90_000_000_000), ("1.5us", 1500), ("0s", 0)],
)
def test_a_duration_is_read_exactly(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "5 s", "-1s", "1d", "s", "1s ", None, True, 1.5, "9" * 40 + "s"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**15))
def test_a_printed_duration_reads_back_as_itself(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("500", 500_000),
        ("250m", 250),
        ("0.8", 800),
        ("2Gi", 2**31 * 1000),
        ("1k", 1_000_000),
        (1, 1000),
        ("0.0001", 1),
    ],
)
def test_a_quantity_is_read_in_thousandths_rounded_up(text: object, millis: int) -> None:
    assert parse_quantity_millis(text) == millis


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1KB", "x", True, None])
def test_what_is_no_quantity_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity_millis(text)
