"""The chart on a real control plane: installed, upgraded and uninstalled by both Helms, and the rights it gives.

The operator runs here as a process with the service account that the chart makes, so that a right it lacks
is a failure and not a guess. There is no node: pods of the release are never started.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from eventengine_contract import well_known
from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.control_planes import free_port
from eventengine_harness.waiting import wait_for
from eventengine_operator.certificates.issuing import issue_authority
from eventengine_operator.handlers.webhook_configuration import trust
from eventengine_operator.reconciling.replicas import FIELD_MANAGER

CHART = Path(__file__).resolve().parents[2] / "charts" / "eventengine"
CRD = f"{well_known.PLURAL}.{well_known.API_GROUP}"
API_SERVICES = (
    "v1beta1.external.metrics.k8s.io",
    "v1beta1.custom.metrics.k8s.io",
    "v1beta2.custom.metrics.k8s.io",
)
START_SECONDS_MAX = 60.0
ENGINE = {
    "apiVersion": f"{well_known.API_GROUP}/{well_known.API_VERSION}",
    "kind": well_known.KIND,
    "metadata": {"name": "rights"},
    "spec": {
        "pod": {"pinning": "Off", "cpus": "100m"},
        "autoscaling": {
            "driver": "hpa",
            "minReplicas": 2,
            "maxReplicas": 5,
            "metrics": [
                {"name": "kafka_consumer_lag", "source": "External", "target": {"averageValue": "500"}}
            ],
        },
    },
}


def install(access: KubernetesAccess, namespace: str, major: int, *settings: str) -> None:
    # A definition that an earlier test left behind, as crds.keep wants it, is taken over.
    access.helm(
        *("upgrade", "--install", "eventengine", CHART, "--namespace", namespace, "--take-ownership"),
        *settings,
        major=major,
    )


def uninstall(access: KubernetesAccess, namespace: str, major: int) -> None:
    # The hook's Job needs a node; what it does is tested below.
    access.helm("uninstall", "eventengine", "--namespace", namespace, "--no-hooks", major=major)


def labelled(access: KubernetesAccess, kinds: str) -> set[str]:
    """Kind/name of everything that carries the release's label."""
    found = access.list(kinds, selector="app.kubernetes.io/part-of=eventengine")
    return {f"{item['kind']}/{item['metadata']['name']}" for item in found}


@pytest.mark.parametrize("major", [3, 4])
def test_release_is_installed_upgraded_and_uninstalled_without_a_trace_but_the_definition(
    access: KubernetesAccess, namespace: str, major: int
) -> None:
    kinds = "deployments,services,serviceaccounts,poddisruptionbudgets,roles,rolebindings"
    kinds += ",clusterroles,clusterrolebindings"
    install(access, namespace, major)
    assert {"Deployment/eventengine-operator", "Service/eventengine-adapter"} <= labelled(access, kinds)
    assert "PodDisruptionBudget/eventengine-adapter" not in labelled(access, kinds)
    install(access, namespace, major, "--set", "adapter.replicas=2", "--set", "networkPolicy.enabled=true")
    assert "PodDisruptionBudget/eventengine-adapter" in labelled(access, kinds)
    uninstall(access, namespace, major)
    wait_for(
        lambda: not labelled(access, f"{kinds},networkpolicies,jobs"), "the release's objects to go", 60.0
    )
    assert access.get("customresourcedefinition", CRD) is not None


