"""An API server that refuses, lags, forgets and repeats: the operator gets there in the end, and alive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from eventengine_harness.waiting import wait_for

from .fault_proxy import GONE, Answer, FaultProxy, Request
from .operators import OperatorProcess, installation_of, operating
from .spaces import HPA, Space

CHILDREN = ("deployment/hunt", "service/hunt", "configmap/hunt-engine", "networkpolicy/hunt", "pdb/hunt")
REFUSALS = {
    "configmaps/hunt-engine": Answer(409),
    "services/hunt": Answer(429, retry_after_seconds=1),
    "deployments/hunt": Answer(500),
    "hunt/status": Answer(503),
}
"""The first write to each of these fails so."""


@pytest.fixture(scope="module")
def operator(
    request: pytest.FixtureRequest, fault_proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    folder = tmp_path_factory.mktemp("operator")
    with operating(fault_proxy.kubeconfig, installation_of(request), folder, resync_seconds="4") as running:
        yield running


def test_refused_writes_are_made_again(space: Space, proxy: FaultProxy) -> None:
    refused: set[str] = set()

    def refuse_at_first(request: Request) -> Answer | None:
        name = "/".join(request.path.rsplit("/", 2)[1:])
        if not request.is_write or name not in REFUSALS or name in refused:
            return None
        refused.add(name)
        return REFUSALS[name]

    proxy.answer = refuse_at_first
    space.engine(replicas=1)
    space.until_exists(*CHILDREN)
    space.until_observed()
    assert refused == set(REFUSALS), "each of them was refused first"


def test_reads_that_fail_delay_and_nothing_else(space: Space, proxy: FaultProxy) -> None:
    failed: Counter[str] = Counter()

    def fail_at_first(request: Request) -> Answer | None:
        is_meant = request.path.endswith(("/pods", "/deployments", "/eventengines/hunt"))
        if not request.is_list or space.namespace not in request.path or not is_meant:
            return None
        failed[request.path] += 1
        return Answer(500) if failed[request.path] == 1 else None

    proxy.answer = fail_at_first
    space.engine(replicas=1)
    space.until_exists(*CHILDREN)
    assert failed, "something did fail"


def test_events_that_never_come_are_made_up_for(space: Space, proxy: FaultProxy) -> None:
    space.engine(replicas=1)
    space.until_exists(*CHILDREN)
    dropped: list[bytes] = []
    proxy.events = lambda _, line: dropped.append(line) or []  # type: ignore[func-returns-value]
    space.kubectl("delete", "networkpolicy", "hunt")
    space.until_exists("networkpolicy/hunt")
    space.engine(replicas=3)
    space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 3, "scaled without a word")
    assert dropped


def test_late_and_doubled_events_lead_to_the_same_and_to_no_further_writes(
    space: Space, proxy: FaultProxy
) -> None:
    proxy.events = lambda _, line: [(0.3, line), (0.0, line), (0.1, line)]
    space.engine(autoscaling=HPA)
    space.until_exists(*CHILDREN, "hpa/hunt")
    space.until_observed()
    space.until_quiet()
    before = [space.get(name) for name in ("service/hunt", "configmap/hunt-engine", "networkpolicy/hunt")]
    space.until_quiet()
    after = [space.get(name) for name in ("service/hunt", "configmap/hunt-engine", "networkpolicy/hunt")]
    assert before == after


def test_watch_that_is_too_old_leaves_no_ghost(space: Space, proxy: FaultProxy) -> None:
    space.engine(replicas=1)
    space.until_exists(*CHILDREN)
    ended: Counter[str] = Counter()

    def too_old(request: Request, line: bytes) -> list[tuple[float, bytes]]:
        if ended[request.path]:
            return [(0.0, line)]
        ended[request.path] += 1
        return [(0.0, GONE)]

    proxy.events = too_old
    for kind in ("service", "networkpolicy", "pdb"):
        space.kubectl("delete", kind, "hunt")
    space.until_exists("service/hunt", "networkpolicy/hunt", "pdb/hunt")
    assert ended, "a watch was told that it is too old"


def test_lists_of_a_lagging_replica_break_nothing(space: Space, proxy: FaultProxy) -> None:
    space.engine(autoscaling=HPA)
    space.until_exists(*CHILDREN, "hpa/hunt")
    space.until_quiet()
    space.kubectl("scale", "ee/hunt", "--replicas=4")
    space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 4, "scaled")
    with space.every_number_of_replicas() as seen:
        proxy.freeze_lists()
        space.engine(autoscaling={"driver": "none"})
        before = space.operator.metric("eventengine_operator_reconciles_total")
        wait_for(
            lambda: space.operator.metric("eventengine_operator_reconciles_total") >= before + 3,
            "some reconciles of what no longer is",
            30,
        )
        proxy.heal()
        space.until_gone("hpa/hunt")
        space.until_quiet()
        space.kubectl("annotate", "deployment/hunt", "tests/end=reached")
    assert seen == {4}, "what an old list said was not acted on"
