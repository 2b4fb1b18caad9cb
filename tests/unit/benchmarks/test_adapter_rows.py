"""What the adapter's rows say of measured figures, and what the simulated pods say of themselves."""

from __future__ import annotations

import json
from typing import Any

from eventengine_contract.snapshots import Snapshot
from frame.metric_adapters import METRICS, OURS, PROMETHEUS_ADAPTER
from frame.metric_pods import PODS, SERIES_PER_POD, START_SECONDS, SimulatedPod, all_pods, fill
from rows import adapter

MILLISECOND = 1_000_000


def load(milliseconds: float, failed: int = 0) -> dict[str, Any]:
    value = int(milliseconds * MILLISECOND)
    return {"latency": {"counts": [[value, 100]], "max": value}, "failed": failed, "refusal": "no" * failed}


def cost(cores: float = 0.2, megabytes: int = 100) -> dict[str, Any]:
    return {"cores": {"adapter": cores}, "resident_bytes": {"adapter": megabytes * 1_000_000}}


def turn(single: float, lists: float, failed: int = 0) -> dict[str, Any]:
    return {
        "floor": load(3),
        "single": load(single, failed),
        "list": load(lists),
        "direct": load(2),
        "first_answer_seconds": 2.5,
        "cost": cost(),
    }


def alone(**changes: Any) -> dict[str, Any]:
    autoscalers = {"seconds": 60, "codes": {"200": 6000}, "failed_events": 0, "inactive": [], "cost": cost()}
    return {
        "reading": cost(0.1),
        "changing": {"visible": {"counts": [[1_500_000_000, 100]], "max": 1_500_000_000}, "refusal": ""},
        "autoscalers": {**autoscalers, **changes},
    }


def test_speed_is_compared_with_the_floor_and_with_the_peer() -> None:
    turns = {OURS: [turn(4.5, 20)], PROMETHEUS_ADAPTER: [turn(12, 50)]}

    assert [row.holds for row in adapter.speed_rows(turns)] == [True, True, True, True]


def test_a_list_slower_than_half_the_peer_s_time_and_a_failed_request_lose() -> None:
    turns = {OURS: [turn(4.5, 40, failed=1)], PROMETHEUS_ADAPTER: [turn(12, 50)]}

    rows = {row.what: row.holds for row in adapter.speed_rows(turns)}

    assert rows["failed requests"] is False
    assert rows["a list of 1,000 items, p99 as a share of prometheus-adapter's"] is False


def test_a_peer_that_could_not_be_measured_leaves_a_lost_row() -> None:
    rows = adapter.speed_rows({OURS: [turn(4.5, 20)]})

    assert [(row.reached, row.holds) for row in rows if "prometheus-adapter" in row.what] == [
        ("not measured", False)
    ]


def test_a_time_of_nothing_that_was_answered_is_lost() -> None:
    nothing = {"latency": {"counts": [], "max": 0}, "failed": 100, "refusal": "no"}
    silent = {**turn(4, 20), "single": nothing, "direct": nothing}

    rows = adapter.speed_rows({OURS: [silent], PROMETHEUS_ADAPTER: [turn(12, 50)]})

    assert [row.reached for row in rows if "one series" in row.what] == ["not measured", "not measured"]


def test_any_failed_read_of_an_autoscaler_loses() -> None:
    for changes in (
        {"codes": {"200": 5999, "503": 1}},
        {"failed_events": 1},
        {"inactive": ["engine-000: no"]},
    ):
        rows = adapter.own_rows(alone(**changes), [turn(4, 20)])
        assert [row.holds for row in rows if "failed reads" in row.what] == [False]
    assert all(row.holds for row in adapter.own_rows(alone(), [turn(4, 20)]))


def test_autoscalers_that_hardly_read_prove_nothing() -> None:
    rows = adapter.own_rows(alone(codes={"200": 100}), [turn(4, 20)])

    assert [row.reached for row in rows if "failed reads" in row.what] == ["not measured"]


def test_changes_that_nobody_saw_prove_nothing() -> None:
    found = alone()
    found["changing"]["visible"] = {"counts": [], "max": 0}

    assert adapter.own_rows(found, [turn(4, 20)])[0].reached == "not measured"


def test_pods_have_names_and_addresses_of_their_own() -> None:
    pods = all_pods()

    assert len({pod.name for pod in pods}) == len({pod.address for pod in pods}) == PODS


def test_a_template_is_a_whole_snapshot_and_the_exposition_has_the_same_figures() -> None:
    pod = SimulatedPod(17)
    template = pod.template()

    snapshot = Snapshot.model_validate_json(fill(template["snapshot"], START_SECONDS))

    series = [line for line in template["metrics"].splitlines() if not line.startswith("#")]
    assert len(series) == SERIES_PER_POD
    assert {line.partition("{")[0].partition(" ")[0].removeprefix("eventengine_") for line in series} == set(
        METRICS
    )
    assert f"eventengine_buffer_pool_utilisation {snapshot.buffer_pool.utilisation:g}" in series
    assert f'partition="{snapshot.sources[0].partitions[0].partition}"}} ' in template["metrics"]


def test_the_lag_of_a_changing_pod_tells_the_second() -> None:
    template = SimulatedPod(3).template()["snapshot"]

    partitions = json.loads(fill(template, 1_795_255_217))["sources"][0]["partitions"]

    assert sum(partition["lag_events"] for partition in partitions) == 255_217
