"""The canary: heard of while the watches tell, and the end of a process whose watches don't."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from eventengine_harness.waiting import wait_for

from .fault_proxy import FaultProxy, faithful
from .operators import OperatorPlane, OperatorProcess, operating

SECONDS = 30.0


@pytest.fixture(scope="module")
def engines(operator_plane: OperatorPlane) -> Iterator[str]:
    """The only namespace that the operator serves."""
    name = f"canaries-{secrets.token_hex(3)}"
    operator_plane.access.kubectl("create", "namespace", name)
    yield name
    operator_plane.access.delete("namespace", name, wait=False)


@pytest.fixture(scope="module")
def fault_proxy(
    operator_plane: OperatorPlane, engines: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultProxy]:
    values = (f"operator.watchNamespaces={{{engines}}}", "operator.canarySeconds=1")
    kubeconfig = operator_plane.install_rights("eventengine-canaries", *values)
    with FaultProxy(kubeconfig, tmp_path_factory.mktemp("proxy")) as running:
        yield running


@pytest.fixture(scope="module")
def operator(
    fault_proxy: FaultProxy, engines: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    settings = {"watch_namespaces": engines, "canary_seconds": "0.2"}
    folder = tmp_path_factory.mktemp("operator")
    with operating(fault_proxy.kubeconfig, "eventengine-canaries", folder, **settings) as running:
        yield running


def until_alive(operator: OperatorProcess, code: int) -> str:
    return wait_for(
        lambda: (answer := operator.http("/livez"))[0] == code and answer[1],
        f"/livez to say {code}",
        SECONDS,
        last_seen=operator.log,
    )


def test_canary_is_heard_of_and_nothing_is_made_of_it(
    operator: OperatorProcess, operator_plane: OperatorPlane, engines: str
) -> None:
    wait_for(lambda: operator.metric("eventengine_operator_canary_seconds") > 0, "an answered beat", SECONDS)
    until_alive(operator, 200)
    assert (
        operator_plane.access.list("deployments,services,configmaps", engines, "eventengine.dev/engine") == []
    )
    canary = operator_plane.access.get("ee", "eventengine-canary", engines)
    assert canary is not None
    assert "status" not in canary, "nothing is written but the beat"
    assert operator.metric('eventengine_operator_watch_age_seconds{resource="eventengines"}') < SECONDS


def test_operator_that_hears_of_nothing_is_no_longer_live(
    operator: OperatorProcess, proxy: FaultProxy
) -> None:
    until_alive(operator, 200)
    proxy.events = lambda request, line: [] if "/eventengines" in request.path else faithful(request, line)
    assert "changes of the canary in a row were not heard of" in until_alive(operator, 503)
    proxy.heal()
    until_alive(operator, 200)
