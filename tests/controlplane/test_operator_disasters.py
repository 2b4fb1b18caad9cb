"""The operator's process killed, cut off, doubled, and its objects taken away under its hands.

The process is the real one and so is the SIGKILL. A proxy tells of each write when it is done and the operator doesn't
know it yet, which is when a kill hurts most. `make chaos ONLY=operator` tries every write; the tier tries some.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eventengine_harness.waiting import wait_for
from hypothesis import given
from hypothesis import strategies as st

from .chaos import SECONDS_MAX, choose, tried
from .fault_proxy import FaultProxy, Request
from .operators import PATIENT, OperatorPlane, OperatorProcess, installation_of, operating
from .spaces import HPA, KAFKA, Space

pytestmark = pytest.mark.timeout(SECONDS_MAX)
Object = dict[str, Any]
TCP = {"name": "direct", "type": "tcp", "tcp": {"insecure": True}}
FULL: Object = {"autoscaling": HPA, "engine": {"sources": [KAFKA, TCP]}}
PLAIN: Object = {"autoscaling": {"driver": "none"}, "engine": {"sources": [KAFKA]}}
KINDS = ("deployment", "service", "configmap", "networkpolicy", "pdb", "hpa")
EDITS: dict[str, Object] = {
    "deployment/hunt": {"spec": {"progressDeadlineSeconds": 77}},
    "service/hunt": {"spec": {"publishNotReadyAddresses": False}},
    "service/hunt-tcp": {"spec": {"selector": {"eventengine.dev/engine": "another"}}},
    "configmap/hunt-engine": {"data": {"engine.yaml": "sources: []"}},
    "networkpolicy/hunt": {"spec": {"ingress": []}},
    "pdb/hunt": {"spec": {"maxUnavailable": 0}},
    "hpa/hunt": {"spec": {"maxReplicas": 50}},
}
"""A change by hand of every child."""
ASSIGNED = ("clusterIP", "clusterIPs", "replicas")


def children(space: Space) -> dict[str, Object]:
    """What there is of the engine, without what an API server or an autoscaler assigns."""
    found = {}
    for kind in KINDS:
        for item in space.access.list(kind, space.namespace, "eventengine.dev/engine=hunt"):
            content = {key: item[key] for key in ("spec", "data") if key in item}
            for key in ASSIGNED:
                content.get("spec", {}).pop(key, None)
            found[f"{kind}/{item['metadata']['name']}"] = content
    return found


@pytest.fixture(scope="module")
def operator(
    request: pytest.FixtureRequest, fault_proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    folder = tmp_path_factory.mktemp("operator")
    with operating(fault_proxy.kubeconfig, installation_of(request), folder) as running:
        yield running


@pytest.fixture(scope="module")
def declared(operator: OperatorProcess, operator_plane: OperatorPlane) -> dict[str, dict[str, Object]]:
    """What undisturbed work makes of both specs."""
    made = {}
    for name, spec in (("full", FULL), ("plain", PLAIN)):
        with Space(operator_plane.access, operator) as undisturbed:
            undisturbed.engine(**spec)
            undisturbed.until_exists("deployment/hunt")
            undisturbed.until_quiet()
            made[name] = children(undisturbed)
    return made


def on_write(
    number: int, namespace: str, act: Callable[[], None]
) -> tuple[Callable[[Request], None], threading.Event]:
    """What to hang on the proxy to have something done after so many writes to a namespace, and whether it was."""
    left = [number]
    done = threading.Event()

    def written(request: Request) -> None:
        if f"/namespaces/{namespace}/" not in request.path or done.is_set():
            return
        left[0] -= 1
        if not left[0]:
            act()
            done.set()

    return written, done


def until_as_declared(space: Space, expected: dict[str, Object]) -> None:
    wait_for(
        lambda: children(space) == expected,
        "what undisturbed work makes",
        30,
        last_seen=lambda: str(sorted(children(space))),
    )
    space.until_quiet()
    assert children(space) == expected


def kill_after(number: int, space: Space, proxy: FaultProxy) -> threading.Event:
    proxy.written, done = on_write(number, space.namespace, lambda: space.operator.signal(signal.SIGKILL))
    return done


def restart(operator: OperatorProcess, proxy: FaultProxy) -> None:
    assert operator.wait_for_exit() == -signal.SIGKILL
    proxy.heal()
    operator.start()
    operator.wait_leading()


def install_for(plane: OperatorPlane, name: str, space: Space) -> Path:
    """Rights in one namespace alone: those in the whole cluster belong to one installation, the module's."""
    return plane.install_rights(name, f"operator.watchNamespaces={{{space.namespace}}}")


def test_cut_off_for_longer_than_its_lease_it_ends_itself_and_the_next_repairs(
    operator_plane: OperatorPlane, tmp_path: Path
) -> None:
    # The first test, for there must be no other operator yet that would do the work.
    name, nobody = "eventengine-partition", OperatorProcess(tmp_path, "none", tmp_path / "none.log")
    with Space(operator_plane.access, nobody) as space:
        kubeconfig = install_for(operator_plane, name, space)
        lease = {"lease_seconds": "6", "renew_deadline_seconds": "4", "retry_seconds": "0.5"}
        settings = {"metrics_mode": "off", "watch_namespaces": space.namespace, **lease}
        with (
            FaultProxy(kubeconfig, tmp_path) as proxy,
            OperatorProcess(proxy.kubeconfig, name, tmp_path / "operator.log", **settings) as operator,
        ):
            space.operator = operator
            operator.wait_leading()
            space.engine(**FULL)
            space.until_exists(*EDITS)
            space.until_quiet()
            expected = children(space)
            proxy.cut()
            space.kubectl("delete", "pdb/hunt", "networkpolicy/hunt")
            assert operator.wait_for_exit() == 1, operator.log()
            assert "the lease could not be renewed in time" in operator.log()
            proxy.heal()
            operator.start()
            operator.wait_leading()
            until_as_declared(space, expected)
            assert operator.stop() == 0, operator.log()


