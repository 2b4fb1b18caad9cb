"""The parts of the clients that decide something, without a network."""

from __future__ import annotations

import json
from typing import Any

import pytest
from eventengine_operator.clients.engine_reports import REREAD_READY_SECONDS, REREAD_SECONDS, needs_reading
from eventengine_operator.clients.errors import (
    ApiError,
    ConflictError,
    NamespaceEndingError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    error_of_answer,
)
from eventengine_operator.clients.event_posting import PER_MINUTE_MAX, EventPoster
from eventengine_operator.clients.kubernetes_api import (
    API_SERVICES,
    AUTOSCALERS,
    CHILD_TYPES,
    DEPLOYMENTS,
    ENGINES,
    OPTIONAL_TYPES,
    PODS,
    REPLICA_SETS,
    SCALED_OBJECTS,
    STATEFUL_SETS,
    type_of,
)
from eventengine_operator.clients.leases import Sighting, may_take
from eventengine_operator.clients.mirrors import MIRRORED
from eventengine_operator.handlers.features import LOOKED_AT
from eventengine_operator.handlers.watching import key_of_autoscaler, key_of_engine, key_of_owned
from eventengine_operator.manifests.children import FEATURES, Circumstances, desired_children
from eventengine_operator.manifests.scaled_objects import KedaScaler
from eventengine_operator.resources.engines import EngineKey
from eventengine_operator.resources.pods import EngineReport, Pod

from .samples import HPA, KAFKA_SOURCE, engine

TERMINATING = {"message": "no", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"message": "no"}, NotFoundError),
        (409, {"message": "no"}, ConflictError),
        (403, {"message": "no"}, RefusedError),
        (403, TERMINATING, NamespaceEndingError),
        (422, {"message": "no"}, RefusedError),
        (429, {"message": "no"}, UnavailableError),
        (503, {"message": "no"}, UnavailableError),
        (500, [], UnavailableError),
        (500, {"message": "etcdserver: request timed out"}, UnavailableError),
        (
            500,
            {"message": "failed to create typed patch object (a/b): .spec.x: field not declared"},
            RefusedError,
        ),
    ],
)
def test_answers_become_errors_by_what_they_mean(status: int, body: Any, kind: type[ApiError]) -> None:
    error = error_of_answer(status, "apply deployments/hunt", json.dumps(body).encode(), None)
    assert type(error) is kind
    assert str(error).startswith("apply deployments/hunt: ")


def test_page_of_a_proxy_is_not_repeated_in_the_message() -> None:
    error = error_of_answer(502, "get pods", b"<html>" + b"x" * 10_000, None)
    assert str(error) == "get pods: HTTP 502"


def test_wish_to_wait_is_read() -> None:
    assert error_of_answer(429, "get pods", b"{}", "7").retry_after_seconds == 7
    assert error_of_answer(429, "get pods", b"{}", "Sat, 21 Nov 2026 10:00:00 GMT").retry_after_seconds == 0


def test_paths_are_those_of_the_api_server() -> None:
    assert PODS.path("default") == "/api/v1/namespaces/default/pods"
    assert PODS.path("") == "/api/v1/pods"
    assert DEPLOYMENTS.path("a", "b", "scale") == "/apis/apps/v1/namespaces/a/deployments/b/scale"
    assert ENGINES.path("a", "b") == "/apis/eventengine.dev/v1alpha1/namespaces/a/eventengines/b"
    assert API_SERVICES.path("", "x") == "/apis/apiregistration.k8s.io/v1/apiservices/x"


def test_every_kind_of_child_can_be_written() -> None:
    source = {**KAFKA_SOURCE["kafka"], "credentials": "reader"}
    of = engine(autoscaling=HPA | {"driver": "keda"}, engine={"sources": [{**KAFKA_SOURCE, "kafka": source}]})
    assert of.spec is not None
    most = Circumstances(with_autoscaler=True, keda_scaler=KedaScaler("", b"any"), features=FEATURES)
    made = {type_of(item["kind"]) for item in desired_children(of, of.spec, most)}
    assert made == {*CHILD_TYPES, *OPTIONAL_TYPES, AUTOSCALERS, SCALED_OBJECTS}


def test_every_kind_of_child_is_mirrored_or_looked_at() -> None:
    assert set(MIRRORED) == {*CHILD_TYPES, STATEFUL_SETS, REPLICA_SETS, PODS, AUTOSCALERS}
    assert {item.kind for item in OPTIONAL_TYPES} <= {item.kind for item in LOOKED_AT} <= FEATURES


