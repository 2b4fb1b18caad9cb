"""The adapter's certificates and APIServices, which the operator makes, rotates and removes."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from eventengine_harness.accesses import KubernetesAccess, condition_of
from eventengine_harness.waiting import wait_for
from eventengine_operator.certificates.issuing import KeyPair, issue_authority, issue_serving

from .operators import PATIENT, OperatorPlane, OperatorProcess

SECONDS = 30.0
HASTY = {"lease_seconds": "3", "renew_deadline_seconds": "2"}
"""A clean-up waits until a leader would have noticed that its Lease was taken."""
CUSTOM = ("v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io")
EXTERNAL = "v1beta1.external.metrics.k8s.io"

Object = dict[str, Any]


@dataclass
class Installation:
    """An installation of the operator that serves one namespace."""

    access: KubernetesAccess
    namespace: str
    engines: str
    kubeconfig: Path
    log: Path

    def operator(self, **settings: str) -> OperatorProcess:
        return OperatorProcess(
            self.kubeconfig,
            self.namespace,
            self.log,
            watch_namespaces=self.engines,
            follow_secrets="false",
            metrics_resync_seconds="1",
            **{**PATIENT, **settings},
        )

    def secret(self, name: str) -> dict[str, bytes]:
        found = self.access.get("secret", name, self.namespace)
        return {key: base64.b64decode(value) for key, value in found["data"].items()} if found else {}

    def until_secret(self, name: str) -> dict[str, bytes]:
        return wait_for(lambda: self.secret(name) or None, f"secret {name}", SECONDS)

    def api_service(self, name: str) -> Object | None:
        return self.access.get("apiservice", name)

    def until_api_service(self, name: str) -> Object:
        return self.access.wait_until("apiservice", name, lambda _: True, "exists", deadline_seconds=SECONDS)

    def bundle_of(self, name: str) -> bytes:
        return base64.b64decode(self.until_api_service(name)["spec"].get("caBundle", ""))

    def engine_condition(self, kind: str) -> Object:
        found = self.access.get("ee", "hunt", self.engines)
        return condition_of(found, kind) if found else {}

    def declare_engine(self) -> None:
        document = {
            "apiVersion": "eventengine.dev/v1alpha1",
            "kind": "EventEngine",
            "metadata": {"name": "hunt", "namespace": self.engines},
            "spec": {
                "pod": {"cpus": "100m", "memory": "64Mi", "pinning": "Off"},
                "autoscaling": {"metrics": [{"name": "consumer_lag", "target": {"averageValue": 5}}]},
            },
        }
        self.access.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(document))


@contextmanager
def installed(plane: OperatorPlane, folder: Path, *values: str) -> Iterator[Installation]:
    namespace, engines = f"system-{secrets.token_hex(3)}", f"engines-{secrets.token_hex(3)}"
    access = plane.access
    access.kubectl("create", "namespace", engines)
    values = (f"operator.watchNamespaces={{{engines}}}", "operator.followSecrets=false", *values)
    kubeconfig = plane.install_rights(namespace, *values)
    yield Installation(access, namespace, engines, kubeconfig, folder / "operator.log")
    for name in (*CUSTOM, EXTERNAL):
        access.delete("apiservice", name)
    for name in (engines, namespace):
        access.delete("namespace", name, wait=False)


@pytest.fixture
def installation(operator_plane: OperatorPlane, tmp_path: Path) -> Iterator[Installation]:
    with installed(operator_plane, tmp_path) as made:
        yield made


def verify(serving: bytes, bundle: bytes, name: str) -> None:
    """As a strict TLS client would."""
    store = Store(x509.load_pem_x509_certificates(bundle))
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName(name))
    verifier.verify(x509.load_pem_x509_certificate(serving), [])


def test_adapter_gets_certificate_and_place(installation: Installation) -> None:
    with installation.operator() as operator:
        operator.wait_leading()
        services = [installation.until_api_service(name) for name in (*CUSTOM, EXTERNAL)]
        serving = installation.until_secret("eventengine-adapter-tls")
        for service in services:
            assert service["spec"]["service"] == {
                "namespace": installation.namespace,
                "name": "eventengine-adapter",
                "port": 443,
            }
            assert base64.b64decode(service["spec"]["caBundle"]) == serving["ca.crt"]
        assert [service["spec"]["versionPriority"] for service in services] == [100, 200, 100]
        host = f"eventengine-adapter.{installation.namespace}.svc"
        for name in (host, f"{host}.cluster.local"):
            verify(serving["tls.crt"], serving["ca.crt"], name)
        assert b"PRIVATE KEY" not in installation.log.read_bytes()


def test_second_operator_keeps_the_certificates_of_the_first(installation: Installation) -> None:
    with installation.operator() as operator:
        operator.wait_leading()
        installation.until_api_service(EXTERNAL)
        before = installation.until_secret("eventengine-adapter-tls")
        assert operator.stop() == 0
    with installation.operator() as operator:
        operator.wait_leading()
        wait_for(
            lambda: operator.metric(
                'eventengine_operator_api_calls_total{code="200",resource="secrets",verb="get"'
            ),
            "a look at the secrets",
            SECONDS,
        )
        assert installation.secret("eventengine-adapter-tls") == before


def test_drift_of_an_api_service_is_repaired(installation: Installation) -> None:
    with installation.operator() as operator:
        operator.wait_leading()
        before = installation.bundle_of(EXTERNAL)
        installation.access.kubectl(
            "patch",
            "apiservice",
            EXTERNAL,
            "--type=merge",
            "--patch",
            json.dumps({"spec": {"versionPriority": 7}}),
        )
        installation.access.wait_until(
            "apiservice", EXTERNAL, lambda item: item["spec"]["versionPriority"] == 100, "repaired"
        )
        installation.access.kubectl("delete", "apiservice", EXTERNAL)
        assert installation.bundle_of(EXTERNAL) == before


def test_rotation_never_leaves_a_certificate_without_its_ca(installation: Installation) -> None:
    with installation.operator(authority_lifetime="36s", certificate_lifetime="18s") as operator:
        operator.wait_leading()
        first = installation.until_secret("eventengine-adapter-ca")["tls.crt"]
        seen_bundles, seen_serving = set(), set()
        host = f"eventengine-adapter.{installation.namespace}.svc"

        def is_rotated() -> bool:
            # The bundle is read after the certificate: it may only know more by then.
            serving = installation.until_secret("eventengine-adapter-tls")
            bundle = installation.bundle_of(EXTERNAL)
            verify(serving["tls.crt"], bundle, host)
            seen_serving.add(serving["tls.crt"])
            seen_bundles.add(bundle)
            authority = installation.until_secret("eventengine-adapter-ca")["tls.crt"]
            issuer = x509.load_pem_x509_certificate(authority).subject
            certificate = x509.load_pem_x509_certificate(serving["tls.crt"])
            return authority != first and certificate.issuer == issuer

        wait_for(is_rotated, "CA and certificate renewed", 90)
        assert any(bundle.count(b"BEGIN CERTIFICATE") == 2 for bundle in seen_bundles), "both CAs for a while"
        assert len(seen_serving) >= 2


def test_external_api_of_another_is_named_and_not_touched(installation: Installation) -> None:
    theirs = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": EXTERNAL},
        "spec": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"namespace": "keda", "name": "keda-operator-metrics-apiserver", "port": 443},
        },
    }
    installation.access.apply(theirs)
    with installation.operator() as operator:
        operator.wait_leading()
        installation.declare_engine()
        for name in CUSTOM:
            installation.until_api_service(name)
        wait_for(
            lambda: installation.engine_condition("MetricsAvailable").get("reason") == "Foreign",
            "the condition",
            SECONDS,
            last_seen=operator.log,
        )
        message = installation.engine_condition("MetricsAvailable")["message"]
        assert "keda/keda-operator-metrics-apiserver" in message
        found = installation.api_service(EXTERNAL)
        assert found is not None
        assert found["spec"]["service"]["namespace"] == "keda"
        installation.access.delete("apiservice", EXTERNAL)
        assert (
            installation.until_api_service(EXTERNAL)["spec"]["service"]["namespace"] == installation.namespace
        )


def test_custom_only_leaves_the_external_api_to_others(installation: Installation) -> None:
    with installation.operator() as operator:
        operator.wait_leading()
        installation.until_api_service(EXTERNAL)
        assert operator.stop() == 0
    with installation.operator(metrics_mode="custom-only") as operator:
        operator.wait_leading()
        installation.access.wait_until_gone("apiservice", EXTERNAL, deadline_seconds=SECONDS)
        assert installation.api_service(CUSTOM[0]) is not None


def provide(installation: Installation, authority: KeyPair) -> None:
    """Write the adapter's Secret as cert-manager, or a person, would."""
    names = (f"eventengine-adapter.{installation.namespace}.svc",)
    serving = issue_serving(authority, names, datetime.now(UTC), timedelta(hours=1))
    entries = {"ca.crt": authority.certificate, "tls.crt": serving.certificate, "tls.key": serving.key}
    installation.access.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": "eventengine-adapter-tls", "namespace": installation.namespace},
            "data": {name: base64.b64encode(value).decode() for name, value in entries.items()},
        }
    )


