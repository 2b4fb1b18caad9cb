"""Watches of single kinds beside kopf's: of metadata alone, or of a kind that comes and goes.

kopf reads whole objects, and can't watch a kind that isn't defined. A watch here goes on from the version it saw
last, so that nothing is missed between two connections; where that version is too old, or at the first start,
`when_unsure` is called, for whatever happened before is unknown. Like all watches it only wakes the operator up.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from eventengine_operator.clients.errors import ApiError, NotFoundError, OutdatedError
from eventengine_operator.clients.kubernetes_api import KubernetesApi, ResourceType
from eventengine_operator.measuring import Measurements
from eventengine_operator.resources.objects import Object, resource_version_of

PAUSE_SECONDS_FIRST: Final = 0.2
PAUSE_SECONDS_MAX: Final = 60.0
BOOKMARK: Final = "BOOKMARK"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watched:
    """What to watch: a kind in a namespace (empty: in all), narrowed down by labels and fields."""

    resource: ResourceType
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    fields: str = ""
    with_content: bool = False


async def watch_objects(
    api: KubernetesApi,
    watched: Watched,
    when_changed: Callable[[str, Object], None],
    when_unsure: Callable[[], None],
    measurements: Measurements,
) -> None:
    """Call `when_changed` with type and object of every change; return when the kind is no longer served."""
    resource, failures, since = watched.resource, 0, ""
    while True:
        try:
            if not since:
                since = await api.newest_version(resource, watched.namespace)
                when_unsure()
            async for kind, item in api.watch(
                resource,
                watched.namespace,
                since,
                labels=watched.labels,
                fields=watched.fields,
                with_content=watched.with_content,
            ):
                failures = 0
                since = resource_version_of(item) or since
                measurements.watch_told(resource.plural)
                if kind != BOOKMARK:
                    measurements.watch_events.labels(resource.plural).inc()
                    when_changed(kind, item)
        except NotFoundError:
            return
        except OutdatedError:
            since = ""
        except ApiError as error:
            failures += 1
            _log.warning("watching %s: %s", resource.plural, error)
        await asyncio.sleep(pause_seconds(failures) * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load


def pause_seconds(failures: int) -> float:
    """How long to wait before watching again, after so many failures in a row."""
    return float(min(PAUSE_SECONDS_FIRST * 2.0 ** min(failures, 16), PAUSE_SECONDS_MAX))
