"""The alerts that an engine raises: limits of its configuration that were crossed.

Owns the names, which metrics (`eventengine_alerts_total{alert=…}`), log and snapshot share, and what each means.
An alert never stops anything; it is counted, logged at most once a minute, and shown with its last message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Alert:
    """One alert; `key` is the limit's path in engine.yaml."""

    name: str
    key: str
    description: str


_ALERTS: Final = (
    Alert(
        "arena_fragmentation",
        "arena.fragmentationThreshold",
        "Holes among the arena's slots exceeded the threshold.",
    ),
    Alert("core_stall", "monitoring.gcPauseAlertMs", "The core thread did not go on for longer than this."),
    Alert(
        "rollback_sla", "monitoring.rollbackSlaMs", "A rollback to what is committed took longer than this."
    ),
    Alert(
        "rss_growth",
        "monitoring.rssGrowthAlertRatio",
        "Resident memory grew by more than this share over monitoring.rssFlatnessWindow.",
    ),
)

ALERTS: Final[dict[str, Alert]] = {alert.name: alert for alert in _ALERTS}
