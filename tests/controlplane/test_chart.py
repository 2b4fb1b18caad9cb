"""The chart, rendered by the real Helm 3 and Helm 4: what it makes, what it allows, what it refuses."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from eventengine_adapter.settings import read_settings as adapter_settings
from eventengine_contract import well_known
from eventengine_contract.quantities import parse_quantity_millis
from eventengine_harness.exceptions import CommandError
from eventengine_operator.reviewing.answering import DRAIN_SECONDS, SHUTDOWN_SECONDS
from eventengine_operator.reviewing.answering import PATH as WEBHOOK_PATH
from eventengine_operator.settings import read_settings

from .charts import (
    CHART,
    EVERYTHING,
    ROOT,
    environment,
    merged,
    named,
    nested,
    pods,
    render,
    rules,
    template,
)

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
OPAQUE = re.compile(r"\.(resources|topologySpreadConstraints|issuerRef)$")
"""Values that are an object or a list of Kubernetes' own and count as one."""

CLUSTER_SCOPED = {
    "ClusterRole",
    "ClusterRoleBinding",
    "PriorityClass",
    "CustomResourceDefinition",
    "ValidatingWebhookConfiguration",
}
ALTERNATIVES: dict[str, str] = {
    "crds.enabled": "false",
    "crds.keep": "false",
    "imagePullSecrets": "[{name: pull}]",
    "engine.image.registry": "registry.example:5000",
    "engine.image.repository": "other/engine",
    "engine.image.tag": "9.9.9",
    **{
        f"{part}.{key}": value
        for part in ("operator", "adapter")
        for key, value in {
            "replicas": "2",
            "image.registry": "registry.example:5000",
            "image.repository": "other/image",
            "image.tag": "9.9.9",
            "image.pullPolicy": "Always",
            "logLevel": "debug",
            "resources": "{requests: {cpu: 50m}}",
            "priorityClassName": "system-cluster-critical",
            "nodeSelector": "{disk: fast}",
            "tolerations": "[{key: dedicated, operator: Exists}]",
            "affinity": "{podAntiAffinity: {}}",
            "podAnnotations": "{note: text}",
            "podLabels": "{team: platform}",
        }.items()
    },
    "webhook.enabled": "true",
    "webhook.replicas": "2",
    "webhook.failurePolicy": "Fail",
    "webhook.timeoutSeconds": "10",
    "webhook.logLevel": "debug",
    "webhook.resources": "{requests: {cpu: 60m}}",
    "webhook.maxUnavailable": "50%",
    "webhook.priorityClassName": "system-cluster-critical",
    "webhook.nodeSelector": "{disk: fast}",
    "webhook.tolerations": "[{key: dedicated, operator: Exists}]",
    "webhook.affinity": "{podAntiAffinity: {}}",
    "webhook.podAnnotations": "{note: text}",
    "webhook.podLabels": "{team: platform}",
    "operator.watchNamespaces": "[red, blue]",
    "operator.followSecrets": "false",
    "operator.canarySeconds": "60",
    "operator.taintSeconds": "600",
    "certificates.mode": "cert-manager",
    "certificates.issuerRef": "{name: company, kind: ClusterIssuer}",
    "certificates.duration": "24h",
    "operator.brokerCredentials": "true",
    "adapter.maxUnavailable": "50%",
    "adapter.topologySpreadConstraints": "[]",
    "adapter.brokerLag": "false",
    "metricsApis.mode": '"off"',
    "keda.clientAuthoritySecret": "keda-clients",
    "keda.allowFrom": "[{namespaceSelector: {}}]",
    "chainedAdapter.service": "queues.others",
    "chainedAdapter.port": "6443",
    "chainedAdapter.authorityConfigMap": "queues-ca",
    "access.aggregateRoles": "false",
    "networkPolicy.enabled": "true",
}
"""For each value another one that is valid and must change what is rendered."""