@pytest.mark.parametrize(
    ("holder", "silent_seconds", "expected"),
    [("", 0, True), ("me", 0, True), ("other", 14.9, False), ("other", 15, True)],
)
def test_lease_is_taken_from_the_silent_only(holder: str, silent_seconds: float, expected: bool) -> None:
    sighting = Sighting("7", holder, seen_at_seconds=100.0)
    assert may_take(sighting, "me", 15.0, 100.0 + silent_seconds) is expected


class TestEvents:
    """Events are posted sparingly."""

    class Api:
        """Takes what is posted, or refuses it."""

        def __init__(self, error: ApiError | None = None) -> None:
            self.posted: list[Any] = []
            self.error = error

        async def create(self, resource: Any, manifest: Any, manager: str) -> Any:
            if self.error is not None:
                raise self.error
            self.posted.append(manifest)
            return manifest

    def poster(self, api: Any) -> EventPoster:
        return EventPoster(api, "operator-0")

    async def test_same_text_is_posted_once(self) -> None:
        api = self.Api()
        poster = self.poster(api)
        for _ in range(3):
            await poster.post(engine(), "Warning", "Invalid", "spec.engine: wrong")
        (event,) = api.posted
        assert event["regarding"]["name"] == "hunt"
        assert (event["type"], event["reason"], event["note"]) == ("Warning", "Invalid", "spec.engine: wrong")

    async def test_flood_about_one_engine_is_cut(self) -> None:
        api = self.Api()
        poster = self.poster(api)
        for number in range(100):
            await poster.post(engine(), "Normal", "Scaled", f"from {number} to {number + 1} pods")
        assert len(api.posted) == PER_MINUTE_MAX

    async def test_refused_event_is_no_error(self) -> None:
        api = self.Api(RefusedError(403, "create events", "no"))
        await self.poster(api).post(engine(), "Normal", "Scaled", "text")


class TestReports:
    """When a pod is asked."""

    def pod(self, **changes: Any) -> Pod:
        values: dict[str, Any] = {
            "name": "a",
            "namespace": "n",
            "uid": "u",
            "address": "10.0.0.1",
            "phase": "Running",
            "container_id": "c1",
            "is_ready": True,
            "is_leaving": False,
            "created_at": None,
            "trouble": "",
        }
        return Pod(**values | changes)

    KNOWN = EngineReport("c1", was_ready=True, read_at_seconds=100.0)

    def test_first_time(self) -> None:
        assert needs_reading(self.pod(), None, 100)

    @pytest.mark.parametrize("changes", [{"address": ""}, {"container_id": ""}, {"is_leaving": True}])
    def test_never_without_a_running_container(self, changes: dict[str, Any]) -> None:
        assert not needs_reading(self.pod(**changes), None, 100)

    def test_ready_pod_once_for_each_start(self) -> None:
        assert not needs_reading(self.pod(), self.KNOWN, 100 + REREAD_READY_SECONDS - 0.1)
        assert needs_reading(self.pod(container_id="c2"), self.KNOWN, 100)

    def test_ready_pod_again_after_a_long_time_for_its_topic_may_have_grown(self) -> None:
        assert needs_reading(self.pod(), self.KNOWN, 100 + REREAD_READY_SECONDS)

    def test_change_of_readiness_at_once(self) -> None:
        assert needs_reading(self.pod(is_ready=False), self.KNOWN, 100)

    def test_unready_pod_and_failed_read_after_a_while(self) -> None:
        unready = EngineReport("c1", was_ready=False, read_at_seconds=100.0)
        failed = EngineReport("c1", was_ready=True, read_at_seconds=100.0, error="no answer")
        for pod, known in ((self.pod(is_ready=False), unready), (self.pod(), failed)):
            assert not needs_reading(pod, known, 100 + REREAD_SECONDS - 0.1)
            assert needs_reading(pod, known, 100 + REREAD_SECONDS)


class TestKeys:
    """Which EventEngine an event is about."""

    def test_engine_itself(self) -> None:
        assert key_of_engine({"metadata": {"name": "hunt", "namespace": "n"}}) == EngineKey("n", "hunt")

    def test_owned_object_by_its_label(self) -> None:
        labelled = {"metadata": {"namespace": "n", "labels": {"eventengine.dev/engine": "hunt"}}}
        assert key_of_owned(labelled) == EngineKey("n", "hunt")
        assert key_of_owned({"metadata": {"namespace": "n"}}) is None

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [("EventEngine", "hunt"), ("Deployment", "hunt"), ("StatefulSet", "hunt"), ("DaemonSet", None)],
    )
    def test_autoscaler_of_anybody_by_its_target(self, kind: str, expected: str | None) -> None:
        autoscaler = {
            "metadata": {"namespace": "n"},
            "spec": {"scaleTargetRef": {"kind": kind, "name": "hunt"}},
        }
        assert key_of_autoscaler(autoscaler) == (EngineKey("n", expected) if expected else None)
