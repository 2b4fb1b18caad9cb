"""Who is believed. A header alone never makes a user; only the front proxy's own certificate does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from eventengine_adapter.security.authentication import Authenticator
from eventengine_adapter.security.identities import AuthenticationError, Identity
from eventengine_adapter.security.request_headers import Headers, TrustedProxies, trusted_proxies
from eventengine_adapter.security.tokens import TokenReviews

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
CLAIM = [("X-Remote-User", "jane"), ("X-Remote-Group", "team-a"), ("x-remote-group", "team-b")]


class Issuer:
    """An authority for tests, which issues what it is told, sound or not."""

    def __init__(self, name: str, *, is_authority: bool = True) -> None:
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.sign(self.key, name, is_authority=is_authority)

    def sign(
        self,
        key: ec.EllipticCurvePrivateKey,
        common_name: str,
        *,
        organization: str | None = None,
        is_authority: bool = False,
        begins: dt.datetime = NOW - DAY,
        ends: dt.datetime = NOW + DAY,
        usages: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
        critical_stranger: bool = False,
    ) -> x509.Certificate:
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organization:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(attributes))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if usages and not is_authority:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if critical_stranger:
            stranger = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
            builder = builder.add_extension(stranger, critical=True)
        return builder.sign(self.key, hashes.SHA256())

    def client(self, common_name: str, **wishes: Any) -> bytes:
        """A client certificate, as the handshake hands it over."""
        certificate = self.sign(ec.generate_private_key(ec.SECP256R1()), common_name, **wishes)
        return certificate.public_bytes(serialization.Encoding.DER)

    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


CLIENTS, PROXIES, STRANGER = Issuer("kubernetes"), Issuer("front-proxy"), Issuer("stranger")
SAME_NAME = Issuer("front-proxy")


def config_map(**changes: Any) -> dict[str, Any]:
    data = {
        "client-ca-file": CLIENTS.pem(),
        "requestheader-client-ca-file": PROXIES.pem(),
        "requestheader-allowed-names": '["front-proxy-client"]',
        "requestheader-username-headers": '["X-Remote-User"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
        **changes,
    }
    return {"data": {key: value for key, value in data.items() if value is not None}}


class Reviewer:
    """Answers TokenReviews: one token is jane's."""

    def __init__(self) -> None:
        self.asked = 0

    async def create(self, path: str, body: Mapping[str, Any], seconds_max: float) -> dict[str, Any]:
        self.asked += 1
        if body["spec"]["token"] != "good":
            return {"status": {"authenticated": False, "user": {"username": "jane"}}}
        return {"status": {"authenticated": True, "user": {"username": "jane", "groups": ["team-a"]}}}


async def who(
    peer: bytes | None = None,
    headers: list[tuple[str, str]] | None = None,
    *,
    anonymous: bool = True,
    **changes: Any,
) -> Identity:
    proxies = trusted_proxies(config_map(**changes))
    assert proxies is not None
    tokens = TokenReviews(Reviewer(), lambda: 0.0)
    authenticator = Authenticator(lambda: proxies, tokens, anonymous=anonymous)
    return await authenticator.identity(peer, Headers(headers or []), NOW.timestamp())


async def test_the_front_proxy_names_the_user_with_all_groups_and_facts() -> None:
    extra = [("X-Remote-Extra-Example.com%2Fscope", "a"), ("x-remote-extra-example.com%2fscope", "b")]

    identity = await who(PROXIES.client("front-proxy-client"), CLAIM + extra)

    assert identity == Identity(
        "jane", "", ("team-a", "team-b", "system:authenticated"), {"example.com/scope": ("a", "b")}
    )


async def test_the_aggregator_s_own_requests_come_without_a_group_and_get_that_of_everybody() -> None:
    identity = await who(PROXIES.client("front-proxy-client"), [("X-Remote-User", "system:aggregator")])

    assert identity.groups == ("system:authenticated",)