@pytest.mark.parametrize("major", [3, 4])
def test_upgrade_takes_nothing_from_the_webhook_that_the_operator_wrote(
    access: KubernetesAccess, namespace: str, major: int
) -> None:
    on = ("--set", "webhook.enabled=true", "--set", f"operator.watchNamespaces={{{namespace}}}")
    install(access, namespace, major, *on)

    def asked() -> dict[str, Any]:
        found = access.get("validatingwebhookconfiguration", well_known.WEBHOOK_CONFIGURATION)
        assert found is not None
        (webhook,) = found["webhooks"]
        return dict(webhook)

    assert "caBundle" not in asked()["clientConfig"]
    manifest = trust(issue_authority(datetime.now(UTC), timedelta(hours=1)).certificate, {})
    del manifest["metadata"]["resourceVersion"]
    written = manifest["webhooks"][0]["clientConfig"]["caBundle"]
    access.kubectl(
        *("apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "--filename=-"),
        stdin=json.dumps(manifest),
    )
    install(access, namespace, major, *on, "--set", "webhook.timeoutSeconds=7")
    assert asked()["timeoutSeconds"] == 7
    assert asked()["clientConfig"]["caBundle"] == written
    uninstall(access, namespace, major)
    access.wait_until_gone("validatingwebhookconfiguration", well_known.WEBHOOK_CONFIGURATION)


@dataclass(frozen=True)
class InstalledOperator:
    """An operator that runs with the chart's settings and the chart's service account."""

    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "eventengine_operator", *arguments]

    def refusals(self) -> list[str]:
        """Lines of its log that tell of a right it lacks."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if "refused" in line or "forbidden" in line.lower()]


def rendered_settings(access: KubernetesAccess, namespace: str) -> dict[str, str]:
    deployment = access.get("deployment", "eventengine-operator", namespace)
    assert deployment is not None
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    fields = {"metadata.namespace": namespace, "metadata.name": "eventengine-operator-tested"}
    return {
        item["name"]: item["value"] if "value" in item else fields[item["valueFrom"]["fieldRef"]["fieldPath"]]
        for item in container["env"]
    }


def kubeconfig_of_service_account(access: KubernetesAccess, namespace: str, name: str, path: Path) -> Path:
    content: dict[str, Any] = yaml.safe_load(access.kubeconfig.read_text())
    token = access.kubectl("create", "token", name, f"--namespace={namespace}").strip()
    content["users"][0]["user"] = {"token": token}
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content))
    return path


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return False
    except OSError:
        return False


@pytest.fixture
def operator(access: KubernetesAccess, namespace: str, tmp_path: Path) -> Iterator[InstalledOperator]:
    install(access, namespace, 4)
    port = free_port()
    kubeconfig = kubeconfig_of_service_account(
        access, namespace, "eventengine-operator", tmp_path / "kubeconfig"
    )
    environment = {
        **os.environ,
        **rendered_settings(access, namespace),
        "KUBECONFIG": str(kubeconfig),
        "EVENTENGINE_OPERATOR_LISTEN_PORT": str(port),
    }
    log = tmp_path / "operator.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "eventengine_operator", "run"],
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(
            lambda: is_ready(port),
            "the operator to be ready",
            START_SECONDS_MAX,
            last_seen=lambda: log.read_text()[-2000:],
        )
        yield InstalledOperator(environment, log, process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)
        for name in API_SERVICES:
            access.delete("apiservice", name)
        uninstall(access, namespace, 4)


def test_operator_does_its_work_with_the_rights_of_the_chart(
    operator: InstalledOperator, access: KubernetesAccess, namespace: str
) -> None:
    access.apply(ENGINE, namespace=namespace)
    try:
        for kind, name in (
            ("configmap", well_known.config_map_name("rights")),
            ("service", "rights"),
            ("deployment", "rights"),
            ("horizontalpodautoscaler", "rights"),
            ("secret", well_known.ADAPTER_TLS_SECRET),
            ("secret", well_known.ADAPTER_CA_SECRET),
        ):
            access.wait_until(kind, name, lambda _: True, "exists", namespace=namespace)
        access.wait_for_condition(well_known.KIND, "rights", "SpecValid", namespace=namespace)
        access.wait_until(
            "deployment",
            "rights",
            lambda item: item["spec"]["replicas"] == 2,
            "first replicas",
            namespace=namespace,
        )
        for name in API_SERVICES:
            found = access.wait_until("apiservice", name, lambda _: True, "exists")
            assert found["spec"]["service"]["namespace"] == namespace
            assert found["spec"]["caBundle"]
        lease = access.get("lease", well_known.OPERATOR_LEASE, namespace)
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == "eventengine-operator-tested"
        assert operator.refusals() == []
    finally:
        access.delete(well_known.KIND, "rights", namespace)


def test_cleanup_removes_the_api_services_for_good_while_the_operator_still_runs(
    operator: InstalledOperator, access: KubernetesAccess
) -> None:
    for name in API_SERVICES:
        access.wait_until("apiservice", name, lambda _: True, "exists")
    subprocess.run(operator.command("cleanup"), env=operator.environment, check=True, timeout=60)
    assert [access.get("apiservice", name) for name in API_SERVICES] == [None, None, None]
    assert operator.process.wait(timeout=20) == 1, "an operator that lost its lease ends at once"
    assert [access.get("apiservice", name) for name in API_SERVICES] == [None, None, None]


def test_what_the_operator_made_in_its_namespace_goes_with_its_deployment(
    operator: InstalledOperator, access: KubernetesAccess, namespace: str
) -> None:
    made = [
        ("secret", well_known.ADAPTER_TLS_SECRET),
        ("secret", well_known.ADAPTER_CA_SECRET),
        ("lease", well_known.OPERATOR_LEASE),
    ]
    for kind, name in made:
        access.wait_until(kind, name, lambda _: True, "exists", namespace=namespace)
    operator.process.terminate()
    operator.process.wait(timeout=20)
    access.delete("deployment", "eventengine-operator", namespace)
    for kind, name in made:
        access.wait_until_gone(kind, name, namespace=namespace)


def is_allowed(access: KubernetesAccess, account: str, attributes: dict[str, str]) -> bool:
    """The API server's own answer."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": account, "resourceAttributes": attributes},
    }
    answer = access.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review))
    return bool(json.loads(answer)["status"]["allowed"])


