"""When an engine is put to rest and when it wakes, over every history of readings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from eventengine_contract.event_engine import ScaleToZero
from eventengine_operator.clients.backlogs import sum_of
from eventengine_operator.clients.errors import UnavailableError
from eventengine_operator.handlers.idling import Followed, IdleWatch
from eventengine_operator.reconciling.actions import SetReplicas
from eventengine_operator.reconciling.idling import (
    GAP_SECONDS_MAX,
    READING_SECONDS_MAX,
    Idleness,
    Reading,
    next_replicas,
)
from eventengine_operator.reconciling.observations import Observed
from eventengine_operator.reconciling.planning import Plan, make_plan
from eventengine_operator.reconciling.replicas import ForeignAutoscaler, may_hibernate
from eventengine_operator.reconciling.statuses import make_status
from eventengine_operator.resources.engines import Engine, EngineKey, read_engine
from hypothesis import given, settings
from hypothesis import strategies as st

from .samples import DEFAULT_IMAGE, HPA, KAFKA_SOURCE, TCP_SOURCE, engine, engine_object

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DECLARED = ScaleToZero.model_validate(
    {"idleSeconds": 60, "activationLagEvents": 10, "unknownSecondsMax": 120}
)
TAKEN = {"container": 7}

lags = st.one_of(st.none(), st.just(0), st.integers(1, 100))
totals = st.one_of(st.none(), st.just(TAKEN), st.integers(0, 3).map(lambda number: {"container": number}))
steps = st.lists(st.tuples(st.integers(-5, 90), lags, totals), max_size=60)


def after(*readings: tuple[int, int | None, dict[str, int] | None]) -> tuple[Idleness, datetime]:
    """Idleness after readings of (seconds since the one before, lag, events taken), and the last one's time."""
    idleness, now = Idleness(), START
    for seconds, lag, taken in readings:
        now += timedelta(seconds=seconds)
        idleness = idleness.after(Reading(now, lag, taken, "" if lag is not None else "HTTP 503"))
    return idleness, now


def history(readings: Any) -> list[tuple[datetime, int | None, dict[str, int] | None]]:
    now, found = START, []
    for seconds, lag, taken in readings:
        now += timedelta(seconds=seconds)
        found.append((now, lag, taken))
    return found


@settings(deadline=None)
@given(steps, st.integers(1, 5), st.integers(0, 20))
def test_rest_is_only_ever_decided_on_a_whole_quiet_period(
    readings: Any, replicas: int, later_seconds: int
) -> None:
    """Against the plain definition: every reading of the last minute says zero, near each other, nothing taken."""
    idleness, at = after(*readings)
    now = at + timedelta(seconds=later_seconds)
    following = next_replicas(DECLARED, replicas, 2, idleness, now)
    if following is None:
        return
    assert following == 0
    assert replicas <= 2, "from more pods it is the autoscaler's way"
    assert later_seconds <= READING_SECONDS_MAX
    quiet = []
    for moment, lag, taken in reversed(history(readings)):
        is_near = not quiet or 0 <= (quiet[-1][0] - moment).total_seconds() <= GAP_SECONDS_MAX
        if lag != 0 or taken is None or not is_near or (quiet and taken != quiet[-1][1]):
            break
        quiet.append((moment, taken))
    assert now - quiet[-1][0] >= timedelta(seconds=60)


@settings(deadline=None)
@given(steps, st.integers(0, 400))
def test_without_pods_only_lag_or_lasting_ignorance_wakes(readings: Any, later_seconds: int) -> None:
    idleness, at = after(*[(seconds, lag, {}) for seconds, lag, _ in readings])
    now = at + timedelta(seconds=later_seconds)
    following = next_replicas(DECLARED, 0, 2, idleness, now)
    if not readings:
        assert following is None
    elif (lag := readings[-1][1]) is not None:
        assert following == (2 if lag > 10 else None)
    else:
        unknown = []
        for moment, past, _ in reversed(history(readings)):
            if past is not None:
                break
            unknown.append(moment)
        assert following == (2 if now - min(unknown) >= timedelta(seconds=120) else None)


