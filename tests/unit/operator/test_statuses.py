"""The status as a user reads it, and when it may change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from eventengine_contract.event_engine import EventEngineStatus
from eventengine_operator.reconciling.observations import MetricsApi, MetricsApis, Observed
from eventengine_operator.reconciling.planning import Plan
from eventengine_operator.reconciling.replicas import ForeignAutoscaler
from eventengine_operator.reconciling.statuses import make_status, news, scaling_news
from eventengine_operator.resources.engines import Engine, read_engine
from eventengine_operator.resources.objects import Object, Reference
from eventengine_operator.resources.pods import EngineReport, Pod, pods_of, read_pod, replica_sets_of

from .samples import HPA, KAFKA_SOURCE, TCP_SOURCE, engine, engine_object

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
AVAILABLE = MetricsApis(
    MetricsApi("v1beta1.custom.metrics.k8s.io", "Available", ""),
    MetricsApi("v1beta1.external.metrics.k8s.io", "Available", ""),
)


def deployment(desired: int = 2, **status: Any) -> Object:
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), desired)
    return {
        "kind": "Deployment",
        "metadata": {"name": "hunt", "generation": 4},
        "spec": {"replicas": desired},
        "status": {"observedGeneration": 4, **counts, **status},
    }


def pod(name: str = "hunt-a", *, ready: bool = True, age_seconds: int = 100, **changes: Any) -> Pod:
    values: dict[str, Any] = {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "address": "10.0.0.1",
        "phase": "Running",
        "container_id": "c1",
        "is_ready": ready,
        "is_leaving": False,
        "created_at": NOW - timedelta(seconds=age_seconds),
        "trouble": "",
    }
    return Pod(**values | changes)


def report(**changes: Any) -> EngineReport:
    return EngineReport(**{"container_id": "c1", "was_ready": True, "read_at_seconds": 0.0} | changes)


def status_of(
    of: Engine,
    live: Object | None = None,
    *,
    pods: tuple[Pod, ...] = (),
    reports: dict[str, EngineReport] | None = None,
    plan: Plan | None = None,
    errors: tuple[str, ...] = (),
    apis: MetricsApis = AVAILABLE,
    autoscaler: Object | None = None,
    now: datetime = NOW,
) -> Object:
    children = {Reference("Deployment", "hunt"): live if live is not None else deployment()}
    if autoscaler is not None:
        children[Reference("HorizontalPodAutoscaler", "hunt")] = autoscaler
    observed = Observed(children, (), pods, reports or {}, apis)
    status = make_status(of, plan or Plan(replicas=2), observed, errors, now)
    EventEngineStatus.model_validate(status)
    return status


def condition(status: Object, kind: str) -> tuple[str, str, str]:
    (found,) = [item for item in status["conditions"] if item["type"] == kind]
    return found["status"], found["reason"], found["message"]


def shared(**spec: Any) -> Engine:
    return engine(pod={"pinning": "Off"}, **spec)


def again(status: Object, **spec: Any) -> Engine:
    """The same EventEngine, as the API server returns it with that status."""
    return read_engine(engine_object(pod={"pinning": "Off"}, **spec) | {"status": status})


def test_settled_engine_is_ready() -> None:
    status = status_of(shared())
    assert condition(status, "Ready") == ("True", "AllPodsReady", "2 of 2 pods ready")
    assert condition(status, "Progressing")[:2] == ("False", "Settled")
    assert condition(status, "Degraded")[:2] == ("False", "AsDeclared")
    assert (status["replicas"], status["readyReplicas"], status["message"]) == (2, 2, "2 of 2 pods ready")


def test_same_state_gives_the_same_status_later() -> None:
    first = status_of(shared())
    assert status_of(again(first), now=NOW + timedelta(hours=1)) == first


def test_conditions_are_sorted_and_of_this_generation() -> None:
    conditions = status_of(shared(generation=7))["conditions"]
    assert [item["type"] for item in conditions] == sorted(item["type"] for item in conditions)
    assert {item["observedGeneration"] for item in conditions} == {7}


def test_transition_time_moves_with_the_status_alone() -> None:
    first = status_of(shared(), deployment(readyReplicas=1))
    later = NOW + timedelta(minutes=5)
    other_message = status_of(again(first), deployment(readyReplicas=0), now=later)
    ready = status_of(again(first), now=later)

    def time(status: Object) -> str:
        return next(item["lastTransitionTime"] for item in status["conditions"] if item["type"] == "Ready")

    assert time(other_message) == time(first) == "2026-11-21T10:00:00Z"
    assert time(ready) == "2026-11-21T10:05:00Z"


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"observedGeneration": 3}, "Applied"),
        ({"updatedReplicas": 1}, "RollingOut"),
        ({"replicas": 3}, "RemovingPods"),
        ({"readyReplicas": 1}, "AwaitingPods"),
    ],
)
def test_unfinished_rollout_is_progress_and_not_ready(counts: dict[str, int], reason: str) -> None:
    status = status_of(shared(), deployment(**counts))
    assert condition(status, "Progressing")[:2] == ("True", reason)
    assert condition(status, "Ready")[0] == "False"


def test_not_ready_until_the_deployment_asks_for_as_many_as_declared() -> None:
    assert condition(status_of(shared(), deployment(2), plan=Plan(replicas=5)), "Ready")[0] == "False"


def test_zero_pods_declared_are_ready() -> None:
    status = status_of(shared(), deployment(0), plan=Plan(replicas=0))
    assert condition(status, "Ready")[:2] == ("True", "ScaledToZero")


def test_pods_that_the_api_server_refuses_are_told_in_its_words_and_the_same_with_each_attempt() -> None:
    def refused(pod: str) -> Object:
        message = f'pods "{pod}" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1'
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
        return status_of(shared(), deployment(replicas=1, readyReplicas=1, conditions=[failure]))

    status = refused("hunt-6c8d-abcde")
    told = "the API server refuses its pods: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1"
    assert condition(status, "Degraded") == (
        "True",
        "PodsNotMade",
        f"{told}; change what refuses them (a quota, an admission policy) or what they ask for (spec.pod): "
        "they are tried again by themselves",
    )
    assert condition(status, "Progressing") == ("False", "PodsNotMade", told)
    assert condition(status, "Ready") == ("False", "PodsNotMade", f"1 of 2 pods ready; {told}")
    assert refused("hunt-6c8d-vwxyz") == status, "nothing to write when it is refused again"


def test_stalled_rollout_is_degraded() -> None:
    stalled = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
    status = status_of(shared(), deployment(readyReplicas=1, conditions=stalled))
    assert condition(status, "Degraded")[:2] == ("True", "Stalled")
    assert condition(status, "Progressing")[:2] == ("False", "Stalled")


class TestPods:
    """Reasons of pods that aren't ready."""

    UNREADY = deployment(1, readyReplicas=0)

    def test_reason_that_the_engine_gives_is_in_the_message(self) -> None:
        reports = {"uid-hunt-a": report(reasons=("no broker at 10.99.0.1:9092",))}
        status = status_of(
            shared(), self.UNREADY, pods=(pod(ready=False),), reports=reports, plan=Plan(replicas=1)
        )
        expected = "hunt-a: no broker at 10.99.0.1:9092"
        assert condition(status, "Degraded") == ("True", "PodsNotReady", expected)
        assert status["message"] == f"0 of 1 pods ready; {expected}"

    def test_starting_pod_is_no_trouble_yet_but_its_reason_is_told(self) -> None:
        reports = {"uid-hunt-a": report(reasons=("restoring",))}
        young = pod(ready=False, age_seconds=5)
        status = status_of(shared(), self.UNREADY, pods=(young,), reports=reports)
        assert condition(status, "Degraded")[0] == "False"
        assert "hunt-a: restoring" in condition(status, "Ready")[2]

    def test_report_of_an_earlier_container_does_not_count(self) -> None:
        reports = {"uid-hunt-a": report(container_id="c0", reasons=("old",))}
        status = status_of(shared(), self.UNREADY, pods=(pod(ready=False),), reports=reports)
        assert condition(status, "Degraded")[2] == "hunt-a: not ready"

    def test_unreadable_telemetry_is_told(self) -> None:
        reports = {"uid-hunt-a": report(error="no answer within 3 s")}
        status = status_of(shared(), self.UNREADY, pods=(pod(ready=False),), reports=reports)
        assert condition(status, "Degraded")[2].endswith("its telemetry can't be read: no answer within 3 s")

    @pytest.mark.parametrize(
        ("trouble", "age_seconds", "expected"),
        [
            ("CrashLoopBackOff: back-off", 1, "True"),
            ("Unschedulable: no room", 1, "False"),
            ("Unschedulable: no room", 31, "True"),
        ],
    )
    def test_trouble_counts_at_once_but_a_node_may_take_a_while(
        self, trouble: str, age_seconds: int, expected: str
    ) -> None:
        faulty = pod(ready=False, age_seconds=age_seconds, trouble=trouble)
        assert condition(status_of(shared(), self.UNREADY, pods=(faulty,)), "Degraded")[0] == expected

    def test_leaving_pod_is_no_trouble(self) -> None:
        leaving = pod(ready=False, is_leaving=True)
        assert condition(status_of(shared(), pods=(leaving,)), "Degraded")[0] == "False"

    def test_many_pods_are_named_in_part(self) -> None:
        pods = tuple(pod(f"hunt-{number}", ready=False) for number in range(9))
        message = condition(status_of(shared(), self.UNREADY, pods=pods), "Degraded")[2]
        assert message.count("not ready") == 5
        assert message.endswith("and 4 more")

    def test_only_pods_whose_owners_lead_to_the_deployment_count(self) -> None:
        def owned(name: str, owner: str) -> Object:
            return {
                "metadata": {
                    "name": name,
                    "uid": name,
                    "ownerReferences": [{"uid": owner, "controller": True}],
                }
            }

        sets = [owned("set", "deployment"), owned("other-set", "elsewhere")]
        pods = [owned("b", "set"), owned("a", "set"), owned("c", "other-set"), {"metadata": {"name": "d"}}]
        assert [item.name for item in pods_of(replica_sets_of("deployment", sets), pods)] == ["a", "b"]
        assert replica_sets_of("", [{"metadata": {}}, *sets]) == []

    @pytest.mark.parametrize("odd", [{}, {"metadata": None, "status": []}, {"status": {"conditions": "x"}}])
    def test_odd_pod_is_read_as_far_as_it_goes(self, odd: Object) -> None:
        assert not read_pod(odd).is_ready


