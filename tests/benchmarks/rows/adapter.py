"""The metrics adapter behind a real API server: a thousand engine pods, ten thousand series, beside its rivals.

Every pod closes a sample on each whole second. The systems take turns on the same port, under the same load: an open
loop of requests for one series, and one of requests for a list of all thousand pods. The API server's own floor, a GET
of a namespace, is measured in every turn beside it. Ours is measured further: directly, without the API server; how
long a change in an engine takes to be visible in the API; what it costs; and under a hundred autoscalers that look
every second, of which no read may fail.

API server, etcd, pods, load and the measured system share this machine's cores, so times are of this arrangement; the
ratios are what counts.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Final

from eventengine_harness.control_planes import LOOPBACK, LoopbackControlPlane, free_port
from eventengine_harness.exceptions import DeadlineError, HarnessError
from eventengine_harness.running import run
from eventengine_harness.waiting import wait_for
from frame import metric_adapters, metric_pods, programs
from frame.context import Context, alternating
from frame.histograms import Histogram
from frame.metric_adapters import METRICS, OURS, PROMETHEUS_ADAPTER, TEST_ADAPTER, RunningSystem
from frame.metric_planes import CLIENT_RATE, CONTROLLER_FLAGS, CUSTOM, MetricPlane
from frame.metric_pods import ENGINES, LAG, NAMESPACE, PODS, SERIES_PER_POD, all_pods
from frame.pressure import Disturbance
from frame.programs import document_of
from frame.tables import Detail, Row, Table, megabytes, milliseconds

RATE: Final = 100
LIST_RATE: Final = 4
CHANGE_RATE: Final = 200
SINGLE_PATHS: Final = 500
SEED: Final = 20_261_121
AUTOSCALERS_ACTIVE_SECONDS_MAX: Final = 60.0
RESIDENT_MAX_BYTES: Final = 150_000_000
NOTE_LENGTH_MAX: Final = 200
COUNTED: Final = re.compile(
    r'^eventengine_adapter_request_duration_seconds_count\{code="(\d+)",kind="(?:external|custom)"\} ([0-9.e+]+)$',
    re.MULTILINE,
)


@dataclass(frozen=True)
class Bench:
    """What all turns share: the plane, where files go, and who asks."""

    context: Context
    plane: MetricPlane
    paths: dict[str, Path]

    def load(
        self, kind: str, rate: float, seconds: float, *flags: str, direct: bool = False
    ) -> dict[str, Any]:
        """Ask for the paths of that kind; through the API server unless `direct`."""
        server, authority = self.plane.server()
        if direct:
            server, authority = (
                f"https://{LOOPBACK}:{self.plane.port}",
                self.plane.authority.files.certificate,
            )
            flags = ("-http1", "-server-name", "eventengine-adapter.eventengine-system.svc", *flags)
        client = self.plane.administrator()
        command: list[str | Path] = [
            metric_adapters.load_program(),
            "-server",
            server,
            "-authority",
            authority,
        ]
        command += ["-certificate", client.certificate, "-key", client.key, "-paths", self.paths[kind]]
        command += ["-rate", str(rate), "-seconds", str(seconds), *flags]
        return document_of(run(command, timeout_seconds=seconds + 60), command)


def write_paths(folder: Path) -> dict[str, Path]:
    """The files of paths that are asked for, by kind; which pods are asked about is drawn from a seed."""
    source = random.Random(SEED)  # noqa: S311 - reproducible on purpose
    pods = f"{CUSTOM}/namespaces/{NAMESPACE}/pods"
    kinds = {
        "floor": [f"/api/v1/namespaces/{NAMESPACE}"],
        "single": [
            f"{pods}/{source.choice(all_pods()).name}/{source.choice(METRICS)}" for _ in range(SINGLE_PATHS)
        ],
        "list": [f"{pods}/%2A/{metric}" for metric in METRICS],
        "changing": [f"{pods}/{pod.name}/{LAG}" for pod in all_pods() if pod.is_changing],
    }
    paths = {}
    for kind, lines in kinds.items():
        paths[kind] = folder / f"paths-{kind}.txt"
        paths[kind].write_text("\n".join(lines) + "\n")
    return paths


@dataclass
class Cost:
    """What the processes of a system took over a while: cores, and the most memory seen."""

    system: RunningSystem
    resident_bytes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._before = self.system.usage()

    def look(self) -> None:
        """Note the resident memory of now."""
        for name, usage in self.system.usage().items():
            self.resident_bytes[name] = max(self.resident_bytes.get(name, 0), usage.resident_bytes)

    def figures(self) -> dict[str, Any]:
        """Cores and memory of each process until now."""
        self.look()
        elapsed = time.monotonic() - self._began
        after = self.system.usage()
        cores = {name: (after[name].cpu_seconds - self._before[name].cpu_seconds) / elapsed for name in after}
        return {"cores": cores, "resident_bytes": dict(self.resident_bytes)}


def turn(bench: Bench, system: str, number: int) -> dict[str, Any]:
    """One turn of one system: the floor, one series, the list, and for ours the same directly."""
    choose = bench.context.choose
    bench.context.say(f"{system}, turn {number + 1}")
    with (
        metric_adapters.running(system, bench.plane, bench.context.folder) as running,
        Disturbance(programs.program(programs.METER)) as disturbance,
    ):
        cost = Cost(running)
        result: dict[str, Any] = {
            "floor": bench.load("floor", RATE, choose(3, 20)),
            "single": bench.load("single", RATE, choose(6, 60)),
            "list": bench.load("list", LIST_RATE, choose(5, 40)),
        }
        if system == OURS:
            result["direct"] = bench.load("single", RATE, choose(4, 20), direct=True)
            result["first_answer_seconds"] = running.first_answer_seconds
        result["cost"] = cost.figures()
    return {**result, "disturbance": disturbance.report}


def peer_turn(bench: Bench, system: str, number: int) -> dict[str, Any]:
    """One turn; what keeps a peer from being measured costs its own rows and not ours."""
    try:
        return turn(bench, system, number)
    except HarnessError as error:
        if system == OURS:
            raise
        bench.context.say(f"{system}: {error}")
        return {"why_not": in_short(str(error))}


def request_counts(system: RunningSystem) -> dict[str, int]:
    """Requests for metrics that our adapter answered so far, by status code."""
    _, text = metric_adapters.page(system.telemetry_port, "/metrics")
    counts: dict[str, int] = {}
    for code, count in COUNTED.findall(text):
        counts[code] = counts.get(code, 0) + int(float(count))
    return counts


def long_turn(bench: Bench) -> dict[str, Any]:
    """Ours alone: what reading costs, how soon a change is visible, and a hundred autoscalers."""
    choose, say = bench.context.choose, bench.context.say
    with (
        metric_adapters.running(OURS, bench.plane, bench.context.folder) as running,
        Disturbance(programs.program(programs.METER)) as disturbance,
    ):
        say("reading alone")
        reading = Cost(running)
        time.sleep(choose(8, 60))
        result: dict[str, Any] = {"reading": reading.figures()}
        say("changes")
        result["changing"] = bench.load("changing", CHANGE_RATE, choose(14, 120), "-changing")
        say(f"{ENGINES} autoscalers")
        result["autoscalers"] = autoscale(bench, running, choose(20, 600))
    return {**result, "disturbance": disturbance.report}


def autoscale(bench: Bench, running: RunningSystem, seconds: float) -> dict[str, Any]:
    """Let an autoscaler of each engine look every second, and count what fails from when all are at work."""
    plane = bench.plane
    plane.make_autoscalers()

    def active() -> bool:
        return not plane.inactive_autoscalers()

    # Those that don't come to work are counted at the end.
    with suppress(DeadlineError):
        wait_for(active, "working autoscalers", AUTOSCALERS_ACTIVE_SECONDS_MAX, poll_seconds_max=1)
    events, before = plane.failed_reads(), request_counts(running)
    cost = Cost(running)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        time.sleep(min(5.0, seconds))
        cost.look()
    elapsed = time.monotonic() - began
    figures, after = cost.figures(), request_counts(running)
    codes = {code: after[code] - before.get(code, 0) for code in after}
    result = {
        "seconds": round(elapsed, 1),
        "codes": codes,
        "failed_events": plane.failed_reads() - events,
        "inactive": plane.inactive_autoscalers(),
        "cost": figures,
    }
    plane.delete_autoscalers()
    return result


# --- tables --------------------------------------------------------------------------------------------------


def in_short(text: str) -> str:
    """The begin of what a server said, on one line."""
    return " ".join(text.split())[:NOTE_LENGTH_MAX]


def merged(turns: Sequence[dict[str, Any]], what: str) -> Histogram:
    """All latencies of a kind of request over a system's turns."""
    return Histogram.merged(Histogram.read(one[what]["latency"]) for one in turns)