@settings(deadline=None)
@given(steps)
def test_never_away_from_zero_and_back_on_the_same_reading(readings: Any) -> None:
    idleness, now = after(*readings)
    goes_down = next_replicas(DECLARED, 2, 2, idleness, now) == 0
    goes_up = next_replicas(DECLARED, 0, 2, idleness, now) == 2
    assert not (goes_down and goes_up)


def test_pods_that_take_events_as_fast_as_they_come_are_not_idle() -> None:
    idleness, now = after(*((5, 0, {"container": number}) for number in range(60)))
    assert next_replicas(DECLARED, 1, 1, idleness, now) is None


def test_container_that_started_anew_begins_the_wait_anew() -> None:
    idleness, now = after(*[(5, 0, TAKEN)] * 30, (5, 0, {"another": 0}))
    assert next_replicas(DECLARED, 1, 1, idleness, now) is None


def test_idle_engine_goes_to_zero_exactly_when_its_time_is_over() -> None:
    idleness, now = after((0, 0, TAKEN), (30, 0, TAKEN), (29, 0, TAKEN))
    assert next_replicas(DECLARED, 1, 1, idleness, now) is None
    assert next_replicas(DECLARED, 1, 1, idleness, now + timedelta(seconds=1)) == 0


@pytest.mark.parametrize("direction", ["may_rest", "may_wake"])
def test_paused_direction_holds_still(direction: str) -> None:
    allowed = {direction: False}
    resting, now = after(*[(5, 0, TAKEN)] * 30)
    waking, then = after((5, 99, {}))
    assert (next_replicas(DECLARED, 1, 1, resting, now, **allowed) is None) == (direction == "may_rest")
    assert (next_replicas(DECLARED, 0, 1, waking, then, **allowed) is None) == (direction == "may_wake")


@pytest.mark.parametrize(
    ("answer", "lag", "reason"),
    [
        ({"items": [{"value": "0"}, {"value": "0"}]}, 0, ""),
        ({"items": [{"value": "3"}, {"value": "1500m"}]}, 5, ""),
        ({"items": [{"value": "1m"}]}, 1, ""),
        ({"items": []}, None, "no partitions"),
        ({}, None, "no partitions"),
        ({"items": [{"value": "0", "metricLabels": {"last_known_good": "true"}}]}, None, "remembered"),
        ({"items": [{"value": "-1"}]}, None, ""),
        ({"items": [{"value": "many"}]}, None, "many"),
        ({"items": [{}]}, None, "None"),
    ],
)
def test_answer_of_the_metrics_api_is_a_whole_number_or_not_known(
    answer: dict[str, Any], lag: int | None, reason: str
) -> None:
    found, why = sum_of(answer)
    assert found == lag
    assert reason in why
    assert bool(why) == (lag is None)


RESTFUL = HPA | {"minReplicas": 2, "scaleToZero": {"idleSeconds": 60, "unknownSecondsMax": 120}}
QUIET, QUIET_AT = after(*[(5, 0, TAKEN)] * 30)
BUSY, BUSY_AT = after((5, 3, {}))


def plan(of: Engine, idleness: Idleness, now: datetime, *autoscalers: Any) -> Plan:
    assert of.spec is not None
    return make_plan(of, of.spec, Observed({}, autoscalers, idleness=idleness), DEFAULT_IMAGE, now)


def hibernated(**spec: Any) -> Engine:
    source = engine_object(**spec)
    source["status"] = {"conditions": [{"type": "Hibernated", "status": "True", "reason": "Idle"}]}
    return read_engine(source)


