"""Which APIServices are written, and whose are left alone."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from eventengine_operator.manifests.certificates import ServicePlace, installation_labels
from eventengine_operator.manifests.metrics_apis import api_service
from eventengine_operator.reconciling.actions import Apply, Delete
from eventengine_operator.reconciling.metrics_apis import judge_apis, plan_api_services, wanted_apis
from eventengine_operator.resources.objects import Object

PLACE = ServicePlace("eventengine-system", "eventengine-adapter", 443)
AUTO, CUSTOM_ONLY = wanted_apis("auto"), wanted_apis("custom-only")
EXTERNAL = "v1beta1.external.metrics.k8s.io"
BUNDLE = b"bundle"


def ours(
    *, available: str = "True", bundle: bytes = BUNDLE, place: ServicePlace = PLACE
) -> dict[str, Object]:
    condition = {"type": "Available", "status": available, "reason": "ServiceNotFound"}
    found = {}
    for api in AUTO:
        item = api_service(api, place, bundle)
        item["metadata"] |= {"uid": f"uid-{api.name}", "resourceVersion": "3"}
        found[api.name] = item | {"status": {"conditions": [condition]}}
    return found


def theirs() -> Object:
    return {
        "metadata": {"name": EXTERNAL, "uid": "theirs"},
        "spec": {"service": {"namespace": "keda", "name": "keda-metrics"}},
    }


def plan(live: dict[str, Object], wanted: Any = AUTO) -> list[str]:
    actions = plan_api_services(wanted, live, PLACE, BUNDLE)
    return [
        f"apply {item.manifest['metadata']['name']}"
        if isinstance(item, Apply)
        else f"delete {item.reference.name}"
        for item in actions
    ]


def test_all_three_are_made_where_there_is_none() -> None:
    assert plan({}) == [
        "apply v1beta1.custom.metrics.k8s.io",
        "apply v1beta2.custom.metrics.k8s.io",
        f"apply {EXTERNAL}",
    ]


def test_newer_custom_version_is_preferred() -> None:
    priorities = {api.name: api_service(api, PLACE, BUNDLE)["spec"]["versionPriority"] for api in AUTO}
    assert priorities["v1beta2.custom.metrics.k8s.io"] > priorities["v1beta1.custom.metrics.k8s.io"]


def test_nothing_is_written_when_all_is_well() -> None:
    assert plan(ours()) == []


def test_new_bundle_is_written_to_all() -> None:
    actions = plan_api_services(AUTO, ours(), PLACE, b"new")
    assert len(actions) == 3
    for action in actions:
        assert isinstance(action, Apply)
        assert base64.b64decode(action.manifest["spec"]["caBundle"]) == b"new"


def test_one_of_another_is_never_written() -> None:
    assert plan(ours() | {EXTERNAL: theirs()}) == []
    assert plan(ours() | {EXTERNAL: theirs()}, CUSTOM_ONLY) == []


def test_one_of_another_installation_is_another_s() -> None:
    elsewhere = ours(place=ServicePlace("other", "eventengine-adapter", 443))
    assert plan(elsewhere) == []
    assert installation_labels("other") != installation_labels(PLACE.namespace)


def test_external_one_goes_in_mode_custom_only_as_it_was_seen() -> None:
    (action,) = plan_api_services(CUSTOM_ONLY, ours(), PLACE, BUNDLE)
    assert isinstance(action, Delete)
    assert (action.reference.name, action.uid, action.resource_version) == (EXTERNAL, f"uid-{EXTERNAL}", "3")


def test_with_keda_the_external_api_is_left_to_it() -> None:
    assert wanted_apis("keda") == CUSTOM_ONLY


@pytest.mark.parametrize(
    ("service", "owner"),
    [
        ("keda-operator-metrics-apiserver", "KEDA (other/keda-operator-metrics-apiserver)"),
        ("datadog-cluster-agent-metrics-server", "Datadog (other/datadog-cluster-agent-metrics-server)"),
        ("prometheus-adapter", "prometheus-adapter (other/prometheus-adapter)"),
        ("home-made", "other/home-made"),
    ],
)
def test_owner_that_people_know_is_called_by_its_name(service: str, owner: str) -> None:
    foreign = theirs()
    foreign["spec"]["service"] = {"namespace": "other", "name": service}
    apis = judge_apis(AUTO, ours() | {EXTERNAL: foreign}, PLACE)
    assert apis.external is not None
    assert apis.external.detail == f"it is served by {owner}, which the operator doesn't replace"


def test_owner_of_a_foreign_api_is_named() -> None:
    apis = judge_apis(AUTO, ours() | {EXTERNAL: theirs()}, PLACE)
    assert apis.custom is not None
    assert apis.external is not None
    assert apis.custom.state == "Available"
    assert (apis.external.state, apis.external.detail) == (
        "Foreign",
        "it is served by KEDA (keda/keda-metrics), which the operator doesn't replace",
    )


def test_custom_api_is_as_good_as_its_worst_version() -> None:
    live = ours()
    live.pop("v1beta2.custom.metrics.k8s.io")
    apis = judge_apis(AUTO, live, PLACE)
    assert apis.custom is not None
    assert (apis.custom.name, apis.custom.state) == ("v1beta2.custom.metrics.k8s.io", "Absent")


def test_api_server_s_own_reason_is_handed_on() -> None:
    apis = judge_apis(AUTO, ours(available="False"), PLACE)
    assert apis.external is not None
    assert (apis.external.state, apis.external.detail) == ("Unavailable", "ServiceNotFound")
