"""Leadership by a Lease: at most one operator acts.

Rules:
- A holder that was silent for `lease_seconds`, as measured on this process's own clock since
  its last visible renewal, is taken to be dead. Clocks of different machines are never compared.
- A leader that could not renew for `renew_deadline_seconds` (shorter) has lost, before anybody
  may take over. What follows is the caller's: the process ends at once, without cleaning up.
- Every write carries the resource version that was read, so two candidates can't both win.
- A leader that stops in order gives the Lease back, so that its successor need not wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from eventengine_contract.well_known import OPERATOR_LEASE

from eventengine_operator.resources.objects import Object, mapping_at, number_at, resource_version_of, text_at

from .errors import ApiError
from .kubernetes_api import LEASES, KubernetesApi

MANAGER: Final = "eventengine-operator-lease"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseTimes:
    """See the module."""

    lease_seconds: float
    renew_deadline_seconds: float
    retry_seconds: float


@dataclass(frozen=True)
class Sighting:
    """A state of the Lease, and when this process first saw it, on its monotonic clock."""

    resource_version: str
    holder: str
    seen_at_seconds: float


def may_take(sighting: Sighting, identity: str, lease_seconds: float, now_seconds: float) -> bool:
    """Whether the Lease is ours already, free, or its holder silent for too long."""
    if sighting.holder in ("", identity):
        return True
    return now_seconds - sighting.seen_at_seconds >= lease_seconds


class Leadership:
    """One candidate."""

    def __init__(
        self,
        api: KubernetesApi,
        namespace: str,
        identity: str,
        times: LeaseTimes,
        owner: Object | None = None,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._times = times
        self._owner = owner
        self._sighting: Sighting | None = None
        self.holder = ""
        """Whoever held the Lease when it was looked at last."""

    async def acquire(self) -> None:
        """Return once this process leads. Trouble with the API server is waited out."""
        while True:
            try:
                if await self._try():
                    _log.info("leading as %s", self._identity)
                    return
            except ApiError as error:
                _log.warning("can't get the lease: %s", error)
            await asyncio.sleep(self._times.retry_seconds)

    async def keep(self) -> None:
        """Renew; return as soon as leadership is lost."""
        renewed_at = time.monotonic()
        while True:
            await asyncio.sleep(self._times.retry_seconds)
            left = renewed_at + self._times.renew_deadline_seconds - time.monotonic()
            if left <= 0:
                _log.error("the lease could not be renewed in time")
                return
            try:
                async with asyncio.timeout(left):
                    started = time.monotonic()
                    is_held = await self._try()
            except (ApiError, TimeoutError) as error:
                _log.warning("can't renew the lease: %s %s", type(error).__name__, error)
                continue
            if not is_held:
                _log.error("the lease was taken by %s", self.holder)
                return
            renewed_at = started

    async def release(self) -> None:
        """Give the Lease back, if it is still ours."""
        lease = await self._api.get(LEASES, self._namespace, OPERATOR_LEASE)
        if lease is not None and text_at(lease, "spec", "holderIdentity") == self._identity:
            await self._write(lease, "", lease_seconds=1)

    async def seize(self, lease_seconds: float) -> None:
        """Take the Lease from whoever holds it, for `lease_seconds`: the end of an installation."""
        lease = await self._api.get(LEASES, self._namespace, OPERATOR_LEASE)
        await self._write(lease, self._identity, lease_seconds)

    async def _try(self) -> bool:
        """Take or renew; False where another holds it. A write that lost a race raises ConflictError."""
        lease = await self._api.get(LEASES, self._namespace, OPERATOR_LEASE)
        if lease is not None:
            sighting = self._see(lease)
            # A seized Lease names its own, longer term.
            term = max(self._times.lease_seconds, number_at(lease, "spec", "leaseDurationSeconds"))
            if not may_take(sighting, self._identity, term, time.monotonic()):
                return False
        await self._write(lease, self._identity, self._times.lease_seconds)
        return True

    def _see(self, lease: Object) -> Sighting:
        self.holder = text_at(lease, "spec", "holderIdentity")
        version = resource_version_of(lease)
        if self._sighting is None or self._sighting.resource_version != version:
            self._sighting = Sighting(version, self.holder, time.monotonic())
        return self._sighting

    async def _write(self, lease: Object | None, holder: str, lease_seconds: float) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict(mapping_at(lease, "spec")) if lease is not None else {}
        if spec.get("holderIdentity", "") != holder:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = number_at(spec, "leaseTransitions") + (1 if lease is not None else 0)
        spec |= {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(lease_seconds)),
            "renewTime": now,
        }
        metadata: Object = dict(mapping_at(lease or {}, "metadata"))
        metadata |= {"name": OPERATOR_LEASE, "namespace": self._namespace}
        if self._owner is not None:
            metadata["ownerReferences"] = [self._owner]
        manifest = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": metadata,
            "spec": spec,
        }
        write = self._api.create if lease is None else self._api.replace
        await write(LEASES, manifest, MANAGER)
        if holder == self._identity:
            self.holder = holder
