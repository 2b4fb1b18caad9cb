"""One operator acts at a time; the next takes over when it stops, is killed, or loses the Lease."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from eventengine_harness.waiting import wait_for

from .operators import OperatorPlane, OperatorProcess

SECONDS = 30.0


@dataclass
class Pair:
    """Two candidates of one installation that serves one namespace."""

    plane: OperatorPlane
    namespace: str
    engines: str
    first: OperatorProcess
    second: OperatorProcess

    def holder(self) -> str:
        lease = self.plane.access.get("lease", "eventengine-operator", self.namespace)
        return str(lease["spec"].get("holderIdentity", "")) if lease else ""

    def until_held_by(self, process: OperatorProcess) -> None:
        wait_for(lambda: self.holder() == process.identity, f"{process.identity} to lead", SECONDS)
        process.wait_leading()

    def engine(self, name: str) -> None:
        document = {
            "apiVersion": "eventengine.dev/v1alpha1",
            "kind": "EventEngine",
            "metadata": {"name": name, "namespace": self.engines},
            "spec": {"replicas": 1, "pod": {"cpus": "100m", "memory": "64Mi", "pinning": "Off"}},
        }
        self.plane.access.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(document))

    def until_served(self, name: str) -> None:
        self.plane.access.wait_until(
            "deployment", name, lambda _: True, "made", namespace=self.engines, deadline_seconds=SECONDS
        )


@pytest.fixture
def pair(operator_plane: OperatorPlane, tmp_path: Path) -> Iterator[Pair]:
    namespace, engines = f"system-{secrets.token_hex(3)}", f"engines-{secrets.token_hex(3)}"
    operator_plane.access.kubectl("create", "namespace", engines)
    kubeconfig = operator_plane.install_rights(namespace, f"operator.watchNamespaces={{{engines}}}")
    settings = {"watch_namespaces": engines, "metrics_mode": "off"}
    first, second = (
        OperatorProcess(kubeconfig, namespace, tmp_path / f"{name}.log", name, **settings)
        for name in ("first", "second")
    )
    with first:
        first.wait_leading()
        with second:
            second.wait_ready()
            yield Pair(operator_plane, namespace, engines, first, second)
    for name in (engines, namespace):
        operator_plane.access.delete("namespace", name, wait=False)


def test_standby_is_ready_and_does_nothing(pair: Pair) -> None:
    pair.engine("hunt")
    pair.until_served("hunt")
    assert pair.second.http("/livez")[0] == 200
    assert pair.second.http("/readyz")[0] == 200
    assert pair.second.metric("eventengine_operator_leader") == 0
    assert pair.second.metric("eventengine_operator_reconciles_total") == 0
    assert pair.second.metric('eventengine_operator_api_calls_total{code="200",resource="deployments"') == 0


def test_orderly_end_hands_over_at_once(pair: Pair) -> None:
    assert pair.first.stop() == 0, pair.first.log()
    pair.until_held_by(pair.second)
    pair.engine("hunt")
    pair.until_served("hunt")


def test_killed_leader_is_replaced_when_its_lease_runs_out(pair: Pair) -> None:
    pair.first.signal(signal.SIGKILL)
    pair.first.wait_for_exit()
    pair.engine("hunt")
    pair.until_held_by(pair.second)
    pair.until_served("hunt")


def test_frozen_leader_ends_itself_once_it_wakes_up(pair: Pair) -> None:
    pair.first.signal(signal.SIGSTOP)
    pair.until_held_by(pair.second)
    pair.first.signal(signal.SIGCONT)
    assert pair.first.wait_for_exit() == 1
    assert "lease" in pair.first.log()
    assert pair.holder() == "second", "a loser must not give away what it no longer has"


def test_lease_taken_by_force_ends_the_leader(pair: Pair) -> None:
    patch = json.dumps({"spec": {"holderIdentity": "somebody-else", "leaseDurationSeconds": 600}})
    pair.plane.access.kubectl(
        "patch",
        "lease",
        "eventengine-operator",
        f"--namespace={pair.namespace}",
        "--type=merge",
        "--patch",
        patch,
    )
    assert pair.first.wait_for_exit() == 1
    assert "taken by somebody-else" in pair.first.log()
    assert pair.second.metric("eventengine_operator_leader") == 0, "the term in the Lease is respected"
