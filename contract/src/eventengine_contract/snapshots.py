"""What an engine says of itself once a second: the body of `GET /snapshot`.

Owns the wire format that the engine writes and that adapter and operator read.
Version 1. A reader refuses a version it doesn't know; fields may be added
within a version, so unknown fields are ignored here, and only here.
A figure that is not known to be fresh is null, never zero.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SNAPSHOT_VERSION: Literal[1] = 1
SAMPLES_KEPT = 10

Count = Annotated[int, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Identity(_Part):
    """Who reports. `incarnation` changes with every start of the process."""

    engine: str
    namespace: str
    pod: str
    incarnation: str
    build: str = ""
    started_at_seconds: int = 0


class Readiness(_Part):
    """Whether the engine takes events, and why not."""

    ready: bool
    live: bool = True
    reasons: list[str] = []


class BufferPool(_Part):
    """The slab that every event passes through. Utilisation is a ratio of 0 to 1."""

    chunks: Count
    chunk_bytes: Count
    in_use: Count
    high_water: Count
    utilisation: Ratio


class Ring(_Part):
    """One ring; `bound` is the limit in force, at most `slots`."""

    name: str
    slots: Count
    bound: Count
    in_use: Count
    high_water: Count
    utilisation: Ratio


class ArenaTenant(_Part):
    """Slots that the events of one source made, and how many are reserved to it."""

    source: str
    reserved: Count
    in_use: Count


class Arena(_Part):
    """The slots that hold state. Fragmentation is a ratio of 0 to 1."""

    slots: Count
    slot_bytes: Count
    in_use: Count
    utilisation: Ratio
    fragmentation: Ratio
    fragmentation_crossings: Count = 0
    moved_slots: Count = 0
    tenants: list[ArenaTenant] = []


class Identifiers(_Part):
    """Whom events came from lately: places of the table, and what became of look-ups since the start."""

    capacity: Count = 0
    in_use: Count = 0
    hits: Count = 0
    misses: Count = 0
    expired: Count = 0
    evicted: Count = 0
    lookup_p50_nanoseconds: Count = 0
    lookup_p99_nanoseconds: Count = 0


class Partition(_Part):
    """One owned partition: offsets as the source counts them, lag in events.

    `lag_events` and `last_stable_offset` are null when the broker could not be
    asked for this sample.
    """

    partition: Count
    state: Literal["running", "restoring", "paused"]
    assigned_at_seconds: int = 0
    position: int | None = None
    last_stable_offset: int | None = None
    lag_events: int | None = Field(default=None, ge=0)


class Source(_Part):
    """One source and the partitions of it that this engine owns."""

    name: str
    type: str
    topic: str | None = None
    group: str | None = None
    partitions_total: Count
    connected: bool
    partitions: list[Partition] = []


class Thread(_Part):
    """What the native half's threads of one name allocated; rates are null until there were two readings.

    librdkafka and Python have allocators of their own, which only `rss_bytes` shows. `other` sums up threads that
    are none of the engine's.
    """

    name: str
    allocations: Count
    allocated_bytes: Count
    allocations_per_second: Ratio | None
    allocated_bytes_per_second: Ratio | None


class Growth(_Part):
    """How resident memory changed over a window: the least of its last tenth less the least of its first one."""

    window_seconds: Count
    growth_bytes: int
    growth_ratio: Annotated[float, Field(allow_inf_nan=False)]


class Allocator(_Part):
    """jemalloc's figures in bytes, and what the core thread allocated since it warmed up.

    A figure is null where it could not be measured; the core thread's also until it has warmed up.
    """

    allocated_bytes: Count | None
    active_bytes: Count | None
    resident_bytes: Count | None
    retained_bytes: Count | None
    core_thread_allocated_bytes: Count | None
    threads: list[Thread] = []


class Process(_Part):
    """The process: memory, and the cores it may use. `cpu_set` is in the kernel's list format.

    `rss_bytes` is null where /proc can't be read, `rss_growth` until its window is over.
    """

    rss_bytes: Count | None
    rss_growth: Growth | None = None
    memory_limit_bytes: int | None = None
    cpu_set: str
    cpu_limit_millicores: int | None = None
    pinning: Literal["Required", "Preferred", "Off"]
    pinned: bool
    exclusive: bool
    core_thread_cpu: int | None = None


class Workers(_Part):
    """Threads that parse beside the core thread: none in the pinned executor."""

    threads: Count = 0
    pinned: Count = 0
    parsed_events: Count = 0


class Pressure(_Part):
    """Time in which some or all (full) tasks waited for a resource: the kernel's PSI.

    Shares are percents of the last ten seconds. `full` is null where the kernel doesn't tell it.
    """

    some_avg10: Ratio
    some_total_microseconds: Count
    full_avg10: Ratio | None
    full_total_microseconds: Count | None


class Pressures(_Part):
    """Pressure on each resource; null where the kernel doesn't tell it."""

    cpu: Pressure | None
    memory: Pressure | None
    io: Pressure | None


class PressureScopes(_Part):
    """Pressure within the engine's own control group, and on the whole machine."""

    cgroup: Pressures
    machine: Pressures


class Watch(_Part):
    """A kind of duration that has a limit, in nanoseconds, since the start."""

    limit_nanoseconds: Count
    count: Count
    over_limit: Count
    total_nanoseconds: Count
    longest_nanoseconds: Count


class AlertState(_Part):
    """How often one of the contract's alerts was raised, and what was said last."""

    total: Count
    last_at_seconds: int | None
    last_message: str | None


class Log(_Part):
    """The log that an engine keeps on its volume. Empty: every entry of it has been applied and published."""

    is_empty: bool


class Counters(_Part):
    """Totals since the process started. Shed events are counted by class, and by source and class.

    `parser_fallbacks` counts, by source, the events that only a tree could be made of (`payload: auto`).
    """

    events_in: Count
    events_applied: Count
    outputs_committed: Count
    transactions_committed: Count
    transactions_aborted: Count
    heap_profiles_written: Count = 0
    dead_letters: dict[str, Count] = {}
    parser_fallbacks: dict[str, Count] = {}
    shed: dict[str, Count] = {}
    shed_by_source: dict[str, dict[str, Count]] = {}
    errors: dict[str, Count] = {}


class Latency(_Part):
    """Ingest to applied, over the last `window_seconds`.

    Without events (`count` 0) the durations are 0: an engine that has nothing to do spends no time.
    """

    count: Count
    p50_nanoseconds: Count
    p99_nanoseconds: Count
    p999_nanoseconds: Count
    max_nanoseconds: Count
    service_p99_nanoseconds: Count
    window_seconds: Count


class Snapshot(_Part):
    """One sample, closed on the whole second `sampled_at_seconds` (Unix time)."""

    version: Literal[1]
    sampled_at: str
    sampled_at_seconds: int
    identity: Identity
    readiness: Readiness
    buffer_pool: BufferPool
    rings: list[Ring]
    arena: Arena
    identifiers: Identifiers | None = None
    sources: list[Source]
    allocator: Allocator
    process: Process
    log: Log | None = None
    """Null where the engine keeps none, or can't tell: that is never the same as an empty one."""
    workers: Workers = Workers()
    pressure: PressureScopes | None = None
    stalls: Watch | None = None
    rollbacks: Watch | None = None
    alerts: dict[str, AlertState] = {}
    counters: Counters
    latency: Latency
