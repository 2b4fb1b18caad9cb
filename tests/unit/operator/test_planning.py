"""What is written for which state of the cluster, and what never is."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from eventengine_operator.manifests.children import Circumstances, desired_children
from eventengine_operator.reconciling.actions import Apply, Delete, KeepReplicas, SetReplicas
from eventengine_operator.reconciling.comparing import Spellings, differs
from eventengine_operator.reconciling.observations import Observed
from eventengine_operator.reconciling.planning import Plan, make_plan
from eventengine_operator.reconciling.replicas import ForeignAutoscaler
from eventengine_operator.resources.engines import Engine, read_engine
from eventengine_operator.resources.objects import Object, reference_of
from eventengine_operator.resources.pods import EngineReport

from .samples import DEFAULT_IMAGE, HPA, KAFKA_SOURCE, TCP_SOURCE, engine, engine_object, live

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
OURS = {"manager": "eventengine-operator", "operation": "Apply"}
OWNS_REPLICAS = {"fieldsV1": {"f:spec": {"f:replicas": {}}}}


def cluster(of: Engine, replicas: int | None = 1, *, scaled: bool = False) -> dict[str, Object]:
    """The cluster after a complete reconcile, by kind."""
    assert of.spec is not None
    circumstances = Circumstances(
        DEFAULT_IMAGE, replicas, with_autoscaler=scaled, replicas_max=of.spec.autoscaling.max_replicas
    )
    manifests = desired_children(of, of.spec, circumstances)
    return {item["kind"]: live(copy.deepcopy(item)) for item in manifests}


def plan(of: Engine, objects: dict[str, Object] | None = None, *autoscalers: Object, **observed: Any) -> Plan:
    assert of.spec is not None, of.faults
    children = {reference_of(item): item for item in (objects or {}).values()}
    ours = [item for item in children.values() if item["kind"] == "HorizontalPodAutoscaler"]
    return make_plan(of, of.spec, Observed(children, (*ours, *autoscalers), **observed), DEFAULT_IMAGE, NOW)


def applied(result: Plan) -> dict[str, Object]:
    return {
        action.manifest["kind"]: action.manifest for action in result.actions if isinstance(action, Apply)
    }


def foreign_autoscaler(kind: str, api_version: str) -> Object:
    return {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "mine", "namespace": "default"},
        "spec": {"scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": "hunt"}},
    }


ON_DEPLOYMENT = foreign_autoscaler("Deployment", "apps/v1")
ON_ENGINE = foreign_autoscaler("EventEngine", "eventengine.dev/v1alpha1")


def test_new_engine_gets_configuration_before_pods() -> None:
    kinds = [action.manifest["kind"] for action in plan(engine()).actions if isinstance(action, Apply)]
    assert kinds == ["ConfigMap", "Service", "NetworkPolicy", "PodDisruptionBudget", "Deployment"]


def test_nothing_is_written_when_nothing_differs() -> None:
    assert plan(engine(replicas=1), cluster(engine(replicas=1))).actions == ()


def test_defaults_and_foreign_fields_of_the_api_server_are_no_difference() -> None:
    objects = cluster(engine(replicas=1))
    deployment = objects["Deployment"]
    deployment["spec"]["minReadySeconds"] = 0
    deployment["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "IfNotPresent"
    deployment["spec"]["template"]["spec"]["containers"].append({"name": "injected"})
    deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "3"
    assert plan(engine(replicas=1), objects).actions == ()


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "replicas"), 9),
        ("Deployment", ("spec", "template", "spec", "automountServiceAccountToken"), True),
        ("ConfigMap", ("data", "engine.yaml"), "sources: []"),
        ("Service", ("spec", "ports"), []),
        ("Service", ("metadata", "labels"), {}),
        (
            "Service",
            ("metadata", "annotations"),
            {"eventengine.dev/spec-hash": "of a manifest with more fields"},
        ),
    ],
)
def test_drift_is_applied_over(kind: str, path: tuple[str, ...], value: Any) -> None:
    objects = cluster(engine(replicas=1))
    target = objects[kind] = copy.deepcopy(objects[kind])
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    assert list(applied(plan(engine(replicas=1), objects))) == [kind]


def test_true_is_not_one() -> None:
    assert differs({"a": True}, {"a": 1})


class TestSpellings:
    """The API server stores some of what users write in other words."""

    MANIFEST: Final = {"metadata": {"name": "hunt"}, "spec": {"size": "1024Mi", "key": ""}}
    STORED: Final = {"metadata": {"name": "hunt", "uid": "1"}, "spec": {"size": "1Gi", "other": 1}}

    def test_what_an_apply_led_to_is_not_applied_again(self) -> None:
        known = Spellings()
        assert not known.cover(self.MANIFEST, self.STORED)
        known.learn(self.MANIFEST, self.STORED)
        reported_on = {**self.STORED, "spec": {"size": "1Gi", "other": 2}, "status": {"replicas": 1}}
        assert known.cover(self.MANIFEST, reported_on), "what else there is does not matter"

    @pytest.mark.parametrize("spec", [{"size": "2Gi"}, {}, {"size": "1Gi", "key": "a"}])
    def test_drift_and_another_manifest_are_applied(self, spec: Object) -> None:
        known = Spellings()
        known.learn(self.MANIFEST, self.STORED)
        assert not known.cover(self.MANIFEST, {**self.STORED, "spec": spec})
        assert not known.cover({**self.MANIFEST, "spec": spec}, self.STORED)

    def test_what_is_stored_as_it_was_written_takes_no_room(self) -> None:
        known = Spellings(kept_max=1)
        known.learn(self.MANIFEST, self.STORED)
        known.learn(self.STORED, self.STORED)
        assert known.cover(self.MANIFEST, self.STORED)
        known.learn({"spec": "another"}, self.STORED)
        assert not known.cover(self.MANIFEST, self.STORED), "the oldest goes"

    def test_a_reconcile_leaves_alone_what_is_stored_in_other_words(self) -> None:
        of = engine(replicas=1, pod={"template": {"tolerations": [{"key": "", "operator": "Exists"}]}})
        objects = cluster(of)
        objects["Deployment"]["spec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]
        (action,) = plan(of, objects).actions
        assert isinstance(action, Apply)
        known = Spellings()
        known.learn(action.manifest, objects["Deployment"])
        assert plan(of, objects, spellings=known).actions == ()


def test_autoscaler_that_is_no_longer_declared_is_deleted_as_it_was_seen() -> None:
    before = cluster(engine(replicas=2, autoscaling=HPA), 2, scaled=True)
    (deletion,) = [item for item in plan(engine(replicas=2), before).actions if isinstance(item, Delete)]
    assert (deletion.reference.kind, deletion.uid, deletion.resource_version) == (
        "HorizontalPodAutoscaler",
        "uid-of-HorizontalPodAutoscaler",
        "7",
    )


def test_paused_engine_is_not_written() -> None:
    source = engine_object()
    source["metadata"]["annotations"] = {"eventengine.dev/paused": "true"}
    assert plan(read_engine(source)).actions == ()


def test_object_of_another_on_our_name_stops_everything() -> None:
    theirs = {"kind": "ConfigMap", "metadata": {"name": "hunt-engine", "uid": "x"}, "data": {}}
    result = plan(engine(), {"ConfigMap": theirs})
    assert result.actions == ()
    assert result.conflicts == ("ConfigMap hunt-engine",)


def test_orphan_with_our_labels_is_adopted() -> None:
    objects = cluster(engine(replicas=1))
    objects["Service"]["metadata"].pop("ownerReferences")
    result = plan(engine(replicas=1), objects)
    assert list(applied(result)) == ["Service"]
    assert result.conflicts == ()


def test_objects_of_a_deleted_predecessor_are_waited_for() -> None:
    objects = cluster(engine(replicas=1))
    for item in objects.values():
        item["metadata"]["ownerReferences"] = [item["metadata"]["ownerReferences"][0] | {"uid": "before"}]
    result = plan(engine(replicas=1), objects)
    assert result.actions == ()
    assert result.awaits_deletion_of == (
        "ConfigMap hunt-engine",
        "Deployment hunt",
        "NetworkPolicy hunt",
        "PodDisruptionBudget hunt",
        "Service hunt",
    )


class TestReplicas:
    """One owner at a time."""

    def test_given_number_is_copied(self) -> None:
        assert applied(plan(engine(replicas=3)))["Deployment"]["spec"]["replicas"] == 3

    def test_zero_is_a_number(self) -> None:
        assert applied(plan(engine(replicas=0)))["Deployment"]["spec"]["replicas"] == 0

    def test_left_out_with_driver_none_is_left_out(self) -> None:
        assert "replicas" not in applied(plan(engine()))["Deployment"]["spec"]

    @pytest.mark.parametrize(("present", "first"), [(None, 2), (1, 2), (4, 4), (9, 5), (0, 2)])
    def test_autoscaler_starts_from_the_live_value_within_bounds(
        self, present: int | None, first: int
    ) -> None:
        declared = engine(autoscaling=HPA | {"minReplicas": 2})
        objects = cluster(declared, present) if present is not None else None
        result = plan(declared, objects)
        assert SetReplicas(first, "100") in result.actions
        if present is None or present != first:
            assert applied(result)["Deployment"]["spec"]["replicas"] == first

    def test_what_the_autoscaler_wrote_is_not_written_back(self) -> None:
        result = plan(engine(replicas=4, autoscaling=HPA))
        assert not [item for item in result.actions if isinstance(item, SetReplicas)]

    def test_last_owner_hands_over_before_it_lets_go(self) -> None:
        objects = cluster(engine(replicas=4), 4)
        objects["Deployment"]["metadata"]["managedFields"] = [OURS | OWNS_REPLICAS]
        keep, apply = plan(engine(), objects).actions
        assert keep == KeepReplicas("Deployment", "hunt", "uid-of-Deployment", "7", 4)
        assert isinstance(apply, Apply)
        assert "replicas" not in apply.manifest["spec"]

    @pytest.mark.parametrize(
        "owners",
        [
            [],
            [{"manager": "kube-controller-manager", "operation": "Update"} | OWNS_REPLICAS],
            [
                OURS | OWNS_REPLICAS,
                {"manager": "eventengine-operator-replicas", "operation": "Apply"} | OWNS_REPLICAS,
            ],
            [OURS | {"fieldsV1": {"f:spec": {"f:template": {}}}}],
        ],
    )
    def test_no_keeper_is_needed_where_somebody_else_owns_them(self, owners: list[Object]) -> None:
        objects = cluster(engine(replicas=4), 4)
        objects["Deployment"]["metadata"]["managedFields"] = owners
        assert not [item for item in plan(engine(), objects).actions if isinstance(item, KeepReplicas)]

    def test_foreign_autoscaler_on_the_deployment_gets_the_replicas_and_ours_goes_first(self) -> None:
        declared = engine(replicas=2, autoscaling=HPA)
        objects = cluster(declared, 2, scaled=True)
        objects["Deployment"]["metadata"]["managedFields"] = [OURS | OWNS_REPLICAS]
        result = plan(declared, objects, ON_DEPLOYMENT)
        assert [type(item) for item in result.actions] == [KeepReplicas, Delete, Apply]
        assert "replicas" not in applied(result)["Deployment"]["spec"]

    def test_foreign_autoscaler_on_the_engine_replaces_ours_and_keeps_the_path(self) -> None:
        declared = engine(replicas=2, autoscaling=HPA)
        result = plan(declared, cluster(declared, 2, scaled=True), ON_ENGINE)
        assert [type(item) for item in result.actions] == [Delete]
        assert result.replicas == 2

    def test_foreign_autoscaler_on_an_engine_without_a_number_gets_one(self) -> None:
        result = plan(engine(), cluster(engine(), 3), ON_ENGINE)
        assert SetReplicas(3, "100") in result.actions

    def test_number_from_before_another_scaled_is_brought_up_to_date_first(self) -> None:
        declared = engine(replicas=2, autoscaling=HPA)
        objects = cluster(declared, None)
        objects["Deployment"]["spec"]["replicas"] = 4
        result = plan(declared, objects)
        assert result.actions[0] == SetReplicas(4, "100")
        assert applied(result)["Deployment"]["spec"]["replicas"] == 4

    def test_number_that_the_user_writes_beats_the_live_one(self) -> None:
        objects = cluster(engine(), None)
        objects["Deployment"]["spec"]["replicas"] = 4
        assert applied(plan(engine(replicas=2), objects))["Deployment"]["spec"]["replicas"] == 2

    @pytest.mark.parametrize(
        ("target", "on_deployment"),
        [
            ({"name": "hunt"}, True),
            ({"name": "hunt", "kind": "EventEngine", "apiVersion": "eventengine.dev/v1alpha1"}, False),
        ],
    )
    def test_scaled_object_counts_as_another_autoscaler_even_without_one(
        self, target: Object, on_deployment: bool
    ) -> None:
        scaled = {"metadata": {"name": "theirs"}, "spec": {"scaleTargetRef": target}}
        declared = engine(replicas=2, autoscaling=HPA)
        result = plan(declared, cluster(declared, 2, scaled=True), scaled_objects=(scaled,))
        assert result.foreign_autoscaler == ForeignAutoscaler("theirs", on_deployment, "ScaledObject")
        assert [item.reference.kind for item in result.actions if isinstance(item, Delete)] == [
            "HorizontalPodAutoscaler"
        ]

    def test_scaled_object_of_something_else_does_not_count(self) -> None:
        scaled = {"metadata": {"name": "theirs"}, "spec": {"scaleTargetRef": {"name": "other"}}}
        declared = engine(replicas=2, autoscaling=HPA)
        assert (
            plan(declared, cluster(declared, 2, scaled=True), scaled_objects=(scaled,)).foreign_autoscaler
            is None
        )

    @pytest.mark.parametrize(
        "other",
        [
            foreign_autoscaler("Deployment", "example.dev/v1"),
            foreign_autoscaler("StatefulSet", "apps/v1"),
            ON_DEPLOYMENT | {"metadata": {"name": "mine", "deletionTimestamp": "2026-11-21T10:00:00Z"}},
        ],
    )
    def test_autoscalers_of_other_things_or_on_their_way_out_do_not_count(self, other: Object) -> None:
        declared = engine(replicas=2, autoscaling=HPA)
        assert plan(declared, cluster(declared, 2, scaled=True), other).actions == ()


class TestPartitions:
    """No more pods than partitions, for more would only stand by."""

    def most(self, *partitions: int, status: Object | None = None, **spec: Any) -> tuple[int, int]:
        """(maxReplicas that is written, partitions that are remembered)."""
        source = engine_object(autoscaling=HPA | {"minReplicas": 2, "maxReplicas": 10}, **spec)
        source["status"] = status or {}
        reports = {
            str(number): EngineReport("c", True, 0.0, partitions=value)
            for number, value in enumerate(partitions)
        }
        result = plan(read_engine(source), reports=reports)
        written: int = applied(result)["HorizontalPodAutoscaler"]["spec"]["maxReplicas"]
        return written, result.partitions

    def test_unknown_number_bounds_nothing(self) -> None:
        assert self.most() == (10, 0)
        assert self.most(0, 0) == (10, 0)

    def test_number_that_pods_report_is_the_bound(self) -> None:
        assert self.most(0, 4, 3) == (4, 4)
        assert self.most(64) == (10, 64)

    def test_declared_minimum_beats_it(self) -> None:
        assert self.most(1) == (2, 1)

    def test_number_is_remembered_while_no_pod_can_tell(self) -> None:
        assert self.most(status={"partitions": 4}) == (4, 4)
        assert self.most(8, status={"partitions": 4}) == (8, 8)

    def test_source_that_any_pod_can_serve_lifts_the_bound(self) -> None:
        both = {"sources": [KAFKA_SOURCE, TCP_SOURCE]}
        assert self.most(4, status={"partitions": 4}, engine=both) == (10, 0)
