"""What the watches told: the newest of each object, no ghosts, and no answer where none can be given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from eventengine_operator.clients.errors import UnavailableError
from eventengine_operator.clients.kubernetes_api import AUTOSCALERS, DEPLOYMENTS, SERVICES, ResourceType
from eventengine_operator.clients.mirrors import Collection, Mirror
from eventengine_operator.handlers.mirroring import follow, keep_mirror
from eventengine_operator.measuring import Measurements
from eventengine_operator.resources.objects import Object, name_of

HUNT = {"eventengine.dev/engine": "hunt"}


def item(version: int, name: str = "hunt", kind: str = "Service", **parts: Any) -> Object:
    metadata = {"namespace": "games", "name": name, "resourceVersion": str(version), "labels": HUNT}
    return {"kind": kind, "metadata": metadata, **parts}


def collection(version: int, *items: Object, resource: ResourceType = SERVICES, **bounds: int) -> Collection:
    """One that was listed in this version."""
    made = Collection(resource, "", **bounds)
    made.replace(version, dict(made.kept_of(items)))
    return made


def versions(of: Collection) -> dict[str, str]:
    found = of.list("games", "hunt" if of.is_by_engine else None)
    assert found is not None, "it can't answer"
    return {name_of(found_item): found_item["metadata"]["resourceVersion"] for found_item in found}


class TestCollection:
    """The objects of one kind."""

    def test_nothing_is_said_before_the_first_list(self) -> None:
        assert Collection(SERVICES, "").list("games", "hunt") is None

    def test_an_engine_gets_its_own_objects(self) -> None:
        other = item(4, "race")
        other["metadata"]["labels"] = {"eventengine.dev/engine": "race"}
        known = collection(9, item(3), item(5, "hunt-tcp"), other)
        assert versions(known) == {"hunt": "3", "hunt-tcp": "5"}
        assert known.list("elsewhere", "hunt") == []

    def test_autoscalers_are_listed_by_namespace_whatever_their_labels(self) -> None:
        foreign = item(4, "foreign")
        foreign["metadata"]["labels"] = {}
        known = collection(9, item(3), foreign, resource=AUTOSCALERS)
        assert versions(known) == {"hunt": "3", "foreign": "4"}
        assert known.list("games", "hunt") is None

    def test_events_are_followed(self) -> None:
        known = collection(9, item(3))
        assert known.hear("MODIFIED", item(10, spec={"a": 1}))
        assert known.hear("ADDED", item(11, "hunt-tcp"))
        assert known.hear("DELETED", item(12, spec={"a": 1}))
        assert versions(known) == {"hunt-tcp": "11"}

    def test_object_that_changes_hands_is_the_new_ones_only(self) -> None:
        known = collection(9, item(3))
        passed_on = item(10)
        passed_on["metadata"]["labels"] = {"eventengine.dev/engine": "race"}
        assert known.hear("MODIFIED", passed_on)
        assert versions(known) == {}
        assert known.list("games", "race") == [passed_on]

    def test_repeated_event_is_no_news_and_brings_nothing_back(self) -> None:
        known = collection(9)
        assert known.hear("ADDED", item(10))
        assert known.hear("DELETED", item(11))
        assert not known.hear("ADDED", item(10))
        assert versions(known) == {}

    def test_list_ends_what_it_leaves_out_and_tells_of_what_was_missed(self) -> None:
        known = collection(9, item(3), item(4, "gone"), item(5, "same"))
        found = dict(known.kept_of([item(12), item(5, "same"), item(13, "new")]))
        told = {(kind, name_of(found_item)) for kind, found_item in known.replace(20, found)}
        assert told == {("MODIFIED", "hunt"), ("MODIFIED", "new"), ("DELETED", "gone")}
        assert versions(known) == {"hunt": "12", "same": "5", "new": "13"}

    def test_list_of_a_lagging_replica_is_refused(self) -> None:
        known = collection(9, item(3))
        with pytest.raises(ValueError, match="version 8 is older than 9"):
            known.replace(8, {})
        assert versions(known) == {"hunt": "3"}

    def test_answer_to_a_write_is_known_at_once_and_its_event_is_no_news(self) -> None:
        known = collection(9, item(3))
        known.learn(item(10))
        assert versions(known) == {"hunt": "10"}
        assert not known.hear("MODIFIED", item(10))
        assert known.hear("MODIFIED", item(11, spec={"by": "hand"}))

    def test_late_answer_to_a_write_brings_nothing_back(self) -> None:
        known = collection(9)
        known.hear("ADDED", item(10))
        known.hear("DELETED", item(11))
        known.learn(item(10))
        assert versions(known) == {}

    def test_answer_that_came_after_the_list_was_made_outlives_it(self) -> None:
        known = collection(9)
        known.learn(item(15, "new"))
        assert list(known.replace(12, {})) == []
        assert versions(known) == {"new": "15"}

    @pytest.mark.parametrize(("resource", "is_news"), [(SERVICES, False), (DEPLOYMENTS, True)])
    def test_status_alone_is_news_where_something_depends_on_it(
        self, resource: ResourceType, is_news: bool
    ) -> None:
        known = collection(9, item(3, spec={"a": 1}), resource=resource)
        assert known.hear("MODIFIED", item(10, spec={"a": 1}, status={"ready": 1})) is is_news
        assert versions(known) == {"hunt": "10"}
        assert known.hear("MODIFIED", item(11, spec={"a": 2}, status={"ready": 1}))

    def test_more_than_fits_is_not_answered_for(self) -> None:
        known = collection(9, item(3), objects_max=1)
        known.hear("ADDED", item(10, "hunt-tcp"))
        assert known.list("games", "hunt") is None


def test_mirror_of_some_namespaces_answers_for_these_alone() -> None:
    mirror = Mirror(("games",))
    mirror.collections[SERVICES.kind, "games"].replace(9, {})
    mirror.learn(item(10))
    mirror.learn(item(10, kind="EventEngine"))
    assert mirror.list(SERVICES, "games", "hunt") == [item(10)]
    assert mirror.list(SERVICES, "other", "hunt") is None


class Api:
    """Plays a script: what is listed, in which version, then what the watch tells and how it ends."""

    def __init__(self, *script: tuple[str, list[Object], list[tuple[str, Object]], Exception | None]) -> None:
        self.script = list(script)
        self.since: list[str] = []
        self.has_ended = asyncio.Event()

    async def pages(self, *_: Any) -> AsyncIterator[tuple[str, list[Object]]]:
        if not self.script:
            self.has_ended.set()
            await asyncio.Event().wait()
        version, items, _, _ = self.script[0]
        for listed in items:
            yield version, [listed]
        yield version, []

    async def watch(self, _: Any, __: str, since: str, **___: Any) -> AsyncIterator[tuple[str, Object]]:
        self.since.append(since)
        _, _, events, error = self.script.pop(0)
        for kind, told in events:
            yield kind, told
        if error is not None:
            raise error


@pytest.mark.usefixtures("no_pause")
async def test_each_watch_begins_with_a_list_that_tells_what_the_last_one_missed() -> None:
    api: Any = Api(
        ("9", [item(3)], [("ADDED", item(10, "new")), ("BOOKMARK", item(11, ""))], None),
        ("20", [item(3)], [], UnavailableError(0, "watch services", "broken off")),
        ("30", [item(25)], [], None),
    )
    known = Collection(SERVICES, "")
    told: list[tuple[str, str, bool]] = []

    def when_changed(_: ResourceType, kind: str, changed: Object) -> None:
        told.append((kind, name_of(changed), known.is_current))

    task = asyncio.create_task(follow(api, known, when_changed, Measurements(), 300, asyncio.Lock()))
    await asyncio.wait_for(api.has_ended.wait(), 5)
    task.cancel()
    assert api.since == ["9", "20", "30"]
    assert told == [("ADDED", "new", True), ("DELETED", "new", True), ("MODIFIED", "hunt", True)]
    assert known.list("games", "hunt") is None, "nobody tells what happens between a watch and the next list"


class SlowApi:
    """Lists a page at a time and lets others run between two of them; its watches tell nothing."""

    def __init__(self, kinds: int) -> None:
        self.listing: set[str] = set()
        self.most_at_once = 0
        self.left = kinds
        self.has_listed_all = asyncio.Event()

    async def pages(self, resource: ResourceType, *_: Any) -> AsyncIterator[tuple[str, list[Object]]]:
        self.listing.add(resource.plural)
        for _page in range(3):
            self.most_at_once = max(self.most_at_once, len(self.listing))
            await asyncio.sleep(0)
            yield "9", []
        self.listing.discard(resource.plural)
        self.left -= 1
        if self.left == 0:
            self.has_listed_all.set()

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[tuple[str, Object]]:
        await asyncio.Event().wait()
        yield "", {}


async def test_one_kind_is_listed_at_a_time_for_lists_take_much_memory() -> None:
    mirror = Mirror()
    api: Any = SlowApi(len(mirror.collections))
    task = asyncio.create_task(keep_mirror(api, mirror, lambda *_: None, Measurements(), 300))
    await asyncio.wait_for(api.has_listed_all.wait(), 5)
    task.cancel()
    assert api.most_at_once == 1