class TestPlan:
    """What the decision makes of an EventEngine."""

    def test_rest_is_written_to_the_engine_and_its_deployment_while_the_autoscaler_stays(self) -> None:
        result = plan(engine(replicas=2, autoscaling=RESTFUL), QUIET, QUIET_AT)
        assert SetReplicas(0, "100") in result.actions
        manifests = [action.manifest for action in result.actions if hasattr(action, "manifest")]
        by_kind = {item["kind"]: item["spec"] for item in manifests if "spec" in item}
        assert by_kind["Deployment"]["replicas"] == 0
        assert by_kind["HorizontalPodAutoscaler"]["minReplicas"] == 2

    def test_waking_starts_with_the_fewest_pods_that_are_declared(self) -> None:
        result = plan(engine(replicas=0, autoscaling=RESTFUL), BUSY, BUSY_AT)
        assert SetReplicas(2, "100") in result.actions

    @pytest.mark.parametrize("direction", ["in", "out"])
    def test_direction_paused_by_annotation_holds_still(self, direction: str) -> None:
        replicas, idleness, now = (2, QUIET, QUIET_AT) if direction == "in" else (0, BUSY, BUSY_AT)
        source = engine_object(replicas=replicas, autoscaling=RESTFUL)
        source["metadata"]["annotations"] = {f"eventengine.dev/paused-scale-{direction}": "true"}
        result = plan(read_engine(source), idleness, now)
        assert not [item for item in result.actions if isinstance(item, SetReplicas)]

    def test_engine_that_may_no_longer_rest_is_woken(self) -> None:
        declared = {key: value for key, value in RESTFUL.items() if key != "scaleToZero"}
        result = plan(hibernated(replicas=0, autoscaling=declared), Idleness(), START)
        assert SetReplicas(2, "100") in result.actions

    def test_zero_that_the_user_wrote_is_left_alone(self) -> None:
        declared = {key: value for key, value in RESTFUL.items() if key != "scaleToZero"}
        result = plan(engine(replicas=0, autoscaling=declared), Idleness(), START)
        assert not [item for item in result.actions if isinstance(item, SetReplicas)]

    def test_somebody_elses_autoscaler_decides_alone(self) -> None:
        theirs = {
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "mine"},
            "spec": {
                "scaleTargetRef": {
                    "apiVersion": "eventengine.dev/v1alpha1",
                    "kind": "EventEngine",
                    "name": "hunt",
                }
            },
        }
        declared = engine(replicas=2, autoscaling=RESTFUL)
        result = plan(declared, QUIET, QUIET_AT, theirs)
        assert result.replicas == 2
        assert not may_hibernate(declared, ForeignAutoscaler("mine", targets_deployment=False))

    @pytest.mark.parametrize(
        ("sources", "named"),
        [([KAFKA_SOURCE, TCP_SOURCE], "direct is no Kafka topic"), ([], "no Kafka topic")],
    )
    def test_source_that_waits_for_nobody_is_refused(self, sources: list[Any], named: str) -> None:
        (fault,) = engine(engine={"sources": sources}, autoscaling=RESTFUL).faults
        assert fault.path == "spec.autoscaling.scaleToZero"
        assert named in fault.sentence


class TestCondition:
    """What a person reads of it."""

    @pytest.mark.parametrize(
        ("replicas", "idleness", "status", "reason"),
        [
            (2, QUIET, "False", "Active"),
            (0, QUIET, "True", "Idle"),
            (0, after(*[(5, None, {})] * 10)[0], "True", "LagUnknown"),
            (2, after(*[(5, None, {})] * 10)[0], "False", "IdlenessUnknown"),
            (2, after(*[(5, 0, None)] * 10)[0], "False", "IdlenessUnknown"),
            (2, after((5, None, {}))[0], "False", "Active"),
        ],
    )
    def test_reason(self, replicas: int, idleness: Idleness, status: str, reason: str) -> None:
        assert idleness.last is not None
        declared = engine(replicas=replicas, autoscaling=RESTFUL)
        seen = Observed({}, (), idleness=idleness)
        made = make_status(declared, Plan(replicas=replicas), seen, (), idleness.last.at)
        (found,) = [item for item in made["conditions"] if item["type"] == "Hibernated"]
        assert (found["status"], found["reason"]) == (status, reason)
        assert ("HTTP 503" in found["message"]) == ("Unknown" in reason and idleness.last.lag_events is None)