@pytest.mark.parametrize(
    ("reason", "peer"),
    [
        ("another authority", STRANGER.client("front-proxy-client")),
        ("another authority", SAME_NAME.client("front-proxy-client")),
        ("a name that no front proxy", PROXIES.client("somebody")),
        ("expired", PROXIES.client("front-proxy-client", ends=NOW - dt.timedelta(seconds=1))),
        ("not valid yet", PROXIES.client("front-proxy-client", begins=NOW + dt.timedelta(seconds=1))),
        (
            "not issued for clients",
            PROXIES.client("front-proxy-client", usages=(ExtendedKeyUsageOID.SERVER_AUTH,)),
        ),
        ("not understood", PROXIES.client("front-proxy-client", critical_stranger=True)),
        ("can't be read", b"not a certificate"),
    ],
)
async def test_another_certificate_makes_no_front_proxy_and_no_anonymous_user(
    reason: str, peer: bytes
) -> None:
    with pytest.raises(AuthenticationError, match=reason):
        await who(peer, CLAIM)


async def test_a_user_s_certificate_with_forged_headers_is_still_only_that_user() -> None:
    peer = CLIENTS.client("mallory", organization="team-x")

    identity = await who(peer, [("X-Remote-User", "admin"), ("X-Remote-Group", "system:masters")])

    assert (identity.username, identity.groups) == ("mallory", ("team-x", "system:authenticated"))


async def test_a_user_s_certificate_with_the_proxy_s_name_is_no_proxy() -> None:
    peer = CLIENTS.client("front-proxy-client")

    identity = await who(peer, [("X-Remote-User", "admin"), ("X-Remote-Group", "system:masters")])

    assert identity.username == "front-proxy-client"
    assert "system:masters" not in identity.groups


async def test_headers_without_any_certificate_are_nobody_s() -> None:
    identity = await who(None, CLAIM)

    assert (identity.username, identity.groups) == ("system:anonymous", ("system:unauthenticated",))


async def test_an_authority_that_may_not_issue_certificates_makes_no_clients() -> None:
    pretender = Issuer("front-proxy", is_authority=False)

    with pytest.raises(AuthenticationError):
        await who(
            pretender.client("front-proxy-client"), CLAIM, **{"requestheader-client-ca-file": pretender.pem()}
        )


async def test_without_a_proxy_authority_no_header_counts() -> None:
    changes = {"requestheader-client-ca-file": None}

    with pytest.raises(AuthenticationError):
        await who(PROXIES.client("front-proxy-client"), CLAIM, **changes)


async def test_an_empty_list_of_names_allows_any_and_a_rotated_authority_counts_at_once() -> None:
    peer = SAME_NAME.client("anything")
    both = {"requestheader-client-ca-file": PROXIES.pem() + SAME_NAME.pem()}

    identity = await who(peer, CLAIM, **both, **{"requestheader-allowed-names": "[]"})

    assert identity.username == "jane"


async def test_a_uid_header_counts_only_where_the_cluster_names_it() -> None:
    peer = PROXIES.client("front-proxy-client")
    headers = [*CLAIM, ("X-Remote-Uid", "42")]

    assert (await who(peer, headers)).uid == ""
    assert (await who(peer, headers, **{"requestheader-uid-headers": '["X-Remote-Uid"]'})).uid == "42"


async def test_a_token_is_reviewed_and_a_wrong_one_is_refused() -> None:
    identity = await who(headers=[("Authorization", "Bearer good")])
    assert (identity.username, identity.groups) == ("jane", ("team-a", "system:authenticated"))

    with pytest.raises(AuthenticationError, match="not valid"):
        await who(headers=[("Authorization", "bearer bad")])


async def test_a_good_token_outweighs_a_certificate_of_nobody() -> None:
    identity = await who(STRANGER.client("x"), [("Authorization", "Bearer good")])

    assert identity.username == "jane"


async def test_a_token_is_asked_about_once_in_ten_seconds() -> None:
    reviewer, now = Reviewer(), [0.0]
    tokens = TokenReviews(reviewer, lambda: now[0])

    for now[0] in (0.0, 9.9, 10.1):
        await tokens.identity("good")

    assert reviewer.asked == 2


async def test_where_nobody_may_be_anonymous_credentials_are_needed() -> None:
    with pytest.raises(AuthenticationError):
        await who(anonymous=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"requestheader-client-ca-file": "no certificate"},
        {"requestheader-allowed-names": "front-proxy-client"},
        {"requestheader-username-headers": '{"a": 1}'},
    ],
)
def test_an_unreadable_config_map_is_ignored_as_a_whole(changes: dict[str, Any]) -> None:
    assert trusted_proxies(config_map(**changes)) is None


def test_an_empty_config_map_trusts_nobody() -> None:
    assert trusted_proxies({}) == TrustedProxies()
