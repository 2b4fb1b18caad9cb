"""One HTTP answer out of bytes: every framing that a pod may use, and nothing that a hostile one may send."""

from __future__ import annotations

import http.client
import io

import pytest
from eventengine_adapter.sources.http_answers import (
    HEAD_BYTES_MAX,
    Answer,
    AnswerError,
    AnswerTooLargeError,
)
from hypothesis import given
from hypothesis import strategies as st

BODY_MAX = 4096
BODY = b'{"version": 1}'
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nDate: now\r\n\r\n" % len(BODY) + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\n%b\r\n%x\r\n%b\r\n0\r\nTrailer: x\r\n\r\n"
    % (
        BODY[:5],
        len(BODY) - 5,
        BODY[5:],
    )
)
UNTIL_END = b"HTTP/1.0 200 OK\r\n\r\n" + BODY


def fed(data: bytes, sizes: list[int] | None = None) -> Answer:
    """An answer after all of `data`, in pieces of these sizes and then the rest."""
    answer = Answer(BODY_MAX)
    for size in sizes or []:
        answer.feed(data[:size])
        data = data[size:]
    answer.feed(data)
    return answer


def feed_all(answer: Answer, pieces: list[bytes]) -> None:
    for piece in pieces:
        answer.feed(piece)


@pytest.mark.parametrize("data", [SIZED, CHUNKED])
@given(sizes=st.lists(st.integers(1, 12), max_size=60))
def test_a_whole_answer_is_the_same_however_it_arrives(data: bytes, sizes: list[int]) -> None:
    answer = fed(data, sizes)

    assert (answer.whole, answer.status, bytes(answer.body), answer.keeps_alive) == (True, 200, BODY, True)


@given(sizes=st.lists(st.integers(1, 12), max_size=30))
def test_an_answer_without_a_length_ends_with_the_connection(sizes: list[int]) -> None:
    answer = fed(UNTIL_END, sizes)

    assert not answer.whole
    assert answer.end()
    assert (bytes(answer.body), answer.keeps_alive) == (BODY, False)


@pytest.mark.parametrize("data", [SIZED, CHUNKED])
@given(missing=st.integers(1, 60))
def test_an_answer_that_is_cut_off_is_never_whole(data: bytes, missing: int) -> None:
    answer = fed(data[:-missing])

    assert not answer.whole
    assert not answer.end()


@given(
    st.lists(st.binary(max_size=80), max_size=8), st.sampled_from([b"", SIZED[:40], CHUNKED[:60], UNTIL_END])
)
def test_garbage_is_refused_or_awaited_and_holds_no_more_than_its_bound(
    pieces: list[bytes], begun: bytes
) -> None:
    answer = Answer(64)
    try:
        for piece in [begun, *pieces]:
            answer.feed(piece)
            assert len(answer.body) <= 64
            assert len(answer._buffer) <= HEAD_BYTES_MAX + len(piece)
        answer.end()
    except AnswerError:
        assert len(answer.body) <= 64


class Wire:
    """A socket that has all bytes at once, for the standard library's client."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


@pytest.mark.parametrize("data", [SIZED, CHUNKED])
@given(position=st.integers(0, 90), damage=st.binary(min_size=1, max_size=3))
def test_what_is_accepted_of_a_damaged_answer_is_what_another_client_reads(
    data: bytes, position: int, damage: bytes
) -> None:
    data = data[:position] + damage + data[position + len(damage) :]
    answer = Answer(BODY_MAX)
    try:
        if not answer.feed(data) or not answer.keeps_alive:
            return
    except AnswerError:
        return
    other = http.client.HTTPResponse(Wire(data))  # type: ignore[arg-type]
    other.begin()
    assert (other.status, other.read()) == (answer.status, bytes(answer.body))


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2 200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 200 OK\nContent-Length: 0",
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.1 600 Beyond",
        b"GET / HTTP/1.1",
        b"\x16\x03\x01",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x10",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip",
        b"HTTP/1.1 200 OK\r\nContent-Length : 1",
        b"HTTP/1.1 200 OK\r\n folded: 1",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\nName: a\x00b",
    ],
)
def test_what_is_ambiguous_or_malformed_is_refused(head: bytes) -> None:
    with pytest.raises(AnswerError):
        fed(head + b"\r\n\r\n")


@pytest.mark.parametrize("size", [b"g", b"-1", b"", b"+5", b"5 5", b"123456789", b" 5"])
def test_a_chunk_without_a_proper_size_is_refused(size: bytes) -> None:
    with pytest.raises(AnswerError):
        fed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nhello\r\n")


def test_a_chunk_that_is_longer_than_it_says_is_refused() -> None:
    with pytest.raises(AnswerError, match="longer than it says"):
        fed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n")


def test_a_body_that_is_too_large_is_refused_before_any_of_it_arrives() -> None:
    with pytest.raises(AnswerTooLargeError):
        fed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BODY_MAX + 1))


def test_chunks_that_add_up_to_too_much_are_refused() -> None:
    answer = fed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    for _ in range(BODY_MAX // 1024):
        answer.feed(chunk)

    with pytest.raises(AnswerTooLargeError):
        answer.feed(chunk)


def test_a_body_without_end_or_length_is_refused_at_its_bound() -> None:
    answer = fed(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * BODY_MAX)

    with pytest.raises(AnswerTooLargeError):
        answer.feed(b"x")


@pytest.mark.parametrize(
    "endless", [b"HTTP/1.1 200 " + b"O" * 70_000, b"HTTP/1.1 200 OK\r\n" + b"Name: value\r\n" * 7000]
)
def test_a_head_without_end_is_refused_at_its_bound(endless: bytes) -> None:
    pieces = [endless[start : start + 1000] for start in range(0, len(endless), 1000)]

    with pytest.raises(AnswerError, match="head has more than"):
        feed_all(Answer(BODY_MAX), pieces)


def test_trailers_without_end_are_refused_at_their_bound() -> None:
    answer = fed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")

    with pytest.raises(AnswerError):
        feed_all(answer, [b"Name: value\r\n"] * HEAD_BYTES_MAX)


@pytest.mark.parametrize("code", [204, 304])
def test_some_answers_have_no_body_whatever_they_say(code: int) -> None:
    answer = fed(b"HTTP/1.1 %d Nothing\r\nContent-Length: 5\r\n\r\n" % code)

    assert answer.whole
    assert not answer.body


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nConnection: keep-alive, Close", b"HTTP/1.0 200 OK"])
def test_a_connection_that_the_pod_ends_is_not_used_again(head: bytes) -> None:
    answer = fed(head + b"\r\nContent-Length: 2\r\n\r\n{}")

    assert answer.whole
    assert not answer.keeps_alive


def test_bytes_after_an_answer_belong_to_no_other_and_end_the_connection() -> None:
    answer = fed(SIZED + SIZED)

    assert bytes(answer.body) == BODY
    assert not answer.keeps_alive
