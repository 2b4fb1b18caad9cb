"""The operator at scale: a real control plane, KWOK's nodes, `pinning: Off`, and a Go operator beside it.

Each system gets a control plane of its own, after one another and in turns, and goes the same way:

- 100 EventEngines (50 in the short form); each one's spec is changed on a schedule: from when the change was due until
  its Deployment has it.
- 1,000 further ones (150) declared at once: until all are Ready, and which component used the CPU meanwhile.
- Every child of these changed by hand, five each: until all are as declared.
- A restart: until every EventEngine was looked at, and whether anything was written to one or to a child.
- At rest: CPU time and writes.

The peer (tests/benchmarks/peers/go/operator) is a minimal controller-runtime operator that makes the same children.
Both know what exists from their watches. Ours also asks for each EventEngine, and writes nine conditions and Events
where the peer writes one condition: what that costs is what the ratios show.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from eventengine_contract.generating import crd
from eventengine_harness.control_planes import ClientRate, LoopbackControlPlane
from eventengine_harness.fake_nodes import FakeNodes
from eventengine_harness.waiting import wait_for
from frame.context import Context, alternating
from frame.fleets import Fleet
from frame.operators import (
    CALLS_BURST,
    CALLS_PER_SECOND,
    WORKERS,
    BenchedOperator,
    cpu_seconds_by_component,
)
from frame.tables import Detail, Row, Table, quantity
from frame.usage import cpu_seconds

OURS: Final = "eventengine"
PEER: Final = "peer"
CONTROLLERS: Final = ClientRate(calls_per_second=500, burst=1000)
NODES: Final = 5
MANY: Final = 1000
"""What the targets in seconds are meant for; fewer EventEngines get as much less time."""
CHANGES_PER_SECOND: Final = 2.0
STAGE_SECONDS_MAX: Final = 400.0
QUIET_SECONDS: Final = 3.0
LEASE: Final = 'resource="leases"'
WRITES: Final = ("apply", "patch", "create", "update", "delete")


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    first: int
    many: int
    resync_seconds: float
    rest_seconds: float


@dataclass(frozen=True)
class Passage:
    """What one system did on its way. Seconds are infinite where something never came."""

    change_p50_seconds: float
    change_p99_seconds: float
    ready_seconds: float
    """From the last create until the last one was Ready."""
    create_seconds: float
    """From the first create until the last one was Ready."""
    busy_cores: dict[str, float]
    """Cores in use between the first create and the last Ready, by component."""
    children: int
    restored: int
    restore_seconds: float
    """From the last change by hand until the last child was as declared."""
    restart_seconds: float
    restart_writes: int
    rest_cores: float
    rest_writes: int
    peak_bytes: int


def pass_through(context: Context, system: str, sizes: Sizes) -> Passage:
    """One system's way, on a control plane of its own."""
    with LoopbackControlPlane(client_rate=CONTROLLERS) as plane, FakeNodes(plane) as nodes:
        plane.access.apply(crd())
        plane.access.wait_for_condition("crd", "eventengines.eventengine.dev", "Established")
        for number in range(NODES):
            nodes.add(f"node-{number}")
        operator = BenchedOperator(system, plane, sizes.resync_seconds)
        operator.start()
        fleet = Fleet(plane.access)
        try:
            passage = _stages(context, system, sizes, plane, operator, fleet)
        finally:
            fleet.close()
        operator.stop()
    return passage