class Answers:
    """An API server and pods that answer what a test puts into them."""

    def __init__(self) -> None:
        self.lag: str | None = "0"
        self.taken: dict[str, int] | None = dict(TAKEN)
        self.due: list[EngineKey] = []

    async def external_metric(self, namespace: str, metric: str, labels: dict[str, str]) -> Any:
        assert (namespace, metric, labels) == ("default", "kafka_consumer_lag", {"engine": "hunt"})
        if self.lag is None:
            raise UnavailableError(503, "list", "not fresh")
        return {"items": [{"value": self.lag}]}

    async def events_taken(self, _pods: Any) -> tuple[dict[str, int] | None, str]:
        return self.taken, "" if self.taken is not None else "hunt-a: no answer"


class TestWatch:
    """Following engines: handed on only when that changes something."""

    KEY = EngineKey("default", "hunt")

    @pytest.fixture
    def answers(self) -> Answers:
        return Answers()

    @pytest.fixture
    def watch(self, answers: Answers) -> IdleWatch:
        made: Any = answers
        return IdleWatch(made, made, answers.due.append)

    def followed(self, replicas: int, **changes: Any) -> Followed:
        declared = ScaleToZero.model_validate({"idleSeconds": 1, "unknownSecondsMax": 10})
        values = {"may_rest": True, "may_wake": True, "pods": ()} | changes
        return Followed(declared, replicas, 1, **values)

    async def test_lag_of_an_engine_without_pods_is_handed_on(
        self, watch: IdleWatch, answers: Answers
    ) -> None:
        watch.follow(self.KEY, self.followed(0))
        await watch.read_all()
        assert not answers.due
        answers.lag = "1"
        await watch.read_all()
        assert answers.due == [self.KEY]

    async def test_direction_that_is_paused_costs_no_reconcile(
        self, watch: IdleWatch, answers: Answers
    ) -> None:
        answers.lag = "1"
        watch.follow(self.KEY, self.followed(0, may_wake=False))
        await watch.read_all()
        assert not answers.due

    async def test_failure_is_kept_with_its_reason(self, watch: IdleWatch, answers: Answers) -> None:
        answers.lag = None
        watch.follow(self.KEY, self.followed(1))
        await watch.read_all()
        last = watch.known(self.KEY).last
        assert last is not None
        assert last.is_incomplete
        assert "not fresh" in last.failure

    async def test_pod_that_does_not_answer_is_not_idle(self, watch: IdleWatch, answers: Answers) -> None:
        answers.taken = None
        watch.follow(self.KEY, self.followed(1))
        await watch.read_all()
        assert watch.known(self.KEY).idle_since is None

    async def test_wait_begins_anew_with_rest_and_with_waking(
        self, watch: IdleWatch, answers: Answers
    ) -> None:
        watch.follow(self.KEY, self.followed(1))
        await watch.read_all()
        assert watch.known(self.KEY).idle_since is not None
        watch.follow(self.KEY, self.followed(2))
        assert watch.known(self.KEY).idle_since is not None
        watch.follow(self.KEY, self.followed(0))
        assert watch.known(self.KEY) == Idleness()

    async def test_engine_that_is_forgotten_is_not_asked_about(
        self, watch: IdleWatch, answers: Answers
    ) -> None:
        answers.lag = "9"
        watch.follow(self.KEY, self.followed(0))
        watch.forget(self.KEY)
        await watch.read_all()
        assert not answers.due
        assert watch.known(self.KEY) == Idleness()