CHAINED = {"chainedAdapter.service": "queues.others", "chainedAdapter.authorityConfigMap": "others-ca"}
NEEDS = {
    "adapter.maxUnavailable": {"adapter.replicas": "2"},
    **{
        f"webhook.{key}": {"webhook.enabled": "true"}
        for key in yaml.safe_load((CHART / "values.yaml").read_text())["webhook"]
        if key != "enabled"
    },
    "webhook.maxUnavailable": {"webhook.enabled": "true", "webhook.replicas": "2"},
    "keda.clientAuthoritySecret": {"metricsApis.mode": "keda"},
    "keda.allowFrom": {"metricsApis.mode": "keda"},
    "chainedAdapter.service": {"chainedAdapter.authorityConfigMap": "queues-ca"},
    "chainedAdapter.port": CHAINED,
    "chainedAdapter.authorityConfigMap": CHAINED,
    "certificates.issuerRef": {"certificates.mode": "cert-manager"},
    "certificates.duration": {"certificates.mode": "cert-manager"},
}
"""Values that act only along with others."""


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value and not OPAQUE.search(path):
            yield from leaves(value, f"{path}.")
        else:
            yield path


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    return render()


@pytest.fixture(scope="module")
def everything() -> list[dict[str, Any]]:
    """What the chart makes with all its options on."""
    return render(values=EVERYTHING)


def test_both_helm_versions_render_the_same() -> None:
    values = "{adapter: {replicas: 2, podLabels: {a: b}}, networkPolicy: {enabled: true}}"
    assert render(major=3, values=values) == render(major=4, values=values)


def test_every_object_has_a_kind_a_name_and_the_namespace_it_belongs_in(
    everything: list[dict[str, Any]],
) -> None:
    for item in everything:
        namespace = item["metadata"].get("namespace")
        name = item["metadata"]["name"]
        if item["kind"] in CLUSTER_SCOPED:
            assert namespace is None, name
        elif name == "eventengine-adapter-authentication-reader":
            assert namespace == "kube-system"
        else:
            assert namespace == well_known.SYSTEM_NAMESPACE, name


def test_every_object_but_the_definition_carries_its_component_and_the_release(
    everything: list[dict[str, Any]],
) -> None:
    for item in everything:
        if item["kind"] != "CustomResourceDefinition":
            labels = item["metadata"]["labels"]
            assert labels["app.kubernetes.io/component"] in {
                "operator",
                "operator-cleanup",
                "adapter",
                "webhook",
                "access",
            }
            assert labels["app.kubernetes.io/instance"] == "eventengine"


def test_chart_makes_neither_certificates_nor_api_services(everything: list[dict[str, Any]]) -> None:
    assert {item["kind"] for item in everything}.isdisjoint({"Secret", "APIService"})


def test_every_pod_meets_the_restricted_standard(everything: list[dict[str, Any]]) -> None:
    assert set(pods(everything)) == {
        "eventengine-operator",
        "eventengine-adapter",
        "eventengine-webhook",
        "eventengine-operator-cleanup",
    }
    for owner, pod in pods(everything).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, owner
        assert spec["securityContext"]["runAsUser"] == 65532, owner
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), owner
        assert all(set(volume) <= {"name", "emptyDir", "secret"} for volume in spec["volumes"]), owner
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, owner
            assert context["readOnlyRootFilesystem"] is True, owner
            assert context["capabilities"] == {"drop": ["ALL"]}, owner
            assert set(container["resources"]) == {"requests", "limits"}, owner


def test_components_ask_for_no_more_than_a_fifth_of_a_core(objects: list[dict[str, Any]]) -> None:
    for owner, pod in pods(objects).items():
        millis = [
            parse_quantity_millis(container["resources"]["requests"]["cpu"])
            for container in pod["spec"]["containers"]
        ]
        assert sum(millis) <= 200, owner


def test_operator_understands_every_setting_it_is_given() -> None:
    values = {
        "engine.image.tag": "9.9.9",
        "operator.watchNamespaces": "[red, blue]",
        "operator.logLevel": "warning",
        "operator.followSecrets": "false",
        "operator.canarySeconds": "60",
        "operator.taintSeconds": "600",
        "certificates.mode": "existing",
        "metricsApis.mode": "custom-only",
        "webhook.enabled": "true",
    }
    settings = read_settings(environment(render(values=merged(values)), "eventengine-operator"))
    assert settings.default_image == "eventengine/engine:9.9.9"
    assert settings.watch_namespaces == ("blue", "red")
    assert settings.log_level == "WARNING"
    assert settings.metrics_mode == "custom-only"
    assert settings.follow_secrets is False
    assert settings.canary_seconds == 60
    assert settings.taint_seconds == 600
    assert settings.certificates == "existing"
    assert settings.webhook is True
    assert settings.deployment == "eventengine-operator"
    assert settings.namespace == settings.identity == "from-the-pod"


