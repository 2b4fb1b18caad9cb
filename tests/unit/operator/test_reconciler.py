"""What a reconcile asks the API server for: little where the watches have told, everything before it takes away."""

from __future__ import annotations

from typing import Any

import pytest
from eventengine_operator.clients.engine_reports import EngineReports
from eventengine_operator.clients.errors import ConflictError
from eventengine_operator.clients.event_posting import EventPoster
from eventengine_operator.clients.kubernetes_api import ENGINES, ResourceType, type_of
from eventengine_operator.clients.mirrors import Mirror
from eventengine_operator.handlers.reconciler import (
    BLOCKED,
    NOTHING_LEFT,
    REPORT_SECONDS,
    Outlook,
    Reconciler,
)
from eventengine_operator.manifests.autoscalers import autoscaler
from eventengine_operator.manifests.children import Circumstances, desired_children
from eventengine_operator.measuring import Measurements
from eventengine_operator.resources.engines import EngineKey
from eventengine_operator.resources.objects import Object, name_of

from .samples import DEFAULT_IMAGE, HPA, engine, engine_object, live

HUNT = EngineKey("default", "hunt")


class Api:
    """An API server with one EventEngine, and what else is put there."""

    def __init__(self, **spec: Any) -> None:
        self.engine = engine_object(**spec)
        self.objects: list[Object] = []
        self.conflicts = 0
        self.listed: list[str] = []
        self.got: list[str] = []
        self.applied: list[str] = []
        self.reports = 0
        self.deleted: list[str] = []

    async def get(self, resource: ResourceType, _: str, name: str) -> Object | None:
        if resource is ENGINES:
            return self.engine
        self.got.append(resource.kind)
        found = [item for item in self.objects if (item["kind"], name_of(item)) == (resource.kind, name)]
        return found[0] if found else None

    async def list(self, resource: ResourceType, *_: Any) -> list[Object]:
        self.listed.append(resource.kind)
        return [item for item in self.objects if item["kind"] == resource.kind]

    async def apply(self, manifest: Object, _: str, subresource: str = "") -> Object:
        if subresource:
            self.reports += 1
            return manifest
        if self.conflicts:
            self.conflicts -= 1
            raise ConflictError(409, "apply", "somebody was faster")
        self.applied.append(manifest["kind"])
        return live(manifest)

    async def delete(self, resource: ResourceType, *_: Any) -> None:
        self.deleted.append(resource.kind)

    async def create(self, *_: Any) -> Object:
        return {}


def mirror_of(*items: Object) -> Mirror:
    """One that was told of these objects."""
    mirror = Mirror()
    for collection in mirror.collections.values():
        mine = [item for item in items if type_of(item["kind"]) is collection.resource]
        collection.replace(9, dict(collection.kept_of(mine)))
    return mirror


def children() -> list[Object]:
    """All that the plain EventEngine declares, as it stands in the cluster."""
    of = engine()
    assert of.spec is not None
    return [live(item) for item in desired_children(of, of.spec, Circumstances(default_image=DEFAULT_IMAGE))]


def reconciler_of(api: Any, mirror: Mirror | None) -> Reconciler:
    reports = EngineReports(Measurements())
    return Reconciler(
        api, reports, EventPoster(api, "me"), DEFAULT_IMAGE, "system", lambda _: None, mirror=mirror
    )


async def test_what_the_watches_told_is_not_asked_for_again() -> None:
    api = Api()
    assert await reconciler_of(api, mirror_of(*children())).reconcile(HUNT) == NOTHING_LEFT
    assert (api.listed, api.got, api.applied) == ([], [], [])


async def test_what_was_changed_by_hand_is_applied_without_a_further_question() -> None:
    api = Api()
    changed = [item | {"spec": {}} if item["kind"] == "Service" else item for item in children()]
    await reconciler_of(api, mirror_of(*changed)).reconcile(HUNT)
    assert (api.listed, api.got, api.applied) == ([], [], ["Service"])


async def test_names_on_which_nothing_is_known_are_looked_at_before_they_are_taken() -> None:
    api = Api()
    api.objects = [{"kind": "Service", "metadata": {"name": "hunt", "namespace": "default", "uid": "theirs"}}]
    assert await reconciler_of(api, mirror_of()).reconcile(HUNT) == BLOCKED
    assert api.applied == [], "the Service is another's"
    api.objects = []
    kinds = ["ConfigMap", "Service", "NetworkPolicy", "PodDisruptionBudget", "Deployment"]
    api.got.clear()
    await reconciler_of(api, mirror_of()).reconcile(HUNT)
    assert (api.listed, api.got, api.applied) == ([], kinds, kinds)


@pytest.mark.parametrize("is_still_there", [True, False])
async def test_nothing_is_taken_away_on_the_word_of_a_watch(is_still_there: bool) -> None:
    scaled = engine(autoscaling=HPA)
    assert scaled.spec is not None
    surplus = live(autoscaler(scaled, scaled.spec.autoscaling, 5, with_tolerance=False))
    api = Api()
    api.objects = [*children(), *([surplus] if is_still_there else [])]
    await reconciler_of(api, mirror_of(*children(), surplus)).reconcile(HUNT)
    assert "HorizontalPodAutoscaler" in api.listed
    assert api.deleted == (["HorizontalPodAutoscaler"] if is_still_there else [])


async def test_after_a_conflict_everything_is_listed_until_it_went_well() -> None:
    api = Api()
    api.conflicts = 1
    reconciler = reconciler_of(api, mirror_of())
    with pytest.raises(ConflictError):
        await reconciler.reconcile(HUNT)
    assert api.listed == []
    await reconciler.reconcile(HUNT)
    assert "Deployment" in api.listed
    api.listed.clear()
    await reconciler.reconcile(HUNT)
    assert api.listed == []


async def test_kind_whose_watch_is_interrupted_is_listed() -> None:
    api = Api()
    mirror = mirror_of(*children())
    mirror.collections["Pod", ""].is_current = False
    await reconciler_of(api, mirror).reconcile(HUNT)
    assert api.listed == ["Pod"]


async def test_a_written_workload_is_reported_on_once_its_controller_has_acted_or_after_a_while() -> None:
    api = Api()
    reconciler = reconciler_of(api, mirror_of())
    assert await reconciler.reconcile(HUNT) == Outlook(REPORT_SECONDS)
    assert api.reports == 0
    await reconciler.reconcile(HUNT)
    assert api.reports == 1, "even where it had to be written again"


async def test_what_the_next_reconcile_reads_from_the_status_is_written_at_once() -> None:
    api = Api()
    api.engine["status"] = {
        "admission": {"failedAttempts": 1, "heldUntil": "2026-11-21T10:00:00Z", "heldAt": 1}
    }
    await reconciler_of(api, mirror_of()).reconcile(HUNT)
    assert ("Deployment" in api.applied, api.reports) == (True, 1)
