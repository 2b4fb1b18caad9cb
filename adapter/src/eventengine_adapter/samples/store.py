"""The last samples of every pod, why the newest is not newer, what brokers said, and the lags' trends.

Bounded twice: `SECONDS_KEPT` samples a pod and one of the brokers an engine, and
only pods and engines that the fleet still has. All but the newest samples are packed:
those of a thousand pods would be the largest part of the adapter's memory, and little
is asked of them. The store is written by the sampling loop and read by requests,
both on the event loop's thread: no method awaits, so none sees half a change.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any, Final, TypeVar

import msgspec

from .broker_lag import BrokerSample
from .pod_samples import PodSample
from .trends import LagTrends

Derived = TypeVar("Derived")

DERIVED_MAX: Final = 256
RATE_WINDOW_SECONDS: Final = 10
SECONDS_KEPT: Final = 28
"""Enough for a window of fifteen seconds that ends ten seconds ago, with a little to spare."""


SAMPLES_UNPACKED: Final = 3
"""The newest samples are kept as they are: answers are made from them."""

_PACK: Final = msgspec.msgpack.Encoder().encode
_UNPACK: Final = msgspec.msgpack.Decoder(PodSample).decode


class History:
    """The samples of one pod, by the second they were closed on."""

    __slots__ = ("_packed", "_recent", "failure", "newest_second", "oldest_second")

    def __init__(self) -> None:
        self._recent: dict[int, PodSample] = {}
        self._packed: dict[int, bytes] = {}
        self.failure: str | None = None
        """Why the last attempt to read this pod gave no sample; None after one that did."""
        self.newest_second: int | None = None
        """Second of the newest sample; None while there is none."""
        self.oldest_second: int | None = None
        """Second of the oldest sample that is still kept."""

    def add(self, sample: PodSample) -> None:
        """Keep `sample`, and let go of the oldest where that makes too many."""
        recent, packed = self._recent, self._packed
        packed.pop(sample.sampled_at_seconds, None)
        recent[sample.sampled_at_seconds] = sample
        if len(recent) > SAMPLES_UNPACKED:
            second = min(recent)
            packed[second] = _PACK(recent.pop(second))
        if len(recent) + len(packed) > SECONDS_KEPT:
            del packed[min(packed)]
        self.newest_second = max(recent)
        self.oldest_second = min(min(recent), min(packed)) if packed else min(recent)

    def has(self, second: int) -> bool:
        """Whether there is a sample that was closed on `second`."""
        return second in self._recent or second in self._packed

    @property
    def is_gapless(self) -> bool:
        """Whether there is a sample of each second from the oldest to the newest."""
        if self.newest_second is None or self.oldest_second is None:
            return False
        return len(self._recent) + len(self._packed) == self.newest_second - self.oldest_second + 1

    def at(self, second: int) -> PodSample | None:
        """The sample that was closed on `second`."""
        packed = self._packed.get(second)
        return self._recent.get(second) if packed is None else _UNPACK(packed)

    def rate_base(self, second: int) -> tuple[PodSample, PodSample | None] | None:
        """The samples that a rate ending at `second` is computed from; None where one is missing.

        The older one is None if the process started within the window: its
        counters were zero then, and that is known without a sample.
        """
        sample = self.at(second)
        if sample is None:
            return None
        base = self.at(second - RATE_WINDOW_SECONDS)
        if base is not None and base.incarnation == sample.incarnation:
            return sample, base
        return (sample, None) if sample.started_at_seconds > second - RATE_WINDOW_SECONDS else None


_NOTHING: Final = History()


class SampleStore:
    """The histories of all pods, by pod UID."""

    def __init__(self) -> None:
        self._histories: dict[str, History] = {}
        self._broker_samples: dict[str, BrokerSample] = {}
        self._generation = 0
        self._derived: OrderedDict[Hashable, tuple[int, object, Any]] = OrderedDict()
        self.trends: Final = LagTrends()

    def derived(self, what: Hashable, of: object, derive: Callable[[], Derived]) -> Derived:
        """What `derive` makes of the samples, made anew only after they changed, or `of` is another object.

        Many questions a second are about the same samples. What raises is not kept.
        """
        found = self._derived.get(what)
        if found is not None and found[0] == self._generation and found[1] is of:
            kept: Derived = found[2]
            return kept
        made = derive()
        self._derived[what] = (self._generation, of, made)
        self._derived.move_to_end(what)
        while len(self._derived) > DERIVED_MAX:
            self._derived.popitem(last=False)
        return made

    def history(self, pod_uid: str) -> History:
        """What is known of a pod; an empty history where nothing is."""
        return self._histories.get(pod_uid, _NOTHING)

    def record(self, pod_uid: str, samples: Iterable[PodSample]) -> None:
        """Keep what was read from a pod."""
        self._generation += 1
        history = self._histories.setdefault(pod_uid, History())
        for sample in samples:
            history.add(sample)
        history.failure = None

    def record_failure(self, pod_uid: str, reason: str) -> None:
        """Keep why a pod could not be read; its older samples stay, and age."""
        self._histories.setdefault(pod_uid, History()).failure = reason

    def broker_sample(self, engine_uid: str) -> BrokerSample | None:
        """What the brokers last said of an engine's topic; None if they were not asked."""
        return self._broker_samples.get(engine_uid)

    def record_broker_sample(self, engine_uid: str, sample: BrokerSample) -> None:
        """Keep what the brokers said of an engine's topic."""
        self._generation += 1
        self._broker_samples[engine_uid] = sample

    def retain_broker_samples(self, engine_uids: Collection[str]) -> None:
        """Forget what brokers said of all engines but these."""
        for uid in [uid for uid in self._broker_samples if uid not in engine_uids]:
            self._generation += 1
            del self._broker_samples[uid]

    def retain(self, pod_uids: Collection[str]) -> None:
        """Forget all pods but these."""
        for uid in [uid for uid in self._histories if uid not in pod_uids]:
            self._generation += 1
            del self._histories[uid]