def test_certificates_of_others_are_read_and_never_written(
    operator_plane: OperatorPlane, tmp_path: Path
) -> None:
    first, second = (issue_authority(datetime.now(UTC), timedelta(hours=2)) for _ in range(2))
    with (
        installed(operator_plane, tmp_path, "certificates.mode=existing") as installation,
        installation.operator(certificates="existing") as operator,
    ):
        operator.wait_leading()
        installation.declare_engine()
        wait_for(
            lambda: (
                "it doesn't exist; create it"
                in installation.engine_condition("MetricsAvailable").get("message", "")
            ),
            "the missing Secret to be named",
            SECONDS,
            last_seen=operator.log,
        )
        assert installation.api_service(EXTERNAL) is None, "nobody is sent to a server that can't be trusted"
        provide(installation, first)
        assert installation.bundle_of(EXTERNAL) == first.certificate
        written = installation.secret("eventengine-adapter-tls")
        assert operator.metric("eventengine_operator_certificate_expiry_timestamp_seconds") > 0
        assert installation.secret("eventengine-adapter-tls") == written
        provide(installation, second)
        wait_for(
            lambda: installation.bundle_of(EXTERNAL) == second.certificate + first.certificate,
            "both CAs, until the adapter has the new certificate for sure",
            SECONDS,
        )
        assert installation.secret("eventengine-adapter-ca") == {}
        assert operator.stop() == 0
        log = installation.log.read_text()
        assert "PRIVATE KEY" not in log
        assert '" cannot ' not in log


