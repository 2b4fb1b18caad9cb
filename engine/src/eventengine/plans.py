"""What the native load generator and audit are asked to do, as the JSON that they read.

Owns the shape of both plans and of the bursts in a schedule. A plan may carry
broker secrets in its properties: it is handed to the native module and never
logged or written; results repeat the schedule, not the properties.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from eventengine_contract.quantities import parse_duration

PRODUCERS_MAX: Final = 1024
BURSTS_MAX: Final = 16
RATE_MAX: Final = 5_000_000.0
DURATION_MAX_NANOSECONDS: Final = 24 * 3_600 * 1_000_000_000
RESULT_VERSION: Final = 1

Key = Literal["district", "district-team"]
Arrivals = Literal["constant", "poisson"]


@dataclass(frozen=True)
class Burst:
    """Further events over a span of the schedule, on top of the base rate.

    With `districts`, so many districts open at `at` in the same instant, and the
    burst's events all happen in them.
    """

    at_nanoseconds: int
    duration_nanoseconds: int
    rate_per_second: float
    districts: int | None = None


@dataclass(frozen=True)
class Schedule:
    """When events are meant to be sent; no answer of the target ever changes it."""

    arrivals: Arrivals
    rate_per_second: float
    duration_nanoseconds: int
    events_max: int | None = None
    bursts: tuple[Burst, ...] = ()


@dataclass(frozen=True)
class Hunt:
    """The treasure hunt that the events speak of."""

    players: int = 6000
    team_size: int = 5
    districts: int = 12
    puzzles_per_district: int = 40
    clues_per_puzzle: int = 5


@dataclass(frozen=True)
class KafkaTarget:
    """A topic to produce to; made with `partitions` where it is missing and a count is given."""

    bootstrap_servers: tuple[str, ...]
    topic: str
    partitions: int | None = None
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class TcpTarget:
    """An engine's TCP source."""

    address: str
    connections: int = 1
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class LoadPlan:
    """One run of the load generator."""

    target: KafkaTarget | TcpTarget
    schedule: Schedule
    hunt: Hunt = field(default_factory=Hunt)
    key: Key = "district"
    seed: int = 0
    producers: int = 4
    first_producer: int = 0
    payload_bytes: int = 700
    malformed_share: float = 0.0
    queue_events_max: int = 100_000
    acknowledge_timeout_milliseconds: int = 60_000

    def to_native(self) -> dict[str, Any]:
        """The form that the native module reads."""
        plan = asdict(self)
        kind = "kafka" if isinstance(self.target, KafkaTarget) else "tcp"
        return {**plan, "target": {kind: plan["target"]}}


@dataclass(frozen=True)
class DeadLetterPlan:
    """A dead-letter topic to count by reason; `expected` is compared where it is given."""

    topic: str
    expected: Mapping[str, int] | None = None


@dataclass(frozen=True)
class AuditPlan:
    """One audit of an output topic. `producers` maps each producer to its last sequence."""

    bootstrap_servers: tuple[str, ...]
    topic: str
    producers: Mapping[int, int]
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)
    start_offsets: Mapping[int, int] = field(default_factory=dict)
    allow_other_producers: bool = False
    dead_letter: DeadLetterPlan | None = None
    wait_milliseconds: int = 0
    examples_max: int = 10

    def to_native(self) -> dict[str, Any]:
        """The form that the native module reads."""
        return asdict(self)


def choose_first_producer() -> int:
    """The first of a block of producer ids that no other run is likely to hold."""
    return secrets.randbelow(2**32 // PRODUCERS_MAX) * PRODUCERS_MAX


def parse_burst(text: str) -> Burst:
    """Read `at=10s,duration=20s,rate=5000[,districts=10]`.

    Raises:
        ValueError: with what is missing, unknown or out of bounds.
    """
    parts = dict(part.partition("=")[::2] for part in text.split(","))
    if unknown := sorted(parts.keys() - {"at", "duration", "rate", "districts"}):
        raise ValueError(f"unknown part {unknown[0]!r}; known are at, duration, rate and districts")
    if missing := [name for name in ("at", "duration", "rate") if not parts.get(name)]:
        raise ValueError(f"the part {missing[0]!r} is missing; write at=10s,duration=20s,rate=5000")
    try:
        rate = float(parts["rate"])
        districts = int(parts["districts"]) if "districts" in parts else None
    except ValueError as error:
        raise ValueError(f"{error}; rate and districts are numbers") from None
    if not 0 < rate <= RATE_MAX:
        raise ValueError(f"rate={parts['rate']} is not above 0 and at most {RATE_MAX:.0f}")
    if districts is not None and not 1 <= districts <= 65_536:
        raise ValueError(f"districts={districts} is not from 1 to 65536")
    at, duration = parse_duration(parts["at"]), parse_duration(parts["duration"])
    if duration <= 0 or at + duration > DURATION_MAX_NANOSECONDS:
        raise ValueError("a burst lasts longer than 0s and ends within 24h")
    return Burst(at, duration, rate, districts)


def read_expectations(results: Sequence[tuple[str, Any]]) -> tuple[dict[int, int], dict[str, int]]:
    """Producers with their last sequences, and malformed events by reason, of load results.

    Args:
        results: pairs of a name for messages and a parsed result file.

    Raises:
        ValueError: a file is no load result, or two of them share a producer.
    """
    producers: dict[int, int] = {}
    malformed: dict[str, int] = {}
    for origin, result in results:
        try:
            if result["version"] != RESULT_VERSION:
                raise ValueError(f"{origin}: result version {result['version']} is not known")
            entries = [(int(item["producer"]), int(item["last_sequence"])) for item in result["producers"]]
            reasons = {str(reason): int(count) for reason, count in result["malformed"].items()}
        except (KeyError, TypeError, AttributeError):
            raise ValueError(f"{origin}: not a result of `eventengine load --result`") from None
        for producer, last_sequence in entries:
            if producer in producers:
                raise ValueError(f"{origin}: producer {producer} is in another result too")
            producers[producer] = last_sequence
        for reason, count in reasons.items():
            malformed[reason] = malformed.get(reason, 0) + count
    return producers, malformed