class TestPinning:
    """Cores, by the pods' own account."""

    def test_counts_and_cores_are_reported(self) -> None:
        pods = (pod("hunt-a"), pod("hunt-b"))
        reports = {
            "uid-hunt-a": report(cpu_set="1", is_pinned=True, is_exclusive=True),
            "uid-hunt-b": report(cpu_set="0-1"),
        }
        status = status_of(engine(), pods=pods, reports=reports)
        assert status["pinning"] == {
            "required": 2,
            "satisfied": 1,
            "pods": [
                {"name": "hunt-a", "cpuSet": "1", "exclusive": True},
                {"name": "hunt-b", "cpuSet": "0-1", "exclusive": False},
            ],
        }
        verdict = condition(status, "PinningSatisfied")
        assert verdict[:2] == ("False", "CoresShared")
        assert verdict[2].startswith("1 of 2 pods own their cores")

    def test_missing_report_is_unknown_and_not_false(self) -> None:
        verdict = condition(status_of(engine(), pods=(pod(),)), "PinningSatisfied")
        assert verdict == ("Unknown", "AwaitingReports", "0 of 1 pods own their cores; hunt-a: no report yet")

    def test_off_asks_for_nothing(self) -> None:
        status = status_of(shared(), pods=(pod(),), reports={"uid-hunt-a": report(cpu_set="0-1")})
        assert condition(status, "PinningSatisfied")[:2] == ("True", "NotRequested")
        assert status["pinning"] == {"required": 0, "satisfied": 0, "pods": []}