def test_cleanup_removes_the_api_services_for_good_while_an_operator_runs(installation: Installation) -> None:
    with installation.operator(**HASTY) as operator:
        operator.wait_leading()
        installation.until_api_service(EXTERNAL)
        assert "deleted v1beta1.custom.metrics.k8s.io" in operator.run("cleanup")
        assert operator.wait_for_exit() == 1, "its lease was taken"
        operator.start()  # as the kubelet would
        operator.wait_ready()
        assert operator.metric("eventengine_operator_leader") == 0
        assert [name for name in (*CUSTOM, EXTERNAL) if installation.api_service(name)] == []


def test_secrets_and_lease_belong_to_the_operators_deployment(installation: Installation) -> None:
    labels = {"app": "operator"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "eventengine-operator", "namespace": installation.namespace},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "example.invalid/none:1"}]},
            },
        },
    }
    installation.access.apply(deployment)
    with installation.operator(deployment="eventengine-operator") as operator:
        operator.wait_leading()
        installation.until_secret("eventengine-adapter-tls")
        assert operator.stop() == 0
    installation.access.delete("deployment", "eventengine-operator", installation.namespace)
    for kind, name in (
        ("secret", "eventengine-adapter-ca"),
        ("secret", "eventengine-adapter-tls"),
        ("lease", "eventengine-operator"),
    ):
        installation.access.wait_until_gone(kind, name, namespace=installation.namespace)
