"""An hour of load with faults: no scale-down is ever caused by missing, stale or wrong data.

The autoscaler is the one of `replica_calculator`, asking each fifteen seconds as the controller does: an error
changes nothing, a number is believed. Beside it runs the same autoscaler with the truth. Whatever goes wrong, the one
with the faults may never ask for fewer pods than it has when the truth, of the last ten seconds, would not.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from eventengine_adapter.apis.statuses import ApiError
from eventengine_adapter.explaining.replica_calculator import from_average
from eventengine_adapter.samples.freshness import CLOCK_AHEAD_SECONDS_MAX
from eventengine_contract.quantities import parse_quantity_millis

if TYPE_CHECKING:
    from conftest import World

HOUR_SECONDS = 3600
SYNC_SECONDS = 15
AGE_SECONDS_MAX = 10
PARTITIONS = 12
TARGET_MILLIS = 1000 * 1000
LAG = "kafka_consumer_lag"
PODS = [f"hunt-{number}" for number in range(4)]


def true_lag(second: int, partition: int) -> int:
    """Two waves and a burst of load, in events on one partition."""
    wave = 1 + math.sin(second / 240) + 0.5 * math.sin(second / 37 + partition)
    burst = 900 if 1800 <= second < 1860 else 0
    return max(0, int(250 * wave) + burst)


Fault = Callable[[int, str, random.Random], str]
"""What happens to the sample of a pod on a second: `` for nothing, or the name of a fault."""


def hang(second: int, pod: str, _: random.Random) -> str:
    """One pod after the other hangs for a minute and closes no sample."""
    return "lost" if second % 300 < 60 and pod == PODS[second // 300 % len(PODS)] else ""


def half_gone(second: int, pod: str, _: random.Random) -> str:
    """Half of the pods are deleted for two minutes out of ten, their partitions with them."""
    return "gone" if second % 600 < 120 and pod in PODS[:2] else ""


def lossy(_second: int, _pod: str, dice: random.Random) -> str:
    """Every third read fails, here and there."""
    return "lost" if dice.random() < 0.33 else ""


def rebalancing(second: int, pod: str, _: random.Random) -> str:
    """Every minute partitions are without an owner for two seconds, then without a known lag for two."""
    if second % 60 < 4 and pod == PODS[second // 60 % len(PODS)]:
        return "unowned" if second % 60 < 2 else "unmeasured"
    return ""


def old_timestamps(second: int, pod: str, _: random.Random) -> str:
    """One pod gives samples of half a minute ago, for five minutes out of ten."""
    return "old" if second % 600 < 300 and pod == PODS[1] else ""


def clock_ahead(second: int, pod: str, _: random.Random) -> str:
    """One pod's clock runs two seconds ahead, as much as is let through."""
    return "ahead" if pod == PODS[2] and second % 900 < 450 else ""


FAULTS = [hang, half_gone, lossy, rebalancing, old_timestamps, clock_ahead]


def sample(world: World, second: int, pod: str, fault: str) -> None:
    """Store what an adapter would have read of this pod on this second."""
    owned = range(PODS.index(pod), PARTITIONS, len(PODS))
    stamp = world.second + second
    if fault in {"lost", "gone"}:
        return
    if fault == "old":
        second, stamp = second - 30, stamp - 30
    if fault == "ahead":
        stamp += CLOCK_AHEAD_SECONDS_MAX
    lags: dict[int, int | None] = {partition: true_lag(second, partition) for partition in owned}
    if fault == "unowned":
        lags = {}
    if fault == "unmeasured":
        lags = dict.fromkeys(lags)
    world.sample(pod, second=stamp, partitions=lags, total=PARTITIONS)


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_ever_takes_a_pod_away(world: World, fault: Fault) -> None:
    dice = random.Random(6)  # noqa: S311 - a seed makes the run repeatable
    for pod in PODS:
        world.pod(pod)
    replicas, answers, refusals = 4, 0, 0
    for second in range(HOUR_SECONDS):
        gone = [pod for pod in PODS if fault(second, pod, dice) == "gone"]
        world.only_pods([pod for pod in PODS if pod not in gone])
        for pod in PODS:
            sample(world, second, pod, fault(second, pod, dice))
        if second % SYNC_SECONDS:
            continue
        world.now = world.second + second + 0.3
        try:
            total_millis = sum(parse_quantity_millis(item["value"]) for item in world.external(LAG))
        except ApiError:
            refusals += 1
            continue
        answers += 1
        wanted = max(1, from_average(total_millis, TARGET_MILLIS, replicas).replicas)
        if wanted < replicas:
            past = range(max(0, second - AGE_SECONDS_MAX), second + CLOCK_AHEAD_SECONDS_MAX + 1)
            truths = [sum(true_lag(then, number) for number in range(PARTITIONS)) for then in past]
            lowest = max(1, from_average(min(truths) * 1000, TARGET_MILLIS, replicas).replicas)
            assert wanted >= lowest, (
                f"second {second}: {wanted} of {replicas} pods, the truth asks for {lowest}"
            )
        replicas = wanted

    assert answers > 0, "faults that let nothing through prove nothing"
    assert answers + refusals == HOUR_SECONDS // SYNC_SECONDS
    assert refusals > 0 or fault in {lossy, clock_ahead, rebalancing}


def test_without_a_fault_every_question_is_answered_with_the_truth(world: World) -> None:
    for pod in PODS:
        world.pod(pod)
    for second in range(0, HOUR_SECONDS, 61):
        for pod in PODS:
            sample(world, second, pod, "")
        world.now = world.second + second + 0.3

        total_millis = sum(parse_quantity_millis(item["value"]) for item in world.external(LAG))

        assert total_millis == 1000 * sum(true_lag(second, number) for number in range(PARTITIONS))


def test_the_measure_would_notice_a_fault_that_is_served_as_a_number() -> None:
    """Half the partitions left out of the sum would have taken pods away: the check above is no formality."""
    halved = sum(true_lag(600, number) for number in range(0, PARTITIONS, 2))
    whole = sum(true_lag(600, number) for number in range(PARTITIONS))

    assert (
        from_average(halved * 1000, TARGET_MILLIS, 6).replicas
        < from_average(whole * 1000, TARGET_MILLIS, 6).replicas
    )
