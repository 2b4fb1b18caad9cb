"""A stand-in for the Kubernetes client, as far as `KubernetesApi` makes use of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class HttpClient:
    """Takes requests to a host without credentials; `answer` says what to each."""

    def __init__(self) -> None:
        self.default_headers: dict[str, str] = {}
        self.configuration = SimpleNamespace(host="https://kubernetes")
        self.rest_client = SimpleNamespace(request=self._request)

    async def update_params_for_auth(self, *_: Any) -> None:
        """Nobody asks who it is."""

    async def _request(self, _: str, __: str, headers: dict[str, str], **___: Any) -> Any:
        return self.answer(headers)

    def answer(self, headers: dict[str, str]) -> Any:
        """The response to a request with these headers."""
        raise NotImplementedError