class TestSpec:
    """What is said of the spec itself."""

    def test_invalid_spec_is_the_message(self) -> None:
        status = status_of(shared(engine={"bufferPol": {}}))
        assert condition(status, "SpecValid")[:2] == ("False", "Invalid")
        assert (
            status["message"]
            == "spec invalid: spec.engine.bufferPol: unknown key; did you mean `bufferPool`?"
        )
        assert condition(status, "Ready")[:2] == ("False", "SpecInvalid")
        assert condition(status, "Degraded")[:2] == ("True", "SpecInvalid")

    def test_insecure_source_and_inactive_key_are_pointed_out(self) -> None:
        section = {"sources": [KAFKA_SOURCE, TCP_SOURCE], "durability": "fsync"}
        verdict = condition(status_of(shared(engine=section)), "SpecValid")
        assert verdict == (
            "True",
            "InsecureSource",
            "anybody may send events to direct (insecure: true); accepted, without an effect yet: durability",
        )

    def test_refused_write_is_degraded_and_not_ready(self) -> None:
        status = status_of(shared(), errors=("apply deployments/hunt: quota exceeded",))
        assert condition(status, "Degraded") == (
            "True",
            "ApplyFailed",
            "apply deployments/hunt: quota exceeded",
        )
        assert condition(status, "Ready")[:2] == ("False", "ApplyFailed")

    def test_waiting_for_the_garbage_collector_is_no_trouble(self) -> None:
        status = status_of(shared(), plan=Plan(awaits_deletion_of=("Deployment hunt",)))
        assert condition(status, "Degraded")[0] == "False"
        assert condition(status, "Ready")[:2] == ("False", "AwaitingDeletion")

    def test_endless_message_is_cut(self) -> None:
        status = status_of(shared(), errors=("x" * 5000,))
        assert max(len(item["message"]) for item in status["conditions"]) == 1024


