"""What the chart lets operator, webhook, adapter and users do, and that it is no more than they need."""

from __future__ import annotations

import re
from typing import Any

import pytest
from eventengine_contract import well_known
from eventengine_contract.metric_names import METRICS
from eventengine_operator.manifests.certificates import ServicePlace
from eventengine_operator.settings import read_settings

from .charts import EVERYTHING, ROOT, environment, merged, named, nested, render, rules


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    return render()


@pytest.fixture(scope="module")
def everything() -> list[dict[str, Any]]:
    """What the chart makes with all its options on."""
    return render(values=EVERYTHING)


def test_no_rule_uses_a_wildcard_or_a_verb_that_raises_rights(everything: list[dict[str, Any]]) -> None:
    for role, rule in rules(everything):
        assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}, role
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"]), role
        assert not any(resource.endswith("/*") for resource in rule["resources"]), role


ALL_RIGHTS = {
    "operator.canarySeconds": "60",
    "operator.taintSeconds": "600",
    "operator.brokerCredentials": "true",
    "webhook.enabled": "true",
}
"""Every value that gives the operator, or the webhook, a right that it lacks otherwise."""


def test_operators_page_lists_exactly_the_rights_that_the_chart_gives() -> None:
    given = {
        (group or "(core)", resource, verb)
        for role, rule in rules(render(values=merged(ALL_RIGHTS)))
        if "eventengine-operator" in role or "eventengine-webhook" in role
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    page = (ROOT / "operator" / "README.md").read_text().partition("## Permissions")[2]
    told = set()
    for group, resources, verbs in re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", page, re.MULTILINE
    ):
        for resource in resources.partition(", by name")[0].split(", "):
            told |= {(group, resource, verb) for verb in verbs.split(", ")}
    told = {item for item in told if item[0] not in ("API group", "---")}
    assert told == given


def test_secrets_are_written_by_name_only_and_read_no_otherwise_once_following_them_is_off(
    everything: list[dict[str, Any]],
) -> None:
    by_name = [
        ("Role eventengine-operator", names, ["get", "create", "patch"])
        for names in (
            [well_known.ADAPTER_CA_SECRET, well_known.ADAPTER_TLS_SECRET],
            [well_known.WEBHOOK_CA_SECRET, well_known.WEBHOOK_TLS_SECRET],
        )
    ]

    def reached(objects: list[dict[str, Any]]) -> list[tuple[str, Any, list[str]]]:
        return [
            (role, rule.get("resourceNames"), rule["verbs"])
            for role, rule in rules(objects)
            if "secrets" in rule["resources"]
        ]

    following = ("ClusterRole eventengine-operator", None, ["get", "list", "watch"])
    looking = ("ClusterRole eventengine-webhook", None, ["get"])
    assert sorted(reached(everything), key=str) == sorted([following, *by_name, looking], key=str)
    assert reached(render(values=nested("operator.followSecrets", "false"))) == by_name[:1]
    off = {"metricsApis.mode": '"off"', "operator.followSecrets": "false", "webhook.enabled": "true"}
    assert reached(render(values=merged(off))) == by_name[1:], "nor is the webhook's own account let to"


@pytest.mark.parametrize("mode", ["cert-manager", "existing"])
def test_certificates_of_others_may_only_be_read(mode: str) -> None:
    values = {"certificates.mode": mode, "operator.followSecrets": "false", "webhook.enabled": "true"}
    reached = [rule for _, rule in rules(render(values=merged(values))) if "secrets" in rule["resources"]]
    assert [(rule["resourceNames"], rule["verbs"]) for rule in reached] == [
        ([well_known.ADAPTER_TLS_SECRET], ["get"]),
        ([well_known.WEBHOOK_TLS_SECRET], ["get"]),
    ]


@pytest.mark.parametrize(
    ("of", "service", "secret", "values"),
    [
        ("adapter", well_known.ADAPTER_SERVICE, well_known.ADAPTER_TLS_SECRET, {}),
        (
            "webhook",
            well_known.WEBHOOK_SERVICE,
            well_known.WEBHOOK_TLS_SECRET,
            {"webhook.enabled": "true", "metricsApis.mode": '"off"'},
        ),
    ],
)
def test_cert_manager_is_asked_for_the_secret_and_the_names_that_are_served_with(
    of: str, service: str, secret: str, values: dict[str, str]
) -> None:
    values = values | {"certificates.mode": "cert-manager"}
    made = {
        (item["kind"], item["metadata"]["name"]): item["spec"]
        for item in render(values=merged(values))
        if item["apiVersion"].startswith("cert-manager.io/")
    }
    serving = made["Certificate", f"eventengine-{of}"]
    assert serving["secretName"] == secret
    assert tuple(serving["dnsNames"]) == ServicePlace(well_known.SYSTEM_NAMESPACE, service, 443).names
    issuer = made["Issuer", serving["issuerRef"]["name"]]
    authority = made["Certificate", "eventengine-adapter-authority"]
    assert issuer["ca"]["secretName"] == authority["secretName"]
    assert authority["isCA"] is True
    assert ("Issuer", authority["issuerRef"]["name"]) in made
    company = merged(values | {"certificates.issuerRef": "{name: company, kind: ClusterIssuer}"})
    (only,) = [item for item in render(values=company) if item["apiVersion"].startswith("cert-manager.io/")]
    assert only["spec"]["issuerRef"] == {"name": "company", "kind": "ClusterIssuer"}


