"""When brokers are asked: only about engines whose own pods don't tell their whole lag.

A pod's sample is newer and exact, and a thousand engines must not mean a
thousand questions to brokers. An engine without a known lag of the last seconds
is asked about every few seconds, one question at a time, a few engines at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from eventengine_adapter.samples.broker_lag import BrokerSample, KafkaTopic, OffsetsOfPartition, lag_of
from eventengine_adapter.samples.fleets import Engine, Fleet
from eventengine_adapter.samples.store import SampleStore

from .broker_secrets import BrokerSecrets
from .kafka_brokers import BrokerError, IdentityError

_log = logging.getLogger(__name__)

PERIOD_SECONDS: Final = 3.0
THREADS_MAX: Final = 4
KNOWN_SECONDS: Final = 3
"""An engine whose pods told its whole lag within these seconds is not asked about."""


class Brokers(Protocol):
    """What sampling needs of brokers."""

    def offsets(self, topic: KafkaTopic, credentials: Mapping[str, str]) -> dict[int, OffsetsOfPartition]:
        """The offsets of every partition of `topic`; blocks. `credentials` are properties."""
        ...


class BrokerSampling:
    """Asks brokers about what no pod tells, into the store."""

    def __init__(
        self,
        fleet: Callable[[], Fleet],
        brokers: Brokers,
        secrets: BrokerSecrets,
        store: SampleStore,
        clock: Callable[[], float],
        on_read: Callable[[bool], None] = lambda _succeeded: None,
    ) -> None:
        self._fleet = fleet
        self._brokers = brokers
        self._secrets = secrets
        self._store = store
        self._clock = clock
        self._on_read = on_read
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="kafka-brokers")

    async def run(self) -> None:
        """Ask every few seconds until cancelled."""
        try:
            while True:
                self.start_round()
                await asyncio.sleep(PERIOD_SECONDS)
        finally:
            for task in self._asking.values():
                task.cancel()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def start_round(self) -> None:
        """Begin to ask about every engine that needs it and is not being asked about."""
        engines = {engine.uid: engine for engine in self._fleet().all_engines() if engine.topic is not None}
        self._store.retain_broker_samples(engines)
        for uid, engine in engines.items():
            if uid not in self._asking and self._is_unknown(engine):
                self._asking[uid] = asyncio.create_task(self._ask(engine))

    def _is_unknown(self, engine: Engine) -> bool:
        second = math.floor(self._clock())
        return not any(
            self._store.trends.knows(engine.uid, past) for past in range(second - KNOWN_SECONDS, second + 1)
        )

    async def _ask(self, engine: Engine) -> None:
        topic = engine.topic
        if topic is None:
            return
        before = self._store.broker_sample(engine.uid)
        try:
            loop = asyncio.get_running_loop()
            # The second before the question: what is answered is at least as new as that.
            second = math.floor(self._clock())
            credentials = await self._secrets.properties(engine.namespace, topic.credentials)
            offsets = await loop.run_in_executor(self._threads, self._brokers.offsets, topic, credentials)
            lags = {
                number: lag_of(found, from_earliest=topic.from_earliest) for number, found in offsets.items()
            }
            self._store.record_broker_sample(engine.uid, BrokerSample(second, lags))
            self._on_read(True)
            if before is not None and before.failure:
                _log.info("the brokers tell the lag of engine %s/%s again", engine.namespace, engine.name)
        except BrokerError as error:
            if isinstance(error, IdentityError):
                self._secrets.forget(engine.namespace, topic.credentials)
            self._on_read(False)
            if before is None or before.failure != str(error):
                _log.warning(
                    "no lag of engine %s/%s from the brokers: %s", engine.namespace, engine.name, error
                )
            sample = BrokerSample(math.floor(self._clock()), failure=str(error))
            self._store.record_broker_sample(engine.uid, sample)
        finally:
            self._asking.pop(engine.uid, None)
