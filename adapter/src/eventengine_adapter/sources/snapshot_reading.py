"""One HTTP request to one pod for one sample, and everything that can be wrong with the answer.

The pod's address is dialled directly: no proxy, no redirect, no cookie, a bound
on time and size. What answers must be that pod of that engine, in a version
that is known, with a clock that agrees; anything else is no sample.

Ordering: the first body of each start of an engine process is checked against
the whole contract; in every body all that metrics are made from is checked
again (`samples.snapshot_views`), and that it still is of that start.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from typing import Final, Self

import msgspec
from eventengine_contract.snapshots import SNAPSHOT_VERSION, Snapshot
from pydantic import ValidationError

from eventengine_adapter.samples.fleets import EnginePod
from eventengine_adapter.samples.freshness import CLOCK_AHEAD_SECONDS_MAX
from eventengine_adapter.samples.pod_samples import PodSample, pod_sample
from eventengine_adapter.samples.snapshot_views import SnapshotView, decode

from .http_answers import AnswerError, AnswerTooLargeError
from .pod_connections import ConnectionLostError, PodConnections

SNAPSHOT_BYTES_MAX: Final = 4 << 20
INCARNATIONS_MAX: Final = 16384
"""Starts of engine processes whose layout was checked and is remembered."""

_OK: Final = 200
_NOT_FOUND: Final = 404


class Outcome(StrEnum):
    """How an attempt ended."""

    SAMPLED = "sampled"
    NOT_KEPT = "not-kept"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    TOO_LARGE = "too-large"
    INVALID = "invalid"
    VERSION = "version"
    STRANGER = "stranger"
    CLOCK = "clock"


class ReadError(Exception):
    """No sample. The reason is shown to users who ask for a metric of this pod."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


class SnapshotReader:
    """Reads samples of pods. Use as an async context manager."""

    def __init__(self, port: int, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._connections = PodConnections(port, SNAPSHOT_BYTES_MAX)
        self._layouts = CheckedLayouts()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connections.close()

    async def read(self, pod: EnginePod, second: int | None, now_seconds: float) -> PodSample:
        """The sample of `second`, or the newest if None.

        Raises:
            ReadError: there is none that counts.
        """
        body = await self._fetch(pod, second)
        return interpret(body, pod, second, now_seconds, self._layouts)

    async def _fetch(self, pod: EnginePod, second: int | None) -> bytearray:
        target = "/snapshot" if second is None else f"/snapshot?at={second}"
        try:
            answer = await self._connections.get(pod.address, target, self._timeout_seconds)
        except TimeoutError as error:
            raise ReadError(
                Outcome.TIMEOUT, f"it did not answer within {self._timeout_seconds:g} s"
            ) from error
        except AnswerTooLargeError as error:
            raise ReadError(
                Outcome.TOO_LARGE, f"its sample has more than {SNAPSHOT_BYTES_MAX} bytes"
            ) from error
        except AnswerError as error:
            raise ReadError(Outcome.INVALID, f"its answer can't be understood: {error}") from error
        except ConnectionLostError as error:
            raise ReadError(Outcome.UNREACHABLE, f"reading it failed: {error}") from error
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ReadError(Outcome.UNREACHABLE, f"it can't be reached: {reason}") from error
        if answer.status == _NOT_FOUND:
            raise ReadError(Outcome.NOT_KEPT, "it has no sample to give")
        if answer.status != _OK:
            raise ReadError(Outcome.REFUSED, f"it answered with status {answer.status}")
        return answer.body


class CheckedLayouts:
    """Which starts of which pods gave a body that is a whole snapshot of the contract; the last ones only."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def check(self, body: bytes | bytearray, pod_uid: str, incarnation: str) -> None:
        """Check `body` against the contract, unless one of the same start was.

        Raises:
            ReadError: it is no snapshot.
        """
        key = (pod_uid, incarnation)
        if key in self._known:
            return
        try:
            Snapshot.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "its sample"
            raise ReadError(
                Outcome.INVALID, f"its sample is invalid at {where}: {first['msg']}"[:256]
            ) from error
        self._known[key] = None
        while len(self._known) > INCARNATIONS_MAX:
            self._known.popitem(last=False)


def _decode(body: bytes | bytearray) -> SnapshotView:
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if str(error).endswith("`$.version`"):
            raise ReadError(
                Outcome.VERSION,
                f"its sample is not of version {SNAPSHOT_VERSION}, the one that is understood",
            ) from error
        raise ReadError(Outcome.INVALID, f"its sample is invalid: {error}"[:256]) from error


def interpret(
    body: bytes | bytearray,
    pod: EnginePod,
    second: int | None,
    now_seconds: float,
    layouts: CheckedLayouts | None = None,
) -> PodSample:
    """The sample in `body`, if it is one of `pod`.

    Raises:
        ReadError: it is not.
    """
    snapshot = _decode(body)
    identity = snapshot.identity
    if (identity.namespace, identity.engine, identity.pod) != (pod.namespace, pod.engine, pod.name):
        raise ReadError(Outcome.STRANGER, "another engine or pod answers at its address")
    (CheckedLayouts() if layouts is None else layouts).check(body, pod.uid, identity.incarnation)
    if second is not None and snapshot.sampled_at_seconds != second:
        raise ReadError(Outcome.INVALID, "its sample is of another second than was asked for")
    ahead_seconds = snapshot.sampled_at_seconds - now_seconds
    if ahead_seconds > CLOCK_AHEAD_SECONDS_MAX:
        raise ReadError(Outcome.CLOCK, f"its clock is {ahead_seconds:.0f} s ahead of the adapter's")
    try:
        return pod_sample(snapshot)
    except ValueError as error:
        raise ReadError(Outcome.INVALID, f"its sample can't be true: {error}"[:256]) from error
