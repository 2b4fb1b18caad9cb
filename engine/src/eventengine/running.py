"""The life of one engine process: start, watch, drain, exit.

Owns signals and the exit status. Ordering rules: telemetry listens before the
engine starts, so that a probe always finds somebody; the signal handlers are in
place before the first event; readiness falls before the drain begins; telemetry
serves until the drain is over. A first SIGTERM or SIGINT drains, a second one
exits at once: what was not committed is applied again by the next owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Final

from eventengine.logs import fields
from eventengine.native import NativeEngine
from eventengine.serving.telemetry import Readiness, Telemetry, read_readiness

logger = logging.getLogger(__name__)

EXIT_CLEAN: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
WATCH_INTERVAL_SECONDS: Final = 0.25
FAILED_STOP_SECONDS: Final = 2.0
OVERRUN_SECONDS: Final = 5.0
"""The native stop keeps its deadline itself; past this much more it is taken for stuck."""


class EngineProcess:
    """One engine, its telemetry and its signals."""

    def __init__(
        self,
        engine: NativeEngine,
        telemetry_address: str,
        drain_seconds: float,
        exit_now: Callable[[int], object] = os._exit,
    ) -> None:
        self._engine = engine
        self._telemetry_address = telemetry_address
        self._drain_seconds = drain_seconds
        self._exit_now = exit_now
        self._stop_asked = asyncio.Event()
        self._telemetry = Telemetry(engine, self._stop_asked.is_set)

    async def run(self) -> int:
        """Run until a signal or a failure; returns the exit status.

        Raises:
            TelemetryUnavailableError: before anything was started.
        """
        host, port = await self._telemetry.listen(self._telemetry_address)
        logger.info("telemetry listens", extra=fields(address=f"{host}:{port}"))
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            try:
                await asyncio.to_thread(self._engine.start)
            except RuntimeError as error:
                logger.error("engine did not start", extra=fields(reason=str(error)))  # noqa: TRY400 - no trace helps
                return EXIT_FAILED
            logger.info("engine started")
            failure = await self._watch()
            if failure is not None:
                logger.error("engine failed", extra=fields(reasons=list(failure.reasons)))
                await self._stop_engine(FAILED_STOP_SECONDS)
                return EXIT_FAILED
            return await self._drain()
        finally:
            for number in signals:
                loop.remove_signal_handler(number)
            await self._telemetry.close()

    def _on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._stop_asked.is_set():
            logger.warning("second signal: exiting at once", extra=fields(signal=name))
            sys.stderr.flush()
            self._exit_now(128 + number)
            return
        logger.info("draining", extra=fields(signal=name, deadline_seconds=self._drain_seconds))
        self._stop_asked.set()

    async def _watch(self) -> Readiness | None:
        """Wait for the wish to stop (None) or for the engine's failure (its last readiness)."""
        last: Readiness | None = None
        while not self._stop_asked.is_set():
            readiness = read_readiness(self._engine)
            if not readiness.live:
                return readiness
            if last is None or (last.ready, last.reasons) != (readiness.ready, readiness.reasons):
                if readiness.ready:
                    logger.info("ready")
                else:
                    logger.warning("not ready", extra=fields(reasons=list(readiness.reasons)))
                last = readiness
            try:
                async with asyncio.timeout(WATCH_INTERVAL_SECONDS):
                    await self._stop_asked.wait()
            except TimeoutError:
                continue
        return None

    async def _drain(self) -> int:
        clean = await self._stop_engine(self._drain_seconds)
        if clean:
            logger.info("drained")
            return EXIT_CLEAN
        logger.error(
            "the drain was not done in time; what was not committed is applied again by the next owner",
            extra=fields(deadline_seconds=self._drain_seconds),
        )
        return EXIT_FAILED

    async def _stop_engine(self, deadline_seconds: float) -> bool:
        """Stop the engine in a thread that can't keep the process alive, even if the call hangs."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()

        def settle(clean: bool) -> None:
            if not done.done():
                done.set_result(clean)

        def stop() -> None:
            clean = False
            try:
                clean = self._engine.stop(deadline_seconds)
            except Exception:
                logger.exception("the engine's stop failed")
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(settle, clean)

        threading.Thread(target=stop, name="engine-stop", daemon=True).start()
        try:
            async with asyncio.timeout(deadline_seconds + OVERRUN_SECONDS):
                return await done
        except TimeoutError:
            return False
