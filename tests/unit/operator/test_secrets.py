"""Secrets that pods mount: which, what their versions change, whom a change concerns, and what is never read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from eventengine_contract.well_known import ANNOTATION_SECRETS_HASH
from eventengine_operator.clients.errors import NotFoundError, OutdatedError, UnavailableError
from eventengine_operator.clients.kubernetes_api import SECRETS, KubernetesApi
from eventengine_operator.handlers.object_watches import Watched, pause_seconds, watch_objects
from eventengine_operator.handlers.secret_follower import SecretReferences
from eventengine_operator.measuring import Measurements
from eventengine_operator.reconciling.actions import Apply
from eventengine_operator.reconciling.conditions import obstacle
from eventengine_operator.reconciling.observations import Observed
from eventengine_operator.reconciling.planning import Plan, make_plan, secrets_hash
from eventengine_operator.resources.engines import EngineKey
from eventengine_operator.resources.mounted_secrets import (
    SecretReference,
    missing_secrets,
    referenced_secrets,
    version_of,
)
from eventengine_operator.resources.objects import Object

from .http_clients import HttpClient
from .samples import DEFAULT_IMAGE, KAFKA_SOURCE, engine

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TOKEN = {"name": "token", "secret": {"secretName": "ingest-token"}}
MAYBE = {"name": "maybe", "secret": {"secretName": "maybe", "optional": True}}
BOTH = {
    "name": "both",
    "projected": {
        "sources": [{"secret": {"name": "maybe", "optional": True}}, {"secret": {"name": "broker"}}]
    },
}
HUNT, RACE = EngineKey("games", "hunt"), EngineKey("games", "race")


def mounting(*volumes: Object) -> Any:
    return engine(pod={"template": {"volumes": list(volumes)}})


def test_credentials_of_brokers_are_followed_as_what_the_user_mounts_is() -> None:
    kafka = KAFKA_SOURCE["kafka"] | {"credentials": "reader"}
    of = engine(engine={"sources": [KAFKA_SOURCE | {"kafka": kafka}]}, pod={"template": {"volumes": [TOKEN]}})
    assert of.spec is not None, of.faults
    assert referenced_secrets(of.spec) == (SecretReference("ingest-token"), SecretReference("reader"))


def plan(secrets: dict[str, str | None], *volumes: Object) -> Plan:
    of = mounting(*(volumes or [TOKEN]))
    return make_plan(of, of.spec, Observed({}, (), secrets=secrets), DEFAULT_IMAGE, NOW)


def written(result: Plan) -> dict[str, Object]:
    return {item.manifest["kind"]: item.manifest for item in result.actions if isinstance(item, Apply)}


def annotations(result: Plan) -> dict[str, str]:
    found: dict[str, str] = written(result)["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    return found


def test_secrets_of_all_volumes_are_found_once_and_a_need_outweighs_an_option() -> None:
    spec = mounting(TOKEN, MAYBE, BOTH, {"name": "scratch", "emptyDir": {}}).spec
    assert referenced_secrets(spec) == (
        SecretReference("broker"),
        SecretReference("ingest-token"),
        SecretReference("maybe", is_optional=True),
    )
    needed = {"name": "again", "secret": {"secretName": "maybe"}}
    assert referenced_secrets(mounting(MAYBE, needed).spec) == (SecretReference("maybe"),)


def test_change_of_a_secret_changes_the_template_and_nothing_else_does() -> None:
    first, same, second = (
        plan({"ingest-token": "u/1"}),
        plan({"ingest-token": "u/1"}),
        plan({"ingest-token": "u/2"}),
    )
    assert annotations(first) == annotations(same)
    assert annotations(first)[ANNOTATION_SECRETS_HASH] != annotations(second)[ANNOTATION_SECRETS_HASH]


def test_unreadable_secret_leaves_the_template_as_it_is() -> None:
    live = {"spec": {"template": {"metadata": {"annotations": {ANNOTATION_SECRETS_HASH: "before"}}}}}
    assert secrets_hash({"ingest-token": None}, live) == "before"
    assert secrets_hash({"ingest-token": None}, None) == ""
    assert ANNOTATION_SECRETS_HASH not in annotations(plan({"ingest-token": None}))


def test_missing_secret_keeps_the_pods_as_they_are_and_says_what_to_do() -> None:
    result = plan({"ingest-token": ""})
    assert set(written(result)) == {"ConfigMap", "Service", "NetworkPolicy", "PodDisruptionBudget"}
    assert obstacle(result, ()) == (
        "SecretMissing",
        "the pods mount ingest-token, which doesn't exist in this namespace; create it (kubectl create secret generic "
        "ingest-token ...) or mount it as optional: until then the pods stay as they are",
    )


def test_missing_optional_secret_is_no_obstacle_and_its_arrival_is_a_change() -> None:
    absent, present = plan({"maybe": ""}, MAYBE), plan({"maybe": "u/1"}, MAYBE)
    assert obstacle(absent, ()) is None
    assert annotations(absent)[ANNOTATION_SECRETS_HASH] != annotations(present)[ANNOTATION_SECRETS_HASH]


def test_secret_that_was_made_anew_has_another_version_even_with_the_same_number() -> None:
    one = {"metadata": {"uid": "a", "resourceVersion": "5"}}
    assert version_of(one) != version_of({"metadata": {"uid": "b", "resourceVersion": "5"}})
    assert version_of(None) == ""
    assert missing_secrets([SecretReference("x")], {"x": None}) == (), "not readable is not missing"


def test_change_concerns_those_who_mounted_it_last() -> None:
    references = SecretReferences()
    references.remember(HUNT, frozenset({"token", "broker"}))
    references.remember(RACE, frozenset({"token"}))
    assert references.concerned("games", "token") == {HUNT, RACE}
    assert references.concerned("other", "token") == frozenset()
    references.remember(HUNT, frozenset({"broker"}))
    references.remember(RACE, frozenset())
    assert references.concerned("games", "token") == frozenset()
    assert references.everybody() == {HUNT}


class Answer:
    """One object's metadata."""

    status = 200

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    async def read(self) -> bytes:
        return json.dumps({"metadata": {"uid": "a", "resourceVersion": "5"}}).encode()


