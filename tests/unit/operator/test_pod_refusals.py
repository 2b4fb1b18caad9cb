"""Why pods aren't made: by a Deployment's status, or by the Events of a StatefulSet's controller."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from eventengine_operator.reconciling.conditions import read_rollout
from eventengine_operator.resources.objects import Object
from eventengine_operator.resources.pod_refusals import lacks_pods, refusal_in_events
from eventengine_operator.resources.pods import Pod, read_pod

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
QUOTA = "exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1"
OF_POD = f'Create Pod hunt-1 in StatefulSet hunt failed error: pods "hunt-1" is forbidden: {QUOTA}'
OF_CLAIM = (
    "create Pod hunt-1 in StatefulSet hunt failed error: failed to create PVC engine-data-hunt-1: "
    f'persistentvolumeclaims "engine-data-hunt-1" is forbidden: {QUOTA}'
)
OF_CLAIM_ITSELF = (
    "Create Claim engine-data-hunt-1 Pod hunt-1 in StatefulSet hunt failed error: "
    f'persistentvolumeclaims "engine-data-hunt-1" is forbidden: {QUOTA}'
)


def stateful_set(**status: int) -> Object:
    return {
        "metadata": {"generation": 2},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 2, "replicas": 1} | status,
    }


def event(note: str, seconds: int = 0, field: str = "deprecatedLastTimestamp") -> Object:
    return {"note": note, field: (NOON + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")}


def pod(seconds: int) -> Pod:
    made_at = (NOON + timedelta(seconds=seconds)).isoformat()
    return read_pod({"metadata": {"name": "hunt-0", "creationTimestamp": made_at}})


@pytest.mark.parametrize("note", [OF_POD, OF_CLAIM, OF_CLAIM_ITSELF, OF_POD.replace("Create", "create")])
def test_the_reason_is_the_api_servers_without_the_names_that_change(note: str) -> None:
    assert refusal_in_events([event(note)], []) == QUOTA


def test_words_of_another_form_are_told_as_they_are_and_not_without_end() -> None:
    assert refusal_in_events([event("no " * 200)], []) == ("no " * 200)[:300]


def test_the_newest_reason_counts_by_its_last_repetition() -> None:
    repeated = event("old form, new time") | {"deprecatedFirstTimestamp": "2026-11-22T11:00:00Z"}
    counted = event("of a series", -300, "eventTime") | {
        "series": {"lastObservedTime": "2026-11-22T12:01:00.123456Z"}
    }
    assert refusal_in_events([event("older", -60), repeated], []) == "old form, new time"
    assert refusal_in_events([repeated, counted], []) == "of a series"


def test_a_reason_from_before_the_newest_pod_is_over() -> None:
    assert refusal_in_events([event(OF_POD)], [pod(0)]) == QUOTA, "one of two was taken in the same second"
    assert refusal_in_events([event(OF_POD)], [pod(-60), pod(1)]) == ""
    assert refusal_in_events([], [pod(0)]) == ""
    assert refusal_in_events([{"note": OF_POD}], [pod(0)]) == "", "nobody knows when that was"


@pytest.mark.parametrize(
    ("status", "lacks"),
    [({}, True), ({"replicas": 2}, False), ({"replicas": 3}, False), ({"observedGeneration": 1}, False)],
)
def test_events_are_asked_for_only_while_there_are_fewer_pods_than_asked_for(
    status: dict[str, int], lacks: bool
) -> None:
    assert lacks_pods(stateful_set(**status)) is lacks


def test_no_stateful_set_lacks_nothing() -> None:
    assert not lacks_pods(None)


def test_what_events_told_is_the_rollouts_refusal() -> None:
    assert read_rollout(stateful_set(), QUOTA).refusal == QUOTA
