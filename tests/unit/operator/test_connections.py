"""The way of the watches to the API server."""

from __future__ import annotations

import kopf
import pytest
from eventengine_operator.clients.connections import log_in_to_watch


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
