"""`certificates.mode: cert-manager` from end to end: Certificate, Secret, caBundle, and what is served with it.

cert-manager is real: its CustomResourceDefinitions and those of its controllers that issue from an authority. The
chart's Certificates and Issuers go to an API server that knows them, and only cert-manager writes the Secrets.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
import yaml
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from eventengine_contract.well_known import ADAPTER_TLS_SECRET, WEBHOOK_CONFIGURATION, WEBHOOK_TLS_SECRET
from eventengine_harness import builds
from eventengine_harness.accesses import KubernetesAccess, condition_of
from eventengine_harness.waiting import wait_for

from .operators import OperatorPlane
from .webhooks import DENIED, TWINS, Stage, reviewing

SYSTEM = "eventengine-cert-manager"
EXTERNAL = "v1beta1.external.metrics.k8s.io"
API_SERVICES = (EXTERNAL, "v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io")
SECONDS = 60.0


@pytest.fixture(scope="module")
def cert_manager(operator_plane: OperatorPlane) -> Iterator[KubernetesAccess]:
    access, plane = operator_plane.access, operator_plane.control_plane
    definitions = sorted(builds.cert_manager_definitions().glob("*.yaml"))
    for path in definitions:
        access.apply(path.read_text())
    names = [yaml.safe_load(path.read_text())["metadata"]["name"] for path in definitions]
    for name in names:
        access.wait_for_condition("crd", name, "Established")
    process = plane.launch("cert-manager", [builds.cert_manager()], {"KUBECONFIG": str(plane.kubeconfig)})
    try:
        yield access
    finally:
        process.stop()
        for name in names:
            access.delete("crd", name, wait=False)


@pytest.fixture(scope="module")
def stage(
    cert_manager: KubernetesAccess, operator_plane: OperatorPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    with reviewing(
        operator_plane,
        SYSTEM,
        tmp_path_factory.mktemp("cert-manager"),
        "certificates.mode=cert-manager",
        templates=("certificates/cert-manager",),
        certificates="cert-manager",
        metrics_mode="auto",
    ) as made:
        yield made
    for name in API_SERVICES:
        cert_manager.delete("apiservice", name)


def secret(access: KubernetesAccess, name: str) -> dict[str, bytes]:
    found = access.get("secret", name, SYSTEM)
    return {key: base64.b64decode(value) for key, value in found["data"].items()} if found else {}


def verify(entries: dict[str, bytes], bundle: bytes, host: str) -> None:
    """As a strict TLS client would that trusts the bundle."""
    store = Store(x509.load_pem_x509_certificates(bundle))
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName(host))
    verifier.verify(x509.load_pem_x509_certificate(entries["tls.crt"]), [])


def test_webhook_is_believed_by_the_certificate_that_cert_manager_issued(
    stage: Stage, cert_manager: KubernetesAccess
) -> None:
    assert DENIED in stage.declare(engine=TWINS)[1]
    entries = secret(cert_manager, WEBHOOK_TLS_SECRET)
    configuration = cert_manager.get("validatingwebhookconfiguration", WEBHOOK_CONFIGURATION)
    assert configuration is not None
    (asked,) = configuration["webhooks"]
    bundle = base64.b64decode(asked["clientConfig"]["caBundle"])
    assert x509.load_pem_x509_certificates(bundle) == x509.load_pem_x509_certificates(entries["ca.crt"])
    verify(entries, bundle, f"eventengine-webhook.{SYSTEM}.svc")


def test_api_server_is_told_to_trust_the_adapter_by_it_and_the_operator_writes_no_secret(
    stage: Stage, cert_manager: KubernetesAccess
) -> None:
    service = cert_manager.wait_until(
        "apiservice", EXTERNAL, lambda _: True, "exists", deadline_seconds=SECONDS
    )
    entries = secret(cert_manager, ADAPTER_TLS_SECRET)
    bundle = base64.b64decode(service["spec"]["caBundle"])
    for host in (f"eventengine-adapter.{SYSTEM}.svc", f"eventengine-adapter.{SYSTEM}.svc.cluster.local"):
        verify(entries, bundle, host)
    secrets = {item["metadata"]["name"] for item in cert_manager.list("secrets", SYSTEM)}
    assert secrets == {ADAPTER_TLS_SECRET, WEBHOOK_TLS_SECRET, "eventengine-adapter-authority"}
    certificates = cert_manager.list("certificates.cert-manager.io", SYSTEM)
    assert {item["metadata"]["name"]: condition_of(item, "Ready").get("status") for item in certificates} == {
        "eventengine-adapter": "True",
        "eventengine-adapter-authority": "True",
        "eventengine-webhook": "True",
    }


def test_certificate_that_is_lost_is_issued_anew_and_believed_again(
    stage: Stage, cert_manager: KubernetesAccess
) -> None:
    before = secret(cert_manager, ADAPTER_TLS_SECRET)
    cert_manager.delete("secret", ADAPTER_TLS_SECRET, SYSTEM)
    after = wait_for(
        lambda: found if (found := secret(cert_manager, ADAPTER_TLS_SECRET)).get("tls.crt") else None,
        "another certificate",
        SECONDS,
    )
    assert after["tls.crt"] != before["tls.crt"]
    found = cert_manager.get("apiservice", EXTERNAL)
    assert found is not None
    verify(after, base64.b64decode(found["spec"]["caBundle"]), f"eventengine-adapter.{SYSTEM}.svc")
