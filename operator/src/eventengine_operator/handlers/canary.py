"""Writing the canary's beats, one each period, for as long as this process leads.

At rest these are, with the Lease's, the only writes. See `reconciling/canary.py` for what an answer is.
"""

from __future__ import annotations

import asyncio
import logging
import time

from eventengine_contract.well_known import CANARY

from eventengine_operator.clients.errors import ApiError
from eventengine_operator.clients.kubernetes_api import ENGINES, KubernetesApi
from eventengine_operator.measuring import Measurements
from eventengine_operator.reconciling.canary import Beats, canary, is_canary
from eventengine_operator.reconciling.replicas import FIELD_MANAGER
from eventengine_operator.resources.objects import Object

_log = logging.getLogger(__name__)


async def keep_canary(
    api: KubernetesApi,
    namespace: str,
    period_seconds: float,
    owner: Object | None,
    beats: Beats,
    measurements: Measurements,
) -> None:
    """Write a beat each period. Never returns."""
    while True:
        await _beat(api, namespace, owner, beats)
        measurements.canary_unanswered.set(beats.unanswered)
        await asyncio.sleep(period_seconds)


async def _beat(api: KubernetesApi, namespace: str, owner: Object | None, beats: Beats) -> None:
    # Before it is written: the watch may tell of it before the API server's answer is here.
    beat = beats.next(time.monotonic())
    try:
        live = await api.get(ENGINES, namespace, CANARY)
        if live is not None and not is_canary(live):
            _log.warning("no canary: the EventEngine %s/%s is somebody's own; rename it", namespace, CANARY)
            beats.not_written(beat)
            return
        await api.apply(canary(namespace, beat, owner), FIELD_MANAGER)
    except ApiError as error:
        _log.warning("the canary was not written: %s", error)
        beats.not_written(beat)