def _stages(
    context: Context,
    system: str,
    sizes: Sizes,
    plane: LoopbackControlPlane,
    operator: BenchedOperator,
    fleet: Fleet,
) -> Passage:
    context.say(f"{system}: {sizes.first} EventEngines, each changed once")
    fleet.create(sizes.first)
    fleet.until_ready(fleet.keys, STAGE_SECONDS_MAX)
    latencies = fleet.change_specs(fleet.keys, CHANGES_PER_SECOND, "1", 60.0)
    _settle(fleet)
    context.say(f"{system}: {sizes.many} further ones at once")
    many, ready_seconds, create_seconds, busy = _create_many(plane, fleet, sizes.many)
    _settle(fleet)
    context.say(f"{system}: Ready after {ready_seconds:.1f} s; children changed by hand")
    children, last, restored = fleet.change_children(many, STAGE_SECONDS_MAX)
    _settle(fleet)
    peak = operator.peak_bytes()
    context.say(
        f"{system}: {len(restored)} of {children} as declared after {max(restored) - last:.1f} s; a restart"
    )
    restart_seconds, restart_writes = _restart(operator, fleet)
    context.say(f"{system}: at rest for {sizes.rest_seconds:.0f} s")
    rest_cores, rest_writes = _rest(operator, fleet, sizes.rest_seconds)
    return Passage(
        change_p50_seconds=median(latencies),
        change_p99_seconds=latencies[max(0, math.ceil(0.99 * len(latencies)) - 1)],
        ready_seconds=ready_seconds,
        create_seconds=create_seconds,
        busy_cores=busy,
        children=children,
        restored=len(restored),
        restore_seconds=max(restored) - last if len(restored) == children else math.inf,
        restart_seconds=restart_seconds,
        restart_writes=restart_writes,
        rest_cores=rest_cores,
        rest_writes=rest_writes,
        peak_bytes=max(peak, operator.peak_bytes()),
    )


def _create_many(
    plane: LoopbackControlPlane, fleet: Fleet, count: int
) -> tuple[list[tuple[str, str]], float, float, dict[str, float]]:
    before, started = cpu_seconds_by_component(plane), time.monotonic()
    known = len(fleet.keys)
    created = fleet.create(count)
    keys = fleet.keys[known:]
    ready = fleet.until_ready(keys, STAGE_SECONDS_MAX)
    end = max(ready.values()) if len(ready) == count else math.inf
    took = time.monotonic() - started
    after = cpu_seconds_by_component(plane)
    busy = {name: round((after[name] - before[name]) / took, 3) for name in after if name in before}
    return keys, end - created, end - started, busy


def _restart(operator: BenchedOperator, fleet: Fleet) -> tuple[float, int]:
    before = fleet.versions()
    operator.stop()
    started = time.monotonic()
    operator.start()
    wait_for(
        lambda: operator.reconciles() >= len(fleet.keys),
        "every EventEngine to be looked at",
        STAGE_SECONDS_MAX,
    )
    took = time.monotonic() - started
    _settle(fleet)
    return took, _differences(before, fleet.versions())


def _rest(operator: BenchedOperator, fleet: Fleet, seconds: float) -> tuple[float, int]:
    versions, used, writes = fleet.versions(), cpu_seconds(operator.pid), _writes(operator)
    time.sleep(seconds)
    cores = (cpu_seconds(operator.pid) - used) / seconds
    return cores, int(_writes(operator) - writes) + _differences(versions, fleet.versions())


def _writes(operator: BenchedOperator) -> float:
    """Writes that our operator counts of itself, the Lease's aside; the peer counts none by resource."""
    return sum(
        operator.metric("eventengine_operator_api_calls_total", having=f'verb="{verb}"', without=LEASE)
        for verb in WRITES
    )


def _differences(before: dict[Any, str], after: dict[Any, str]) -> int:
    return sum(before.get(key) != after.get(key) for key in {*before, *after})


def _settle(fleet: Fleet) -> None:
    """Wait until no EventEngine and no child has changed for a while: controllers report after the operator."""
    known: dict[Any, str] = {}
    changed_at = time.monotonic()

    def is_quiet() -> bool:
        nonlocal known, changed_at
        found = fleet.versions()
        if found != known:
            known, changed_at = found, time.monotonic()
        return time.monotonic() - changed_at >= QUIET_SECONDS

    wait_for(is_quiet, "quiet", STAGE_SECONDS_MAX, poll_seconds_max=1.0)


