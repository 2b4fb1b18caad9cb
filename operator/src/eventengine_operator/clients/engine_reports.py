"""What engines say of themselves: reads of /snapshot, in the background, kept for each pod.

A reconcile never waits for a pod. It asks `refresh` to read what is missing, works with what
`known` holds, and is called again when an answer came in.

Rules: a report belongs to one start of the container; a ready pod is read once for each start
and readiness, since the cores of a running container don't change, and every ten minutes, since a
topic may gain partitions; a pod that isn't ready, or leaves a volume behind, is read again every few seconds, since
its reasons, or its log, change. An answer must name the pod it came from:
addresses are used again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp
from eventengine_contract.snapshots import Snapshot
from eventengine_contract.well_known import PORT_TELEMETRY
from pydantic import ValidationError

from eventengine_operator.measuring import Measurements
from eventengine_operator.resources.pods import EngineReport, Pod

READ_TIMEOUT: Final = aiohttp.ClientTimeout(total=3, connect=1)
READS_AT_ONCE_MAX: Final = 16
BODY_BYTES_MAX: Final = 4 * 1024 * 1024
REREAD_SECONDS: Final = 5.0
REREAD_READY_SECONDS: Final = 600.0
PODS_KEPT_MAX: Final = 20_000
REASONS_KEPT_MAX: Final = 8


class EngineReports:
    """Latest report of each pod, by the pod's UID."""

    def __init__(self, measurements: Measurements, port: int = PORT_TELEMETRY) -> None:
        self._measurements = measurements
        self._port = port
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(READS_AT_ONCE_MAX)
        self._reports: dict[str, EngineReport] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Stop reading."""
        for task in list(self._reading.values()):
            task.cancel()
        await asyncio.gather(*self._reading.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def known(self, pods: tuple[Pod, ...]) -> Mapping[str, EngineReport]:
        """The reports of these pods."""
        return {pod.uid: self._reports[pod.uid] for pod in pods if pod.uid in self._reports}

    def forget(self, uid: str) -> None:
        """Drop what is known of a pod that is gone."""
        self._reports.pop(uid, None)

    def refresh(self, pods: tuple[Pod, ...], when_read: Callable[[], None]) -> None:
        """Read the pods whose report is missing or out of date; `when_read` is called for each answer."""
        now = time.monotonic()
        for pod in pods:
            is_reading = pod.uid in self._reading
            if is_reading or not needs_reading(pod, self._reports.get(pod.uid), now):
                continue
            if len(self._reports) >= PODS_KEPT_MAX:
                self._reports.pop(next(iter(self._reports)))
            self._reading[pod.uid] = asyncio.create_task(self._read(pod, when_read))

    async def events_taken(self, pods: tuple[Pod, ...]) -> tuple[Mapping[str, int] | None, str]:
        """Total of each running container's start, read now; else None and why."""
        running = [pod for pod in pods if pod.address and pod.container_id and not pod.is_leaving]

        async def read(pod: Pod) -> EngineReport:
            async with self._slots:
                return await self._report_of(pod)

        reports = await asyncio.gather(*map(read, running))
        for pod, report in zip(running, reports, strict=True):
            if report.error:
                return None, f"{pod.name}: {report.error}"
        return {report.container_id: report.events_taken for report in reports}, ""

    async def _read(self, pod: Pod, when_read: Callable[[], None]) -> None:
        try:
            async with self._slots:
                report = await self._report_of(pod)
        finally:
            self._reading.pop(pod.uid, None)
        self._measurements.reports.labels("error" if report.error else "ok").inc()
        self._reports[pod.uid] = report
        when_read()

    async def _report_of(self, pod: Pod) -> EngineReport:
        try:
            snapshot = Snapshot.model_validate_json(await self._body_of(pod))
        except ValidationError as error:
            return self._failure(pod, f"its snapshot has {error.error_count()} faults")
        except TimeoutError:
            return self._failure(pod, f"no answer within {READ_TIMEOUT.total:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._failure(pod, str(error) or type(error).__name__)
        identity = snapshot.identity
        if (identity.namespace, identity.pod) != (pod.namespace, pod.name):
            return self._failure(pod, f"the answer came from {identity.namespace}/{identity.pod}")
        return EngineReport(
            container_id=pod.container_id,
            was_ready=pod.is_ready,
            read_at_seconds=time.monotonic(),
            reasons=tuple(snapshot.readiness.reasons[:REASONS_KEPT_MAX]),
            was_leaving=pod.is_leaving,
            log_is_empty=snapshot.log.is_empty if snapshot.log is not None else None,
            cpu_set=snapshot.process.cpu_set[:1024],
            is_pinned=snapshot.process.pinned,
            is_exclusive=snapshot.process.exclusive,
            partitions=max((source.partitions_total for source in snapshot.sources), default=0),
            events_taken=snapshot.counters.events_in,
        )

    async def _body_of(self, pod: Pod) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=READ_TIMEOUT)
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        async with self._session.get(
            f"http://{host}:{self._port}/snapshot", allow_redirects=False
        ) as response:
            if response.status != 200:
                raise ValueError(f"HTTP {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    raise ValueError(f"the answer is longer than {BODY_BYTES_MAX} bytes")
            return bytes(body)

    @staticmethod
    def _failure(pod: Pod, error: str) -> EngineReport:
        return EngineReport(pod.container_id, pod.is_ready, time.monotonic(), error=error)


def can_be_asked(pod: Pod) -> bool:
    """Whether there is somebody to answer."""
    return bool(pod.address and pod.container_id)


def needs_reading(pod: Pod, known: EngineReport | None, now_seconds: float) -> bool:
    """Whether the pod can be asked, and what is known of it is no longer enough."""
    if not can_be_asked(pod) or (pod.is_leaving and not pod.has_volume):
        return False
    if known is None or (known.container_id, known.was_ready) != (pod.container_id, pod.is_ready):
        return True
    is_good = pod.is_ready and not known.error and not pod.is_leaving
    return now_seconds - known.read_at_seconds >= (REREAD_READY_SECONDS if is_good else REREAD_SECONDS)
