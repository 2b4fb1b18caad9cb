"""Metrics of the user's own: an endpoint in the engine's pods, named by annotations in `spec.pod.template`.

Owns the annotations, what they may say, and what is refused: a name that the engine's own metrics have, that
Kubernetes would read as something else, or that is there twice. The adapter reads the endpoint, the
operator opens its port; both take from here what that is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .metric_names import METRICS, Aggregation, Metric

PREFIX: Final = "metrics.eventengine.dev/"
ANNOTATION_PORT: Final = f"{PREFIX}port"
ANNOTATION_PATH: Final = f"{PREFIX}path"
ANNOTATION_NAMES: Final = f"{PREFIX}names"
_KNOWN: Final = (ANNOTATION_PORT, ANNOTATION_PATH, ANNOTATION_NAMES)
PATH_DEFAULT: Final = "/metrics"
NAMES_MAX: Final = 16
AGE_SECONDS_MAX: Final = 10
_PATH: Final = re.compile(r"/[A-Za-z0-9/_.~-]{0,255}")


@dataclass(frozen=True, slots=True)
class PodMetrics:
    """A Prometheus endpoint of each pod, and which of its metrics are served."""

    port: int
    path: str
    metrics: tuple[Metric, ...]

    def find(self, name: str) -> Metric | None:
        """The metric of that name, if it is configured."""
        return next((metric for metric in self.metrics if metric.name == name), None)


def pod_metrics(annotations: Mapping[str, str]) -> PodMetrics | None:
    """What the annotations say; None if they say nothing about metrics.

    Raises:
        ValueError: something that can't be; the message names the annotation and what helps.
    """
    ours = {key: text for key, text in annotations.items() if key.startswith(PREFIX)}
    if not ours:
        return None
    for key in ours:
        if key not in _KNOWN:
            nearest = difflib.get_close_matches(key, _KNOWN, 1, 0.0)[0]
            raise ValueError(f"{key} is no annotation that is known; did you mean {nearest}?")
    for key in (ANNOTATION_PORT, ANNOTATION_NAMES):
        if not ours.get(key):
            raise ValueError(f"{key} is missing: an endpoint needs a port and the names of its metrics")
    port, path = ours[ANNOTATION_PORT], ours.get(ANNOTATION_PATH, PATH_DEFAULT)
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65_535):
        raise ValueError(f"{ANNOTATION_PORT} is {port[:16]!r}: write a port from 1 to 65535")
    if not _PATH.fullmatch(path):
        raise ValueError(
            f"{ANNOTATION_PATH} is {path[:64]!r}: write a path of at most 256 letters, digits and /_.~- that "
            "begins with /"
        )
    return PodMetrics(int(port), path, tuple(_metric(name) for name in _names(ours[ANNOTATION_NAMES])))


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) > NAMES_MAX:
        raise ValueError(f"{ANNOTATION_NAMES} has {len(names)} names: at most {NAMES_MAX} are served")
    for name in names:
        if name in METRICS:
            raise ValueError(
                f"{ANNOTATION_NAMES} has {name!r}, which is a metric of the engine itself: name it otherwise"
            )
        if names.count(name) > 1:
            raise ValueError(f"{ANNOTATION_NAMES} has {name!r} twice")
    return names


def _metric(name: str) -> Metric:
    try:
        return Metric(
            name,
            "as its endpoint says",
            f"{name} of the pods' own endpoint: a gauge as it is, a counter per second.",
            Aggregation.SUM,
            AGE_SECONDS_MAX,
        )
    except ValueError as error:
        raise ValueError(f"{ANNOTATION_NAMES}: {error}") from error
