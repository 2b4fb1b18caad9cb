"""Which pods are engines', what counts as their sample, and the rhythm of reading them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from eventengine_adapter.samples.fleets import Engine, EnginePod, Fleet
from eventengine_adapter.samples.pod_samples import PodSample
from eventengine_adapter.samples.store import SECONDS_KEPT, SampleStore
from eventengine_adapter.sources.engine_pods import keep_engine, keep_owned, keep_pod, resolve_fleet
from eventengine_adapter.sources.sampling import SLICE_PODS_MIN, Sampling
from eventengine_adapter.sources.snapshot_reading import Outcome, ReadError, interpret

NOW = 1_795_255_200


# --- the chain of owners -------------------------------------------------------------------------------------


def owned(
    name: str, uid: str, owner: tuple[str, str, str] | None = None, *, controller: bool = True, **labels: str
) -> dict[str, Any]:
    references = []
    if owner is not None:
        version, kind, owner_uid = owner
        references = [{"apiVersion": version, "kind": kind, "uid": owner_uid, "controller": controller}]
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": uid,
            "labels": {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()},
            "ownerReferences": references,
        }
    }


def pod(name: str = "hunt-a", owner: str = "rs-1", label: str = "hunt", **status: Any) -> dict[str, Any]:
    document = owned(name, f"uid-{name}", ("apps/v1", "ReplicaSet", owner))
    document["metadata"]["labels"] = {"eventengine.dev/engine": label}
    document["status"] = {
        "phase": "Running",
        "podIP": "10.0.0.7",
        "conditions": [{"type": "Ready", "status": "True"}],
        **status,
    }
    return document


def fleet_of(*pods: dict[str, Any], **changes: dict[str, Any]) -> Fleet:
    chain = {
        "engine": owned("hunt", "ee-1"),
        "deployment": owned("hunt", "dep-1", ("eventengine.dev/v1alpha1", "EventEngine", "ee-1")),
        "replica_set": owned("hunt-5f", "rs-1", ("apps/v1", "Deployment", "dep-1")),
        **changes,
    }
    kept = {name: keep_owned(document) for name, document in chain.items()}
    return resolve_fleet(
        [found for found in [keep_engine(chain["engine"])] if found is not None],
        [kept["deployment"]] if kept["deployment"] else [],
        [kept["replica_set"]] if kept["replica_set"] else [],
        [found for found in map(keep_pod, pods) if found is not None],
    )


@pytest.mark.parametrize(
    ("maker", "count"),
    [
        (owned("hunt", "set-1", ("eventengine.dev/v1alpha1", "EventEngine", "ee-1")), 1),
        (owned("hunt", "set-1"), 0),
        (owned("hunt", "set-2", ("eventengine.dev/v1alpha1", "EventEngine", "ee-1")), 0),
    ],
)
def test_a_pod_with_a_volume_is_the_engine_s_by_its_stateful_set(maker: dict[str, Any], count: int) -> None:
    source = pod()
    source["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "uid": "set-1", "controller": True}
    ]
    engine, member, stateful_set = keep_engine(owned("hunt", "ee-1")), keep_pod(source), keep_owned(maker)
    assert engine is not None
    assert member is not None
    assert stateful_set is not None
    assert len(resolve_fleet([engine], [], [], [member], [stateful_set]).pods) == count


def test_a_pod_whose_owners_lead_to_an_engine_is_the_engine_s() -> None:
    fleet = fleet_of(pod())

    assert [(p.name, p.engine, p.address, p.ready) for p in fleet.pods] == [
        ("hunt-a", "hunt", "10.0.0.7", True)
    ]


@pytest.mark.parametrize(
    "broken",
    [
        {"engine": owned("hunt", "ee-2")},
        {"deployment": owned("hunt", "dep-1")},
        {"deployment": owned("hunt", "dep-1", ("apps/v1", "EventEngine", "ee-1"))},
        {"deployment": owned("hunt", "dep-2", ("eventengine.dev/v1alpha1", "EventEngine", "ee-1"))},
        {"replica_set": owned("hunt-5f", "rs-1", ("apps/v1", "Deployment", "dep-1"), controller=False)},
        {"replica_set": owned("hunt-5f", "rs-2", ("apps/v1", "Deployment", "dep-1"))},
        {"engine": {"metadata": {"name": "hunt", "namespace": "other", "uid": "ee-1"}}},
    ],
)
def test_a_chain_with_a_broken_link_leads_nowhere(broken: dict[str, Any]) -> None:
    assert fleet_of(pod(), **broken).pods == ()


def test_a_label_of_another_engine_is_not_believed() -> None:
    assert fleet_of(pod(label="race")).pods == ()


@pytest.mark.parametrize(
    "status", [{"phase": "Pending"}, {"phase": "Failed"}, {"phase": "Succeeded"}, {"podIP": ""}]
)
def test_a_pod_that_does_not_run_does_not_count(status: dict[str, Any]) -> None:
    assert fleet_of(pod(**status)).pods == ()


def test_a_pod_that_is_being_deleted_drops_out_at_once() -> None:
    terminating = pod()
    terminating["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z"

    assert fleet_of(terminating).pods == ()


def test_a_pod_that_is_not_ready_counts_as_such() -> None:
    assert [p.ready for p in fleet_of(pod(conditions=[{"type": "Ready", "status": "False"}])).pods] == [False]


# --- samples -------------------------------------------------------------------------------------------------

HUNT_A = EnginePod("default", "hunt-a", "uid-a", "hunt", "10.0.0.7", True)


def test_the_sample_of_the_right_pod_and_second_counts(snapshot_document: dict[str, Any]) -> None:
    sample = interpret(json.dumps(snapshot_document).encode(), HUNT_A, NOW, NOW + 0.1)

    assert sample.sampled_at_seconds == NOW


@pytest.mark.parametrize(
    ("outcome", "change"),
    [
        (Outcome.STRANGER, {"identity": {"pod": "hunt-b"}}),
        (Outcome.STRANGER, {"identity": {"engine": "race"}}),
        (Outcome.STRANGER, {"identity": {"namespace": "other"}}),
        (Outcome.VERSION, {"version": 2}),
        (Outcome.INVALID, {"sampled_at_seconds": NOW - 1}),
        (Outcome.INVALID, {"buffer_pool": {"utilisation": -1}}),
        (Outcome.INVALID, {"buffer_pool": {"utilisation": None}}),
    ],
)
def test_anything_else_is_no_sample(
    snapshot_document: dict[str, Any], outcome: Outcome, change: dict[str, Any]
) -> None:
    for key, value in change.items():
        if isinstance(value, dict):
            snapshot_document[key] |= value
        else:
            snapshot_document[key] = value

    with pytest.raises(ReadError) as caught:
        interpret(json.dumps(snapshot_document).encode(), HUNT_A, NOW, NOW + 0.1)

    assert caught.value.outcome is outcome


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"NaN", b'{"version": 1}'])
def test_what_is_no_snapshot_is_refused(body: bytes) -> None:
    with pytest.raises(ReadError) as caught:
        interpret(body, HUNT_A, NOW, NOW)
    assert caught.value.outcome in {Outcome.INVALID, Outcome.VERSION}


def test_not_a_number_is_no_utilisation(snapshot_document: dict[str, Any]) -> None:
    body = json.dumps(snapshot_document).replace("0.0006", "NaN").encode()

    with pytest.raises(ReadError):
        interpret(body, HUNT_A, NOW, NOW)


def test_a_sample_from_the_future_is_refused_with_the_reason(snapshot_document: dict[str, Any]) -> None:
    with pytest.raises(ReadError, match="its clock is 5 s ahead"):
        interpret(json.dumps(snapshot_document).encode(), HUNT_A, None, NOW - 5)


# --- the rhythm ----------------------------------------------------------------------------------------------


class Pods:
    """Pods that keep samples of the seconds they are told, and can be made to fail or hang."""

    def __init__(self, kept: dict[str, set[int]]) -> None:
        self.kept = kept
        self.asked: list[tuple[str, int | None]] = []
        self.hanging: dict[str, asyncio.Event] = {}
        self.reading = self.reading_max = 0

    async def read(self, pod: EnginePod, second: int | None, now_seconds: float) -> PodSample:
        self.asked.append((pod.name, second))
        self.reading += 1
        self.reading_max = max(self.reading_max, self.reading)
        try:
            await asyncio.sleep(0)
            if pod.name in self.hanging:
                await self.hanging[pod.name].wait()
            kept = self.kept[pod.name]
            wanted = max(kept, default=None) if second is None else second
            if wanted not in kept:
                raise ReadError(Outcome.NOT_KEPT, "it has no sample to give")
            return PodSample(wanted, "one", 0, True, {}, {}, ())
        finally:
            self.reading -= 1


def sampling(
    pods: Pods, reads_max: int = 10, known: bool = True, late_seconds: float = 0
) -> tuple[Sampling, SampleStore]:
    store = SampleStore()
    engine_pods = tuple(
        EnginePod("default", name, f"uid-{name}", "hunt", "10.0.0.1", True) for name in sorted(pods.kept)
    )
    fleet = Fleet([Engine("default", "hunt", "ee", {}, engine_pods)])
    return (
        Sampling(lambda: fleet, lambda: known, pods, store, lambda: NOW + 0.05 + late_seconds, reads_max),
        store,
    )


async def settle(loop: Sampling, name: str | None = None) -> None:
    """Wait until no read of that pod, or of any, is going on."""
    tasks = [task for uid, task in loop._reading.items() if name is None or uid == f"uid-{name}"]
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)


async def begin_all(loop: Sampling) -> None:
    """Wait until the last slice of the round has begun."""
    async with asyncio.timeout(5):
        while loop._next_slice is not None:  # noqa: ASYNC110 - nobody else waits for a slice
            await asyncio.sleep(0)


async def test_the_first_contact_reads_what_the_pod_still_keeps() -> None:
    pods = Pods({"a": set(range(NOW - 5, NOW + 1))})
    loop, store = sampling(pods)

    loop.start_round(NOW)
    await settle(loop)

    history = store.history("uid-a")
    assert (history.oldest_second, history.newest_second) == (NOW - 5, NOW)
    pods.kept["a"].add(NOW + 1)
    pods.asked.clear()
    loop.start_round(NOW + 1)
    await settle(loop)
    assert pods.asked == [("a", NOW + 1)]


async def test_a_second_that_was_missed_is_read_while_the_pod_keeps_it() -> None:
    pods = Pods({"a": {NOW}})
    loop, store = sampling(pods)
    loop.start_round(NOW)
    await settle(loop)
    pods.kept["a"] |= {NOW + 1, NOW + 2, NOW + 3}
    pods.asked.clear()

    loop.start_round(NOW + 3)
    await settle(loop)

    assert pods.asked == [("a", NOW + 3), ("a", NOW + 2), ("a", NOW + 1)]
    assert all(store.history("uid-a").at(second) for second in range(NOW, NOW + 4))


async def test_a_read_that_is_late_itself_does_not_ask_for_what_was_missed() -> None:
    pods = Pods({"a": {NOW - 2, NOW - 1, NOW}})
    loop, store = sampling(pods, late_seconds=1.5)
    store.record("uid-a", [PodSample(NOW - 3, "one", 0, True, {}, {}, ())])

    loop.start_round(NOW)
    await settle(loop)

    assert pods.asked == [("a", NOW)]


async def test_a_sample_that_is_not_closed_yet_is_asked_for_again_and_then_the_newest_is_taken() -> None:
    pods = Pods({"a": {NOW - 3}})
    loop, store = sampling(pods)

    loop.start_round(NOW)
    await settle(loop)

    assert [second for _, second in pods.asked[:3]] == [NOW, NOW, None]
    assert store.history("uid-a").newest_second == NOW - 3


async def test_a_hanging_pod_delays_nobody_and_is_not_read_twice_at_a_time() -> None:
    pods = Pods({"a": {NOW, NOW + 1}, "b": {NOW, NOW + 1}})
    pods.hanging["a"] = asyncio.Event()
    loop, store = sampling(pods)

    loop.start_round(NOW)
    await settle(loop, "b")
    loop.start_round(NOW + 1)
    await settle(loop, "b")

    assert store.history("uid-b").newest_second == NOW + 1
    assert [second for name, second in pods.asked if name == "a"] == [NOW]
    pods.hanging["a"].set()
    await settle(loop)


async def test_the_number_of_reads_at_a_time_is_bounded() -> None:
    pods = Pods({f"pod-{number}": {NOW} for number in range(50)})
    pods.hanging = dict.fromkeys(pods.kept, asyncio.Event())
    loop, _ = sampling(pods, reads_max=4)

    loop.start_round(NOW)
    await begin_all(loop)
    assert len(pods.asked) == 4
    for answered in pods.hanging.values():
        answered.set()
    await settle(loop)

    assert {name for name, _ in pods.asked} == pods.kept.keys()
    assert pods.reading_max == 4


async def test_a_clock_that_is_set_back_leaves_no_samples_of_the_future() -> None:
    pods = Pods({"a": {NOW - 60, NOW}})
    loop, store = sampling(pods)
    loop.start_round(NOW)
    await settle(loop)

    loop.start_round(NOW - 60)
    await settle(loop)

    assert store.history("uid-a").newest_second == NOW - 60


async def test_it_has_caught_up_once_every_pod_was_tried_even_in_vain() -> None:
    pods = Pods({"a": {NOW}, "b": set()})
    loop, store = sampling(pods)
    assert not loop.caught_up.is_set()

    loop.start_round(NOW)
    assert not loop.caught_up.is_set()
    await settle(loop)

    assert loop.caught_up.is_set()
    assert store.history("uid-b").failure == "it has no sample to give"


async def test_it_has_not_caught_up_before_the_pods_are_known() -> None:
    loop, _ = sampling(Pods({}), known=False)

    loop.start_round(NOW)

    assert not loop.caught_up.is_set()


def test_the_store_keeps_a_bounded_past_and_forgets_pods_that_are_gone() -> None:
    store = SampleStore()
    for second in range(100):
        store.record("uid-a", [PodSample(second, "one", 0, True, {}, {}, ())])

    history = store.history("uid-a")
    assert (history.oldest_second, history.newest_second) == (100 - SECONDS_KEPT, 99)
    store.retain({"uid-b"})
    assert store.history("uid-a").newest_second is None


async def test_the_reads_of_a_large_fleet_are_spread_and_each_pod_is_read_before_any_is_read_again() -> None:
    """However slow the machine is: pods that are always the last would never be read."""
    pods = Pods({f"pod-{number:03}": {NOW, NOW + 1, NOW + 2} for number in range(3 * SLICE_PODS_MIN)})
    loop, store = sampling(pods)

    loop.start_round(NOW)
    assert len(loop._reading) < len(pods.kept), "nothing has run since: only the first slice has begun"
    loop.start_round(NOW + 1)
    await begin_all(loop)
    await settle(loop)
    assert {asked for asked in pods.asked if (asked[1] or 0) >= NOW} == {(name, NOW) for name in pods.kept}

    loop.start_round(NOW + 2)
    await begin_all(loop)
    await settle(loop)
    assert all(store.history(f"uid-{name}").newest_second == NOW + 2 for name in pods.kept)


async def test_a_clock_that_is_set_back_ends_a_round_of_the_future() -> None:
    pods = Pods({f"pod-{number:03}": {NOW - 60, NOW} for number in range(3 * SLICE_PODS_MIN)})
    loop, store = sampling(pods)

    loop.start_round(NOW)
    loop.start_round(NOW - 60)
    await begin_all(loop)
    await settle(loop)

    newest = {name: store.history(f"uid-{name}").newest_second for name in pods.kept}
    assert list(newest.values()).count(NOW - 60) >= 2 * SLICE_PODS_MIN, newest