def failed(turns: Sequence[dict[str, Any]]) -> tuple[int, str]:
    """How many requests of these turns failed, and what the first one said."""
    loads = [one[what] for one in turns for what in ("floor", "single", "list", "direct") if what in one]
    refusals = [load["refusal"] for load in loads if load["refusal"]]
    return sum(load["failed"] for load in loads), in_short((refusals or [""])[0])


def speed_rows(turns: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """Ours against the floor and against prometheus-adapter."""
    ours, theirs = turns[OURS], turns.get(PROMETHEUS_ADAPTER, [])
    floor, single, direct = (merged(ours, what) for what in ("floor", "single", "direct"))
    count, refusal = failed(ours)
    above = Row.at_most(
        "one series through the API server, p99 above its floor",
        (single.quantile(0.99) - floor.quantile(0.99)) / 1e6,
        2,
        "ms",
        margin=0.2,
        note=f"{milliseconds(single.quantile(0.99))}, floor {milliseconds(floor.quantile(0.99))}, {RATE} requests/s",
        gates=False,
    )
    directly = Row.at_most(
        "one series directly, p99",
        direct.quantile(0.99) / 1e6,
        3,
        "ms",
        margin=0.2,
        note=f"HTTP/1.1, {RATE} requests/s",
        gates=False,
    )
    return [
        above if floor.total and single.total else Row.missed(above.what, above.target, refusal),
        list_row(ours, theirs),
        directly if direct.total else Row.missed(directly.what, directly.target, refusal),
        Row.at_most("failed requests", count, 0, "", note=refusal),
    ]


def list_row(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> Row:
    """The list of all pods, against prometheus-adapter's."""
    mine = merged(ours, "list").quantile(0.99)
    peer = merged(theirs, "list").quantile(0.99)
    peer_failed, _ = failed(theirs)
    note = f"{milliseconds(mine)} to {milliseconds(peer)}, {LIST_RATE} requests/s"
    if peer_failed:
        note += f"; {peer_failed} requests to the peer failed"
    row = Row.at_most(
        f"a list of {PODS:,} items, p99 as a share of prometheus-adapter's",
        mine / max(peer, 1),
        0.5,
        "×",
        margin=0.1,
        note=note,
    )
    return row if mine and peer else Row.missed(row.what, row.target, note)


def own_rows(found: dict[str, Any], turns: Sequence[dict[str, Any]]) -> list[Row]:
    """Freshness, autoscalers, processor time and memory of ours."""
    visible = Histogram.read(found["changing"]["visible"])
    scaled = found["autoscalers"]
    answered = sum(scaled["codes"].values())
    bad = answered - scaled["codes"].get("200", 0) + scaled["failed_events"] + len(scaled["inactive"])
    costs = [one["cost"] for one in turns] + [found["reading"], scaled["cost"]]
    resident = max(cost["resident_bytes"]["adapter"] for cost in costs)
    reading, busy = found["reading"]["cores"]["adapter"], scaled["cost"]["cores"]["adapter"]
    note = f"{answered:,} reads, {answered / scaled['seconds']:,.0f} a second; sync every second"
    if scaled["inactive"]:
        note += f"; {in_short(scaled['inactive'][0])}"
    seen = Row.at_most(
        "a change in an engine visible in the API, p99",
        visible.quantile(0.99) / 1e9,
        2,
        "s",
        note=f"{visible.total} changes, median {visible.quantile(0.5) / 1e9:.2f} s",
    )
    if not visible.total:
        seen = Row.missed(
            seen.what, seen.target, in_short(found["changing"]["refusal"]) or "no change was seen"
        )
    autoscaled = Row.at_most(
        f"failed reads of {ENGINES} autoscalers in {scaled['seconds']:.0f} s", bad, 0, "", note=note
    )
    if answered < ENGINES * scaled["seconds"] / 2:
        autoscaled = Row.missed(autoscaled.what, autoscaled.target, f"they read too little: {note}")
    return [
        seen,
        Row.at_most(
            f"from the start of the process to its first values of all {PODS:,} pods",
            max(one["first_answer_seconds"] for one in turns),
            3,
            "s",
            margin=0.1,
            note=f"the slowest of {len(turns)} starts; before that, 503",
            gates=False,
        ),
        autoscaled,
        Row.at_most(
            f"cores, reading {PODS:,} pods a second under {ENGINES} autoscalers",
            busy,
            0.4,
            "cores",
            margin=0.1,
            note=f"{reading:.2f} with nobody asking",
            gates=False,
        ),
        Row.at_most(
            "resident memory", resident / 1e6, RESIDENT_MAX_BYTES / 1e6, "MB", note="the most that was seen"
        ),
    ]


def systems_detail(turns: dict[str, list[dict[str, Any]]]) -> Detail:
    """What each system showed."""
    rows = []
    for name, runs in turns.items():
        for what in ("floor", "single", "list", "direct"):
            if what not in runs[0]:
                continue
            figures = merged(runs, what).figures()
            times = [milliseconds(figures[column]) for column in ("p50", "p99", "p999", "max")]
            loads = [one[what] for one in runs]
            rows.append(
                [name, what, str(figures["count"]), str(sum(load["failed"] for load in loads)), *times]
            )
    columns = ("system", "request", "answered", "failed", "p50", "p99", "p99.9", "max")
    return Detail("From the intended time to the whole answer:", columns, rows)


def cost_detail(turns: dict[str, list[dict[str, Any]]]) -> Detail:
    """What each process took during its turns."""
    rows = []
    for name, runs in turns.items():
        for process in runs[0]["cost"]["cores"]:
            cores = [one["cost"]["cores"][process] for one in runs]
            resident = max(one["cost"]["resident_bytes"][process] for one in runs)
            hiccup = max(one["disturbance"]["hiccups"]["p999"] for one in runs)
            rows.append(
                [name, process, f"{sum(cores) / len(cores):.2f}", megabytes(resident), milliseconds(hiccup)]
            )
    columns = ("system", "process", "cores", "resident", "hiccup p99.9 beside it")
    return Detail("What it takes, over whole turns:", columns, rows)


def measure(context: Context) -> Table:
    """All rows on one control plane."""
    pods = metric_adapters.pods_program()
    metric_adapters.build_peers()
    snapshot_port = free_port()
    with ExitStack() as stack:
        stack.enter_context(metric_pods.serving(pods, context.folder, snapshot_port))
        control_plane = stack.enter_context(
            LoopbackControlPlane(client_rate=CLIENT_RATE, controller_flags=CONTROLLER_FLAGS)
        )
        context.say(f"making {PODS:,} pods")
        plane = MetricPlane.create(control_plane, context.folder, snapshot_port)
        bench = Bench(context, plane, write_paths(context.folder))
        tried = alternating(
            [OURS, PROMETHEUS_ADAPTER],
            context.choose(2, 3),
            lambda system, number: peer_turn(bench, system, number),
        )
        tried[TEST_ADAPTER] = [
            peer_turn(bench, TEST_ADAPTER, number) for number in range(context.choose(1, 2))
        ]
        found = long_turn(bench)
    missing = [
        Row.missed(f"a turn of {name}", "", one["why_not"])
        for name, runs in tried.items()
        for one in runs
        if "why_not" in one
    ]
    measured = {name: [one for one in runs if "why_not" not in one] for name, runs in tried.items()}
    turns = {name: runs for name, runs in measured.items() if runs}
    rows = [*speed_rows(turns), *own_rows(found, turns[OURS]), *missing]
    return Table(
        f"Metrics adapter: {PODS:,} pods, {PODS * SERIES_PER_POD:,} series, behind a real API server",
        rows,
        [systems_detail(turns), cost_detail(turns)],
        {
            "turns": turns,
            "alone": found,
            "controller_flags": CONTROLLER_FLAGS,
            "client_rate": list(astuple(CLIENT_RATE)),
        },
    )