@pytest.mark.parametrize("number", choose([5], list(range(1, 11))))
def test_killed_in_a_creation_it_is_finished_by_the_next(
    space: Space, proxy: FaultProxy, declared: dict[str, dict[str, Object]], number: int
) -> None:
    done = kill_after(number, space, proxy)
    space.engine(**FULL)
    assert done.wait(30), f"the creation has fewer than {number} writes"
    restart(space.operator, proxy)
    until_as_declared(space, declared["full"])


@pytest.mark.parametrize("number", choose([2], list(range(1, 6))))
def test_killed_in_a_change_it_is_finished_by_the_next(
    space: Space, proxy: FaultProxy, declared: dict[str, dict[str, Object]], number: int
) -> None:
    space.engine(**FULL)
    until_as_declared(space, declared["full"])
    done = kill_after(number, space, proxy)
    space.engine(**PLAIN)
    assert done.wait(30), f"the change has fewer than {number} writes"
    restart(space.operator, proxy)
    until_as_declared(space, declared["plain"])


@pytest.mark.parametrize("number", choose([4], list(range(1, 9))))
def test_killed_while_its_engine_is_deleted_nothing_is_left(
    space: Space, proxy: FaultProxy, number: int
) -> None:
    def act() -> None:
        space.operator.signal(signal.SIGKILL)

    proxy.written, done = on_write(number, space.namespace, act)
    space.engine(**FULL)
    assert done.wait(30), f"the creation has fewer than {number} writes"
    space.kubectl("delete", "ee/hunt", "--wait=false")
    restart(space.operator, proxy)
    wait_for(lambda: not children(space), "the end of everything", 60, last_seen=lambda: str(children(space)))


def test_two_operators_at_once_agree(
    space: Space, operator_plane: OperatorPlane, tmp_path: Path, declared: dict[str, dict[str, Object]]
) -> None:
    name = "eventengine-second"
    kubeconfig = install_for(operator_plane, name, space)
    settings = {"metrics_mode": "off", "watch_namespaces": space.namespace, **PATIENT}
    with OperatorProcess(kubeconfig, name, tmp_path / "second.log", "second", **settings) as second:
        second.wait_leading()
        for spec in (FULL, PLAIN, FULL):
            space.engine(**spec)
        until_as_declared(space, declared["full"])
        for name in EDITS:
            space.kubectl("delete", name, "--wait=false")
        until_as_declared(space, declared["full"])
        before = writes(space.operator) + writes(second)
        space.until_quiet()
        assert writes(space.operator) + writes(second) == before, "they don't write against each other"
        assert second.stop() == 0, second.log()
    assert "Traceback" not in second.log()


def writes(operator: OperatorProcess) -> float:
    """Objects applied so far, statuses aside."""
    lines = operator.http("/metrics")[1].splitlines()
    wanted = [
        line for line in lines if 'verb="apply"' in line and "eventengines" not in line and "_total" in line
    ]
    return sum(float(line.rsplit(" ", 1)[1]) for line in wanted)


@pytest.mark.parametrize("number", choose([4], list(range(1, 9))))
def test_namespace_deleted_in_the_middle_goes_and_the_others_are_served(
    space: Space, operator_plane: OperatorPlane, proxy: FaultProxy, number: int
) -> None:
    def act() -> None:
        threading.Thread(
            target=operator_plane.access.delete, args=("namespace", space.namespace), kwargs={"wait": False}
        ).start()

    proxy.written, done = on_write(number, space.namespace, act)
    space.engine(**FULL)
    assert done.wait(30)
    with Space(operator_plane.access, space.operator) as other:
        other.engine(replicas=1)
        other.until_exists("deployment/hunt")
    operator_plane.access.wait_until_gone("namespace", space.namespace, deadline_seconds=60)


@given(data=st.data())
@tried(short=1, long=60)
def test_whatever_is_done_by_hand_is_undone(
    operator: OperatorProcess,
    operator_plane: OperatorPlane,
    declared: dict[str, dict[str, Object]],
    data: st.DataObject,
) -> None:
    deeds = data.draw(
        st.lists(
            st.tuples(st.sampled_from(sorted(EDITS)), st.sampled_from(["edit", "delete"])),
            min_size=1,
            max_size=10,
        )
    )
    with Space(operator_plane.access, operator) as space:
        space.engine(**FULL)
        until_as_declared(space, declared["full"])
        for name, deed in deeds:
            if deed == "delete":
                space.kubectl("delete", name, "--wait=false", "--ignore-not-found")
            elif space.get(name) is not None:
                space.kubectl("patch", name, "--type=merge", f"--patch={json.dumps(EDITS[name])}")
        until_as_declared(space, declared["full"])
