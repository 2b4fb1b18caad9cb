"""What a Prometheus endpoint says becomes a value, or a reason why there is none; never a number that was made up."""

from __future__ import annotations

from collections import defaultdict

import pytest
from eventengine_adapter.samples.endpoint_values import (
    SERIES_MAX,
    CounterHistory,
    EndpointValues,
    endpoint_values,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_795_255_200


class Endpoint:
    """One pod's endpoint, read second after second."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.counters: defaultdict[str, CounterHistory] = defaultdict(CounterHistory)

    def read(self, text: str, second: int = NOW) -> EndpointValues:
        return endpoint_values(text.encode(), self.names, self.counters, second, second + 0.2, 10)


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("queue_depth 12\n", 12_000),
        ("# HELP queue_depth Waiting.\n# TYPE queue_depth gauge\nqueue_depth 0.5\n", 500),
        ("# TYPE queue_depth gauge\nqueue_depth 0\n", 0),
        ('queue_depth{shard="a"} 1\nqueue_depth{shard="b"} 2.5\n', 3500),
        ("queue_depth_max 99\nqueue_depth 1\nmy_queue_depth 99\n", 1000),
        (f"queue_depth 7 {(NOW - 9) * 1000}\n", 7000),
        ("queue_depth 0.0001\n", 1),
        ('  queue_depth{a="} 9",b="\\n"} 3\r\n', 3000),
        ("broken {{{ line\nqueue_depth 4\n", 4000),
    ],
)
def test_a_gauge_is_what_it_says_and_several_series_are_their_sum(text: str, millis: int) -> None:
    found = Endpoint("queue_depth").read(text)

    assert found.millis == {"queue_depth": millis}
    assert found.unknown_because == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not have it"),
        ("queue_depth_other 1\n", "does not have it"),
        ("queue_depth NaN\n", "it is nan"),
        ("queue_depth +Inf\n", "it is inf"),
        ('queue_depth{a="b"} 1\nqueue_depth{a="c"} -Inf\n', "it is -inf"),
        ("queue_depth -1\n", "negative"),
        ("queue_depth 1e19\n", "too large"),
        ("queue_depth 1e999\n", "it is inf"),
        ("queue_depth many\n", "no exposition format"),
        ('queue_depth{a="b 1\n', "no exposition format"),
        (f"queue_depth 7 {(NOW - 30) * 1000}\n", "its timestamp is 30 s old, limit 10 s"),
        (f"queue_depth 7 {(NOW + 30) * 1000}\n", "its timestamp is -30 s old"),
        ("queue_depth 1\nqueue_depth 2\n", "twice"),
        ("# TYPE queue_depth histogram\nqueue_depth 1\n", "it is of a histogram"),
        ("# TYPE queue_depth summary\nqueue_depth 1\n", "it is of a summary"),
        ("".join(f'queue_depth{{n="{n}"}} 1\n' for n in range(SERIES_MAX + 1)), "more than 100 series"),
        (f'queue_depth{{a="{"b" * 5000}"}} 1\n', "more than 4096 bytes"),
    ],
)
def test_what_is_no_measurement_is_unknown_with_a_reason_and_harms_no_other_metric(
    text: str, words: str
) -> None:
    found = Endpoint("queue_depth", "sound").read(f"{text}sound 1\n")

    assert found.millis == {"queue_depth": None, "sound": 1000}
    assert words in found.unknown_because["queue_depth"]


@pytest.mark.parametrize("kind", ["# TYPE orders_total counter\n", "# TYPE orders counter\n"])
def test_a_counter_is_its_rate_over_ten_seconds_and_unknown_before(kind: str) -> None:
    endpoint = Endpoint("orders_total")

    found = [endpoint.read(f"{kind}orders_total {1000 + 25 * n}\n", NOW + n) for n in range(12)]

    assert [values.millis["orders_total"] for values in found] == [None] * 10 + [25_000] * 2
    assert "not known for 10 s" in found[9].unknown_because["orders_total"]


def test_a_counter_that_was_reset_is_unknown_until_ten_seconds_are_known_again() -> None:
    endpoint = Endpoint("orders_total")
    kind = "# TYPE orders_total counter\n"
    for n in range(11):
        endpoint.read(f"{kind}orders_total {1000 + n}\n", NOW + n)

    after = [endpoint.read(f"{kind}orders_total {n}\n", NOW + 11 + n) for n in range(11)]

    assert [values.millis["orders_total"] for values in after] == [None] * 10 + [1000]


def test_a_series_that_restarts_is_seen_behind_another_one_that_grows() -> None:
    endpoint = Endpoint("orders_total")
    kind = "# TYPE orders_total counter\n"
    for n in range(11):
        endpoint.read(f'{kind}orders_total{{w="a"}} 50\norders_total{{w="b"}} {1000 * n}\n', NOW + n)

    found = endpoint.read(f'{kind}orders_total{{w="a"}} 0\norders_total{{w="b"}} 11000\n', NOW + 11)

    assert found.millis["orders_total"] is None


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("calls_seconds_count", "# TYPE calls_seconds histogram\ncalls_seconds_count 9\n", "of a histogram"),
        ("calls_seconds_sum", "# TYPE calls_seconds summary\ncalls_seconds_sum 9\n", "of a summary"),
        ("orders_total", "orders_total 9\n", "called like a counter"),
        ("orders_total", "# TYPE orders_total gauge\norders_total 9\n", "called like a counter"),
    ],
)
def test_what_only_grows_is_never_taken_for_a_level(name: str, text: str, words: str) -> None:
    found = Endpoint(name).read(text)

    assert found.millis == {name: None}
    assert words in found.unknown_because[name]


def test_after_the_clock_went_back_a_rate_is_not_made_of_two_pasts() -> None:
    endpoint = Endpoint("orders_total")
    kind = "# TYPE orders_total counter\n"
    for n in range(12):
        endpoint.read(f"{kind}orders_total {n}\n", NOW + n)

    assert endpoint.read(f"{kind}orders_total 12\n", NOW + 11).millis["orders_total"] is None


def test_a_second_that_was_missed_leaves_the_rates_that_need_it_unknown() -> None:
    endpoint = Endpoint("orders_total")
    kind = "# TYPE orders_total counter\n"
    seconds = [n for n in range(22) if n != 3]

    found = {n: endpoint.read(f"{kind}orders_total {n}\n", NOW + n).millis["orders_total"] for n in seconds}

    assert found[12] == 1000
    assert found[13] is None
    assert found[14] == 1000


@given(st.binary(max_size=400))
def test_no_text_is_a_fault_or_a_negative_value(body: bytes) -> None:
    counters: defaultdict[str, CounterHistory] = defaultdict(CounterHistory)

    found = endpoint_values(b"queue_depth " + body, ["queue_depth"], counters, NOW, NOW, 10)

    value = found.millis["queue_depth"]
    assert value is None or value >= 0
    assert (value is None) == ("queue_depth" in found.unknown_because)
