"""The webhook: what it refuses and warns of, and that neither a missing right nor a slow cluster stands in the way."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from eventengine_operator.certificates.issuing import KeyPair, issue_authority, issue_serving
from eventengine_operator.clients.errors import RefusedError
from eventengine_operator.clients.kubernetes_api import AUTOSCALERS, NODES, SECRETS, ResourceType
from eventengine_operator.clients.neighbourhoods import Neighbourhoods
from eventengine_operator.measuring import Measurements
from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.neighbourhoods import Neighbourhood, Node, node_of
from eventengine_operator.resources.objects import Object
from eventengine_operator.reviewing import answering
from eventengine_operator.reviewing.advice import advise
from eventengine_operator.reviewing.answering import PATH, Reviewer, ServingCertificate
from eventengine_operator.reviewing.reviews import (
    WARNINGS_MAX,
    Review,
    ReviewError,
    answer,
    read_review,
)

from .samples import HPA, KAFKA_SOURCE, LAG_METRIC, TCP_SOURCE, UID, engine, engine_object

NOTHING = Neighbourhood({})
TWINS = {"engine": {"sources": [TCP_SOURCE, TCP_SOURCE | {"name": "other"}]}}
FIRST, SECOND = "spec.engine.sources[0].tcp.listen", "spec.engine.sources[1].tcp.listen"
TWIN_FAULT = f"{SECOND}: port 9400 is taken by {FIRST}; choose another"


def question(new: Object, old: Object | None = None, resource: str = "eventengines") -> Object:
    request: Object = {
        "uid": "q1",
        "resource": {"group": "eventengine.dev", "version": "v1alpha1", "resource": resource},
        "namespace": "default",
        "operation": "UPDATE" if old else "CREATE",
        "object": new,
        "oldObject": old,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def review(new: Object, old: Object | None = None) -> Review:
    return read_review(question(new, old))


def test_what_the_operator_would_find_wrong_later_is_refused_in_its_words() -> None:
    asked = review(engine_object(**TWINS))
    assert asked.faults == (TWIN_FAULT,)
    assert answer(asked.uid, asked.faults, [])["response"] == {
        "uid": "q1",
        "allowed": False,
        "status": {"code": 422, "reason": "Invalid", "message": TWIN_FAULT},
    }


def test_fault_that_is_stored_already_does_not_keep_others_from_being_mended() -> None:
    asked = review(engine_object(replicas=2, **TWINS), engine_object(**TWINS))
    assert (asked.faults, asked.old_faults) == ((), (TWIN_FAULT,))
    worse = TWINS["engine"]["sources"] + [TCP_SOURCE | {"name": "third"}]
    asked = review(engine_object(engine={"sources": worse}), engine_object(**TWINS))
    assert [fault.split(":")[0] for fault in asked.faults] == ["spec.engine.sources[2].tcp.listen"]


def test_metric_of_the_users_own_that_the_adapter_could_not_serve_is_refused() -> None:
    annotations = {"metrics.eventengine.dev/port": "9100", "metrics.eventengine.dev/names": "consumer_lag"}
    (fault,) = review(engine_object(pod={"template": {"annotations": annotations}})).faults
    assert fault.startswith("spec.pod.template.annotations: ")
    assert "'consumer_lag', which is a metric of the engine itself" in fault


def test_new_object_is_looked_at_in_the_namespace_of_the_request() -> None:
    new = engine_object()
    del new["metadata"]["namespace"]
    assert review(new).engine.namespace == "default"


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "q1"}},
        question(engine_object(), resource="pods"),
        question({}),
    ],
)
def test_what_is_no_question_about_an_event_engine_is_not_answered(document: Any) -> None:
    with pytest.raises(ReviewError):
        read_review(document)


def test_warnings_are_bounded_in_number_and_length() -> None:
    warnings = answer("q1", [], ["w" * 1000] * 50)["response"]["warnings"]
    assert len(warnings) == WARNINGS_MAX
    assert {len(text) for text in warnings} == {250}


def advice(found: Neighbourhood = NOTHING, **spec: Any) -> list[str]:
    of = engine(**spec)
    assert of.spec is not None, of.faults
    return advise(of, found)


def test_nothing_is_said_where_nothing_is_odd() -> None:
    nodes = (Node({}, 8000, 2**40),)
    assert advice(Neighbourhood({}, nodes=nodes), autoscaling=HPA) == []


def test_missing_secret_is_told_and_one_that_could_not_be_looked_at_is_not() -> None:
    volumes = [{"name": name, "secret": {"secretName": name}} for name in ("token", "broker")]
    found = Neighbourhood({"token": "", "broker": None})
    assert advice(found, pod={"template": {"volumes": volumes}}) == [
        "the pods mount the Secret token, which doesn't exist yet: none starts before it does"
    ]


def test_autoscaler_of_another_is_named_where_one_of_ours_is_declared() -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hunt"}
    theirs = {"metadata": {"name": "web"}, "spec": {"scaleTargetRef": target}}
    found = Neighbourhood({}, autoscalers=(theirs,))
    assert advice(found, autoscaling=HPA) == [
        "spec.autoscaling.driver: HorizontalPodAutoscaler web scales the same pods already; while it exists the "
        "operator makes no autoscaler"
    ]
    assert advice(found) == [], "with driver none it is what the user wants"


SMALL = Node({"disk": "fast"}, 3920, 15 * 1024**3 * 1000)
LARGE = Node({"disk": "slow"}, 64_000, 256 * 1024**3 * 1000)


@pytest.mark.parametrize(
    ("pod", "nodes", "warnings"),
    [
        ({"cpus": 4}, (SMALL, LARGE), []),
        ({"cpus": 4}, (), []),
        (
            {"cpus": 4},
            (SMALL,),
            ["spec.pod.cpus: no node has 4 to give, the most is 3920m; the pods wait for one that has"],
        ),
        (
            {"cpus": 96, "memory": "1Ti"},
            (SMALL, LARGE),
            [
                "spec.pod.cpus: no node has 96 to give, the most is 64; the pods wait for one that has",
                "spec.pod.memory: no node has 1Ti to give, the most is 262144Mi; the pods wait for one that has",
            ],
        ),
        (
            {"cpus": 4, "template": {"nodeSelector": {"disk": "fast"}}},
            (SMALL, LARGE),
            ["spec.pod.cpus: no node has 4 to give, the most is 3920m; the pods wait for one that has"],
        ),
        (
            {"template": {"nodeSelector": {"disk": "none"}}},
            (SMALL, LARGE),
            ["spec.pod.template.nodeSelector: no node has these labels; the pods wait for one that does"],
        ),
    ],
)
def test_pod_that_no_node_could_take_even_empty_is_pointed_out(
    pod: Object, nodes: tuple[Node, ...], warnings: list[str]
) -> None:
    assert advice(Neighbourhood({}, nodes=nodes), pod=pod) == warnings


def test_node_that_reports_nothing_has_nothing_to_give() -> None:
    assert node_of({"metadata": {"labels": {"a": "b"}}}) == Node({"a": "b"}, 0, 0)
    assert node_of({"status": {"allocatable": {"cpu": "3920m", "memory": "1Ki"}}}) == Node(
        {}, 3920, 1_024_000
    )


def with_partitions(partitions: int, **spec: Any) -> list[str]:
    source = engine_object(**spec) | {"status": {"partitions": partitions}}
    asked = review(source)
    assert asked.engine.spec is not None, asked.engine.faults
    return advise(asked.engine, NOTHING)


def test_pods_beyond_the_partitions_are_counted() -> None:
    assert with_partitions(3, autoscaling=HPA | {"minReplicas": 4, "maxReplicas": 9}) == [
        "autoscaling stops at 4 pods, below maxReplicas: there are 3 partitions",
        "1 of 4 pods have nothing to do: there are 3 partitions",
    ]
    assert with_partitions(3, replicas=5) == ["2 of 5 pods have nothing to do: there are 3 partitions"]
    assert with_partitions(3, replicas=3) == []


def test_metric_of_a_source_that_does_not_exist_is_pointed_out() -> None:
    metric = LAG_METRIC | {"selector": {"matchLabels": {"source": "moved"}}}
    assert advice(autoscaling=HPA | {"metrics": [metric]}) == [
        "no source is called moved, so kafka_consumer_lag of it can't be scaled on"
    ]


def test_class_that_does_not_exist_is_named_with_who_asks_for_it() -> None:
    found = Neighbourhood({}, missing_classes=(("spec.storage.storageClassName", "StorageClass fast"),))
    assert advice(found) == [
        "spec.storage.storageClassName: there is no StorageClass fast; no pod can be made until there is"
    ]


class Cluster:
    """Stands in for the API server: objects by kind and name, and kinds that may not be seen."""

    def __init__(self, objects: list[Object], hidden: tuple[ResourceType, ...] = ()) -> None:
        self._objects = objects
        self._hidden = hidden
        self.asked: list[str] = []

    def _seen(self, kind: ResourceType) -> list[Object]:
        self.asked.append(kind.kind)
        if kind in self._hidden:
            raise RefusedError(403, f"list {kind.plural}", "forbidden")
        return [item for item in self._objects if item["kind"] == kind.kind]

    async def list(self, kind: ResourceType, _: str) -> list[Object]:
        return self._seen(kind)

    async def get(self, kind: ResourceType, _: str, name: str) -> Object | None:
        return next((item for item in self._seen(kind) if item["metadata"]["name"] == name), None)

    get_metadata = get


async def look(cluster: Any, *, with_secrets: bool = True, **spec: Any) -> list[str]:
    of = engine(**spec)
    assert of.spec is not None, of.faults
    return advise(of, await Neighbourhoods(cluster, with_secrets=with_secrets).look(of, of.spec))


NEEDY = {
    "pod": {
        "pinning": "Off",
        "template": {
            "priorityClassName": "high",
            "volumes": [{"name": "token", "secret": {"secretName": "token"}}],
        },
    },
    "storage": {"size": "1Gi", "storageClassName": "fast"},
    "autoscaling": HPA | {"headroom": {"pods": 1}},
    "engine": {"sources": [KAFKA_SOURCE]},
}


async def test_everything_that_is_named_is_looked_for() -> None:
    present = {"kind": "PriorityClass", "metadata": {"name": "high"}}
    assert await look(Cluster([present]), **NEEDY) == [
        "the pods mount the Secret token, which doesn't exist yet: none starts before it does",
        "spec.autoscaling.headroom.priorityClassName: there is no PriorityClass eventengine-headroom; "
        "no pod can be made until there is",
        "spec.storage.storageClassName: there is no StorageClass fast; no pod can be made until there is",
    ]


async def test_what_may_not_be_seen_is_left_out_and_the_rest_is_said() -> None:
    warnings = await look(Cluster([], (NODES, AUTOSCALERS, SECRETS)), **NEEDY)
    assert [text.split(":")[0] for text in warnings] == [
        "spec.pod.template.priorityClassName",
        "spec.autoscaling.headroom.priorityClassName",
        "spec.storage.storageClassName",
    ]


async def test_secrets_are_not_asked_for_without_leave() -> None:
    cluster = Cluster([])
    await look(cluster, with_secrets=False, **NEEDY)
    assert "Secret" not in cluster.asked


async def test_nodes_are_listed_once_a_minute_at_most() -> None:
    cluster: Any = Cluster([])
    seconds = 0.0
    around = Neighbourhoods(cluster, with_secrets=False, clock=lambda: seconds)
    of = engine()
    assert of.spec is not None
    for seconds in (0.0, 59.0, 61.0):  # noqa: B007 - the clock reads it
        await around.look(of, of.spec)
    assert cluster.asked.count("Node") == 2


async def ask(reviewer: Reviewer, body: Any) -> tuple[int, Any]:
    application = web.Application()
    application.router.add_post(PATH, reviewer.review)
    async with TestClient(TestServer(application)) as client:
        response = await client.post(PATH, data=body if isinstance(body, bytes) else json.dumps(body))
        return response.status, await response.json() if response.status == 200 else await response.text()


async def found_nothing(_: Engine, __: Any) -> Neighbourhood:
    return NOTHING


async def test_answers_are_counted_by_what_they_were() -> None:
    measurements = Measurements()
    reviewer = Reviewer(found_nothing, measurements)
    insecure = engine_object(engine={"sources": [TCP_SOURCE]})
    for body, status in ((question(engine_object()), 200), (question(insecure), 200), (b"{", 400), ({}, 400)):
        assert (await ask(reviewer, body))[0] == status
    _, refused = await ask(reviewer, question(engine_object(**TWINS)))
    assert refused["response"]["allowed"] is False
    exposition = measurements.exposition().decode()
    counts = {"accepted": 1, "warned": 1, "unreadable": 2, "refused": 1}
    for result, count in counts.items():
        assert f'eventengine_operator_reviews_total{{result="{result}"}} {count}.0' in exposition


async def test_cluster_that_does_not_answer_costs_the_advice_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answering, "DEADLINE_SECONDS", 0.01)

    async def never(_: Engine, __: Any) -> Neighbourhood:
        await asyncio.Event().wait()
        return NOTHING

    status, answered = await ask(Reviewer(never, Measurements()), question(engine_object()))
    assert (status, answered["response"]) == (200, {"uid": "q1", "allowed": True})


def issued(folder: Path, authority: KeyPair) -> None:
    pair = issue_serving(authority, ("localhost",), datetime.now(UTC), timedelta(hours=1))
    (folder / "tls.crt").write_bytes(pair.certificate)
    (folder / "tls.key").write_bytes(pair.key)


def test_certificate_is_followed_and_half_of_a_pair_replaces_nothing(tmp_path: Path) -> None:
    authority = issue_authority(datetime.now(UTC), timedelta(hours=2), "eventengine-webhook-ca")
    followed = ServingCertificate(tmp_path)
    followed.reload()
    assert not followed.loaded.is_set(), "there is none yet"
    issued(tmp_path, authority)
    followed.reload()
    assert followed.loaded.is_set()
    first = served(followed)
    key = (tmp_path / "tls.key").read_bytes()
    issued(tmp_path, authority)
    renewed = (tmp_path / "tls.key").read_bytes()
    (tmp_path / "tls.key").write_bytes(key)
    followed.reload()
    assert served(followed) == first, "the key is still the old one's"
    (tmp_path / "tls.key").write_bytes(renewed)
    followed.reload()
    assert served(followed) != first


def served(certificate: ServingCertificate) -> bytes | None:
    """The certificate that a client is shown."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificate.context.wrap_bio(incoming, outgoing, server_side=True)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = context.wrap_bio(outgoing, incoming)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return client.getpeercert(binary_form=True)


def test_owner_of_an_autoscaler_of_ours_is_no_stranger() -> None:
    target = {"apiVersion": "eventengine.dev/v1alpha1", "kind": "EventEngine", "name": "hunt"}
    owner = {"controller": True, "kind": "EventEngine", "name": "hunt", "uid": UID}
    ours = {"metadata": {"name": "hunt", "ownerReferences": [owner]}, "spec": {"scaleTargetRef": target}}
    assert advice(Neighbourhood({}, autoscalers=(ours,)), autoscaling=HPA) == []
