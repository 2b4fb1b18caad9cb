"""What the adapter reads of a snapshot, as types that a body is checked against while it is decoded.

The contract (`eventengine_contract.snapshots`) owns the format and describes all of it; this is the part that metrics
are made from, with the same names, the same bounds and the same say on what may be null. Everything in it is checked in
every sample: a missing, negative or misplaced figure is an error, never a number. The rest of the layout is checked
against the contract once for each start of an engine process (`sources.snapshot_reading`).

Made of msgspec, because checking a whole snapshot a thousand times a second costs a quarter of what the adapter may
take. The objects refer to no other than themselves, so the collector of cycles needn't look at them.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What the engine counts with; anything beyond is no measurement, and could not be packed (`store`)."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Ratio = Annotated[float, msgspec.Meta(ge=0)]


class IdentityView(msgspec.Struct, frozen=True, gc=False):
    """Who reports."""

    engine: str
    namespace: str
    pod: str
    incarnation: str
    started_at_seconds: Whole = 0


class ReadinessView(msgspec.Struct, frozen=True, gc=False):
    """Whether the engine takes events."""

    ready: bool


class UtilisationView(msgspec.Struct, frozen=True, gc=False):
    """How full something is, as a ratio."""

    utilisation: Ratio


class PartitionView(msgspec.Struct, frozen=True, gc=False):
    """One owned partition."""

    partition: Count
    assigned_at_seconds: Whole = 0
    position: Whole | None = None
    lag_events: Count | None = None


class SourceView(msgspec.Struct, frozen=True, gc=False):
    """One source and its owned partitions."""

    name: str
    type: str
    partitions_total: Count
    connected: bool
    topic: str | None = None
    partitions: tuple[PartitionView, ...] = ()


class AllocatorView(msgspec.Struct, frozen=True, gc=False):
    """What the allocator holds."""

    resident_bytes: Count | None


class ProcessView(msgspec.Struct, frozen=True, gc=False):
    """What the process may hold.

    `pinned` is in every whole snapshot: without it an empty object would pass for a process without a limit.
    """

    pinned: bool
    memory_limit_bytes: int | None = None


class CountersView(msgspec.Struct, frozen=True, gc=False):
    """Totals since the process started.

    `events_in` is in every whole snapshot: without it an empty object would pass for nothing shed.
    """

    events_in: Count
    shed: dict[str, Count] = {}


class LatencyView(msgspec.Struct, frozen=True, gc=False):
    """How long the core takes."""

    service_p99_nanoseconds: Count


class SnapshotView(msgspec.Struct, frozen=True, gc=False):
    """One sample."""

    version: Literal[1]
    sampled_at_seconds: Whole
    identity: IdentityView
    readiness: ReadinessView
    buffer_pool: UtilisationView
    rings: tuple[UtilisationView, ...]
    arena: UtilisationView
    sources: tuple[SourceView, ...]
    allocator: AllocatorView
    process: ProcessView
    counters: CountersView
    latency: LatencyView


_DECODER: Final = msgspec.json.Decoder(SnapshotView)


def decode(body: bytes | bytearray) -> SnapshotView:
    """The sample in `body`.

    Raises:
        ValueError: it is none; the message says where and why.
    """
    return _DECODER.decode(body)
