"""A kubeconfig is complete by itself, and its certificates say who may do what."""

from __future__ import annotations

import base64
import ipaddress
import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from eventengine_harness import certificates, kubeconfigs
from eventengine_harness.certificates import ControlPlaneCertificates


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ControlPlaneCertificates:
    return certificates.create(
        tmp_path_factory.mktemp("certificates"),
        api_server_hosts=["10.99.0.1", "10.96.0.1"],
        node_name="node",
        node_address="10.99.0.1",
    )


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def subject(certificate: x509.Certificate) -> dict[str, str]:
    names = {NameOID.COMMON_NAME: "name", NameOID.ORGANIZATION_NAME: "group"}
    return {names[part.oid]: str(part.value) for part in certificate.subject}


def test_it_holds_server_authority_and_client(made: ControlPlaneCertificates, tmp_path: Path) -> None:
    path = kubeconfigs.write(
        tmp_path / "config", "https://10.99.0.1:6443", made.authority.certificate, made.admin
    )
    content = yaml.safe_load(path.read_text())
    cluster = content["clusters"][0]["cluster"]
    assert cluster["server"] == "https://10.99.0.1:6443"
    authority = base64.b64decode(cluster["certificate-authority-data"])
    assert authority == made.authority.certificate.read_bytes()
    client = base64.b64decode(content["users"][0]["user"]["client-certificate-data"])
    assert subject(x509.load_pem_x509_certificate(client)) == {
        "name": "kubernetes-admin",
        "group": "system:masters",
    }
    assert content["current-context"] == content["contexts"][0]["name"]


def test_only_its_owner_can_read_it_and_the_keys(made: ControlPlaneCertificates, tmp_path: Path) -> None:
    path = kubeconfigs.write(tmp_path / "config", "https://x", made.authority.certificate, made.admin)
    for secret in (path, made.admin.key, made.authority.key, made.service_account.key):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_the_api_server_is_known_by_every_name_it_is_called(
    made: ControlPlaneCertificates,
) -> None:
    names = load(made.api_server.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert {"kubernetes.default.svc", "localhost"} <= set(names.value.get_values_for_type(x509.DNSName))
    assert ipaddress.ip_address("10.96.0.1") in names.value.get_values_for_type(x509.IPAddress)


def test_the_kubelet_is_the_node_that_the_node_authorizer_knows(
    made: ControlPlaneCertificates,
) -> None:
    certificate = load(made.kubelet.certificate)
    assert subject(certificate) == {"name": "system:node:node", "group": "system:nodes"}
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


def test_the_front_proxy_is_signed_by_its_own_authority_and_not_by_the_cluster(
    made: ControlPlaneCertificates,
) -> None:
    client = load(made.front_proxy_client.certificate)
    client.verify_directly_issued_by(load(made.front_proxy_authority.certificate))
    with pytest.raises(ValueError, match="does not match"):
        client.verify_directly_issued_by(load(made.authority.certificate))
