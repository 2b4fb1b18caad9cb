"""Label selectors mean what they mean to Kubernetes."""

from __future__ import annotations

import pytest
from eventengine_adapter.samples.label_selectors import SelectorError, parse_selector
from hypothesis import given
from hypothesis import strategies as st

LABELS = {"engine": "hunt", "partition": "7", "empty": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("   ", True),
        ("engine=hunt", True),
        ("engine==hunt", True),
        (" engine = hunt , partition = 7 ", True),
        ("engine=other", False),
        ("engine!=other", True),
        ("engine!=hunt", False),
        ("topic!=x", True),
        ("topic=x", False),
        ("engine in (a, hunt)", True),
        ("engine in (a,b)", False),
        ("engine notin (a,b)", True),
        ("topic notin (a,b)", True),
        ("engine notin (hunt)", False),
        ("engine", True),
        ("topic", False),
        ("!topic", True),
        ("! engine", False),
        ("partition>6", True),
        ("partition>7", False),
        ("partition<8", True),
        ("topic<8", False),
        ("engine>1", False),
        ("empty=", True),
        ("empty", True),
        ("engine=", False),
        ("empty in (,x)", True),
        ("engine=hunt,topic", False),
        ("in=x", False),
        ("in notin (in, notin)", True),
        ("eventengine.dev/engine!=x", True),
        ("engine=hunt,engine=other", False),
    ],
)
def test_a_selector_matches_as_in_kubernetes(text: str, expected: bool) -> None:
    assert parse_selector(text).matches(LABELS) is expected


@pytest.mark.parametrize(
    "text",
    [
        "=x",
        ",",
        "a,",
        ",a",
        "a=b=c",
        "a in b",
        "a in ()",
        "a in (b",
        "a b",
        "!a=b",
        "a>x",
        "a<",
        "a=(b)",
        "-a=b",
        "a=-b",
        "UPPER.example/a=b",
        "a/b/c=d",
        "/a=b",
        "a=" + "x" * 64,
        "a in (b c)",
        "a=ü",
        "a," * 5000 + "a",
    ],
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(SelectorError):
        parse_selector(text)


@given(st.text(alphabet="ab=!<>(), in/.-", max_size=40))
def test_any_text_is_a_selector_or_an_error_and_never_anything_else(text: str) -> None:
    try:
        selector = parse_selector(text)
    except SelectorError:
        return
    assert selector.matches({"a": "b"}) in {True, False}


def test_a_selector_is_echoed_as_the_object_it_came_from() -> None:
    selector = parse_selector("topic=hunt,partition in (1,2),!class,pod!=a")

    assert selector.to_object() == {
        "matchLabels": {"topic": "hunt"},
        "matchExpressions": [
            {"key": "partition", "operator": "In", "values": ["1", "2"]},
            {"key": "class", "operator": "DoesNotExist"},
            {"key": "pod", "operator": "NotIn", "values": ["a"]},
        ],
    }
    assert parse_selector("").to_object() is None
    assert parse_selector("a>1").to_object() is None


def test_conditions_are_bounded_and_values_are_found_at_once_however_many_there_are() -> None:
    """An answer has thousands of items, and each is held against each condition."""
    with pytest.raises(SelectorError, match="may have 64 conditions"):
        parse_selector(",".join(["a"] * 65))
    assert parse_selector(",".join(["a"] * 64)).matches({"a": ""})

    many = ",".join(str(number) for number in range(1500))
    assert parse_selector(f"partition in ({many})").matches({"partition": "1499"})
    assert not parse_selector(f"partition notin ({many})").matches({"partition": "1499"})
