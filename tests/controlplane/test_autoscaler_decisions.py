"""The port of the autoscaler's algorithm decides as the real controller does, on one recorded load.

`explaining.replica_calculator` says in `explain` how many replicas follow, and drives the hours of faults of the unit
tests; both are worth only as much as it is like the controller. Here the controller of Kubernetes scales three
Deployments on the same load, one by each way of asking, and every decision of it is compared.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from eventengine_adapter.explaining.replica_calculator import from_average, from_pods, from_value
from eventengine_contract.quantities import parse_quantity_millis
from eventengine_harness.waiting import wait_for

from .adapters import AdapterPlane, AdapterProcess
from .hunting import Hunt, autoscaler, wait_served

LOAD = (5200, 5600, 11_000, 3100)
"""Events of lag, one level after the other: growth, within the tolerance, a peak, a fall."""

TARGET, PODS, REPLICAS_MAX = 1000, 2, 12
DECIDED_SECONDS_MAX = 30.0
UNHURRIED = {
    "stabilizationWindowSeconds": 0,
    "policies": [{"type": "Pods", "value": 100, "periodSeconds": 15}],
}
"""Without the delays that come after the algorithm."""


@dataclass(frozen=True)
class Way:
    """One way of asking: the metric of the autoscaler, what follows, and what its status shows of what it read."""

    metric: dict[str, Any]
    wish: Callable[[list[int], int], int]
    """Replicas that follow from the lag of each pod and the replicas that there are."""
    shown: Callable[[dict[str, Any]], str]
    shows_millis: Callable[[list[int], int], int]


def external(target: dict[str, str]) -> dict[str, Any]:
    return {"type": "External", "external": {"metric": {"name": "kafka_consumer_lag"}, "target": target}}


def by_pods(lags: list[int], replicas: int) -> int:
    values = {str(number): lag * 1000 for number, lag in enumerate(lags)}
    wish = from_pods(values, TARGET * 1000, replicas, 0, replicas - len(lags))
    assert wish is not None
    return wish.replicas


WAYS = {
    "average": Way(
        external({"type": "AverageValue", "averageValue": str(TARGET)}),
        lambda lags, replicas: from_average(sum(lags) * 1000, TARGET * 1000, replicas).replicas,
        lambda current: str(current["external"]["current"].get("averageValue", "0")),
        lambda lags, replicas: -(-sum(lags) * 1000 // replicas),
    ),
    "value": Way(
        external({"type": "Value", "value": str(TARGET * PODS)}),
        lambda lags, replicas: from_value(sum(lags) * 1000, TARGET * PODS * 1000, replicas, PODS).replicas,
        lambda current: str(current["external"]["current"].get("value", "0")),
        lambda lags, _replicas: sum(lags) * 1000,
    ),
    "pods": Way(
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": "kafka_consumer_lag"},
                "target": {"type": "AverageValue", "averageValue": str(TARGET)},
            },
        },
        by_pods,
        lambda current: str(current["pods"]["current"].get("averageValue", "0")),
        lambda lags, _replicas: sum(lags) * 1000 // len(lags),
    ),
}


@dataclass
class Autoscaled:
    """A Deployment that the real controller scales, and the same in the port's hands."""

    plane: AdapterPlane
    hunt: Hunt
    way: Way
    replicas: int = PODS
    expected: list[int] = field(default_factory=list)
    decided: list[int] = field(default_factory=list)
    lags: list[int] = field(default_factory=list)

    def load(self, total: int) -> None:
        """Have the first pod's lag change; the port decides until it wants no further change."""
        self.lags = [total - TARGET, TARGET]
        self.hunt.states[0].partitions = {0: self.lags[0], 1: 0}
        for _ in range(5):
            wanted = min(max(self.way.wish(self.lags, self.replicas), PODS), REPLICAS_MAX)
            if wanted == self.replicas:
                return
            self.expected.append(wanted)
            self.replicas = wanted
        raise AssertionError("the port comes to no end")

    def has_followed(self) -> bool:
        """Whether the controller has read the load with the replicas that follow from it."""
        found = self.plane.access.get("hpa", "hunt", self.hunt.namespace)
        assert found is not None
        status = found["status"]
        desired = int(status.get("desiredReplicas") or 0)
        current = status.get("currentMetrics") or [{}]
        if "type" not in current[0] or desired != self.replicas:
            return False
        shown = parse_quantity_millis(self.way.shown(current[0]))
        return shown == self.way.shows_millis(self.lags, self.replicas)

    @contextmanager
    def every_decision(self) -> Iterator[None]:
        """Note what the controller decides, each step of it, until the last one that is expected is there."""
        access, columns = self.plane.access, r'jsonpath={.status.desiredReplicas}{"\n"}'
        command = [
            *(str(access.kubectl_program), f"--kubeconfig={access.kubeconfig}"),
            *("get", "hpa", f"--namespace={self.hunt.namespace}", "--watch", "--output", columns),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            noting = threading.Thread(target=self._note, args=(process.stdout,))
            noting.start()
            try:
                yield
                wait_for(lambda: self.decided[-1:] == self.expected[-1:], "the last one", DECIDED_SECONDS_MAX)
            finally:
                process.kill()
                noting.join()

    def _note(self, desired: Iterable[str]) -> None:
        for line in desired:
            number = int(line or 0)
            if number and number != (self.decided or [PODS])[-1]:
                self.decided.append(number)


def test_the_port_decides_as_the_controller_on_a_recorded_load(
    plane: AdapterPlane, adapter: AdapterProcess, metrics_space: str
) -> None:
    with ExitStack() as stack:
        scaled = []
        for name, way in WAYS.items():
            namespace = f"{metrics_space}-{name}"
            plane.access.kubectl("create", "namespace", namespace)
            stack.callback(plane.access.delete, "namespace", namespace, wait=False)
            hunt = Hunt(plane, adapter, namespace, stack)
            for state in hunt.states:
                state.partitions = dict.fromkeys(state.partitions, 0)
            hunt.states[1].partitions = {2: TARGET, 3: 0}
            scaled.append(Autoscaled(plane, hunt, way))
        for one in scaled:
            one.load(LOAD[0])
            wait_served(plane, one.hunt.lag, 4)
            wanted = autoscaler("hunt", one.way.metric)
            wanted["spec"] |= {
                "minReplicas": PODS,
                "maxReplicas": REPLICAS_MAX,
                "behavior": {"scaleUp": UNHURRIED, "scaleDown": UNHURRIED},
            }
            stack.enter_context(one.every_decision())
            plane.access.apply(wanted, namespace=one.hunt.namespace)

        for total in LOAD:
            for one in scaled:
                one.load(total)

            def all_followed() -> bool:
                followed = [one.has_followed() for one in scaled]
                return all(followed)

            def seen(total: int = total) -> str:
                return f"{total}: {[(one.decided, one.expected) for one in scaled]}"

            wait_for(all_followed, "the controller's decisions", DECIDED_SECONDS_MAX, last_seen=seen)

        for one, name in zip(scaled, WAYS, strict=True):
            assert one.decided == one.expected, name
        assert max(len(one.expected) for one in scaled) >= 3, "a load without decisions compares nothing"