class Client(HttpClient):
    """Keeps what it was asked to leave out."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: list[str] = []

    def answer(self, headers: dict[str, str]) -> Answer:
        self.accepted.append(headers["Accept"])
        return Answer()


async def test_content_of_a_secret_is_not_even_asked_for() -> None:
    client: Any = Client()
    api = KubernetesApi(client, Measurements())
    await api.get_metadata(SECRETS, "games", "token")
    await api.newest_version(SECRETS, "games")
    assert [accept.split(";")[1] for accept in client.accepted] == [
        "as=PartialObjectMetadata",
        "as=PartialObjectMetadataList",
    ]


class Api:
    """Plays a script: each entry is what one watch tells, then how it ends."""

    def __init__(self, *script: tuple[list[tuple[str, str]], Exception | None]) -> None:
        self.script = list(script)
        self.since: list[str] = []
        self.looked = 0

    async def newest_version(self, *_: Any) -> str:
        self.looked += 1
        return f"now-{self.looked}"

    async def watch(self, _: Any, __: str, since: str, **___: Any) -> AsyncIterator[tuple[str, Object]]:
        self.since.append(since)
        events, error = self.script.pop(0)
        for kind, version in events:
            yield kind, {"metadata": {"name": "token", "resourceVersion": version}}
        if error is not None:
            raise error


@pytest.mark.usefixtures("no_pause")
async def test_watch_goes_on_where_it_ended_and_looks_anew_only_when_that_is_too_old() -> None:
    api: Any = Api(
        ([("ADDED", "7"), ("BOOKMARK", "9")], None),
        ([], UnavailableError(0, "watch secrets", "broken off")),
        ([("MODIFIED", "11")], OutdatedError(410, "watch secrets", "too old")),
        ([], NotFoundError(404, "watch secrets", "gone")),
    )
    told: list[str] = []
    unsure: list[str] = []
    measurements = Measurements()
    await asyncio.wait_for(
        watch_objects(
            api, Watched(SECRETS), lambda kind, _: told.append(kind), lambda: unsure.append("?"), measurements
        ),
        5,
    )
    assert api.since == ["now-1", "9", "9", "now-2"]
    assert told == ["ADDED", "MODIFIED"], "a bookmark is no change"
    assert len(unsure) == 2, "at the start, and after a gap"
    assert b'watch_age_seconds{resource="secrets"}' in measurements.exposition()


def test_failing_watch_is_tried_less_and_less_often_up_to_a_bound() -> None:
    assert [pause_seconds(failures) for failures in (0, 1, 4, 60)] == [0.2, 0.4, 3.2, 60.0]