def test_adapter_understands_every_setting_it_is_given(objects: list[dict[str, Any]]) -> None:
    settings = adapter_settings(
        environment(render(values=nested("adapter.logLevel", "warning")), "eventengine-adapter")
    )
    (container,) = pods(objects)["eventengine-adapter"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings.log_level == "warning"
    assert str(settings.certificate_folder) == mounts["certificate"]
    assert {"https": settings.listen.port, "telemetry": settings.telemetry_listen.port} == ports


def test_webhook_is_asked_about_exactly_the_namespaces_that_are_served_and_never_about_scaling() -> None:
    values = {
        "webhook.enabled": "true",
        "operator.watchNamespaces": "[red, blue]",
        "webhook.failurePolicy": "Fail",
    }
    rendered = render(values=merged(values))
    (asked,) = named(rendered, "ValidatingWebhookConfiguration", well_known.WEBHOOK_CONFIGURATION)["webhooks"]
    assert asked["name"] == well_known.WEBHOOK
    assert [rule["resources"] for rule in asked["rules"]] == [[well_known.PLURAL]]
    (selected,) = asked["namespaceSelector"]["matchExpressions"]
    assert selected["values"] == ["red", "blue"]
    assert asked["failurePolicy"] == "Fail"
    assert "caBundle" not in asked["clientConfig"], "which the operator keeps"
    place = asked["clientConfig"]["service"]
    service = named(rendered, "Service", well_known.WEBHOOK_SERVICE)["spec"]
    assert (place["name"], place["port"]) == (well_known.WEBHOOK_SERVICE, service["ports"][0]["port"])
    assert place["path"] == WEBHOOK_PATH
    bound = [
        item for item in rendered if item["kind"] == "RoleBinding" and "webhook" in item["metadata"]["name"]
    ]
    assert {item["metadata"]["namespace"] for item in bound} == {"red", "blue"}


def test_webhook_understands_every_setting_it_is_given() -> None:
    rendered = render(values=merged({"webhook.enabled": "true", "webhook.logLevel": "warning"}))
    settings = read_settings(environment(rendered, "eventengine-webhook"))
    (container,) = pods(rendered)["eventengine-webhook"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert container["args"] == ["webhook"]
    assert settings.log_level == "WARNING"
    assert settings.webhook_certificates == mounts["certificate"]
    assert {"https": settings.webhook_port, "http": settings.listen_port} == ports
    grace_seconds = pods(rendered)["eventengine-webhook"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_seconds >= DRAIN_SECONDS + SHUTDOWN_SECONDS + 10


@pytest.fixture(scope="module")
def with_keda() -> list[dict[str, Any]]:
    return render(values=nested("metricsApis.mode", "keda"))


def test_keda_is_served_in_its_mode_alone(
    objects: list[dict[str, Any]], with_keda: list[dict[str, Any]]
) -> None:
    assert adapter_settings(environment(objects, "eventengine-adapter")).keda_listen is None
    listen = adapter_settings(environment(with_keda, "eventengine-adapter")).keda_listen
    assert listen is not None
    assert listen.port == well_known.PORT_KEDA_SCALER
    (container,) = pods(with_keda)["eventengine-adapter"]["spec"]["containers"]
    assert {"name": "keda", "containerPort": listen.port} in container["ports"]
    ports = {
        port["name"]: port for port in named(with_keda, "Service", "eventengine-adapter")["spec"]["ports"]
    }
    assert (ports["keda"]["port"], ports["keda"]["targetPort"]) == (listen.port, "keda")


def test_who_may_ask_for_keda_is_either_the_networks_or_an_authoritys_say(
    with_keda: list[dict[str, Any]],
) -> None:
    policy = named(with_keda, "NetworkPolicy", "eventengine-adapter")
    (rule,) = [rule for rule in policy["spec"]["ingress"] if rule["ports"][0]["port"] == 9095]
    assert rule["from"] == VALUES["keda"]["allowFrom"]

    certified = render(
        values=merged({"metricsApis.mode": "keda", "keda.clientAuthoritySecret": "keda-clients"})
    )
    assert not [item for item in certified if item["kind"] == "NetworkPolicy"]
    settings = adapter_settings(environment(certified, "eventengine-adapter"))
    spec = pods(certified)["eventengine-adapter"]["spec"]
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "keda-clients"]
    (volume,) = [v for v in spec["volumes"] if v["name"] == "keda-clients"]
    assert (
        str(settings.keda_client_authority) == f"{mount['mountPath']}/{volume['secret']['items'][0]['path']}"
    )
    assert volume["secret"]["secretName"] == "keda-clients"


def test_another_adapter_is_asked_with_rights_that_nobody_has_without_one(
    objects: list[dict[str, Any]],
) -> None:
    chained = render(values=merged(CHAINED))
    settings = adapter_settings(environment(chained, "eventengine-adapter"))
    spec = pods(chained)["eventengine-adapter"]["spec"]
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "chained-authority"]
    (volume,) = [v for v in spec["volumes"] if v["name"] == "chained-authority"]
    assert settings.chained_adapter == "https://queues.others.svc:443"
    assert (
        str(settings.chained_authority) == f"{mount['mountPath']}/{volume['configMap']['items'][0]['path']}"
    )
    assert volume["configMap"]["name"] == "others-ca"
    role = "ClusterRole eventengine-adapter-chained"
    assert [rule for name, rule in rules(chained) if name == role] == [
        {"apiGroups": ["external.metrics.k8s.io"], "resources": ["*"], "verbs": ["get", "list"]}
    ]
    assert not [name for name, _ in rules(objects) if name == role]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"chainedAdapter.service": "queues.others"}, "name the ConfigMap with the ca.crt"),
        (CHAINED | {"metricsApis.mode": "keda"}, "another adapter serves external.metrics.k8s.io"),
    ],
)
def test_another_adapter_that_could_not_be_asked_is_refused(values: dict[str, str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        template(values=merged(values))


def test_adapter_has_the_time_to_drain_before_it_is_killed(objects: list[dict[str, Any]]) -> None:
    grace_seconds = pods(objects)["eventengine-adapter"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_seconds >= adapter_settings({}).drain_seconds + 10


def test_selectors_match_their_pods_and_carry_nothing_that_changes(everything: list[dict[str, Any]]) -> None:
    for item in everything:
        if item["kind"] == "Deployment":
            selector = item["spec"]["selector"]["matchLabels"]
            assert set(selector) == {"app.kubernetes.io/name", "app.kubernetes.io/component"}
            assert selector.items() <= item["spec"]["template"]["metadata"]["labels"].items()
    adapter = named(everything, "Deployment", "eventengine-adapter")["spec"]["selector"]["matchLabels"]
    assert named(everything, "Service", well_known.ADAPTER_SERVICE)["spec"]["selector"] == adapter
    webhook = named(everything, "Deployment", "eventengine-webhook")["spec"]["selector"]["matchLabels"]
    assert named(everything, "Service", well_known.WEBHOOK_SERVICE)["spec"]["selector"] == webhook
    budget = named(everything, "PodDisruptionBudget", "eventengine-adapter")
    assert budget["spec"]["selector"]["matchLabels"] == adapter
    for constraint in pods(everything)["eventengine-adapter"]["spec"]["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"] == adapter


def test_a_users_labels_cannot_break_the_selector() -> None:
    label = "{app.kubernetes.io/component: other, team: platform}"
    deployment = named(render(values=nested("adapter.podLabels", label)), "Deployment", "eventengine-adapter")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "adapter"
    assert labels["team"] == "platform"


def test_adapter_is_replaced_without_a_gap(objects: list[dict[str, Any]]) -> None:
    strategy = named(objects, "Deployment", "eventengine-adapter")["spec"]["strategy"]
    assert strategy == {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_disruption_budget_exists_only_where_it_cannot_block_a_drain(
    objects: list[dict[str, Any]], everything: list[dict[str, Any]]
) -> None:
    assert "PodDisruptionBudget" not in {item["kind"] for item in objects}
    budget = named(everything, "PodDisruptionBudget", "eventengine-adapter")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_names_and_ports_are_those_of_the_contract(objects: list[dict[str, Any]]) -> None:
    service = named(objects, "Service", well_known.ADAPTER_SERVICE)["spec"]
    adapter = pods(objects)["eventengine-adapter"]["spec"]
    operator = pods(objects)["eventengine-operator"]["spec"]
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(443, "https")]
    assert adapter["containers"][0]["ports"][0] == {"name": "https", "containerPort": well_known.PORT_ADAPTER}
    assert operator["containers"][0]["ports"] == [{"name": "http", "containerPort": well_known.PORT_OPERATOR}]
    (certificate,) = [volume["secret"] for volume in adapter["volumes"] if "secret" in volume]
    assert certificate["secretName"] == well_known.ADAPTER_TLS_SECRET
    leases = [rule for _, rule in rules(objects) if "leases" in rule["resources"] and "resourceNames" in rule]
    assert [rule["resourceNames"] for rule in leases] == [[well_known.OPERATOR_LEASE]]


def test_priority_of_headroom_has_the_name_that_engines_ask_for(objects: list[dict[str, Any]]) -> None:
    (priority,) = [item for item in objects if item["kind"] == "PriorityClass"]
    assert priority["metadata"]["name"] == well_known.HEADROOM_PRIORITY_CLASS
    assert priority["value"] == -10, "below, Cluster Autoscaler makes no nodes for them"


def test_cleanup_runs_before_the_release_goes(objects: list[dict[str, Any]]) -> None:
    job = named(objects, "Job", "eventengine-operator-cleanup")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["cleanup"]


def test_definition_is_kept_over_an_uninstall_unless_told_otherwise(objects: list[dict[str, Any]]) -> None:
    name = f"{well_known.PLURAL}.{well_known.API_GROUP}"
    kept = named(objects, "CustomResourceDefinition", name)["metadata"]["annotations"]
    assert kept == {"helm.sh/resource-policy": "keep"}
    dropped = named(render(values=nested("crds.keep", "false")), "CustomResourceDefinition", name)
    assert "annotations" not in dropped["metadata"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("{}", "eventengine/adapter:0.1.0"),
        ("{registry: registry.example:5000}", "registry.example:5000/eventengine/adapter:0.1.0"),
        ("{repository: registry.example:5000/ee/adapter}", "registry.example:5000/ee/adapter:0.1.0"),
        ("{tag: 1.2.3}", "eventengine/adapter:1.2.3"),
        (f"{{tag: 1.2.3@sha256:{'0' * 64}}}", f"eventengine/adapter:1.2.3@sha256:{'0' * 64}"),
    ],
)
def test_image_is_registry_repository_and_tag(image: str, expected: str) -> None:
    rendered = render(values=nested("adapter.image", image))
    assert pods(rendered)["eventengine-adapter"]["spec"]["containers"][0]["image"] == expected


def test_chart_and_packages_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    versions = {
        tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]["version"]
        for part in ("contract", "operator", "adapter", "engine")
    }
    assert versions == {chart["version"]} == {chart["appVersion"]}


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ("{operatr: {}}", "operatr"),
        ("{operator: {replica: 2}}", "replica"),
        ("{adapter: {image: {name: x}}}", "name"),
        ("{adapter: {image: {repository: 'x:1'}}}", "repository"),
        ("{adapter: {resources: {request: {}}}}", "request"),
        ("{crds: {kep: true}}", "kep"),
        ("{metricsApis: {mode: on}}", "mode"),
        ("{adapter: {replicas: 0}}", "replicas"),
        ("{certificates: {mode: mine}}", "mode"),
        ("{certificates: {duration: long}}", "duration"),
        ("{operator: {canarySeconds: -1}}", "canarySeconds"),
        ("{adapter: {replicas: '2'}}", "replicas"),
        ("{operator: {logLevel: verbose}}", "logLevel"),
        ("{operator: {resources: {requests: {cpu: lots}}}}", "cpu"),
        ("{networkPolicy: {enabled: 'yes'}}", "enabled"),
        ("{webhook: {failurePolicy: Warn}}", "failurePolicy"),
        ("{webhook: {timeoutSeconds: 2}}", "timeoutSeconds"),
    ],
)
@pytest.mark.parametrize("major", [3, 4])
def test_unknown_and_wrong_values_are_refused_by_name(major: int, values: str, path: str) -> None:
    with pytest.raises(CommandError) as refusal:
        template(major=major, values=values)
    assert "schema" in str(refusal.value)
    assert path in str(refusal.value)


def test_every_value_has_an_alternative_here() -> None:
    assert set(leaves(VALUES)) == set(ALTERNATIVES)


@pytest.mark.parametrize("path", ALTERNATIVES)
def test_every_value_changes_what_is_rendered(path: str) -> None:
    needed = NEEDS.get(path, {})
    assert template(values=merged(needed)) != template(values=merged({**needed, path: ALTERNATIVES[path]}))


def test_every_value_is_explained_by_a_comment_right_above_it() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    keys = {path.rsplit(".", 1)[-1] for path in leaves(VALUES)}
    unexplained = [
        line.strip()
        for above, line in zip(["", *lines], lines, strict=False)
        if line.partition(":")[0].strip() in keys and not above.strip().startswith("#")
    ]
    assert not unexplained