def rows_of(sizes: Sizes, ours: Sequence[Passage], peers: Sequence[Passage]) -> list[Row]:
    """The table's rows: what ours reached, then what it is beside the peer."""
    many, all_of_them = f"{sizes.many:,}", f"{sizes.many + sizes.first:,}"
    share = sizes.many / MANY
    busy = ours[0].busy_cores
    note = f"{sum(busy.values()):.2f} cores in use, {busy.get('operator', 0):.2f} of them the operator's"
    lost = sum(one.children - one.restored for one in ours)
    return [
        _seconds(
            f"{many} EventEngines at once, last create to all Ready", ours, "ready_seconds", 120 * share, note
        ),
        _seconds(
            f"{ours[0].children:,} children changed by hand, to as declared",
            ours,
            "restore_seconds",
            60 * share,
        ),
        Row.at_most("children that stayed changed", lost, 0, ""),
        Row.at_most(
            f"writes to EventEngines and children by a restart with {all_of_them}",
            max(one.restart_writes for one in ours),
            0,
            "",
        ),
        Row.at_most("resident memory, peak", max(one.peak_bytes for one in ours) / 1e6, 250, "MB"),
        Row.at_most(
            f"CPU at rest with {all_of_them}",
            _median(ours, "rest_cores"),
            0.05,
            "cores",
            note=f"{sizes.rest_seconds:.0f} s, each looked at again every {sizes.resync_seconds:.0f} s",
            gates=False,
        ),
        Row.at_most("writes at rest, the Lease's aside", max(one.rest_writes for one in ours), 0, ""),
        _seconds(f"spec change to Deployment, p99 at {sizes.first}", ours, "change_p99_seconds", 1),
        *(
            Row.shown(
                f"{what}, ours over the peer's", _median(ours, name) / max(_median(peers, name), 1e-9), "×"
            )
            for what, name in COMPARED
        ),
    ]


COMPARED: Final = (
    ("create to Ready", "create_seconds"),
    ("restoring children", "restore_seconds"),
    ("restart", "restart_seconds"),
    ("memory", "peak_bytes"),
    ("CPU at rest", "rest_cores"),
    ("spec change p99", "change_p99_seconds"),
)


def _median(passages: Sequence[Passage], name: str) -> float:
    return float(median(getattr(one, name) for one in passages))


def _seconds(what: str, passages: Sequence[Passage], name: str, limit: float, note: str = "") -> Row:
    value = _median(passages, name)
    if math.isinf(value):
        return Row.missed(
            what, f"≤ {quantity(limit, 's')}", f"not within {STAGE_SECONDS_MAX:.0f} s; {note}".rstrip("; ")
        )
    return Row.at_most(what, value, limit, "s", note=note, gates=False)


def _details(runs: dict[str, list[Passage]]) -> list[Detail]:
    columns = ("system", "Ready", "restored", "restart", "change p50", "change p99", "at rest", "peak")
    cells = [
        [
            system,
            quantity(one.ready_seconds, "s"),
            quantity(one.restore_seconds, "s"),
            quantity(one.restart_seconds, "s"),
            quantity(one.change_p50_seconds * 1e3, "ms"),
            quantity(one.change_p99_seconds * 1e3, "ms"),
            quantity(one.rest_cores, "cores"),
            quantity(one.peak_bytes / 1e6, "MB"),
        ]
        for system, passages in runs.items()
        for one in passages
    ]
    parts = sorted({name for passages in runs.values() for one in passages for name in one.busy_cores})
    busy = [
        [
            part,
            *(
                quantity(median(one.busy_cores.get(part, 0.0) for one in passages), "")
                for passages in runs.values()
            ),
        ]
        for part in parts
    ]
    return [
        Detail("Each run", columns, cells),
        Detail("Cores in use while the many come up: what bounds it", ("component", *runs), busy),
    ]


def measure(context: Context) -> Table:
    """All rows."""
    seconds = context.choose(40, 300)
    sizes = Sizes(context.choose(50, 100), context.choose(150, MANY), seconds, context.choose(14, 300))
    context.say(
        f"controllers at {CONTROLLERS.calls_per_second}/s (burst {CONTROLLERS.burst}), operators at "
        f"{CALLS_PER_SECOND}/s (burst {CALLS_BURST}) with {WORKERS} workers"
    )
    runs = alternating(
        [OURS, PEER],
        context.choose(1, 2),
        lambda system, _: asdict(pass_through(context, system, sizes)),
    )
    passages = {system: [Passage(**one) for one in found] for system, found in runs.items()}
    return Table(
        f"Operator: {sizes.many:,} EventEngines on a real control plane with KWOK nodes",
        rows_of(sizes, passages[OURS], passages[PEER]),
        details=_details(passages),
        data={
            "sizes": asdict(sizes),
            "controllers": asdict(CONTROLLERS),
            "operators": {"calls_per_second": CALLS_PER_SECOND, "burst": CALLS_BURST, "workers": WORKERS},
            "runs": runs,
        },
    )