@pytest.mark.parametrize(
    "attributes",
    [
        {"verb": "patch", "resource": "secrets", "name": "other"},
        {"verb": "delete", "resource": "secrets"},
        {"verb": "create", "resource": "secrets"},
        {"verb": "create", "resource": "pods"},
        {"verb": "create", "resource": "pods", "subresource": "exec"},
        {"verb": "get", "resource": "nodes"},
        {"verb": "update", "group": "eventengine.dev", "resource": "eventengines"},
        {"verb": "delete", "group": "eventengine.dev", "resource": "eventengines"},
        {"verb": "create", "group": "rbac.authorization.k8s.io", "resource": "clusterroles"},
        {"verb": "patch", "group": "apiregistration.k8s.io", "resource": "apiservices", "name": "v1.apps"},
        {"verb": "list", "group": "external.metrics.k8s.io", "resource": "consumer_lag"},
    ],
    ids=lambda attributes: " ".join(attributes.values()),
)
@pytest.mark.parametrize("component", ["operator", "adapter"])
def test_components_may_do_nothing_beyond_their_work(
    installed: str, access: KubernetesAccess, component: str, attributes: dict[str, str]
) -> None:
    account = f"system:serviceaccount:{installed}:eventengine-{component}"
    assert not is_allowed(access, account, {"namespace": installed, **attributes})


@pytest.mark.parametrize(("component", "may"), [("operator", True), ("adapter", False)])
def test_only_the_operator_may_delete_pods_since_it_collects_those_that_nodes_refused(
    installed: str, access: KubernetesAccess, component: str, may: bool
) -> None:
    account = f"system:serviceaccount:{installed}:eventengine-{component}"
    attributes = {"namespace": installed, "verb": "delete", "resource": "pods"}
    assert is_allowed(access, account, attributes) is may


@pytest.mark.parametrize(("component", "may"), [("operator", True), ("adapter", False)])
@pytest.mark.parametrize("verb", ["get", "list", "watch"])
def test_only_the_operator_may_read_secrets_since_it_follows_those_that_pods_mount(
    installed: str, access: KubernetesAccess, component: str, may: bool, verb: str
) -> None:
    account = f"system:serviceaccount:{installed}:eventengine-{component}"
    assert is_allowed(access, account, {"namespace": installed, "verb": verb, "resource": "secrets"}) is may


@pytest.mark.parametrize(
    "attributes",
    [
        {"verb": "list", "group": "external.metrics.k8s.io", "resource": "kafka_consumer_lag"},
        {"verb": "get", "group": "custom.metrics.k8s.io", "resource": "pods", "subresource": "consumer_lag"},
    ],
    ids=lambda attributes: " ".join(attributes.values()),
)
def test_autoscaling_controller_may_read_the_metrics_without_help_of_the_chart(
    access: KubernetesAccess, namespace: str, attributes: dict[str, str]
) -> None:
    account = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
    assert is_allowed(access, account, {"namespace": namespace, **attributes})


@pytest.fixture(scope="module")
def installed(access: KubernetesAccess) -> Iterator[str]:
    """The namespace of a release."""
    namespace = "test-rights-of-the-chart"
    access.kubectl("create", "namespace", namespace)
    install(access, namespace, 4)
    yield namespace
    uninstall(access, namespace, 4)
    access.delete("namespace", namespace, wait=False)
