"""One HTTP/1.1 answer out of bytes as they arrive: the little of the protocol that a pod's telemetry port needs.

Owns the framing: a Content-Length, chunks, or the end of the connection. What is ambiguous (two lengths, a length and
chunks, folded or malformed headers) is refused, never guessed. Ordering: a size is checked before anything of it is
kept, so that whatever a peer sends, no more is held than the head's bound, the body's, and one piece as it arrived.
Pure: it sees bytes and no connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

HEAD_BYTES_MAX: Final = 1 << 14
"""Room for a status line and headers; also for the trailers after chunks."""

_CHUNK_LINE_BYTES_MAX: Final = 256
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH: Final = re.compile(rb"[0-9]{1,12}")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_END_OF_LINE: Final = b"\r\n"
_END_OF_HEAD: Final = b"\r\n\r\n"
_WITHOUT_BODY: Final = frozenset({204, 304})


class AnswerError(Exception):
    """The bytes are no answer that is understood; the message says why."""


class AnswerTooLargeError(AnswerError):
    """The body has more bytes than may be kept."""


class Answer:
    """One answer in the making: feed it until it is whole, then read `status` and `body`."""

    __slots__ = ("_body_bytes_max", "_buffer", "_step", "_wanted", "body", "keeps_alive", "status")

    def __init__(self, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self._buffer = bytearray()
        self._step: Callable[[Answer], bool] = Answer._read_head
        self._wanted = 0
        self.status = 0
        """The status code; 0 until the head was read."""
        self.body = bytearray()
        self.keeps_alive = False
        """Whether the connection may be asked again after this answer."""

    @property
    def whole(self) -> bool:
        """Whether the answer is complete."""
        return self._step is Answer._refuse_more

    def feed(self, data: bytes | memoryview) -> bool:
        """Take what arrived; whether the answer is complete now.

        Raises:
            AnswerError: it is none, or larger than may be kept.
        """
        self._buffer += data
        # A plain function, called with the answer: a bound one would make a cycle of each answer.
        while self._step(self):
            pass
        return self.whole

    def end(self) -> bool:
        """Note that the connection has ended; whether that completes the answer."""
        if self._step is Answer._read_until_end:
            self._finish()
        return self.whole

    def _finish(self) -> bool:
        self._step = Answer._refuse_more
        # Bytes that nobody asked for: whatever they are, they are no part of the next answer.
        self.keeps_alive = self.keeps_alive and not self._buffer
        self._buffer.clear()
        return False

    def _refuse_more(self) -> bool:
        if self._buffer:
            self.keeps_alive = False
            self._buffer.clear()
        return False

    def _read_head(self) -> bool:
        end = self._buffer.find(_END_OF_HEAD)
        if end > HEAD_BYTES_MAX or (end < 0 and len(self._buffer) > HEAD_BYTES_MAX):
            raise AnswerError(f"the head has more than {HEAD_BYTES_MAX} bytes")
        if end < 0:
            return False
        lines = bytes(self._buffer[:end]).split(_END_OF_LINE)
        del self._buffer[: end + len(_END_OF_HEAD)]
        version, self.status = _status(lines[0])
        length, chunked, closes = _framing(lines[1:])
        self.keeps_alive = version == b"1" and not closes
        if self.status in _WITHOUT_BODY:
            return self._finish()
        if chunked:
            if version == b"0" or length is not None:
                raise AnswerError("it has chunks where there can be none")
            self._step = Answer._read_chunk_size
        elif length is None:
            self.keeps_alive = False
            self._step = Answer._read_until_end
        else:
            self._want(length)
            self._step = Answer._read_sized
        return True

    def _want(self, length: int) -> None:
        if len(self.body) + length > self._body_bytes_max:
            raise AnswerTooLargeError(f"it has more than {self._body_bytes_max} bytes")
        self._wanted = length

    def _read_sized(self) -> bool:
        if not self._take():
            return False
        return self._finish()

    def _take(self) -> bool:
        """Move what is wanted from the buffer into the body; whether all of it was there."""
        taken = self._buffer[: self._wanted]
        self.body += taken
        del self._buffer[: len(taken)]
        self._wanted -= len(taken)
        return self._wanted == 0

    def _read_until_end(self) -> bool:
        self._want(len(self._buffer))
        self._take()
        return False

    def _read_chunk_size(self) -> bool:
        line = self._line(_CHUNK_LINE_BYTES_MAX)
        if line is None:
            return False
        found = _CHUNK_SIZE.fullmatch(line)
        if found is None:
            raise AnswerError("a chunk has no size")
        size = int(found[1], 16)
        if size == 0:
            self._wanted = HEAD_BYTES_MAX
            self._step = Answer._read_trailer
        else:
            self._want(size)
            self._step = Answer._read_chunk
        return True

    def _read_chunk(self) -> bool:
        if not self._take():
            return False
        self._step = Answer._read_chunk_end
        return True

    def _read_chunk_end(self) -> bool:
        if len(self._buffer) < len(_END_OF_LINE):
            return False
        if not self._buffer.startswith(_END_OF_LINE):
            raise AnswerError("a chunk is longer than it says")
        del self._buffer[: len(_END_OF_LINE)]
        self._step = Answer._read_chunk_size
        return True

    def _read_trailer(self) -> bool:
        line = self._line(self._wanted)
        if line is None:
            return False
        if not line:
            return self._finish()
        # What it says is of no interest, but there is an end to it.
        self._wanted -= len(line)
        return True

    def _line(self, bytes_max: int) -> bytes | None:
        """The next line without its end; None while it isn't there yet."""
        end = self._buffer.find(_END_OF_LINE)
        if end > bytes_max or (end < 0 and len(self._buffer) > bytes_max):
            raise AnswerError("a line between chunks is too long")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + len(_END_OF_LINE)]
        return line


def _status(line: bytes) -> tuple[bytes, int]:
    """The minor version and the status code."""
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise AnswerError("it doesn't begin as HTTP/1.1 does")
    code = int(found[2])
    if not 200 <= code <= 599:
        raise AnswerError(f"it has the status {code}, which ends no request")
    return found[1], code


def _framing(lines: list[bytes]) -> tuple[int | None, bool, bool]:
    """What the headers say of the body: its length if told, whether it comes in chunks, and of the connection's end."""
    length: int | None = None
    chunked = closes = False
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise AnswerError("a header is malformed")
        name, value = found[1].lower(), found[2].strip(b" \t")
        if name == b"content-length":
            if _LENGTH.fullmatch(value) is None or length not in {None, int(value)}:
                raise AnswerError("its length is no number, or two")
            length = int(value)
        elif name == b"transfer-encoding":
            if chunked or value.lower() != b"chunked":
                raise AnswerError("it has a transfer encoding that is not understood")
            chunked = True
        elif name == b"content-encoding":
            if value.lower() != b"identity":
                raise AnswerError("it has a content encoding that was not asked for")
        elif name == b"connection":
            closes = closes or b"close" in {token.strip(b" \t").lower() for token in value.split(b",")}
    return length, chunked, closes
