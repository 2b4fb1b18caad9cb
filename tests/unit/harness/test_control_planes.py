"""What the harness asks of a control plane's components while they start."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from email.message import Message

import pytest
from eventengine_harness import control_planes

URL = "http://127.0.0.1:1/health"


def test_a_component_that_answers_with_an_error_is_not_there_yet_and_its_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = io.BytesIO(b"no leader")
    refusal = urllib.error.HTTPError(URL, 503, "Service Unavailable", Message(), body)

    def refuse(*_: object, **__: object) -> None:
        raise refusal

    monkeypatch.setattr(urllib.request, "urlopen", refuse)

    assert not control_planes.answers(URL)
    assert body.closed
