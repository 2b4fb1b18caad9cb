"""The way of the watches to the API server."""

from __future__ import annotations

import kopf
import pytest
from eventengine_operator.clients.connections import log_in_to_watch, proxy_for


@pytest.mark.parametrize(
    ("host", "expected"),
    [("10.96.0.1", "https://10.96.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")],
)
def test_watches_in_a_pod_use_the_address_it_was_told_and_need_no_dns(
    monkeypatch: pytest.MonkeyPatch, host: str, expected: str
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT_HTTPS", "6443")
    from_account = kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="of-the-account")
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: from_account)
    found = log_in_to_watch(kopf.OperatorSettings())
    assert found is not None
    assert (found.server, found.token) == (expected, "of-the-account")


@pytest.mark.parametrize(
    ("exempt", "expected"), [("", "http://proxy:3128"), ("10.96.0.0,10.96.0.1", None), ("*", None)]
)
def test_proxy_of_the_environment_is_used_unless_it_exempts_the_server(
    monkeypatch: pytest.MonkeyPatch, exempt: str, expected: str | None
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", exempt)
    assert proxy_for("https://10.96.0.1:6443") == expected


def test_without_a_proxy_in_the_environment_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert proxy_for("https://10.96.0.1:6443") is None
