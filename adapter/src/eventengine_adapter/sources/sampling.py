"""The rhythm: just after each whole second, the sample of that second from every pod.

Every adapter asks for the same seconds, so that they come to hold the same
samples. A pod that has not closed its sample yet is asked once more a moment
later, then for its newest one, whose own timestamp then says how old it is.
Rounds may overlap, a pod's reads never do: one that is still being read is left
out of the next round. A round goes in small slices that are spread over the second, so that requests are
answered between them instead of after all of them. One that the machine is too slow for is ended before
the next one begins: seconds are left out then, and never the same pods of each. A clock that is set back
makes samples of a future that may never be the newest; they are forgotten. The number of reads at a time is
bounded, and pods that failed last wait behind those that did not.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from eventengine_contract.snapshots import SAMPLES_KEPT

from eventengine_adapter.samples import forecasts
from eventengine_adapter.samples.fleets import Engine, EnginePod, Fleet
from eventengine_adapter.samples.freshness import CLOCK_AHEAD_SECONDS_MAX
from eventengine_adapter.samples.pod_samples import PodSample
from eventengine_adapter.samples.store import SampleStore

from .snapshot_reading import Outcome, ReadError

_log = logging.getLogger(__name__)

AFTER_SECOND_SECONDS: Final = 0.05
"""Engines close a sample on the second; this much later it can be read."""

SECOND_ATTEMPT_SECONDS: Final = 0.3
SPREAD_SECONDS: Final = 0.6
"""The reads of one round begin within this time; what is left of the second is for those that take long."""

LATE_SECONDS: Final = 1.0
SLICE_SECONDS: Final = 0.0025
SLICE_PODS_MIN: Final = 4
"""A small fleet is read in fewer slices than fit, and is seen a little sooner."""

STALL_SECONDS_MAX: Final = 15.0


_Item = TypeVar("_Item")
_Slice = tuple[Sequence[EnginePod], Sequence[Engine]]


class PodReader(Protocol):
    """What sampling needs of a reader."""

    async def read(self, pod: EnginePod, second: int | None, now_seconds: float) -> PodSample:
        """The sample of `second`, or the newest if None."""
        ...


class Sampling:
    """Reads every pod of the fleet once a second into the store."""

    def __init__(
        self,
        fleet: Callable[[], Fleet],
        fleet_known: Callable[[], bool],
        reader: PodReader,
        store: SampleStore,
        clock: Callable[[], float],
        reads_max: int,
        on_read: Callable[[Outcome, float], None] = lambda _outcome, _seconds: None,
    ) -> None:
        self._fleet = fleet
        self._fleet_known = fleet_known
        self._reader = reader
        self._store = store
        self._clock = clock
        self._slots = asyncio.Semaphore(reads_max)
        self._on_read = on_read
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._next_slice: asyncio.TimerHandle | None = None
        self._last_round_seconds: float | None = None
        self._last_second = 0
        self._awaited: set[str] | None = None
        self.caught_up: Final = asyncio.Event()
        """Set once every pod there was at the start has been tried, so that answers are as good as they get."""
        self._failing: dict[str, str] = {}

    def is_timely(self) -> bool:
        """Whether rounds still happen. False is a fault of this process, whatever the pods do."""
        last = self._last_round_seconds
        return last is None or self._clock() - last < STALL_SECONDS_MAX

    async def run(self) -> None:
        """Start a round after each whole second until cancelled."""
        self._last_round_seconds = self._clock()
        try:
            while True:
                now = self._clock()
                second = math.floor(now - AFTER_SECOND_SECONDS) + 1
                await asyncio.sleep(second + AFTER_SECOND_SECONDS - now)
                self.start_round(second)
        finally:
            self._end_round()
            for task in self._reading.values():
                task.cancel()

    def start_round(self, second: int) -> None:
        """Begin to read the sample of `second` from every pod that is not being read already.

        `second` is left out if the round before has not begun all its reads yet.
        """
        self._last_round_seconds = self._clock()
        if self._next_slice is not None and second > self._last_second:
            return
        fleet = self._fleet()
        uids = {pod.uid for pod in fleet.pods}
        if second < self._last_second - CLOCK_AHEAD_SECONDS_MAX:
            _log.warning("the clock went back by %d s: all samples are forgotten", self._last_second - second)
            self._store.retain(())
            self._store.trends.clear()
        self._last_second = second
        self._store.retain(uids)
        forecasts.forget(fleet, self._store, second)
        self._failing = {uid: reason for uid, reason in self._failing.items() if uid in uids}
        for uid in [uid for uid in self._reading if uid not in uids]:
            self._reading.pop(uid).cancel()
        self._end_round()
        pods = sorted(fleet.pods, key=lambda pod: (pod.uid in self._failing, pod.uid))
        slices = _slices(pods, fleet.all_engines())
        self._begin_slice(asyncio.get_running_loop().time(), slices, second)
        if self._awaited is not None:
            self._awaited &= uids
        elif self._fleet_known():
            self._awaited = set(uids)
        self._note_caught_up()

    def _begin_slice(self, due: float, slices: deque[_Slice], second: int) -> None:
        """Do the first of the slices, and have the others done when they are due by the loop's clock."""
        self._next_slice = None
        pods, engines = slices.popleft()
        for engine in engines:
            forecasts.observe(engine, self._store, second)
        loop = asyncio.get_running_loop()
        for pod in pods:
            if pod.uid not in self._reading:
                self._reading[pod.uid] = loop.create_task(self._read_pod(pod, second))
        if slices:
            due += SLICE_SECONDS
            self._next_slice = loop.call_at(due, self._begin_slice, due, slices, second)

    def _end_round(self) -> None:
        """Leave out what is left of a round."""
        if self._next_slice is not None:
            self._next_slice.cancel()

    async def _read_pod(self, pod: EnginePod, second: int) -> None:
        started = self._clock()
        outcome = Outcome.SAMPLED
        try:
            newest = await self._read_second(pod, second)
            samples = [newest, *await self._read_missed(pod, newest)]
            self._store.record(pod.uid, samples)
            self._note(pod, None)
        except ReadError as error:
            outcome = error.outcome
            self._store.record_failure(pod.uid, error.reason)
            self._note(pod, error.reason)
        finally:
            if self._awaited is not None:
                self._awaited.discard(pod.uid)
                self._note_caught_up()
            self._reading.pop(pod.uid, None)
            self._on_read(outcome, self._clock() - started)

    def _note_caught_up(self) -> None:
        if self._awaited is not None and not self._awaited:
            self.caught_up.set()

    async def _read_second(self, pod: EnginePod, second: int) -> PodSample:
        try:
            return await self._read(pod, second)
        except ReadError as error:
            if error.outcome is not Outcome.NOT_KEPT:
                raise
        await asyncio.sleep(SECOND_ATTEMPT_SECONDS)
        try:
            return await self._read(pod, second)
        except ReadError as error:
            if error.outcome is not Outcome.NOT_KEPT:
                raise
        return await self._read(pod, None)

    async def _read_missed(self, pod: EnginePod, newest: PodSample) -> list[PodSample]:
        """What the pod still keeps of the seconds before that is not known here.

        At first contact that is everything: a new adapter then answers like an
        old one. Later it is what a failed read left out, unless this one is late
        itself: a machine that is too slow must not read more for it.
        """
        history = self._store.history(pod.uid)
        if history.newest_second == newest.sampled_at_seconds - 1 and history.is_gapless:
            return []
        if history.newest_second is not None and self._clock() - newest.sampled_at_seconds > LATE_SECONDS:
            return []
        oldest = max(newest.sampled_at_seconds - SAMPLES_KEPT, newest.started_at_seconds)
        if history.oldest_second is not None:
            oldest = max(oldest, history.oldest_second)
        samples = []
        for past in range(newest.sampled_at_seconds - 1, oldest, -1):
            if history.has(past):
                continue
            try:
                samples.append(await self._read(pod, past))
            except ReadError:
                break
        return samples

    async def _read(self, pod: EnginePod, second: int | None) -> PodSample:
        async with self._slots:
            return await self._reader.read(pod, second, self._clock())

    def _note(self, pod: EnginePod, reason: str | None) -> None:
        """Log when reading a pod begins to fail, and when it works again; not each second."""
        before = self._failing.get(pod.uid)
        if reason is not None:
            if before is None:
                _log.warning("no sample from pod %s/%s: %s", pod.namespace, pod.name, reason)
            self._failing[pod.uid] = reason
        elif before is not None:
            _log.info("samples from pod %s/%s again", pod.namespace, pod.name)
            del self._failing[pod.uid]


def _slices(pods: Sequence[EnginePod], engines: Sequence[Engine]) -> deque[_Slice]:
    """Pods to read and engines to observe, cut into so many slices that they fit into the time of a round."""
    number = max(1, min(int(SPREAD_SECONDS / SLICE_SECONDS), -(-len(pods) // SLICE_PODS_MIN)))
    return deque(zip(_cut(pods, number), _cut(engines, number), strict=True))


def _cut(items: Sequence[_Item], number: int) -> list[Sequence[_Item]]:
    """`items` in order, in `number` parts of almost the same size."""
    return [items[len(items) * part // number : len(items) * (part + 1) // number] for part in range(number)]
