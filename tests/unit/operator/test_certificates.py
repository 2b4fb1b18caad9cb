"""Rotation, with a clock of the test's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from eventengine_operator.certificates.issuing import KeyPair, issue_authority, issue_serving, names_in
from eventengine_operator.certificates.provided import AUTHORITIES_MAX, read_provided, with_former
from eventengine_operator.certificates.rotating import Certificates, Policy, Rotation, rotate

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = (
    "eventengine-adapter.eventengine-system.svc",
    "eventengine-adapter.eventengine-system.svc.cluster.local",
)
POLICY = Policy(NAMES, authority_lifetime=timedelta(days=360), certificate_lifetime=timedelta(days=90))


def stored(rotation: Rotation) -> Certificates:
    return Certificates(rotation.authority, rotation.previous, rotation.serving)


def verify(serving: KeyPair, bundle: bytes, now: datetime, name: str = NAMES[0]) -> None:
    """As a strict TLS client does it."""
    builder = PolicyBuilder().store(Store(x509.load_pem_x509_certificates(bundle))).time(now)
    builder.build_server_verifier(x509.DNSName(name)).verify(
        x509.load_pem_x509_certificate(serving.certificate), []
    )


def test_first_pass_makes_everything_and_the_second_nothing() -> None:
    first = rotate(Certificates(), POLICY, START)
    assert first.reasons == ("new CA: there is none", "new serving certificate: there is none")
    second = rotate(stored(first), POLICY, START)
    assert second.reasons == ()
    assert second == Rotation(first.authority, first.previous, first.serving, ())


@pytest.mark.parametrize("name", NAMES)
def test_certificate_is_valid_for_its_names_and_no_others(name: str) -> None:
    made = rotate(Certificates(), POLICY, START)
    verify(made.serving, made.bundle, START, name)
    with pytest.raises(VerificationError):
        verify(made.serving, made.bundle, START, "another.svc")


def test_clock_that_is_behind_accepts_it() -> None:
    made = rotate(Certificates(), POLICY, START)
    verify(made.serving, made.bundle, START - timedelta(minutes=4))


def test_serving_certificate_is_renewed_at_two_thirds_of_its_life_by_the_same_ca() -> None:
    first = rotate(Certificates(), POLICY, START)
    assert rotate(stored(first), POLICY, START + timedelta(days=59)).reasons == ()
    later = rotate(stored(first), POLICY, START + timedelta(days=61))
    assert later.authority == first.authority
    assert later.serving != first.serving


def test_new_ca_is_trusted_before_anything_is_signed_by_it() -> None:
    now = START
    rotation = rotate(Certificates(), POLICY, now)
    while rotation.previous is None:
        now += timedelta(days=10)
        before = rotation
        rotation = rotate(stored(rotation), POLICY, now)
    assert rotation.authority != before.authority
    assert rotation.previous == before.authority.certificate
    assert rotation.bundle == rotation.authority.certificate + before.authority.certificate
    settled = rotate(stored(rotation), POLICY, now + POLICY.settle)
    assert settled.reasons == ("new serving certificate: the CA was renewed",)
    assert settled.bundle == rotation.bundle


def test_years_of_operation_never_leave_a_client_without_trust() -> None:
    """Every bundle verifies the certificate before and after each step; nothing expires in use."""
    rotation = rotate(Certificates(), POLICY, START)
    authorities = {rotation.authority.certificate}
    for day in range(5, 3 * 365, 5):
        now = START + timedelta(days=day)
        following = rotate(stored(rotation), POLICY, now)
        # Bundle and certificate travel separately: each meets the other's older and newer state.
        verify(rotation.serving, following.bundle, now)
        verify(following.serving, rotation.bundle, now)
        verify(following.serving, following.bundle, now)
        assert following.bundle.count(b"BEGIN CERTIFICATE") <= 2
        rotation = following
        authorities.add(rotation.authority.certificate)
    assert len(authorities) == 5, "one CA every 240 days"


def test_previous_ca_leaves_the_bundle_when_it_expires() -> None:
    first = rotate(Certificates(), POLICY, START)
    second = rotate(stored(first), POLICY, START + timedelta(days=241))
    assert second.previous is not None
    third = rotate(stored(second), POLICY, START + timedelta(days=361))
    assert third.previous is None
    assert "the previous CA expired" in third.reasons


def test_other_names_need_a_new_certificate_at_once() -> None:
    first = rotate(Certificates(), POLICY, START)
    moved = Policy(("adapter.elsewhere.svc",), POLICY.authority_lifetime, POLICY.certificate_lifetime)
    second = rotate(stored(first), moved, START)
    assert second.reasons == ("new serving certificate: it is for other names",)
    assert names_in(x509.load_pem_x509_certificate(second.serving.certificate)) == {"adapter.elsewhere.svc"}


def test_broken_secrets_are_made_good() -> None:
    first = rotate(Certificates(), POLICY, START)
    other = issue_authority(START, timedelta(days=1))
    mixed = KeyPair(first.authority.certificate, other.key)
    for broken in (
        Certificates(mixed, None, first.serving),
        Certificates(KeyPair(b"nonsense", b"nonsense"), b"nonsense", KeyPair(b"", b"")),
        Certificates(first.authority, b"nonsense", KeyPair(first.serving.certificate, other.key)),
        Certificates(other, None, first.serving),
    ):
        repaired = rotate(broken, POLICY, START)
        assert repaired.reasons
        verify(repaired.serving, repaired.bundle, START)
        assert rotate(stored(repaired), POLICY, START).reasons == ()


def test_lost_ca_key_keeps_its_certificate_trusted() -> None:
    """Replicas of the adapter still serve what the lost CA signed."""
    first = rotate(Certificates(), POLICY, START)
    other = issue_authority(START, timedelta(days=1))
    repaired = rotate(
        Certificates(KeyPair(first.authority.certificate, other.key), None, None), POLICY, START
    )
    verify(first.serving, repaired.bundle, START)


def test_private_keys_are_not_shown() -> None:
    made = rotate(Certificates(), POLICY, START)
    assert "PRIVATE" not in repr(made)


DAY = timedelta(days=1)


def test_certificate_of_others_that_is_right_has_no_fault() -> None:
    authority = issue_authority(START, 10 * DAY)
    serving = issue_serving(authority, NAMES, START, DAY)
    provided = read_provided(authority.certificate, serving.certificate + authority.certificate, NAMES, START)
    assert (provided.bundle, provided.fault) == (authority.certificate, "")
    assert provided.expires_at == START + DAY


@pytest.mark.parametrize(
    ("authorities", "serving", "fault"),
    [
        (None, b"", "it has no ca.crt, which the API server needs to trust it by"),
        (b"", b"", "it has no ca.crt, which the API server needs to trust it by"),
        (b"no certificate", b"", "its ca.crt holds no certificate"),
        (b"x" * 100_000, b"", "its ca.crt holds no certificate"),
    ],
)
def test_without_a_ca_nobody_is_trusted(authorities: bytes | None, serving: bytes, fault: str) -> None:
    provided = read_provided(authorities, serving, NAMES, START)
    assert (provided.bundle, provided.fault) == (b"", fault)


def test_certificate_of_others_that_is_wrong_is_named() -> None:
    authority = issue_authority(START, 10 * DAY)
    expired = issue_serving(authority, NAMES, START - 2 * DAY, DAY)
    elsewhere = issue_serving(authority, ("other.svc",), START, DAY)
    for serving, fault in (
        (expired.certificate, "its certificate expired at 2025-12-31T00:00:00+00:00"),
        (elsewhere.certificate, "its certificate is not for eventengine-adapter.eventengine-system.svc"),
        (b"", "its tls.crt holds no certificate"),
    ):
        provided = read_provided(authority.certificate, serving, NAMES, START)
        assert (provided.bundle, provided.fault) == (authority.certificate, fault)


def test_former_ca_stays_behind_the_present_one_unless_it_is_over_and_within_a_bound() -> None:
    present, former = issue_authority(START, 10 * DAY), issue_authority(START, 5 * DAY)
    both = with_former(present.certificate, former.certificate + present.certificate, START)
    assert both == present.certificate + former.certificate
    assert with_former(present.certificate, former.certificate, START + 6 * DAY) == present.certificate
    many = b"".join(issue_authority(START, DAY).certificate for _ in range(AUTHORITIES_MAX + 3))
    assert with_former(present.certificate, many, START).count(b"BEGIN CERTIFICATE") == AUTHORITIES_MAX
