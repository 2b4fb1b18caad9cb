"""The keys and certificates of a control plane, made afresh for each bring-up.

Two authorities, as Kubernetes wants them: the cluster's own (servers, clients,
kubelet) and the front proxy's, which lets an extension API server believe the
user names that the aggregator hands on. Elliptic keys, because they are made in
a millisecond. Nothing here is meant to outlive a test run.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY_DAYS = 30
# Clocks that differ a little must not make a fresh certificate "not yet valid".
BACKDATED_MINUTES = 5


@dataclass(frozen=True)
class KeyPair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """A certificate authority that can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    files: KeyPair

    @classmethod
    def create(cls, folder: Path, name: str) -> Authority:
        """Make an authority and write `<name>.crt` and `<name>.key`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key, _write(folder, name, certificate, key))

    def issue(
        self,
        folder: Path,
        file_name: str,
        *,
        common_name: str,
        organization: str | None = None,
        hosts: Iterable[str] = (),
    ) -> KeyPair:
        """Issue a client certificate; with `hosts` (names or addresses) it serves, too."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        names = [_general_name(host) for host in hosts]
        if names:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = (
            _builder(_name(common_name, organization), self.certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return _write(folder, file_name, builder.sign(self.key, hashes.SHA256()), key)


@dataclass(frozen=True)
class ControlPlaneCertificates:
    """All that a control plane and its node need."""

    authority: KeyPair
    front_proxy_authority: KeyPair
    front_proxy_client: KeyPair
    api_server: KeyPair
    api_server_kubelet_client: KeyPair
    admin: KeyPair
    controller_manager: KeyPair
    scheduler: KeyPair
    service_account: KeyPair
    kubelet: KeyPair
    kube_proxy: KeyPair


def create(
    folder: Path, *, api_server_hosts: Iterable[str], node_name: str, node_address: str
) -> ControlPlaneCertificates:
    """Make every key and certificate of a control plane in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Authority.create(folder, "ca")
    front_proxy = Authority.create(folder, "front-proxy-ca")
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
    names += ["kubernetes.default.svc.cluster.local", *api_server_hosts]

    def client(file_name: str, common_name: str, organization: str | None = None) -> KeyPair:
        return cluster.issue(folder, file_name, common_name=common_name, organization=organization)

    return ControlPlaneCertificates(
        authority=cluster.files,
        front_proxy_authority=front_proxy.files,
        front_proxy_client=front_proxy.issue(folder, "front-proxy-client", common_name="front-proxy-client"),
        api_server=cluster.issue(
            folder, "apiserver", common_name="kube-apiserver", hosts=dict.fromkeys(names)
        ),
        api_server_kubelet_client=client(
            "apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"
        ),
        admin=client("admin", "kubernetes-admin", "system:masters"),
        controller_manager=client("controller-manager", "system:kube-controller-manager"),
        scheduler=client("scheduler", "system:kube-scheduler"),
        service_account=_service_account_keys(folder),
        kubelet=cluster.issue(
            folder,
            "kubelet",
            common_name=f"system:node:{node_name}",
            organization="system:nodes",
            hosts=[node_name, node_address],
        ),
        kube_proxy=client("kube-proxy", "system:kube-proxy"),
    )


def _service_account_keys(folder: Path) -> KeyPair:
    """A bare key pair; its "certificate" is the public key that tokens are checked with."""
    key = ec.generate_private_key(ec.SECP256R1())
    files = KeyPair(folder / "service-account.pub", folder / "service-account.key")
    files.certificate.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    _write_key(files.key, key)
    return files


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=BACKDATED_MINUTES))
        .not_valid_after(now + dt.timedelta(days=VALIDITY_DAYS))
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str, organization: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(
    folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> KeyPair:
    files = KeyPair(folder / f"{name}.crt", folder / f"{name}.key")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(files.key, key)
    return files


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