class TestScaling:
    """Metrics APIs and autoscaler."""

    def autoscaler(self, status: str, reason: str, message: str) -> Object:
        entry = {"type": "ScalingActive", "status": status, "reason": reason, "message": message}
        return {
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "hunt"},
            "status": {"conditions": [entry]},
        }

    def test_account_of_the_autoscaler_is_mirrored(self) -> None:
        live = self.autoscaler("False", "FailedGetExternalMetric", "sample is 12.1 s old")
        verdict = condition(status_of(shared(autoscaling=HPA), autoscaler=live), "AutoscalingActive")
        assert verdict == ("False", "FailedGetExternalMetric", "sample is 12.1 s old")

    def test_its_changing_figures_cost_no_write(self) -> None:
        first = status_of(
            shared(autoscaling=HPA), autoscaler=self.autoscaler("False", "FailedGet", "sample is 12.1 s old")
        )
        live = self.autoscaler("False", "FailedGet", "sample is 13.1 s old")
        assert status_of(again(first, autoscaling=HPA), autoscaler=live) == first

    def test_driver_none_and_foreign_autoscaler_are_told(self) -> None:
        assert condition(status_of(shared()), "AutoscalingActive")[:2] == ("False", "DriverNone")
        plan = Plan(foreign_autoscaler=ForeignAutoscaler("mine", targets_deployment=True))
        verdict = condition(status_of(shared(autoscaling=HPA), plan=plan), "AutoscalingActive")
        assert verdict[:2] == ("False", "ForeignAutoscaler")
        assert "HorizontalPodAutoscaler mine" in verdict[2]

    def test_only_the_apis_in_use_matter(self) -> None:
        foreign = MetricsApi("v1beta1.external.metrics.k8s.io", "Foreign", "it is served by keda/metrics")
        apis = MetricsApis(AVAILABLE.custom, foreign)
        pods_metric = HPA | {
            "metrics": [{"name": "consumer_lag", "source": "Pods", "target": {"averageValue": 5}}]
        }
        external = condition(status_of(shared(autoscaling=HPA), apis=apis), "MetricsAvailable")
        assert external[:2] == ("False", "Foreign")
        assert "keda/metrics" in external[2]
        pods = condition(status_of(shared(autoscaling=pods_metric), apis=apis), "MetricsAvailable")
        assert pods[:2] == ("True", "Available")

    def test_unchecked_apis_are_unknown(self) -> None:
        assert condition(status_of(shared(), apis=MetricsApis()), "MetricsAvailable")[:2] == (
            "Unknown",
            "NotChecked",
        )


class TestNews:
    """What is worth an Event."""

    def test_change_is_told_once(self) -> None:
        bad = status_of(shared(), errors=("refused",))
        good = status_of(again(bad))
        assert {item.type.value for item in news(bad, good)} == {"Ready", "Degraded"}
        assert news(good, status_of(again(good))) == []

    def test_first_status_is_news_only_if_bad(self) -> None:
        assert news({}, status_of(shared())) == []
        invalid = status_of(shared(engine={"nonsense": 1}))
        assert {item.type.value for item in news({}, invalid)} == {"SpecValid", "Degraded"}

    def test_scaling_is_told(self) -> None:
        assert scaling_news({"replicas": 1, "observedGeneration": 1}, 3) == "from 1 to 3 pods"
        assert scaling_news({"replicas": 3, "observedGeneration": 1}, 3) == ""
        assert scaling_news({}, 3) == ""