@pytest.mark.parametrize(
    ("served", "namespace"),
    [
        ("[]", "eventengine-system"),
        ("[red, eventengine-system]", "eventengine-system"),
        ("[red, blue]", "blue"),
    ],
)
def test_canary_may_be_written_where_the_operator_keeps_it(served: str, namespace: str) -> None:
    rendered = render(values=merged({"operator.canarySeconds": "60", "operator.watchNamespaces": served}))
    role = named(rendered, "Role", "eventengine-operator-canary")
    settings = read_settings(
        environment(rendered, "eventengine-operator")
        | {"EVENTENGINE_OPERATOR_NAMESPACE": "eventengine-system"}
    )
    assert role["metadata"]["namespace"] == settings.canary_namespace == namespace
    assert role["rules"] == [
        {
            "apiGroups": ["eventengine.dev"],
            "resources": ["eventengines"],
            "resourceNames": [well_known.CANARY],
            "verbs": ["create", "patch"],
        }
    ]


def test_nodes_may_be_touched_only_where_tainting_is_asked_for(objects: list[dict[str, Any]]) -> None:
    assert not [rule for _, rule in rules(objects) if "nodes" in rule["resources"]]
    tainting = render(values=nested("operator.taintSeconds", "600"))
    assert [rule["verbs"] for _, rule in rules(tainting) if "nodes" in rule["resources"]] == [
        ["get", "list", "patch"]
    ]


def test_secrets_are_granted_only_where_that_was_asked_for() -> None:
    values = {"operator.followSecrets": "false", "operator.brokerCredentials": "true"}
    granting = render(values=merged(values))
    extra = [
        (rule["resources"], set(rule["verbs"]))
        for role, rule in rules(granting)
        if role == "ClusterRole eventengine-operator"
        and not {"secrets", "roles"}.isdisjoint(rule["resources"])
    ]
    assert extra == [
        (["roles", "rolebindings"], {"get", "list", "watch", "create", "patch", "delete"}),
        (["secrets"], {"get"}),
    ]
    assert read_settings(environment(granting, "eventengine-operator")).broker_credentials


def test_api_services_are_changed_by_name_only_and_not_at_all_when_the_mode_is_off(
    objects: list[dict[str, Any]],
) -> None:
    writing = {"create", "update", "patch", "delete"}
    named_rules = [
        rule
        for _, rule in rules(objects)
        if "apiservices" in rule["resources"] and writing & set(rule["verbs"])
    ]
    assert [rule["resourceNames"] for rule in named_rules] == [
        [
            "v1beta1.external.metrics.k8s.io",
            "v1beta1.custom.metrics.k8s.io",
            "v1beta2.custom.metrics.k8s.io",
        ]
    ]
    switched_off = render(values=nested("metricsApis.mode", '"off"'))
    assert [set(rule["verbs"]) for _, rule in rules(switched_off) if "apiservices" in rule["resources"]] == [
        {"get", "delete"}
    ]
    assert not [
        rule
        for role, rule in rules(switched_off)
        if "secrets" in rule["resources"] and role.startswith("Role ")
    ]


def test_operator_confined_to_namespaces_has_rights_on_workloads_in_these_alone() -> None:
    confined = render(values=nested("operator.watchNamespaces", "[red, blue]"))
    bound = [item for item in confined if item.get("roleRef", {}).get("name") == "eventengine-operator"]
    assert {(item["kind"], item["metadata"]["namespace"], item["roleRef"]["kind"]) for item in bound} == {
        ("RoleBinding", "eventengine-system", "Role"),
        ("RoleBinding", "red", "ClusterRole"),
        ("RoleBinding", "blue", "ClusterRole"),
    }


def test_adapter_never_writes(everything: list[dict[str, Any]]) -> None:
    for role, rule in rules(everything):
        if role.endswith(" eventengine-adapter"):
            assert set(rule["verbs"]) <= {"get", "list", "watch"}


def test_viewers_may_read_exactly_the_metrics_that_the_contract_names(objects: list[dict[str, Any]]) -> None:
    view = named(objects, "ClusterRole", "eventengine-view")
    by_group = {rule["apiGroups"][0]: set(rule["resources"]) for rule in view["rules"]}
    assert by_group["external.metrics.k8s.io"] == set(METRICS)
    of_engines = {f"eventengines.eventengine.dev/{metric}" for metric in METRICS}
    of_pods = {f"pods/{metric.name}" for metric in METRICS.values() if metric.of_pods}
    assert by_group["custom.metrics.k8s.io"] == of_engines | of_pods | {"metrics"}


def test_webhook_only_looks_and_never_writes(everything: list[dict[str, Any]]) -> None:
    of_webhook = [
        rule for role, rule in rules(everything) if role.startswith("ClusterRole eventengine-webhook")
    ]
    assert of_webhook
    assert {verb for rule in of_webhook for verb in rule["verbs"]} == {"get", "list"}
