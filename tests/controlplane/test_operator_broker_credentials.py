"""The adapter's leave to read what engines show their brokers: each Secret by name, and gone with its reason."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eventengine_harness.exceptions import CommandError

from .operators import OperatorPlane, OperatorProcess, operating
from .spaces import KAFKA, Space

SYSTEM = "eventengine-brokers"
ROLE, BINDING = "role/hunt-broker-credentials", "rolebinding/hunt-broker-credentials"


@pytest.fixture(scope="module")
def operator(
    operator_plane: OperatorPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    kubeconfig = operator_plane.install_rights(SYSTEM, "operator.brokerCredentials=true")
    folder = tmp_path_factory.mktemp("operator")
    with operating(kubeconfig, SYSTEM, folder, broker_credentials="true") as running:
        yield running


def may(space: Space, verb: str, what: str) -> bool:
    """What the API server says of the adapter's account."""
    account = f"system:serviceaccount:{SYSTEM}:eventengine-adapter"
    try:
        return space.kubectl("auth", "can-i", verb, what, f"--as={account}").strip() == "yes"
    except CommandError:
        return False


def declare(space: Space, credentials: str | None) -> None:
    kafka = KAFKA["kafka"]
    assert isinstance(kafka, dict)
    shown = {"credentials": credentials} if credentials else {}
    space.engine(engine={"sources": [KAFKA | {"kafka": kafka | shown}]})


def test_the_adapter_may_read_the_secrets_that_an_engine_names_and_no_others(space: Space) -> None:
    declare(space, "hunt-user")
    space.until_exists(ROLE, BINDING)

    assert may(space, "get", "secrets/hunt-user")
    assert not may(space, "get", "secrets/another")
    assert not may(space, "list", "secrets")
    assert not may(space, "update", "secrets/hunt-user")

    # Somebody widens it; that doesn't last.
    space.kubectl(
        "patch",
        ROLE,
        "--type=merge",
        '--patch={"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]}',
    )
    space.until(ROLE, lambda role: role["rules"][0].get("resourceNames") == ["hunt-user"], "narrow again")

    declare(space, "other-user")
    space.until(ROLE, lambda role: role["rules"][0]["resourceNames"] == ["other-user"], "about the other one")
    assert not may(space, "get", "secrets/hunt-user")

    declare(space, None)
    space.until_gone(ROLE)
    space.until_gone(BINDING)
