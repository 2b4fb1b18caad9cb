"""Events for people, posted sparingly.

Rules: the same text about the same EventEngine is posted once in half an hour; no more than a few
a minute for each EventEngine; an Event that can't be posted is dropped, for the status says it all.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import OrderedDict, deque
from datetime import UTC, datetime
from typing import Final, Literal

from eventengine_operator.manifests.metadata import ENGINE_API_VERSION
from eventengine_operator.resources.engines import Engine

from .errors import ApiError
from .kubernetes_api import ENGINES, EVENTS, KubernetesApi

MANAGER: Final = "eventengine-operator"
SAME_TEXT_SECONDS: Final = 1800.0
PER_MINUTE_MAX: Final = 10
TEXTS_KEPT_MAX: Final = 4096
NOTE_CHARACTERS_MAX: Final = 1000
_log = logging.getLogger(__name__)


class EventPoster:
    """See the module."""

    def __init__(self, api: KubernetesApi, identity: str) -> None:
        self._api = api
        self._identity = identity
        self._posted: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        """When each text about an EventEngine was posted last."""
        self._lately: OrderedDict[str, deque[float]] = OrderedDict()
        """When the last few about each EventEngine were."""

    async def post(self, engine: Engine, kind: Literal["Normal", "Warning"], reason: str, note: str) -> None:
        """Post an Event about `engine`, unless it was said lately."""
        key = (engine.uid, reason, note)
        if not self._is_due(key, time.monotonic()):
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        manifest = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{engine.name}.{uuid.uuid4().hex[:16]}", "namespace": engine.namespace},
            "eventTime": now,
            "type": kind,
            "reason": reason,
            "note": note[:NOTE_CHARACTERS_MAX],
            "action": "Reconcile",
            "reportingController": "eventengine.dev/operator",
            "reportingInstance": self._identity[:128],
            "regarding": {
                "apiVersion": ENGINE_API_VERSION,
                "kind": ENGINES.kind,
                "name": engine.name,
                "namespace": engine.namespace,
                "uid": engine.uid,
            },
        }
        try:
            await self._api.create(EVENTS, manifest, MANAGER)
        except ApiError as error:
            _log.debug("an Event was not posted: %s", error)

    def _is_due(self, key: tuple[str, str, str], now_seconds: float) -> bool:
        last = self._posted.get(key)
        if last is not None and now_seconds - last < SAME_TEXT_SECONDS:
            return False
        lately = self._lately.setdefault(key[0], deque(maxlen=PER_MINUTE_MAX))
        if len(lately) == PER_MINUTE_MAX and now_seconds - lately[0] < 60:
            return False
        lately.append(now_seconds)
        self._posted[key] = now_seconds
        self._lately.move_to_end(key[0])
        self._posted.move_to_end(key)
        while len(self._posted) > TEXTS_KEPT_MAX:
            self._posted.popitem(last=False)
        while len(self._lately) > TEXTS_KEPT_MAX:
            self._lately.popitem(last=False)
        return True
