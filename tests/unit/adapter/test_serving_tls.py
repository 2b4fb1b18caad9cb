"""The certificate that is served follows its files, and never a half of them."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from eventengine_adapter.security.serving_tls import ServingTls


def pair(name: str) -> tuple[bytes, bytes, x509.Certificate]:
    """A self-signed certificate and its key, as PEM, and the certificate itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem, private, certificate


def handshake(
    tls: ServingTls, client: tuple[bytes, bytes] | None, folder: Path
) -> tuple[bytes, bytes | None]:
    """The certificates that client and server see of each other, over memory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if client is not None:
        file = folder / "client.pem"
        file.write_bytes(client[0] + client[1])
        context.load_cert_chain(file)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = context.wrap_bio(to_client, to_server)
    serving = tls.context.wrap_bio(to_server, to_client, server_side=True)
    pending = [asking, serving]
    for _ in range(10):
        for side in list(pending):
            try:
                side.do_handshake()
                pending.remove(side)
            except ssl.SSLWantReadError:
                continue
        if not pending:
            break
    shown = asking.getpeercert(binary_form=True)
    assert shown is not None
    return shown, serving.getpeercert(binary_form=True)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def write(folder: Path, certificate: bytes, key: bytes) -> None:
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)


def test_a_certificate_is_loaded_once_it_is_there_and_again_when_it_changes(tmp_path: Path) -> None:
    tls = ServingTls(tmp_path)
    assert not tls.reload()
    assert not tls.loaded

    first, second = pair("one"), pair("two")
    write(tmp_path, *first[:2])
    assert tls.reload()
    assert not tls.reload()
    assert handshake(tls, None, tmp_path) == (der(first[2]), None)

    write(tmp_path, *second[:2])
    assert tls.reload()
    assert handshake(tls, None, tmp_path)[0] == der(second[2])
    assert tls.expires_at_seconds == second[2].not_valid_after_utc.timestamp()


def test_a_pair_that_does_not_fit_together_replaces_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = ServingTls(tmp_path)
    first, second = pair("one"), pair("two")
    write(tmp_path, *first[:2])
    tls.reload()

    write(tmp_path, second[0], first[1])

    assert not tls.reload()
    assert not tls.reload()
    assert handshake(tls, None, tmp_path)[0] == der(first[2])
    assert len([record for record in caplog.records if "can't be used" in record.message]) == 1

    write(tmp_path, *second[:2])
    assert tls.reload()


def test_clients_of_an_authority_that_came_later_get_through_the_handshake(tmp_path: Path) -> None:
    tls = ServingTls(tmp_path)
    write(tmp_path, *pair("server")[:2])
    tls.reload()
    client = pair("client")
    with pytest.raises(ssl.SSLError):
        handshake(tls, client[:2], tmp_path)

    tls.trust((client[2],))
    tls.trust((client[2],))

    assert handshake(tls, client[:2], tmp_path)[1] == der(client[2])
