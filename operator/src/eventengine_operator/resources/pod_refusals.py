"""Why the API server takes no pod of a workload: a quota, an admission policy, a class that doesn't exist.

Owns where that is told, and the words without what changes with each attempt. A Deployment tells it in its status. Of a
StatefulSet's pods and claims only Events tell, which its controller posts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .objects import Object, condition_of, generation_of, number_at, text_at
from .pods import Pod, parse_time

EVENT_REASON: Final = "FailedCreate"
REFUSAL_CHARACTERS_MAX: Final = 300
_REFUSED_OBJECT: Final = re.compile(
    r"^([Cc]reate (Claim \S+ (for )?)?Pod \S+ in StatefulSet \S+ failed error: )?(failed to create PVC \S+: )?"
    r'((pods|persistentvolumeclaims) "[^"]*" is forbidden: )?'
)
"""What stands before the reason, with the name of a pod or a claim, which is another one each time."""


def refusal_in_status(deployment: Object) -> str:
    """Why no pod of a Deployment is taken, or an empty text."""
    failure = condition_of(deployment, "ReplicaFailure")
    return _in_short(text_at(failure, "message")) if failure.get("status") == "True" else ""


def lacks_pods(stateful_set: Object | None) -> bool:
    """Whether its controller has looked at it and there are fewer pods than it asks for."""
    if stateful_set is None:
        return False
    is_observed = number_at(stateful_set, "status", "observedGeneration") >= generation_of(stateful_set)
    desired = number_at(stateful_set, "spec", "replicas")
    return is_observed and number_at(stateful_set, "status", "replicas") < desired


def refusal_in_events(events: Iterable[Object], pods: Iterable[Pod]) -> str:
    """The newest reason that a StatefulSet's Events tell, unless a pod was taken after it."""
    newest = max(events, key=_time_of, default=None)
    if newest is None:
        return ""
    taken_at = max((pod.created_at.timestamp() for pod in pods if pod.created_at), default=0.0)
    return _in_short(text_at(newest, "note")) if _time_of(newest) >= taken_at else ""


def _time_of(event: Object) -> float:
    """When it happened last. The first two are those that a controller sets that counts repetitions."""
    times = (
        text_at(event, "series", "lastObservedTime"),
        text_at(event, "deprecatedLastTimestamp"),
        text_at(event, "eventTime"),
    )
    known = [time.timestamp() for time in map(parse_time, times) if time is not None]
    return known[0] if known else 0.0


def _in_short(message: str) -> str:
    return _REFUSED_OBJECT.sub("", message)[:REFUSAL_CHARACTERS_MAX]
